"""What a study, of one split or of folds, says before its first fit, and how it ends: once for both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import EvaluationError, nearest_name_hint
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.utility.agreement import Answers, measure_agreement
from synthoma.evaluation.utility.arms import REAL, Arm, relabel
from synthoma.evaluation.utility.augment import describe_augmentation
from synthoma.evaluation.utility.refusals import (
    CHECKS,
    refuse_shared_groups,
    refuse_synthetic_pixels,
    withhold_classes,
    withhold_study,
)
from synthoma.evaluation.utility.results import Outcomes, summarise
from synthoma.evaluation.utility.scores import Judged
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.metrics.estimate import Withheld
from synthoma.networks.classifiers import describe_classifier
from synthoma.recipe import content_hash

SCHEMA = 1
VERSION = 1  # raised when a score or the way of training changes
ONE_SPLIT = "one split"


@dataclass(frozen=True)
class Sides:
    """The real images of a study: three sides of one split, with the same classes."""

    train: ImageSet
    validation: ImageSet
    test: ImageSet

    def labelled(self) -> "Sides":
        """Without the images that have no class."""
        classes = self.train.classes
        sides = (
            ("the training images", self.train),
            ("the validation images", self.validation),
            ("the test images", self.test),
        )
        return Sides(*(relabel(images, classes, what) if len(images) else images for what, images in sides))


def refuse_unknown_class(settings: UtilitySettings, classes: Sequence[str]) -> None:
    """Raise `EvaluationError` where the data have no such class of interest."""
    if settings.positive is not None and settings.positive not in classes:
        hint = nearest_name_hint(settings.positive, classes) or "."
        raise EvaluationError(
            f"the data have no class '{settings.positive}'{hint} Classes: {', '.join(classes) or 'none'}."
        )


def check_sets(
    real: Sides, synthetic: ImageSet, selected: ImageSet | None, settings: UtilitySettings
) -> tuple[Sides, ImageSet, ImageSet | None]:
    """The sets, with their classes in one order; refuse what may not be used together."""
    classes = real.train.classes
    refuse_unknown_class(settings, classes)
    made = [images for images in (synthetic, selected) if images is not None]
    for images in (real.validation, real.test, *made):
        if images.shape != real.train.shape or images.images.dtype != real.train.images.dtype:
            raise EvaluationError(
                f"images of {images.shape} {images.images.dtype} do not go with training images of {real.train.shape} "
                f"{real.train.images.dtype} (channels first). Give synthetic images as the run's own model makes them."
            )
    refuse_shared_groups(real.train, real.validation, real.test)
    for what, images in (("test", real.test), ("validation", real.validation)):
        refuse_synthetic_pixels(images, what, *made)
    chosen = None if selected is None else relabel(selected, classes, "the selected synthetic images")
    return real.labelled(), relabel(synthetic, classes, "the synthetic images"), chosen


@dataclass(frozen=True)
class Opening:
    """What is known before the first fit.

    real: the images of the study (in folds, all of them on every side); judged: indices of the classes that have
    images enough; told: the head of utility.json; reason: why there is no study, or None.
    """

    real: Sides
    settings: UtilitySettings
    judged: Sequence[int]
    told: dict[str, Any]
    reason: Withheld | None

    @property
    def positive(self) -> int | None:
        """Index of the class of interest."""
        name = self.settings.positive
        return None if name is None else self.real.test.classes.index(name)

    def withheld(self) -> dict[str, Any]:
        """utility.json of a study that cannot be made."""
        assert self.reason is not None
        return {**self.told, "withheld": self.reason.reason}

    def conclude(
        self,
        arms: Sequence[Arm],
        values: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
        records: Mapping[str, list[dict[str, Any]]],
        on_synthetic: Answers,
        training: NDArray[np.int64],
        blocks: NDArray[np.int64] | None = None,
    ) -> dict[str, Any]:
        """All of utility.json that the fits tell: figures, differences, verdicts, agreement, and what it cost.

        values: arm -> (probabilities [columns, n, k], thresholds [columns, k] or [columns, n, k]) on the test images;
        records: arm -> a record of each fit; on_synthetic: what the classifiers of the real arm said of the synthetic
        images; training: real training images of each class [k], of all folds together; blocks: as `Judged.blocks`.
        """
        test = self.real.test
        outcomes = Outcomes(
            Judged(test.labels, test.classes, self.judged, self.positive, blocks),
            test.groups,
            values,
            training,
        )
        seconds = [record["seconds"] for of_arm in records.values() for record in of_arm]
        cost = {
            "fits": len(seconds),
            "seconds_a_fit": {"mean": round(float(np.mean(seconds)), 2), "most": max(seconds)},
        }
        on_real = Answers(test.labels, values[REAL][0].argmax(axis=2), test.groups)
        return {
            **self.told,
            "budget": {**self.told["budget"], **cost},
            **summarise(arms, outcomes, records, self.settings),
            "agreement": measure_agreement(on_synthetic, on_real, test.classes, self.judged, self.settings),
        }


def open_study(
    real: Sides,
    sets: Mapping[str, ImageSet],
    settings: UtilitySettings,
    columns: int,
    design: str = ONE_SPLIT,
    **protocol: Any,
) -> Opening:
    """Head of utility.json, and whether there can be a study at all.

    sets: name -> images that are counted; columns: seeds, or repetitions; protocol: more of what figures depend on.
    """
    channels, *size = real.train.shape
    classifier = describe_classifier(channels, tuple(size), len(real.train.classes))
    withheld = withhold_classes(real.test, real.train, settings.least_images, settings.least_groups)
    judged = [number for number, name in enumerate(real.test.classes) if name not in withheld]
    reason = withhold_study(real.test, real.validation, judged)
    if reason is None and settings.positive in withheld:
        reason = withheld[settings.positive]
    told = {
        "schema": SCHEMA,
        "design": design,
        "protocol": make_protocol(real, settings, classifier, **protocol),
        "classes": list(real.train.classes),
        "class_of_interest": settings.positive,
        "counts": {name: count_images(images) for name, images in sets.items()},
        "seeds": list(range(settings.seed, settings.seed + columns)),
        "budget": {
            "gflop_forward": classifier["gflop_forward"],
            "updates_a_fit": settings.updates,
            "batch": settings.batch,
        },
        "checked": list(CHECKS[:2]),
        "withheld_classes": {name: one.reason for name, one in withheld.items()},
    }
    return Opening(real, settings, judged, told, reason)


def make_protocol(real: Sides, settings: UtilitySettings, classifier: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What figures depend on besides the synthetic images, with its hash."""
    fields = {
        "version": VERSION,
        "classifier": classifier,
        "augmentation": describe_augmentation(settings.symmetries),
        "settings": settings.protocol(),
        "size": list(real.test.shape),
        "value_range": list(real.test.range),
        "train": real.train.content,
        "validation": real.validation.content,
        "test": real.test.content,
        "updates": f"{settings.updates} of {settings.batch} images in every arm; weights of the lowest validation loss",
        "interval": "95 %, bootstrap of whole patients and spread of the seeds, two-way clustered, Student's t",
        **more,
    }
    return {"hash": content_hash(fields), **fields}


def count_images(images: ImageSet) -> dict[str, Any]:
    """Images, groups, and images of each class."""
    by_class = np.bincount(images.labels[images.labels >= 0], minlength=len(images.classes)).tolist()
    return {
        "images": len(images),
        "groups": len(np.unique(images.groups)),
        "classes": dict(zip(images.classes, by_class, strict=True)),
    }
