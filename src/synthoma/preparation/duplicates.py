"""Exact duplicates, conflicts between labels, and who must stay together in one split."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from synthoma.preparation.items import Item, Rejection
from synthoma.preparation.near_duplicates import Pair

# A chain of look-alikes (a resembles b, b resembles c, ...) above this share of the set is no group of copies.
CHAIN_SHARE = 0.05
# ... but in a small set a handful of copies is not yet a chain.
_SMALLEST_CHAIN = 5
# Of copies in several given splits the one in test stays: a published test set then stays whole.
_SPLIT_RANK = {"test": 0, "val": 1, "train": 2, None: 3}

DUPLICATE = "exact duplicate of another image"
CONFLICT = "same picture under several labels"


@dataclass(frozen=True)
class ExactDuplicates:
    """kept: one image a picture (and label, where conflicts are kept). conflicts: pictures with several labels.

    across_splits: pictures that stood in several given splits.
    """

    kept: list[Item]
    rejections: list[Rejection]
    duplicates: int
    conflicts: int
    across_splits: int


def drop_exact_duplicates(items: Sequence[Item], keep_conflicts: bool) -> ExactDuplicates:
    """One image of each picture; a picture under two labels is a conflict, and is left out unless it is to be kept."""
    same: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        same[item.content].append(item)
    kept: list[Item] = []
    rejections: list[Rejection] = []
    duplicates = conflicts = across = 0
    for copies in same.values():
        copies.sort(key=_preference)
        across += len({item.record.given_split for item in copies}) > 1
        labels = sorted({item.label for item in copies if item.label is not None})
        if len(labels) > 1:
            conflicts += 1
            if not keep_conflicts:
                rejections += [Rejection(item.record, f"{CONFLICT} ({', '.join(labels)})") for item in copies]
                continue
        chosen = [next(item for item in copies if item.label == label) for label in labels] or copies[:1]
        kept += _in_one_split(chosen)
        places = {item.place for item in chosen}
        rejections += [Rejection(item.record, DUPLICATE) for item in copies if item.place not in places]
        duplicates += len(copies) - len(chosen)
    return ExactDuplicates(kept, rejections, duplicates, conflicts, across)


def _preference(item: Item) -> tuple[bool, int, bool, str]:
    """A copy with a label is preferred, then one that says its group, then the smallest key."""
    return item.label is None, _SPLIT_RANK[item.record.given_split], item.record.group is None, item.record.key


def _in_one_split(chosen: list[Item]) -> list[Item]:
    """Copies that are kept under several labels stay in the given split of the first."""
    split = chosen[0].record.given_split
    return [replace(item, record=replace(item.record, given_split=split)) for item in chosen]


@dataclass(frozen=True)
class Grouping:
    """groups: a name for the group of each image, equal within a group, of no meaning otherwise.

    merged: groups that were formed of near-duplicates; straddling: pairs of look-alikes that given groups (or given
    splits) keep apart; chains: sizes of chains that were not merged.
    """

    groups: list[str]
    merged: int
    straddling: int
    chains: list[int]


def group_images(items: Sequence[Item], pairs: Sequence[Pair], respect_splits: bool) -> Grouping:
    """Who stays together: given groups first, then near-duplicates of which at least one has no given group.

    Two given groups are never merged, neither directly nor by way of an image without a group; with `respect_splits`
    neither are images of different given splits.
    """
    owner = _Components(len(items))
    first_of: dict[tuple[str, str], int] = {}
    for i, item in enumerate(items):
        owner.given[i] = item.record.group
        owner.split[i] = item.record.given_split if respect_splits else None
        if item.record.group is not None:
            owner.merge(first_of.setdefault(("group", item.record.group), i), i)
    for (i, one), (j, other) in pairwise(enumerate(items)):
        if one.content == other.content:
            owner.merge(i, j)
    mergeable = [pair for pair in pairs if owner.given[pair.first] is None or owner.given[pair.second] is None]
    chains, chained = _chains(len(items), mergeable)
    for pair in sorted(mergeable, key=lambda pair: (-pair.correlation, pair)):
        if not chained[pair.first] and owner.may_merge(pair.first, pair.second):
            owner.merge(pair.first, pair.second)
    roots = [owner.root(i) for i in range(len(items))]
    merged = {roots[pair.first] for pair in mergeable if roots[pair.first] == roots[pair.second]}
    apart = sum(roots[pair.first] != roots[pair.second] and not chained[pair.first] for pair in pairs)
    return Grouping([str(root) for root in roots], len(merged), apart, chains)


def _chains(count: int, pairs: Sequence[Pair]) -> tuple[list[int], NDArray[np.bool_]]:
    """Sizes of connected components that are too large to be copies of one picture, and who is in one."""
    if not pairs:
        return [], np.zeros(count, dtype=bool)
    rows, columns = [pair.first for pair in pairs], [pair.second for pair in pairs]
    graph = coo_matrix((np.ones(len(pairs)), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    sizes = np.bincount(component)
    large = sizes > max(CHAIN_SHARE * count, _SMALLEST_CHAIN)
    return sorted(sizes[large].tolist(), reverse=True), large[component]


class _Components:
    """Union-find over images that knows the given group and split of each component (None: none yet)."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))
        self.given: list[str | None] = [None] * count
        self.split: list[str | None] = [None] * count

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def may_merge(self, i: int, j: int) -> bool:
        a, b = self.root(i), self.root(j)
        two_groups = None not in (self.given[a], self.given[b]) and self.given[a] != self.given[b]
        two_splits = None not in (self.split[a], self.split[b]) and self.split[a] != self.split[b]
        return not two_groups and not two_splits

    def merge(self, i: int, j: int) -> None:
        a, b = sorted((self.root(i), self.root(j)))
        self.parent[b] = a
        self.given[a] = self.given[a] or self.given[b]
        self.split[a] = self.split[a] or self.split[b]
