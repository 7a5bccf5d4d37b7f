"""The utility study: do synthetic images make a classifier better on real patients whom nobody trained on?

Every arm trains the same classifier for the same number of updates, with the same seeds, and stops early on the same
real validation images; all are tested on the same real test images. What differs is the training images alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.utility.agreement import Answers, looked_at
from synthoma.evaluation.utility.arms import REAL, Arm, Pool, plan_arms
from synthoma.evaluation.utility.opening import Sides, check_sets, open_study
from synthoma.evaluation.utility.scores import choose_thresholds
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.train import Fitted, fit_classifier, predict
from synthoma.metrics.estimate import Withheld

Progress = Callable[[int, int], None]


@dataclass
class Fits:
    """What the fits of one arm left: probabilities [n, k] and thresholds [k] of each seed, and a record of each fit;
    of the real arm also the class that each looked-at synthetic image is taken for, [m]."""

    probabilities: list[NDArray[np.float64]] = field(default_factory=list)
    thresholds: list[NDArray[np.float64]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    on_synthetic: list[NDArray[np.int64]] = field(default_factory=list)


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
    sets = {"train": real.train, "validation": real.validation, "test": real.test, "synthetic": synthetic}
    if selected is not None:
        sets["selected"] = selected
    opening = open_study(real, sets, settings, settings.seeds)
    if opening.reason is not None:
        return opening.withheld()
    arms = plan_arms(real.train, synthetic, selected, settings.ratios, settings.seed)
    shown = looked_at(synthetic)
    fits = fit_arms(arms, real, shown, settings, progress)
    values = {name: (np.stack(f.probabilities), np.stack(f.thresholds)) for name, f in fits.items()}
    answers = Answers(shown.labels, np.stack(fits[REAL].on_synthetic), numbered(len(shown)))
    counts = np.bincount(real.train.labels, minlength=len(real.train.classes))
    return opening.conclude(arms, values, {name: f.records for name, f in fits.items()}, answers, counts)


def numbered(count: int) -> NDArray[np.str_]:
    """Groups of synthetic images: each its own."""
    return np.array([f"S{number}" for number in range(count)], dtype=np.str_)


def fit_arms(
    arms: Sequence[Arm], real: Sides, shown: ImageSet, settings: UtilitySettings, progress: Progress | None = None
) -> dict[str, Fits]:
    """Fit and test every arm that has images, with every seed; the real arm's classifiers are shown `shown` too."""
    classes = len(real.train.classes)
    validation, test, synthetic = (
        Pool(side.images, side.labels, real.train.range) for side in (real.validation, real.test, shown)
    )
    fits: dict[str, Fits] = {arm.name: Fits() for arm in arms if not isinstance(arm.pool, Withheld)}
    done, total = 0, len(fits) * settings.seeds
    for arm in arms:
        if isinstance(arm.pool, Withheld):
            continue
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
            mine.records.append(_record(fitted, seed))
            if arm.name == REAL:
                mine.on_synthetic.append(predict(fitted.network, synthetic).argmax(axis=1))
            done += 1
            if progress:
                progress(done, total)
    return fits


def _record(fitted: Fitted, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "updates": fitted.updates,
        "best_update": fitted.best_update,
        "validation_loss": round(fitted.validation_loss, 5),
        "seconds": round(fitted.seconds, 2),
    }
