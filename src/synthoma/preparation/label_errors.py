"""Likely label errors: images whose label a cheap classifier that never saw them, nor their group, finds hard to believe.

Multinomial logistic regression on the principal components of small pictures and on colour histograms, cross-validated
by group. An image is listed by the rule of confident learning (Northcutt et al., "Confident learning: estimating
uncertainty in dataset labels", JAIR 2021): another class is at least as probable as it is, on average, for images that
bear its label. The classifier is weak, so only clear cases are listed. It is a list to look at; nothing is changed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from synthoma.preparation.resize import resampling_matrix

FOLDS = 5
# Fewer images than this of a class, or in all, teach nothing.
_FEWEST_OF_CLASS = 10
_FEWEST = 60
_LONGEST_LIST = 100
_COMPONENTS = 24
_BINS = 8
_BLOCK = 256
_REGULARISATION = 30.0
# How much more probable the other class must be for a case to count as clear.
_MARGIN = 0.6


class LabelError(NamedTuple):
    """A row whose label is doubted, the class that fits better (index), and its cross-validated probability."""

    row: int
    suggested: int
    probability: float


@dataclass(frozen=True)
class LabelCheck:
    """doubtful: the clearest case first; accuracy: share of images that the cross-validated classifier gets right.

    Accuracy is None where there are too few images, or not two classes that are large enough, to learn from.
    """

    doubtful: list[LabelError]
    accuracy: float | None


def find_label_errors(
    images: NDArray[np.generic],
    labels: NDArray[np.int64],
    groups: Sequence[str],
    contents: Sequence[str],
    window: tuple[float, float] = (0, 255),
) -> LabelCheck:
    """Labels [n] (-1: none) that the images [n, c, *spatial], black and white at `window`, contradict."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    usable = classes[counts >= _FEWEST_OF_CLASS]
    rows = np.flatnonzero(np.isin(labels, usable))
    if len(usable) < 2 or len(rows) < _FEWEST:
        return LabelCheck([], None)
    target = np.searchsorted(usable, labels[rows])
    folds = _folds(
        target, [groups[row] for row in rows.tolist()], [contents[row] for row in rows.tolist()], len(usable)
    )
    features = _features(images, rows, window)
    probability = np.full((len(rows), len(usable)), np.nan)
    for fold in range(FOLDS):
        held = folds == fold
        # A class that is not left for training would get no probability at all.
        if not held.any() or len(np.unique(target[~held])) < len(usable):
            continue
        weights = _fit(features[~held], target[~held], len(usable))
        probability[held] = _probabilities(weights, features[held])
    judged = np.isfinite(probability).all(axis=1)
    if not judged.any():
        return LabelCheck([], None)
    probability, target, rows = probability[judged], target[judged], rows[judged]
    accuracy = float((probability.argmax(axis=1) == target).mean())
    return LabelCheck(_doubtful(probability, target, rows, usable), round(accuracy, 3))


def _doubtful(
    probability: NDArray[np.float64], target: NDArray[np.int64], rows: NDArray[np.int64], usable: NDArray[np.int64]
) -> list[LabelError]:
    own = probability[np.arange(len(rows)), target]
    usual = np.array([own[target == k].mean() if (target == k).any() else 2.0 for k in range(len(usable))])
    confident = np.where(probability >= usual, probability, -1.0)
    suggested = confident.argmax(axis=1)
    # Rounded before it is compared, so that the last bits of a sum cannot change the list.
    other = np.round(confident.max(axis=1), 3)
    margin = np.round(other - own, 3)
    listed = np.flatnonzero((suggested != target) & (margin >= _MARGIN))
    order = sorted(listed.tolist(), key=lambda i: (-margin[i], rows[i]))[:_LONGEST_LIST]
    return [LabelError(int(rows[i]), int(usable[suggested[i]]), float(other[i])) for i in order]


def _folds(
    target: NDArray[np.int64], groups: Sequence[str], contents: Sequence[str], classes: int
) -> NDArray[np.int64]:
    """Whole groups into folds, each class about evenly; the order of groups is a draw from what they show."""
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    draw = {group: hashlib.sha256(min(contents[i] for i in own).encode()).hexdigest() for group, own in members.items()}
    load = np.zeros((FOLDS, classes))
    total = np.bincount(target, minlength=classes)
    folds = np.zeros(len(target), dtype=np.int64)
    for group in sorted(members, key=lambda group: (-len(members[group]), draw[group])):
        own = np.bincount(target[members[group]], minlength=classes) / total
        fold = int((load @ (own > 0)).argmin())
        load[fold] += own
        folds[members[group]] = fold
    return folds


def _features(images: NDArray[np.generic], rows: NDArray[np.int64], window: tuple[float, float]) -> NDArray[np.float64]:
    """Principal components of small pictures, histograms of each channel, and a constant: [n, d], standardised."""
    low, high = window
    spatial = images.shape[2:]
    side = 8 if len(spatial) == 2 else 5
    matrices = [resampling_matrix(n, 0.0, float(n), min(side, n)) for n in spatial]
    letters = "zyx"[-len(spatial) :]
    small, colours = [], []
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(images[rows[start : start + _BLOCK]], dtype=np.float32)
        values = np.clip((block - np.float32(low)) / np.float32(high - low), 0, 1)
        colours.append(_histograms(values))
        for axis, matrix in enumerate(matrices):
            after = letters.replace(letters[axis], "k")
            values = np.einsum(f"k{letters[axis]},nc{letters}->nc{after}", matrix, values)
        small.append(values.reshape(len(values), -1))
    pictures = np.concatenate(small).astype(np.float64)
    pictures -= pictures.mean(axis=0)
    variances, vectors = np.linalg.eigh(pictures.T @ pictures)
    components = pictures @ vectors[:, np.argsort(variances)[::-1][:_COMPONENTS]]
    features = np.concatenate([components, np.sqrt(np.concatenate(colours))], axis=1)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _histograms(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Share of pixels in each of `_BINS` equal ranges: [n, c, *spatial] in [0, 1] -> [n, c * bins]."""
    count, channels = values.shape[:2]
    bins = np.minimum((values * _BINS).astype(np.int64), _BINS - 1).reshape(count * channels, -1)
    bins += np.arange(count * channels)[:, None] * _BINS
    counted = np.bincount(bins.ravel(), minlength=count * channels * _BINS)
    return counted.reshape(count, channels * _BINS) / (bins.shape[1])


def _fit(features: NDArray[np.float64], target: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Weights [d, k] of a multinomial logistic regression with an L2 penalty."""
    hot = np.eye(classes)[target]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(-1, classes)
        probability = _probabilities(weights, features)
        value = -np.log(np.maximum((probability * hot).sum(axis=1), 1e-12)).sum() + _REGULARISATION / 2 * (flat @ flat)
        gradient = np.einsum("nd,nk->dk", features, probability - hot) + _REGULARISATION * weights
        return float(value), gradient.ravel()

    start = np.zeros(features.shape[1] * classes)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 80})
    return np.asarray(result.x, dtype=np.float64).reshape(-1, classes)


def _probabilities(weights: NDArray[np.float64], features: NDArray[np.float64]) -> NDArray[np.float64]:
    # einsum instead of a BLAS product: for matrices this small its threads cost far more than they save.
    scores = np.einsum("nd,dk->nk", features, weights)
    scores -= scores.max(axis=1, keepdims=True)
    exponent = np.exp(scores)
    result: NDArray[np.float64] = exponent / exponent.sum(axis=1, keepdims=True)
    return result
