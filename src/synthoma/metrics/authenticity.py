"""Whether synthetic images lie closer to the training images than new real ones would: authenticity and C_T.

Authenticity (Alaa et al., "How faithful is your synthetic data?", ICML 2022): a synthetic image is inauthentic when it
is nearer to its nearest training image than that one is to the nearest training image of another patient.
C_T (Meehan, Chaudhuri and Dasgupta, "A non-parametric test to detect data-copying in generative models", AISTATS
2020): the z-scored Mann-Whitney U of distances to the training set, synthetic against held-out, by cells of the space.
Both are reported beside their control: held-out real images in the place of the synthetic ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.cluster.vq import kmeans2, vq

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import as_pair
from synthoma.metrics.nearest import squared_distances
from synthoma.metrics.resampling import half_samples, interval, number_groups

REPETITIONS = 40
MOST_CELLS, LEAST_IN_CELL = 5, 50
_FEW = 3  # images in a cell, below which its statistic has no meaning

Array = NDArray[Any]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """A value with its 95 % interval; n: images that entered, groups: patients of real images."""

    value: float
    low: float
    high: float
    n: int
    groups: int

    def __post_init__(self) -> None:
        if not (np.isfinite([self.value, self.low, self.high]).all() and self.low <= self.value <= self.high):
            raise EvaluationError(f"{self.value} within [{self.low}, {self.high}] is no value with an interval.")

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "groups": self.groups}


@dataclass(frozen=True)
class Controlled:
    """A figure of synthetic images that stands beside the same figure of held-out real ones."""

    synthetic: Arm
    control: Arm
    what: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.control, Arm):
            raise EvaluationError(
                "a figure of synthetic images is reported with that of held-out real ones, or not at all."
            )

    def to_json(self) -> dict[str, Any]:
        return {"kind": "controlled", **self.synthetic.to_json(), "control": self.control.to_json(), **self.what}


class Distances:
    """Distances in a feature space, taken once: from synthetic and held-out images to training images.

    Features are [n, d]; memory grows with the product of the sets, so the caller bounds them. Raises `EvaluationError`
    where the features do not fit together, or the training images are of one patient.
    """

    def __init__(
        self, synthetic: Array, holdout: Array, train: Array, groups_holdout: Array, groups_train: Array
    ) -> None:
        made, real = as_pair(synthetic, train, least=2)
        held, _ = as_pair(holdout, train, least=2)
        self.synthetic, self.holdout = (squared_distances(x, real).numpy() for x in (made, held))
        self.groups_holdout, self.groups_train = (number_groups(g).numpy() for g in (groups_holdout, groups_train))
        if self.groups_train.max() == 0:
            raise EvaluationError(
                "all training images are of one patient or group; another one is needed to compare with."
            )
        self.train = squared_distances(real, real).numpy()
        self.train[self.groups_train[:, None] == self.groups_train[None, :]] = np.inf
        self.cells = _cells(held.numpy(), made.numpy())

    def authenticity(self, seed: int) -> Controlled:
        """Share of images that are not nearer to a training image than this is to other patients' images."""
        every = np.arange(len(self.groups_train))

        def share(from_train: Array, rows: Indices, columns: Indices) -> float:
            block = from_train[np.ix_(rows, columns)]
            near = block.argmin(axis=1)
            own = self.train[np.ix_(columns, columns)].min(axis=1)
            return float((block.min(axis=1) >= own[near]).mean())

        return Controlled(
            self._arm(
                lambda rows, columns: share(self.synthetic, rows, columns), len(self.synthetic), None, every, seed
            ),
            self._arm(
                lambda rows, columns: share(self.holdout, rows, columns),
                len(self.holdout),
                self.groups_holdout,
                every,
                seed,
            ),
            {"direction": "higher"},
        )

    def copying(self, seed: int) -> Controlled:
        """C_T: below zero where synthetic images lie closer to the training images than held-out ones do.

        The control compares one half of the held-out patients with the other half, many times, at their own number of images.
        """
        made, held = self.synthetic.min(axis=1), self.holdout.min(axis=1)
        of_held, of_made = self.cells
        value = copying_score(held, made, of_held, of_made)
        patients = int(self.groups_holdout.max()) + 1
        halves, replicates, controls = half_samples(patients, REPETITIONS, seed, "copying/holdout").numpy(), [], []
        images = half_samples(len(made), REPETITIONS, seed, "copying/synthetic").numpy()
        for half, chosen in zip(halves, images, strict=True):
            rows = half[self.groups_holdout]
            # A z-score of half as many images is smaller by the root of two.
            replicates.append(np.sqrt(2) * copying_score(held[rows], made[chosen], of_held[rows], of_made[chosen]))
            controls.append(copying_score(held[rows], held[~rows], of_held[rows], of_held[~rows]))
        low, high = interval(value, replicates, patients)
        spread = float(stats.norm.ppf(0.975) * np.std(controls, ddof=1))
        centre = float(np.mean(controls))
        return Controlled(
            Arm(value, low, high, len(made), patients),
            Arm(centre, centre - spread, centre + spread, len(held) // 2, patients // 2),
            {"cells": int(of_held.max()) + 1, "direction": "higher"},
        )

    def _arm(
        self,
        figure: Callable[[Indices, Indices], float],
        count: int,
        groups: Array | None,
        every: Indices,
        seed: int,
    ) -> Arm:
        """A figure of all images, with the interval of half-samples of patients on both sides."""
        groups = np.arange(count) if groups is None else groups
        value = figure(np.arange(count), every)
        patients = int(groups.max()) + 1, int(self.groups_train.max()) + 1
        ours = half_samples(patients[0], REPETITIONS, seed, "authenticity/images").numpy()
        reals = half_samples(patients[1], REPETITIONS, seed, "authenticity/train").numpy()
        replicates = [
            figure(np.flatnonzero(one[groups]), np.flatnonzero(other[self.groups_train]))
            for one, other in zip(ours, reals, strict=True)
            if np.unique(self.groups_train[other[self.groups_train]]).size > 1
        ]
        low, high = interval(value, replicates, min(patients))
        return Arm(value, max(low, 0.0), min(high, 1.0), count, min(patients))


def copying_score(held: Array, made: Array, of_held: Array | None = None, of_made: Array | None = None) -> float:
    """C_T from distances to the training set of held-out [n] and synthetic [m] images, and the cells that they lie in.

    The mean of the cells' z-scores, weighted by the held-out images in each; cells in which either side has hardly any
    image are left out.
    """
    of_held = np.zeros(len(held), dtype=np.int64) if of_held is None else of_held
    of_made = np.zeros(len(made), dtype=np.int64) if of_made is None else of_made
    total = weight = 0.0
    for cell in np.unique(of_held):
        real, fake = held[of_held == cell], made[of_made == cell]
        n, m = len(real), len(fake)
        if min(n, m) < _FEW:
            continue
        ranks = stats.rankdata(np.concatenate((fake, real)))
        u = ranks[:m].sum() - m * (m + 1) / 2  # pairs in which the synthetic image is further away
        total += n * (u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
        weight += n
    if weight == 0:
        raise EvaluationError("synthetic and held-out images share no part of the feature space; C_T is not defined.")
    return float(total / weight)


def _cells(held: Array, made: Array) -> tuple[Indices, Indices]:
    """Cells of the space by k-means on held-out images; one cell where they are few."""
    count = min(MOST_CELLS, len(held) // LEAST_IN_CELL)
    if count < 2:
        return np.zeros(len(held), dtype=np.int64), np.zeros(len(made), dtype=np.int64)
    centres, _ = kmeans2(held, count, minit="++", seed=0, missing="warn")
    return vq(held, centres)[0].astype(np.int64), vq(made, centres)[0].astype(np.int64)
