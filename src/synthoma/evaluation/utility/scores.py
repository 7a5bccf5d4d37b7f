"""Scores of a classifier's probabilities, for many weightings of the test images at once.

A weighting says how often an image counts: all ones for the value itself, a patient's number of draws for a bootstrap
resample. Every score here is a ratio of weighted sums, so that a thousand resamples are a matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthoma.evaluation.utility.settings import OperatingPoint

Floats = NDArray[np.float64]
ECE_BINS = 15  # of equal width, as Guo et al. 2017, "On calibration of modern neural networks"
OVERALL = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "brier", "ece")
OF_CLASS = ("auc", "sensitivity", "specificity", "recall")


@dataclass(frozen=True)
class Judged:
    """Test images and what is scored on them.

    labels [n] into `classes`; judged: indices of the classes with images enough, over which macro averages go; positive:
    index of the class of interest, whose one-vs-rest figures then are the overall ones, or None. blocks [seeds, n]: in
    folds, the classifier that scored an image; only images scored by one classifier are ranked against each other.
    """

    labels: NDArray[np.int64]
    classes: Sequence[str]
    judged: Sequence[int]
    positive: int | None = None
    blocks: NDArray[np.int64] | None = None


def scores(test: Judged, probabilities: Floats, thresholds: Floats, weights: Floats) -> dict[str, Floats]:
    """Name -> values [weightings, seeds]; of one class under "score/class". NaN where a weighting leaves none to judge.

    probabilities [seeds, n, k]; thresholds [seeds, k] or [seeds, n, k] of the one-vs-rest decisions, NaN where there is
    none; weights [weightings, n], 0 or more.
    """
    columns = [
        _one_seed(test, p, t, weights, seed) for seed, (p, t) in enumerate(zip(probabilities, thresholds, strict=True))
    ]
    return {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}


def _one_seed(test: Judged, probabilities: Floats, thresholds: Floats, weights: Floats, seed: int) -> dict[str, Floats]:
    own = test.labels[:, None] == np.arange(probabilities.shape[1])
    correct = (probabilities.argmax(axis=1) == test.labels).astype(np.float64)
    result = {
        "accuracy": _share(correct, weights),
        "brier": _share(((probabilities - own) ** 2).sum(axis=1), weights),
        "ece": _calibration_error(probabilities.max(axis=1), correct, weights),
    }
    above = np.where(np.isnan(thresholds), np.nan, (probabilities >= thresholds).astype(np.float64))
    blocks = None if test.blocks is None else test.blocks[seed]
    for number in test.judged:
        name, mine = test.classes[number], own[:, number]
        result[f"auc/{name}"] = auc(mine, probabilities[:, number], weights, blocks)
        result[f"sensitivity/{name}"] = _share(above[mine, number], weights[:, mine])
        result[f"specificity/{name}"] = _share(1 - above[~mine, number], weights[:, ~mine])
        result[f"recall/{name}"] = _share(correct[mine], weights[:, mine])
    names = [test.classes[number] for number in test.judged]
    result["balanced_accuracy"] = np.mean([result[f"recall/{name}"] for name in names], axis=0)
    asked = names if test.positive is None else [test.classes[test.positive]]
    for score in ("auc", "sensitivity", "specificity"):
        result[score] = np.mean([result[f"{score}/{name}"] for name in asked], axis=0)
    return result


def auc(
    positive: NDArray[np.bool_], values: Floats, weights: Floats, blocks: NDArray[np.int64] | None = None
) -> Floats:
    """Area under the ROC curve by Mann and Whitney, ties one half: [weightings].

    positive [n], values [n], weights [weightings, n]. With `blocks` only pairs within a block are compared, which is
    the AUC of cross-validation without the bias of pooled predictions (Airola et al. 2011, "An experimental comparison
    of cross-validation techniques for estimating the area under the ROC curve").
    """
    won, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    parts = [np.arange(len(values))] if blocks is None else [np.flatnonzero(blocks == b) for b in np.unique(blocks)]
    for rows in parts:
        order = rows[np.argsort(values[rows], kind="stable")]
        # Sums over images with the same value, in ascending order of the value.
        starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
        mine = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
        others = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
        won += (mine * (np.cumsum(others, axis=1) - others / 2)).sum(axis=1)
        pairs += mine.sum(axis=1) * others.sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)


def choose_thresholds(
    labels: NDArray[np.int64], probabilities: Floats, point: OperatingPoint, specificity: float
) -> Floats:
    """Threshold of each class's one-vs-rest decision (at least it: the class) from validation images: [k].

    youden: the largest sensitivity + specificity, the highest of equal ones; specificity: the lowest threshold that has
    at least this specificity. NaN for a class that is in no validation image, or in all.
    """
    found = np.full(probabilities.shape[1], np.nan)
    for number in range(probabilities.shape[1]):
        mine, values = labels == number, probabilities[:, number]
        if mine.all() or not mine.any():
            continue
        distinct = np.unique(values)
        # Midway between neighbours: a test image that equals a validation image decides nothing.
        cuts = np.concatenate([distinct[:1], (distinct[1:] + distinct[:-1]) / 2, [np.nextafter(distinct[-1], np.inf)]])
        sensitivities = 1 - np.searchsorted(np.sort(values[mine]), cuts, side="left") / mine.sum()
        specificities = np.searchsorted(np.sort(values[~mine]), cuts, side="left") / (~mine).sum()
        if point == "specificity":
            found[number] = cuts[np.flatnonzero(specificities >= specificity - 1e-12)[0]]
        else:
            best = sensitivities + specificities
            found[number] = cuts[np.flatnonzero(best >= best.max() - 1e-12)[-1]]
    return found


def _share(values: Floats, weights: Floats) -> Floats:
    """Weighted mean of values [n] for each of weights [weightings, n]; NaN where the weights are all zero."""
    total = weights.sum(axis=1)
    return np.divide(weights @ values, total, out=np.full(len(total), np.nan), where=total > 0)


def _calibration_error(confidence: Floats, correct: Floats, weights: Floats) -> Floats:
    """Expected calibration error: the mean over images of |confidence - accuracy| of their bin."""
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.stack([weights @ ((confidence - correct) * (bins == number)) for number in range(ECE_BINS)], axis=1)
    total = weights.sum(axis=1)
    return np.divide(np.abs(gaps).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)
