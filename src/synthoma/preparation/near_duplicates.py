"""Near-duplicates: the same picture saved anew, turned, mirrored or slightly moved.

A perceptual fingerprint only proposes: the low frequencies of the discrete cosine transform of a small grey picture.
Under a flip its coefficients change sign, under a turn they change places, so the fingerprints of all symmetries (8 of
a square, 48 of a cube) follow from one. A proposed pair counts only after a look at the pixels: correlation at least
`CORRELATION` after the best symmetry and a small shift.
"""

from collections.abc import Iterator
from itertools import permutations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.ndimage import uniform_filter

CORRELATION = 0.98
_FINGERPRINT_SIDE = 8
# Low, since a picture that is moved by the largest shift sought still has to be proposed, and the look at half the size
# that follows costs little. Measured on four sets of medical pictures moved by up to 2 of 64 pixels: fingerprints agree
# to 0.83 and more, halves to 0.95 and more; by 1 of 20 voxels: 0.86 and 0.89 for smooth volumes.
_PROPOSAL = 0.82
_COARSE = {2: 0.94, 3: 0.88}
# Largest shift sought, as share of the side: 2 of 64 pixels.
_SHIFT = 1 / 32
_BLOCK = 2048


class Symmetry(NamedTuple):
    """An element of the symmetry group of the square or cube: first the axes are permuted, then some are flipped."""

    axes: tuple[int, ...]
    flipped: tuple[bool, ...]


class Pair(NamedTuple):
    """Two rows, first < second, that show the same picture."""

    first: int
    second: int
    correlation: float


def symmetries(dim: int) -> list[Symmetry]:
    """All flips and turns: 8 for dim 2, 48 for dim 3 (mirror images included)."""
    return [Symmetry(axes, flips) for axes in permutations(range(dim)) for flips in product((False, True), repeat=dim)]


def apply_symmetry(images: NDArray[Any], symmetry: Symmetry) -> NDArray[Any]:
    """[n, *spatial] turned and flipped."""
    turned = images.transpose(0, *(axis + 1 for axis in symmetry.axes))
    result: NDArray[Any] = np.flip(turned, tuple(axis + 1 for axis, flip in enumerate(symmetry.flipped) if flip))
    return result


def fingerprints(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Low-frequency cosine coefficients of [n, *side]: float32 [n, 8, 8(, 8)] of length 1, without the mean."""
    dim = thumbnails.ndim - 1
    spatial = tuple(range(1, dim + 1))
    result = np.empty((len(thumbnails), *(_FINGERPRINT_SIDE,) * dim), dtype=np.float32)
    for start in range(0, len(thumbnails), _BLOCK):
        block = thumbnails[start : start + _BLOCK].astype(np.float32)
        low = dctn(block, axes=spatial, norm="ortho")[(slice(None), *(slice(_FINGERPRINT_SIDE),) * dim)]
        low[(slice(None), *(0,) * dim)] = 0
        length = np.sqrt((low**2).sum(axis=spatial, keepdims=True))
        result[start : start + _BLOCK] = low / np.maximum(length, 1e-6)
    return result


def _turned_fingerprints(prints: NDArray[np.float32], symmetry: Symmetry) -> NDArray[np.float32]:
    """Fingerprints of the turned pictures: flips give odd frequencies the other sign."""
    dim = prints.ndim - 1
    turned = prints.transpose(0, *(axis + 1 for axis in symmetry.axes)).copy()
    sign = np.where(np.arange(_FINGERPRINT_SIDE) % 2, -1.0, 1.0).astype(np.float32)
    for axis, flip in enumerate(symmetry.flipped):
        if flip:
            turned *= sign.reshape([-1 if other == axis else 1 for other in range(dim)])
    return turned


def find_near_duplicates(thumbnails: NDArray[np.uint8]) -> list[Pair]:
    """All pairs of rows of [n, *side] that show the same picture, sorted by rows. Flat pictures pair with nothing.

    `side` is even and the same on all axes (8 at least).
    """
    if len(thumbnails) < 2:
        return []
    shift = max(1, round(thumbnails.shape[1] * _SHIFT))
    dim = thumbnails.ndim - 1
    prints = fingerprints(thumbnails)
    fixed, fixed_half = _Windows.of(thumbnails, shift), _Windows.of(_halved(thumbnails), 1)
    found: dict[tuple[int, int], float] = {}
    for symmetry in symmetries(dim):
        moving, moving_half = fixed.turned(symmetry), fixed_half.turned(symmetry)
        for rows, columns in _proposals(prints, _turned_fingerprints(prints, symmetry)):
            likely = best_correlation(fixed_half, moving_half, rows, columns) >= _COARSE[dim]
            rows, columns = rows[likely], columns[likely]
            values = best_correlation(fixed, moving, rows, columns)
            for i, j, value in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True):
                if value >= CORRELATION:
                    found[i, j] = max(value, found.get((i, j), 0.0))
    return [Pair(i, j, round(value, 4)) for (i, j), value in sorted(found.items())]


def _halved(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[n, *side] at half the size, by means of blocks of two; `side` is even.

    Blurred, so that a shift by an odd number of pixels, which lies between two shifts at half the size, costs little.
    """
    half = images.shape[1] // 2
    result: NDArray[Any] = images.astype(np.float32)
    for axis in range(1, images.ndim):
        first = result.take(np.arange(0, 2 * half, 2), axis=axis)
        result = (first + result.take(np.arange(1, 2 * half, 2), axis=axis)) / 2
    return np.asarray(uniform_filter(result, (1, *(3,) * (images.ndim - 1)), mode="nearest"), dtype=np.float32)


class _Windows(NamedTuple):
    """Images [n, *side], and the spread [n, 2 shift + 1, ...] of the window that each shift looks through.

    The spreads of a turned picture are the turned spreads of the picture, so they are computed once.
    """

    images: NDArray[np.generic]
    spread: NDArray[np.float32]
    shift: int

    @classmethod
    def of(cls, images: NDArray[np.generic], shift: int) -> "_Windows":
        dim, steps = images.ndim - 1, 2 * shift + 1
        spread = np.empty((len(images), *(steps,) * dim), dtype=np.float32)
        windows = cls(images, spread, shift)
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK].astype(np.float32)
            for place in product(range(steps), repeat=dim):
                part = block[windows.window(place)]
                index: tuple[Any, ...] = (slice(start, start + _BLOCK), *place)
                spread[index] = part.std(axis=tuple(range(1, dim + 1)))
        return windows

    def turned(self, symmetry: Symmetry) -> "_Windows":
        images = np.ascontiguousarray(apply_symmetry(self.images, symmetry))
        return _Windows(images, apply_symmetry(self.spread, symmetry).astype(np.float32), self.shift)

    def window(self, place: tuple[int, ...]) -> tuple[slice, ...]:
        """Index of what is seen at a place in the grid of shifts; (shift, shift) is the middle."""
        side = self.images.shape[1] - 2 * self.shift
        return (slice(None), *(slice(step, step + side) for step in place))


def _proposals(
    prints: NDArray[np.float32], turned: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs i < j whose fingerprints agree, in blocks."""
    own, other = prints.reshape(len(prints), -1), turned.reshape(len(turned), -1)
    for start in range(0, len(own), _BLOCK):
        similar = own[start : start + _BLOCK] @ other[start:].T >= _PROPOSAL
        rows, columns = np.nonzero(np.triu(similar, k=1))
        for part in range(0, len(rows), _BLOCK):
            yield rows[part : part + _BLOCK] + start, columns[part : part + _BLOCK] + start


def best_correlation(
    fixed: _Windows, moving: _Windows, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Correlation of fixed[rows] with moving[columns] at the best shift; -1 for flat images.

    Only the part is compared that both have at every shift: the middle of the one, a moved window of the other.
    """
    best = np.full(len(rows), -1.0, dtype=np.float32)
    if not len(rows):
        return best
    dim = fixed.images.ndim - 1
    centre = fixed.images[rows][fixed.window((fixed.shift,) * dim)].astype(np.float32)
    centre -= centre.mean(axis=tuple(range(1, dim + 1)), keepdims=True)
    own_spread = fixed.spread[(rows, *(fixed.shift,) * dim)] * centre[0].size
    others = moving.images[columns].astype(np.float32)
    letters = "yxz"[:dim]
    for place in product(range(2 * moving.shift + 1), repeat=dim):
        overlap = np.einsum(f"n{letters},n{letters}->n", centre, others[moving.window(place)])
        scale = own_spread * moving.spread[(columns, *place)]
        np.maximum(best, np.where(scale > 1e-3, overlap / np.maximum(scale, 1e-3), -1.0), out=best)
    return best
