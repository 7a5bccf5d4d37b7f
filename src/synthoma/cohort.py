"""The frozen split: which patient (or group) is in train, val or test, decided before anything is trained."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import DatasetError

SPLITS = ("train", "val", "test")
# A class may miss its share of a split by this much (percentage points) before it is said.
TOLERANCE = 5.0
# With fewer groups than this there is no train, val and test that are independent of each other.
FEWEST_GROUPS = 3
# What an empty split costs a class that has groups enough to fill it, in units of squared deviation.
_EMPTY_COST = 0.02


@dataclass(frozen=True)
class Deviation:
    """A class whose share in a split is off by more than `TOLERANCE`; shares in percent of its images."""

    label: str
    split: str
    share: float
    wanted: float


@dataclass(frozen=True)
class SplitPlan:
    """splits: one of `SPLITS` for each image. independent_reference: whether there is a test split at all."""

    splits: list[str]
    deviations: list[Deviation]
    independent_reference: bool


def cohort_hash(contents: Sequence[str], groups: Sequence[str], splits: Sequence[str]) -> str:
    """Hash that freezes a split: SHA-256 over the sorted (content hash, group, split) of all images, 16 hex digits."""
    lines = sorted("\t".join(row) for row in zip(contents, groups, splits, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def check_cohort(
    contents: Sequence[str], groups: Sequence[str], splits: Sequence[str], frozen: str, where: str
) -> None:
    """Raise `DatasetError` unless every group is in one split and the split is the one that was frozen."""
    unknown = set(splits) - set(SPLITS)
    if unknown:
        raise DatasetError(f"{where}: unknown split {sorted(unknown)}; expected {', '.join(SPLITS)}.")
    split_of: dict[str, str] = {}
    for group, split in zip(groups, splits, strict=True):
        if split_of.setdefault(group, split) != split:
            raise DatasetError(
                f"{where}: group {group} is in both {split_of[group]} and {split}. The split was changed after it was "
                "frozen; prepare the data again."
            )
    if cohort_hash(contents, groups, splits) != frozen:
        raise DatasetError(
            f"{where}: the split is not the one that was frozen when the data were prepared. Whatever is measured on it "
            "would be worth nothing; prepare the data again."
        )


def number_groups(contents: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Pseudonyms G00001, G00002, ... for the group of each image, by rank of the group's smallest content hash.

    The numbers depend on pixels and on who belongs together, never on names, paths or order.
    """
    first = _smallest_contents(contents, groups)
    rank = {group: i + 1 for i, group in enumerate(sorted(first, key=first.__getitem__))}
    return [f"G{rank[group]:05d}" for group in groups]


def _smallest_contents(contents: Sequence[str], groups: Sequence[str]) -> dict[str, str]:
    first: dict[str, str] = {}
    for content, group in zip(contents, groups, strict=True):
        first[group] = min(content, first.get(group, content))
    return first


def assign_splits(
    contents: Sequence[str],
    groups: Sequence[str],
    labels: Sequence[str | None],
    fractions: Sequence[float],
    seed: int,
) -> SplitPlan:
    """Put whole groups into train, val and test, so that each class comes near its share of each split.

    Greedy stratification, large groups first (after Sechidis et al., "On the stratification of multi-label data",
    ECML PKDD 2011, with groups in the place of samples), then single groups are moved or exchanged as long as that
    lowers the sum of squared deviations. Which of equal groups goes where is drawn from (seed, content hash), so the
    result does not depend on names, paths or order. A class with one or two groups stays in train, with whatever
    shares its groups; with fewer than three groups all is train.
    """
    first = _smallest_contents(contents, groups)
    # The order of groups is a draw: SHA-256 of the seed and of what the group shows.
    order = sorted(first, key=lambda group: hashlib.sha256(f"{seed}/{first[group]}".encode()).hexdigest())
    if len(order) < FEWEST_GROUPS:
        return SplitPlan(["train"] * len(groups), [], independent_reference=False)
    names = sorted({label or "" for label in labels})
    number, column = {group: i for i, group in enumerate(order)}, {name: i for i, name in enumerate(names)}
    sizes = np.zeros((len(order), len(names)), dtype=np.int64)
    for group, label in zip(groups, labels, strict=True):
        sizes[number[group], column[label or ""]] += 1

    few = (sizes > 0).sum(axis=0) < FEWEST_GROUPS
    free = ~(sizes[:, few] > 0).any(axis=1)
    assigned = np.zeros(len(order), dtype=np.int64)
    wanted = np.asarray(fractions, dtype=np.float64)
    assigned[free] = _Stratifier(sizes[free], sizes[~free].sum(axis=0), ~few, wanted).assign()
    splits = [SPLITS[assigned[number[group]]] for group in groups]
    return SplitPlan(splits, split_deviations(labels, splits, fractions), "test" in splits)


def split_deviations(
    labels: Sequence[str | None], splits: Sequence[str], fractions: Sequence[float]
) -> list[Deviation]:
    """Classes whose share in a split misses `fractions` by more than `TOLERANCE` percentage points."""
    found = []
    for name in sorted({label or "" for label in labels}):
        own = [split for label, split in zip(labels, splits, strict=True) if (label or "") == name]
        for split, fraction in zip(SPLITS, fractions, strict=True):
            share = 100 * own.count(split) / len(own)
            if abs(share - 100 * fraction) > TOLERANCE + 1e-9:
                found.append(Deviation(name, split, round(share, 1), round(100 * fraction, 1)))
    return found


class _Stratifier:
    """Groups with their class counts `sizes` [g, k] -> split indices [g], near `wanted` [3] for each class that counts.

    fixed [k]: images that are in train already; counts: which classes are to be spread.
    """

    def __init__(
        self, sizes: NDArray[np.int64], fixed: NDArray[np.int64], counts: NDArray[np.bool_], wanted: NDArray[np.float64]
    ) -> None:
        totals = np.maximum(sizes.sum(axis=0) + fixed, 1)
        # The whole set is one more class, so that leftovers of many classes do not add up in one split.
        share = np.concatenate(
            [sizes[:, counts] / totals[counts], sizes.sum(axis=1, keepdims=True) / totals.sum()], axis=1
        )
        self.share: NDArray[np.float64] = share
        self.open = np.flatnonzero(wanted > 0)
        self.state = np.zeros((3, share.shape[1]))
        self.state[0] = np.append(fixed[counts] / totals[counts], fixed.sum() / totals.sum())
        self.wanted = np.repeat(wanted[:, None], share.shape[1], axis=1)
        self.size = sizes.sum(axis=1)

    def assign(self) -> NDArray[np.int64]:
        assigned = np.zeros(len(self.share), dtype=np.int64)
        for group in np.argsort(-self.size, kind="stable"):
            missing = (self.wanted - self.state)[self.open]
            # Where the group's own classes lack most, relative to what the split is to get.
            need = (np.maximum(missing, 0) / self.wanted[self.open]) @ self.share[group]
            cost = [self._cost_change(self.share[group], None, int(split)) for split in self.open]
            best = max(range(len(self.open)), key=lambda i: (round(need[i] - cost[i], 12), -i))
            assigned[group] = self.open[best]
            self.state[assigned[group]] += self.share[group]
        self._improve(assigned)
        return assigned

    def _cost(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of squared deviations over the last two axes of [..., 3, k], with a price for empty splits."""
        empty = (state[..., :-1] < 1e-12) & (self.wanted[:, :-1] > 0)
        total: NDArray[np.float64] = ((state - self.wanted) ** 2).sum((-1, -2)) + _EMPTY_COST * empty.sum((-1, -2))
        return total

    def _cost_change(self, share: NDArray[np.float64], source: int | None, target: int) -> float:
        state = self.state.copy()
        state[target] += share
        if source is not None:
            state[source] -= share
        return float(self._cost(state) - self._cost(self.state))

    def _improve(self, assigned: NDArray[np.int64], most: int = 300) -> None:
        """Make the best single move, or where none helps the best exchange found, until neither lowers the cost."""
        for _ in range(most):
            now = float(self._cost(self.state))
            step = self._best_move(assigned, now) or self._best_exchange(assigned, now)
            if step is None:
                return
            for group, target in step:
                self.state[assigned[group]] -= self.share[group]
                self.state[target] += self.share[group]
                assigned[group] = target

    def _best_move(self, assigned: NDArray[np.int64], now: float) -> list[tuple[int, int]] | None:
        best, step = now - 1e-9, None
        for target in self.open:
            movable = np.flatnonzero(assigned != target)
            if not len(movable):
                continue
            state = np.repeat(self.state[None], len(movable), axis=0)
            state[np.arange(len(movable)), assigned[movable]] -= self.share[movable]
            state[:, target] += self.share[movable]
            cost = self._cost(state)
            chosen = int(cost.argmin())
            if cost[chosen] < best:
                best, step = float(cost[chosen]), [(int(movable[chosen]), int(target))]
        return step

    def _best_exchange(self, assigned: NDArray[np.int64], now: float, most: int = 400) -> list[tuple[int, int]] | None:
        """Exchange two groups of different splits; only tried for sets of few groups, where moves are coarse."""
        if len(assigned) > most:
            return None
        best, step = now - 1e-9, None
        for group in range(len(assigned)):
            others = np.flatnonzero(assigned[group + 1 :] != assigned[group]) + group + 1
            if not len(others):
                continue
            gain = self.share[others] - self.share[group]
            state = np.repeat(self.state[None], len(others), axis=0)
            state[:, assigned[group]] += gain
            state[np.arange(len(others)), assigned[others]] -= gain
            cost = self._cost(state)
            chosen = int(cost.argmin())
            if cost[chosen] < best:
                other = int(others[chosen])
                best, step = float(cost[chosen]), [(group, int(assigned[other])), (other, int(assigned[group]))]
        return step
