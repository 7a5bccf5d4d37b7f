"""The most similar image of another set, over flips, quarter turns and small shifts.

All pairs are compared at a reduced resolution only, in grey, by matrix products, block by block: each image in all its
positions, as it is and moved by one pixel towards every corner, so that no shift that is sought is further away than
one pixel an axis. (Where edges are sharp, as in chest CT at 64 px, an image moved by two pixels resembles itself less than its
neighbour.) What these products propose is compared pixel by pixel, in colour (`metrics/correlation.py`).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from synthoma.errors import EvaluationError
from synthoma.metrics.correlation import FLAT, ValueRange, correlations, largest_shift, positions, turn_each, unit
from synthoma.transforms.symmetries import Symmetry, apply

REDUCED = {2: 16, 3: 8}  # side of what the matrix products see
_COARSE = 8  # from this many pixels in one on, moving an image by a pixel changes its reduced form too little to matter
_ROWS, _COLUMNS = 32, 2048  # a block of products that stays near the processor
_PAIRS = 32  # compared at once

Progress = Callable[[int, int], None]
View = Callable[[Tensor], Tensor]
Codes = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Search:
    """How closely to look, for each image.

    shortlist: images proposed at the reduced resolution; positions: of all their flips and turns, those that are
    compared pixel by pixel; memory: bytes that blocks may take.
    """

    shortlist: int = 12
    positions: int = 10
    memory: int = 512 * 2**20

    def __post_init__(self) -> None:
        if min(self.shortlist, self.positions) < 1 or self.memory < 2**20:
            raise ValueError("a search looks at one image at least, in one MiB of memory at least.")


# Compares every pair in every position pixel by pixel: the truth that the quick search is tested against.
EXHAUSTIVE = Search(shortlist=2**62, positions=2**62)


class NearestImages(NamedTuple):
    """For each image of one set a [n], the most similar image of the other set b.

    rows: int64 [n], -1 where there is none to compare with (all of its own group); similarity: float32 [n], -1 to 1, 0
    for images without structure; elements: int64 [n], number of the symmetry in `correlation.positions` that turns b;
    shifts: int64 [n, dim], by how many pixels the window in the turned b lies further down and to the right.
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]
    elements: NDArray[np.int64]
    shifts: NDArray[np.int64]

    def take(self, places: NDArray[Any]) -> "NearestImages":
        """Those of some images."""
        return NearestImages(*(values[places] for values in self))


def nearest_images(
    a: NDArray[np.generic],
    b: NDArray[np.generic],
    value_range: ValueRange,
    *,
    groups_a: NDArray[Any] | None = None,
    groups_b: NDArray[Any] | None = None,
    proposed: NDArray[np.int64] | None = None,
    view: View | None = None,
    search: Search | None = None,
    progress: Progress | None = None,
) -> NearestImages:
    """The most similar image of b [m, c, *spatial] for each of a [n, c, *spatial]; values are cut off at `value_range`.

    Where groups [n], [m] are given, images of one group are not compared. `proposed` [n, k]: rows of b that are looked
    at more closely whatever the reduced resolution says of them, such as the nearest in a feature space. `view`: what of
    the images [n, c, *spatial], black to white from 0 to 1, is compared pixel by pixel; it keeps their size and turns with
    them. By default all channels as they are.
    `progress(done, total)` counts images of a. Raises `EvaluationError` for sets of different shape, without images, or
    with values that are not finite.
    """
    check_images(a)
    check_images(b)
    if a.shape[1:] != b.shape[1:]:
        raise EvaluationError(
            f"images of shape {a.shape[1:]} and {b.shape[1:]} cannot be laid over each other; they need one size and "
            "number of channels."
        )
    pair = _Sets(a, b, value_range, _group_codes(groups_a, groups_b), search or Search(), view)
    parts = []
    step = max(1, pair.search.memory // 4 // (pair.reduced_bytes * len(pair.moves)))
    for start in range(0, len(a), step):
        rows = pair.shortlist(start, min(start + step, len(a)))
        if proposed is not None:
            rows = np.concatenate((rows, proposed[start : start + step]), axis=1)
        for low in range(0, len(rows), pair.batch):
            parts.append(pair.look(start + low, pair.allowed(rows[low : low + pair.batch], start + low)))
            if progress:
                progress(min(start + low + pair.batch, len(a)), len(a))
    return NearestImages(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def check_images(images: NDArray[np.generic]) -> None:
    """Raise `EvaluationError` unless these are images [n, c, *spatial] of finite values, one at least."""
    if images.ndim not in (4, 5):
        raise EvaluationError(f"images have shape {images.shape}; expected [n, c, y, x] or [n, c, z, y, x].")
    if not len(images):
        raise EvaluationError("there are no images to compare.")
    if np.issubdtype(images.dtype, np.floating):
        for number, image in enumerate(images):
            if not np.isfinite(image).all():
                raise EvaluationError(
                    f"image {number} of {len(images)} has values that are not finite; leave it out, or make it anew."
                )


class _Sets:
    """Two sets of images, and the steps of the search."""

    def __init__(
        self,
        a: NDArray[np.generic],
        b: NDArray[np.generic],
        value_range: ValueRange,
        codes: Codes | None,
        search: Search,
        view: View | None,
    ) -> None:
        self.a, self.b, self.value_range, self.codes, self.search = a, b, value_range, codes, search
        self.view = view
        size = a.shape[2:]
        self.group, self.shift = positions(size), largest_shift(size)
        self.reduced_size = [min(n, REDUCED[len(size)]) for n in size]
        self.moves = _moves(size, self.reduced_size, self.shift)
        self.inverse = _inverses(self.group, self.reduced_size)
        self.reduced_bytes = 4 * math.prod(self.reduced_size)
        self.batch = max(1, search.memory // 32 // (4 * math.prod(a.shape[1:])))  # images of a looked at together
        self.kept: Tensor | None = None
        if len(b) * self.reduced_bytes <= search.memory // 4:
            self.kept = self.reduce(b)

    def seen(self, images: NDArray[np.generic]) -> Tensor:
        """What is compared pixel by pixel."""
        values = unit(images, self.value_range)
        return values if self.view is None else self.view(values)

    def reduce(self, images: NDArray[np.generic], moved: bool = False) -> Tensor:
        """In grey at the reduced resolution, mean-free and of length one: [n, 1, *reduced]; `moved`: [n, moves, ...]."""
        step = max(1, 2**21 // math.prod(images.shape[1:]))
        blocks = []
        for start in range(0, len(images), step):
            grey = unit(images[start : start + step], self.value_range).mean(dim=1, keepdim=True)
            moves = [_moved(grey, move) for move in self.moves] if moved else [grey]
            blocks.append(torch.cat([_averages(image, self.reduced_size) for image in moves], dim=1))
        result = torch.cat(blocks)
        axes = tuple(range(2, result.ndim))
        result -= result.mean(dim=axes, keepdim=True)
        return result.div_(result.square().sum(dim=axes, keepdim=True).sqrt().clamp_min(FLAT))

    def reduced_rows(self, rows: NDArray[np.int64]) -> Tensor:
        """Rows of b at the reduced resolution: [n, d]."""
        return (self.reduce(self.b[rows]) if self.kept is None else self.kept[torch.from_numpy(rows)]).flatten(1)

    def turned(self, reduced: Tensor) -> Tensor:
        """Moved images [n, moves, ...] in all positions: [positions, n, moves, d]."""
        elements = torch.arange(len(self.group)).repeat_interleave(len(reduced))
        many = reduced.repeat(len(self.group), *[1] * (reduced.ndim - 1))
        return apply(many, elements, self.group).reshape(len(self.group), *reduced.shape[:2], -1)

    def shortlist(self, start: int, stop: int) -> NDArray[np.int64]:
        """Rows of b most similar to a[start:stop] at the reduced resolution, in any position: [n, k]; -1: none left."""
        n, m, k = stop - start, len(self.b), self.search.shortlist
        if k >= m:
            return np.tile(np.arange(m), (n, 1))
        own = self.reduce(self.a[start:stop], moved=True)
        values, rows = torch.full((n, k), -math.inf), torch.full((n, k), -1, dtype=torch.int64)
        step = max(1, self.search.memory // 4 // self.reduced_bytes)
        for first in range(0, m, step):
            other = self.reduce(self.b[first : first + step]) if self.kept is None else self.kept[first : first + step]
            for low in range(0, n, _ROWS):
                part = slice(low, low + _ROWS)
                # A turned a against b finds what a finds against b turned back: the group holds every inverse.
                turned = self.turned(own[part]).transpose(1, 2).flatten(0, 1)  # [positions x moves, n, d]
                for column in range(0, len(other), _COLUMNS):
                    block = other[column : column + _COLUMNS].flatten(1)
                    products = (turned.flatten(0, 1) @ block.T).view(*turned.shape[:2], -1).amax(dim=0)
                    self.cross_out(products, start + low, first + column)
                    near = products.topk(min(k, len(block)), dim=1)
                    both = torch.cat((values[part], near.values), dim=1)
                    of_both = torch.cat((rows[part], near.indices + (first + column)), dim=1)
                    values[part], order = both.topk(k, dim=1)
                    rows[part] = of_both.gather(1, order)
        return torch.where(values > -math.inf, rows, -1).numpy()

    def cross_out(self, products: Tensor, row: int, column: int) -> None:
        """Pairs of one group are no pairs."""
        if self.codes is None:
            return
        of_a = torch.from_numpy(self.codes[0][row : row + products.shape[0]])
        of_b = torch.from_numpy(self.codes[1][column : column + products.shape[1]])
        products.masked_fill_(of_a[:, None] == of_b[None, :], -math.inf)

    def allowed(self, rows: NDArray[np.int64], start: int) -> NDArray[np.int64]:
        """Candidates of which those of the image's own group are crossed out (-1), and those named twice."""
        rows = np.sort(rows, axis=1)
        rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
        if self.codes is None:
            return rows
        own = self.codes[0][start : start + len(rows), None] == self.codes[1][np.maximum(rows, 0)]
        return np.where(own, -1, rows)

    def look(self, start: int, rows: NDArray[np.int64]) -> NearestImages:
        """The most similar of the candidates [n, k] of a[start:start + n] by closer and closer looks."""
        n, dim = len(rows), self.a.ndim - 2
        a = self.a[start : start + n]
        own, places = np.nonzero(rows >= 0)
        chosen = self.at_reduced(a, own, rows[own, places], self.search.positions)
        scores, shifts = self.correlate(self.seen(a), chosen)
        result = NearestImages(
            np.full(n, -1), np.full(n, -1, dtype=np.float32), np.zeros(n, np.int64), np.zeros((n, dim), np.int64)
        )
        order = _first_of_each(chosen.own, scores, 1)
        result.rows[chosen.own[order]] = chosen.rows[order]
        result.similarity[chosen.own[order]] = scores[order]
        result.elements[chosen.own[order]] = chosen.elements[order]
        result.shifts[chosen.own[order]] = shifts[order]
        return result

    def at_reduced(
        self, a: NDArray[np.generic], own: NDArray[np.int64], rows: NDArray[np.int64], count: int
    ) -> "_Candidates":
        """All positions of the proposed images, of which the best `count` for each image stay."""
        elements = np.tile(np.arange(len(self.group)), len(own))
        everything = _Candidates(
            np.repeat(own, len(self.group)), np.repeat(rows, len(self.group)), self.inverse[elements]
        )
        if count >= len(elements) or not len(own):
            return everything
        turned = self.turned(self.reduce(a, moved=True)).movedim(0, 1).flatten(1, 2)  # [n, positions x moves, d]
        scores = np.empty((len(own), len(self.group)), dtype=np.float32)
        other = self.reduced_rows(rows)
        for start in range(0, len(own), _PAIRS):
            part = slice(start, start + _PAIRS)
            products = torch.bmm(turned[torch.from_numpy(own[part])], other[part, :, None])
            scores[part] = products.view(len(products), len(self.group), -1).amax(dim=2).numpy()
        return everything.best(scores.ravel(), count)

    def correlate(self, images: Tensor, chosen: "_Candidates") -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Best correlation of each candidate over shifts, and the shift."""
        shift = self.shift
        scores = np.zeros(len(chosen.own), dtype=np.float32)
        shifts = np.zeros((len(chosen.own), len(shift)), dtype=np.int64)
        step = min(_PAIRS, max(1, self.search.memory // 64 // (4 * math.prod(self.a.shape[1:]))))
        for start in range(0, len(scores), step):
            part = slice(start, start + step)
            other = self.seen(turn_each(self.b[chosen.rows[part]], chosen.elements[part], self.group))
            best, where = correlations(images[torch.from_numpy(chosen.own[part])], other, shift).flatten(1).max(dim=1)
            scores[part] = best.numpy()
            places = np.unravel_index(where.numpy(), tuple(2 * s + 1 for s in shift))
            shifts[part] = np.stack(places, axis=1) - np.array(shift)
        return scores, shifts


class _Candidates(NamedTuple):
    """Pairs that may be the most similar: image of a (within its batch), row of b, number of the position of b."""

    own: NDArray[np.int64]
    rows: NDArray[np.int64]
    elements: NDArray[np.int64]

    def best(self, scores: NDArray[np.float32], count: int) -> "_Candidates":
        """The best `count` for each image."""
        order = _first_of_each(self.own, scores, count)
        return _Candidates(*(values[order] for values in self))


def _first_of_each(own: NDArray[np.int64], scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Places of the highest `count` scores of each image; of equal ones the first."""
    order = np.lexsort((-scores, own))
    starts = np.searchsorted(own[order], own[order], side="left")
    result: NDArray[np.int64] = order[np.arange(len(order)) - starts < count]
    return result


def _averages(images: Tensor, size: Sequence[int]) -> Tensor:
    """Area averages; turning an image and averaging it may change places."""
    whole = all(n % s == 0 for n, s in zip(images.shape[2:], size, strict=True))
    if whole:
        factors = [n // s for n, s in zip(images.shape[2:], size, strict=True)]
        return F.avg_pool2d(images, factors) if len(size) == 2 else F.avg_pool3d(images, factors)
    if len(size) == 2:
        return F.adaptive_avg_pool2d(images, (size[0], size[1]))
    return F.adaptive_avg_pool3d(images, (size[0], size[1], size[2]))


def _moves(size: Sequence[int], reduced: Sequence[int], shift: Sequence[int]) -> list[tuple[int, ...]]:
    """How images are moved before they are reduced: not at all, and by a pixel towards each corner."""
    ends = [(-1, 1) if s and n < _COARSE * r else (0,) for n, r, s in zip(size, reduced, shift, strict=True)]
    still = (0,) * len(size)
    return [still, *(move for move in itertools.product(*ends) if move != still)]


def _moved(images: Tensor, move: Sequence[int]) -> Tensor:
    """Moved by whole pixels; the border is continued by its last pixel."""
    for axis, step in enumerate(move, start=2):
        if step:
            places = torch.arange(images.shape[axis]).add(step).clamp(0, images.shape[axis] - 1)
            images = images.index_select(axis, places)
    return images


def _inverses(group: Sequence[Symmetry], size: Sequence[int]) -> NDArray[np.int64]:
    """Number of the position that undoes each position."""
    grid = torch.arange(math.prod(size)).reshape(1, 1, *size)
    images = [apply(grid, torch.tensor([number]), group) for number in range(len(group))]
    undone = [
        [bool(torch.equal(apply(image, torch.tensor([other]), group), grid)) for other in range(len(group))]
        for image in images
    ]
    return np.array([row.index(True) for row in undone], dtype=np.int64)


def _group_codes(groups_a: NDArray[Any] | None, groups_b: NDArray[Any] | None) -> Codes | None:
    """Groups of both sets as whole numbers, equal where the groups are."""
    if groups_a is None or groups_b is None:
        return None
    codes = np.unique(np.concatenate((groups_a, groups_b)), return_inverse=True)[1].astype(np.int64)
    return codes[: len(groups_a)], codes[len(groups_a) :]
