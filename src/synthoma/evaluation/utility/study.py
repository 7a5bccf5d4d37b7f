"""The utility study: do synthetic images make a classifier better on real patients whom nobody trained on?

Every arm trains the same classifier for the same number of updates, with the same seeds, and stops early on the same
real validation images; all are tested on the same real test images. What differs is the training images alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import EvaluationError, nearest_name_hint
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.utility.arms import Arm, Pool, plan_arms, relabel
from synthoma.evaluation.utility.augment import describe_augmentation
from synthoma.evaluation.utility.refusals import (
    CHECKS,
    refuse_shared_groups,
    refuse_synthetic_pixels,
    withhold_classes,
    withhold_study,
)
from synthoma.evaluation.utility.results import Outcomes, summarise
from synthoma.evaluation.utility.scores import Judged, choose_thresholds
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.train import fit_classifier, predict
from synthoma.metrics.estimate import Withheld
from synthoma.networks.classifiers import describe_classifier
from synthoma.recipe import content_hash

SCHEMA = 1
VERSION = 1  # raised when a score or the way of training changes

Progress = Callable[[int, int], None]


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


@dataclass
class Fits:
    """What the fits of one arm left: probabilities [n, k] and thresholds [k] of each seed, and a record of each fit."""

    probabilities: list[NDArray[np.float64]] = field(default_factory=list)
    thresholds: list[NDArray[np.float64]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


def study_utility(
    real: Sides,
    synthetic: ImageSet,
    settings: UtilitySettings,
    *,
    selected: ImageSet | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All arms, seeds, intervals, paired differences and verdicts, as JSON-able values.

    `progress(done, total)` counts fits. Figures that would mislead are withheld with their reason. Raises
    `EvaluationError` where the sets may not be used together: see `CHECKS`.
    """
    real, synthetic, selected = check_sets(real, synthetic, selected, settings)
    withheld = withhold_classes(real.test, real.train, settings.least_images, settings.least_groups)
    judged = [number for number, name in enumerate(real.test.classes) if name not in withheld]
    result = _frame(real, synthetic, selected, settings, withheld)
    reason = withhold_study(real.test, real.validation, judged)
    if reason is None and settings.positive in withheld:
        reason = withheld[settings.positive]
    if reason is not None:
        return {**result, "withheld": reason.reason}
    arms = plan_arms(real.train, synthetic, selected, settings.ratios, settings.seed)
    fits = fit_arms(arms, real, settings, progress)
    classes = real.test.classes
    positive = None if settings.positive is None else classes.index(settings.positive)
    outcomes = Outcomes(
        Judged(real.test.labels, classes, judged, positive),
        real.test.groups,
        {name: (np.stack(f.probabilities), np.stack(f.thresholds)) for name, f in fits.items()},
        np.bincount(real.train.labels, minlength=len(classes)),
    )
    seconds = [record["seconds"] for f in fits.values() for record in f.records]
    result["budget"] |= {
        "fits": len(seconds),
        "seconds_a_fit": {"mean": round(float(np.mean(seconds)), 2), "most": max(seconds)},
    }
    return {**result, **summarise(arms, outcomes, {name: f.records for name, f in fits.items()}, settings)}


def check_sets(
    real: Sides, synthetic: ImageSet, selected: ImageSet | None, settings: UtilitySettings
) -> tuple[Sides, ImageSet, ImageSet | None]:
    """The sets, with their classes in one order; refuse what may not be used together."""
    classes = real.train.classes
    if settings.positive is not None and settings.positive not in classes:
        hint = nearest_name_hint(settings.positive, classes) or "."
        raise EvaluationError(
            f"the data have no class '{settings.positive}'{hint} Classes: {', '.join(classes) or 'none'}."
        )
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


def fit_arms(
    arms: Sequence[Arm], real: Sides, settings: UtilitySettings, progress: Progress | None = None
) -> dict[str, Fits]:
    """Fit and test every arm that has images, with every seed."""
    classes = len(real.train.classes)
    validation, test = (Pool(side.images, side.labels, real.train.range) for side in (real.validation, real.test))
    open_arms = [arm for arm in arms if not isinstance(arm.pool, Withheld)]
    fits: dict[str, Fits] = {arm.name: Fits() for arm in open_arms}
    done, total = 0, len(open_arms) * settings.seeds
    for arm in open_arms:
        assert not isinstance(arm.pool, Withheld)
        for seed in range(settings.seed, settings.seed + settings.seeds):
            fitted = fit_classifier(
                arm.pool, validation, classes, settings, seed, augmented=arm.augmented, weighted=arm.weighted
            )
            on_validation = predict(fitted.network, validation)
            mine = fits[arm.name]
            mine.probabilities.append(predict(fitted.network, test))
            mine.thresholds.append(
                choose_thresholds(validation.labels, on_validation, settings.operating_point, settings.specificity)
            )
            mine.records.append(
                {
                    "seed": seed,
                    "updates": fitted.updates,
                    "best_update": fitted.best_update,
                    "validation_loss": round(fitted.validation_loss, 5),
                    "seconds": round(fitted.seconds, 2),
                }
            )
            done += 1
            if progress:
                progress(done, total)
    return fits


def make_protocol(real: Sides, settings: UtilitySettings, classifier: dict[str, Any]) -> dict[str, Any]:
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
    }
    return {"hash": content_hash(fields), **fields}


def _frame(
    real: Sides,
    synthetic: ImageSet,
    selected: ImageSet | None,
    settings: UtilitySettings,
    withheld: dict[str, Withheld],
) -> dict[str, Any]:
    """Everything that is known before the first fit."""
    channels, *size = real.train.shape
    classifier = describe_classifier(channels, tuple(size), len(real.train.classes))
    sets = {"train": real.train, "validation": real.validation, "test": real.test, "synthetic": synthetic}
    if selected is not None:
        sets["selected"] = selected
    return {
        "schema": SCHEMA,
        "design": "one split",
        "protocol": make_protocol(real, settings, classifier),
        "classes": list(real.train.classes),
        "class_of_interest": settings.positive,
        "counts": {name: count_images(images) for name, images in sets.items()},
        "seeds": list(range(settings.seed, settings.seed + settings.seeds)),
        "budget": {
            "gflop_forward": classifier["gflop_forward"],
            "updates_a_fit": settings.updates,
            "batch": settings.batch,
        },
        "checked": list(CHECKS[:2]),
        "withheld_classes": {name: reason.reason for name, reason in withheld.items()},
    }


def count_images(images: ImageSet) -> dict[str, Any]:
    """Images, groups, and images of each class."""
    by_class = np.bincount(images.labels[images.labels >= 0], minlength=len(images.classes)).tolist()
    return {
        "images": len(images),
        "groups": len(np.unique(images.groups)),
        "classes": dict(zip(images.classes, by_class, strict=True)),
    }
