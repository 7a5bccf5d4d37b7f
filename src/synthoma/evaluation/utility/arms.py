"""The arms of a study: what each classifier is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.draws import Draws
from synthoma.errors import EvaluationError, nearest_name_hint
from synthoma.evaluation.imagesets import ImageSet
from synthoma.metrics.estimate import Withheld

REAL = "real"


@dataclass(frozen=True)
class Pool:
    """Training images of an arm: uint8, uint16 or int16 [n, c, *spatial], with class indices [n] from 0.

    value_range: values that are black and white.
    """

    images: NDArray[np.generic]
    labels: NDArray[np.int64]
    value_range: tuple[float, float]


@dataclass(frozen=True)
class Arm:
    """An arm. name: key in the results; title: for people; pool: its images, or why there are none.

    augmented: whether classical augmentation is applied; weighted: whether rare classes count more in the loss.
    """

    name: str
    title: str
    pool: Pool | Withheld
    augmented: bool = False
    weighted: bool = False


def relabel(images: ImageSet, classes: Sequence[str], what: str) -> ImageSet:
    """The set with its labels as indices into `classes`; images without a class are left out.

    Raises `EvaluationError` for a class that is not among `classes`, or where no image has one.
    """
    kept = np.flatnonzero(images.labels >= 0).astype(np.int64)
    if len(kept) == 0:
        raise EvaluationError(f"{what} have no classes: a classifier cannot be trained with them.")
    names = [images.classes[number] for number in images.labels[kept]]
    for name in sorted(set(names) - set(classes)):
        hint = nearest_name_hint(name, classes)
        raise EvaluationError(f"{what} have a class '{name}' that the real images do not{hint or '.'}")
    chosen = images.take(kept) if len(kept) < len(images) else images
    labels = np.array([list(classes).index(name) for name in names], dtype=np.int64)
    return ImageSet(
        chosen.images, labels, list(classes), chosen.groups, chosen.content, chosen.value_range, chosen.rows
    )


def plan_arms(
    train: ImageSet, synthetic: ImageSet, selected: ImageSet | None, ratios: Sequence[float], seed: int
) -> list[Arm]:
    """All arms, the real one first. The sets share their classes and their encoding.

    Arms at a ratio add to each class that many synthetic images for each real one, so that the shares of the classes stay
    as they are; which ones is drawn. Where a class has too few, the arm is withheld: less would be another ratio.
    """
    real = _pool(train)
    arms = [
        Arm(REAL, "real", real),
        Arm("real+augmentation", "real, classical augmentation", real, augmented=True),
        Arm("real+weights", "real, rare classes weighted", real, weighted=True),
        Arm("synthetic", "synthetic only", _synthetic_only(train, synthetic)),
    ]
    for ratio in ratios:
        rows = _rows_at(ratio, train, synthetic, seed)
        pool = rows if isinstance(rows, Withheld) else _join(train, synthetic.take(rows))
        arms.append(Arm(f"real+synthetic@{ratio:g}", f"real + {ratio:g} × synthetic", pool))
    if selected is not None:
        arms.append(Arm("real+selected", "real + selected synthetic", _join(train, selected)))
    return arms


def class_weights(labels: NDArray[np.int64], classes: int) -> torch.Tensor:
    """Weights of the loss, inverse to the class counts, with mean 1 over the images: float32 [classes]."""
    counts = np.bincount(labels, minlength=classes)
    present = counts > 0
    weights = np.where(present, len(labels) / (np.maximum(counts, 1) * present.sum()), 0.0)
    return torch.from_numpy(weights).float()


def _pool(images: ImageSet) -> Pool:
    return Pool(images.images, images.labels, images.range)


def _join(real: ImageSet, synthetic: ImageSet) -> Pool:
    return Pool(
        np.concatenate([real.images, synthetic.images]), np.concatenate([real.labels, synthetic.labels]), real.range
    )


def _synthetic_only(train: ImageSet, synthetic: ImageSet) -> Pool | Withheld:
    missing = sorted(set(train.labels.tolist()) - set(synthetic.labels.tolist()))
    if missing:
        return Withheld(f"there are no synthetic images of class {train.classes[missing[0]]}")
    return Pool(synthetic.images, synthetic.labels, train.range)


def _rows_at(ratio: float, train: ImageSet, synthetic: ImageSet, seed: int) -> NDArray[np.int64] | Withheld:
    """Rows of the synthetic set for a ratio. Those of a lower ratio are among those of a higher one."""
    chosen = []
    for number, name in enumerate(train.classes):
        rows = np.flatnonzero(synthetic.labels == number)
        wanted = round(ratio * int((train.labels == number).sum()))
        if len(rows) < wanted:
            return Withheld(f"class {name} needs {wanted} synthetic images, and there are {len(rows)}")
        order = Draws(seed, "utility synthetic").uniform(number, torch.arange(len(rows))).argsort(stable=True)
        chosen.append(rows[order.numpy()[:wanted]])
    return np.sort(np.concatenate(chosen)).astype(np.int64)
