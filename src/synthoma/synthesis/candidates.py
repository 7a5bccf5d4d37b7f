"""Selection of synthetic images: those that show what was asked for, look like their class, and are no look-alikes.

Three questions are put to each image, and every limit is measured on real images of the validation split, which neither
the classifier nor the training set holds: an image is refused where it does worse than nearly all of these.

    label        confidence of a classifier, trained on real images only, in the class that was asked for
    typicality   distance in feature space to the nearest real training images of that class
    privacy      distance in feature space to the nearest real training image of any class, over its symmetries

Xue et al. 2019 ("Synthetic augmentation and feature-based filtering for improved cervical histopathology image
classification") chose images by the first two and found that a classifier gains more from these than from all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.utility.arms import Pool, relabel
from synthoma.evaluation.utility.refusals import refuse_shared_groups, refuse_synthetic_pixels
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.train import fit_classifier, predict
from synthoma.metrics.nearest import nearest
from synthoma.networks.features import Extractor, build_extractor
from synthoma.transforms.symmetries import apply, symmetry_group

NEIGHBOURS = 3  # of its class, over which typicality is the mean distance
# Fewer validation images of a class than this: its limits come from those of all classes.
LEAST_OF_CLASS = 20
LEAST = 20
QUESTIONS = ("label", "typicality", "privacy")
Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SelectionSettings:
    """tail: share of real validation images that would be refused for their label, and again for typicality.
    privacy_tail: the same for privacy. symmetries: over which a look-alike is searched, as `training.symmetries`."""

    tail: float = 0.1
    privacy_tail: float = 0.01
    symmetries: str = "mirror"
    classifier: UtilitySettings = field(default_factory=UtilitySettings)

    def __post_init__(self) -> None:
        if not 0 <= self.tail < 1 or not 0 <= self.privacy_tail < 1:
            raise EvaluationError("the tails are shares of real images, from 0 to below 1.")


@dataclass(frozen=True)
class Measures:
    """Three numbers for each image, float64 [n]: confidence (high is good), distance to the class (low is good), and
    distance to the nearest training image (high is good)."""

    label: Floats
    typicality: Floats
    privacy: Floats


@dataclass(frozen=True)
class Measured:
    """made: of each candidate; limits: of each class; passed: question -> whether each candidate passes [n]; classifier:
    what it is worth, and what it was trained with."""

    made: Measures
    limits: dict[str, dict[str, float]]
    passed: dict[str, NDArray[np.bool_]]
    classifier: dict[str, Any]


def measure_candidates(
    made: ImageSet, train: ImageSet, validation: ImageSet, settings: SelectionSettings, progress: Progress | None = None
) -> Measured:
    """Measures of the candidates, the limits of each class, and which candidates pass each question."""
    tell = progress or (lambda what, done, total: None)
    train, validation = relabel(train, train.classes, "the training images"), _labelled(validation)
    count = len(made)
    made = relabel(made, train.classes, "the synthetic images")
    _check(made, count, train, validation)
    tell("Training the classifier", 0, 1)
    pools = [Pool(images.images, images.labels, train.range) for images in (train, validation, made)]
    fitted = fit_classifier(pools[0], pools[1], len(train.classes), settings.classifier, settings.classifier.seed)
    tell("Training the classifier", 1, 1)
    held_confidence, confidence = (
        predict(fitted.network, pool)[np.arange(len(pool.labels)), pool.labels] for pool in pools[1:]
    )
    extractor = build_extractor(
        "randconv",
        train.shape[0],
        len(train.shape) - 1,
        reference=train.images if len(train) >= 3 else None,
        value_range=train.range,
        reference_key=train.content,
    )
    real = extractor.features(train.images, train.range).astype(np.float64)
    distances = []
    for number, images in enumerate((validation, made)):
        tell("Measuring distances", number, 2)
        distances.append(_distances(images, train, real, extractor, settings.symmetries))
    tell("Measuring distances", 2, 2)
    held = Measures(held_confidence, *distances[0])
    mine = Measures(confidence, *distances[1])
    limits = {
        name: _limits(held, validation.labels, number, settings)
        for number, name in enumerate(train.classes)
        if (made.labels == number).any()
    }
    facts = {"validation_accuracy": _accuracy(fitted.network, pools[1]), "best_update": fitted.best_update}
    return Measured(mine, limits, _passed(mine, made, limits), facts)


def _check(made: ImageSet, count: int, train: ImageSet, validation: ImageSet) -> None:
    if len(made) < count:
        raise EvaluationError(
            f"{count - len(made)} of the synthetic images have no class. Selection asks whether an image shows the class that "
            "was asked for; generate with a conditional model."
        )
    if made.shape != train.shape or made.images.dtype != train.images.dtype:
        raise EvaluationError(
            f"the synthetic images are {made.shape} {made.images.dtype}, the real ones {train.shape} {train.images.dtype} "
            "(channels first). Give the dataset that the model was trained on."
        )
    if len(validation) < LEAST or len(train) < LEAST:
        raise EvaluationError(
            f"selection needs {LEAST} real images each of the training and the validation split, to set its limits; there "
            f"are {len(train)} and {len(validation)}."
        )
    refuse_shared_groups(train, validation, validation.take(np.zeros(0, dtype=np.int64)))
    refuse_synthetic_pixels(validation, "validation", made)
    missing = sorted(set(made.labels.tolist()) - set(train.labels.tolist()))
    if missing:
        raise EvaluationError(f"there is no real training image of class {train.classes[missing[0]]}.")


def _labelled(images: ImageSet) -> ImageSet:
    return relabel(images, images.classes, "the validation images") if len(images) else images


def _distances(
    images: ImageSet, train: ImageSet, real: Floats, extractor: Extractor, symmetries: str
) -> tuple[Floats, Floats]:
    """Distance to the class (mean over its nearest training images) and to the nearest of all, over the symmetries."""
    group = symmetry_group(symmetries, len(train.shape) - 1, train.shape[1:])
    to_class, to_any = np.full(len(images), np.inf), np.full(len(images), np.inf)
    for element in range(len(group)):
        pixels = torch.from_numpy(np.ascontiguousarray(images.images))
        turned = apply(pixels, torch.full((len(images),), element), group).numpy()
        vectors = extractor.features(turned, train.range).astype(np.float64)
        to_any = np.minimum(to_any, nearest(vectors, real)[0][:, 0].numpy())
        for number in np.unique(images.labels):
            rows, members = images.labels == number, real[train.labels == number]
            if len(members):
                mean = nearest(vectors[rows], members, NEIGHBOURS)[0].mean(dim=1).numpy()
                to_class[rows] = np.minimum(to_class[rows], mean)
    scale = np.sqrt(extractor.dimension)
    return to_class / scale, to_any / scale


def _limits(held: Measures, labels: NDArray[np.int64], number: int, settings: SelectionSettings) -> dict[str, float]:
    """Limits of a class: quantiles of real validation images of the class, or of all where it has few."""
    own = labels == number
    rows = own if own.sum() >= LEAST_OF_CLASS else np.ones(len(labels), dtype=bool)
    finite = rows & np.isfinite(held.typicality)
    return {
        "label": float(np.quantile(held.label[rows], settings.tail)),
        "typicality": float(np.quantile(held.typicality[finite], 1 - settings.tail)),
        # Privacy does not depend on the class: the limit is that of all images.
        "privacy": float(np.quantile(held.privacy, settings.privacy_tail)),
        "from_images": int(rows.sum()),
    }


def _passed(made: Measures, images: ImageSet, limits: dict[str, dict[str, float]]) -> dict[str, NDArray[np.bool_]]:
    """Question -> whether each candidate passes. One that is exactly as close as the limit does not pass privacy."""
    limit = {
        question: np.array([limits[images.classes[number]][question] for number in images.labels])
        for question in QUESTIONS
    }
    return {
        "label": made.label >= limit["label"],
        "typicality": made.typicality <= limit["typicality"],
        "privacy": made.privacy > limit["privacy"],
    }


def _accuracy(network: torch.nn.Module, pool: Pool) -> float:
    return round(float((predict(network, pool).argmax(axis=1) == pool.labels).mean()), 4)
