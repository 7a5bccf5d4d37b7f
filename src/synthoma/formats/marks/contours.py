"""Outlines of LIDC to masks: the points of an outline lie just outside the nodule, so they are no part of it.

The rule is pylidc's (`Annotation.boolean_mask`, include_contour_points=False): fill, take away the outline itself, then
take away what the outlines of holes enclose, with their points. Two things are stated more strictly here: every pixel
whose centre lies on the outline is outside, also between two points of it; and the outline of one part of a nodule takes
nothing from another part on the same slice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthoma.errors import MarksError
from synthoma.formats.marks.shapes import Contour

_MAX_VOXELS = 1 << 27
# A contour belongs to the nearest slice if that is within this part of the smallest distance of two slices.
_SLICE_TOLERANCE = 0.25
_SINGLE_SLICE_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class CroppedMask:
    """A part of a mask. mask: bool [z, y, x]; start: index (z, y, x) of its first voxel in the whole volume."""

    mask: NDArray[np.bool_]
    start: tuple[int, int, int]


def fill_contour(points: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels inside an outline, and pixels on it: two bool arrays [y, x] that start at its lowest x and y.

    points: [n, 2] whole pixels (x, y), n >= 1, closed by itself. Inside is strictly inside, by the even-odd rule.
    """
    low = points.min(axis=0)
    x0, y0 = (points - low).T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    width, height = (points.max(axis=0) - low + 1).tolist()
    inside = np.zeros((height, width), dtype=np.bool_)
    outline = np.zeros_like(inside)
    columns = np.arange(width)
    flat = y0 == y1
    for y, first, last in zip(y0[flat], np.minimum(x0, x1)[flat], np.maximum(x0, x1)[flat], strict=True):
        outline[y, first : last + 1] = True
    x0, y0, x1, y1 = x0[~flat], y0[~flat], x1[~flat], y1[~flat]
    for row in range(height):
        here = (np.minimum(y0, y1) <= row) & (row <= np.maximum(y0, y1))
        along, across = (row - y0[here]) * (x1 - x0)[here], (y1 - y0)[here]
        exact = along % across == 0
        outline[row, (x0[here] + along // across)[exact]] = True
        # Half-open edges, so that a corner counts once where the outline passes through the row, else twice or never.
        crossed = row < np.maximum(y0, y1)[here]
        crossings = np.sort((x0[here] + along / across)[crossed])
        inside[row] = np.searchsorted(crossings, columns) % 2 == 1
    return inside & ~outline, outline


def contour_mask(contours: Sequence[Contour], z_positions: ArrayLike) -> CroppedMask:
    """Mask of a stack of contours, cropped to the smallest box that holds all their points.

    z_positions: [n] mm, the slices of the volume in its order, rising or falling. A slice without a contour between two
    with one stays empty, as in pylidc. Raises `MarksError` for a contour that is on none of the slices, `ValueError`
    without contours or for positions that neither rise nor fall.
    """
    if not contours:
        raise ValueError("a mask needs at least one contour")
    slices = _slice_indices(contours, z_positions)
    points = np.concatenate([contour.points for contour in contours])
    (x_low, y_low), (x_high, y_high) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    z_low = min(slices)
    shape = (max(slices) - z_low + 1, y_high - y_low + 1, x_high - x_low + 1)
    _check_size(shape)
    mask = np.zeros(shape, dtype=np.bool_)
    # Holes last: they are taken from all parts of the nodule.
    for contour, z in sorted(zip(contours, slices, strict=True), key=lambda pair: not pair[0].inclusion):
        inside, outline = fill_contour(contour.points)
        x, y = (contour.points.min(axis=0) - (x_low, y_low)).tolist()
        part = mask[z - z_low, y : y + inside.shape[0], x : x + inside.shape[1]]
        if contour.inclusion:
            part |= inside
        else:
            part &= ~(inside | outline)
    return CroppedMask(mask, (z_low, y_low, x_low))


def place_in_union(masks: Sequence[CroppedMask]) -> tuple[list[NDArray[np.bool_]], tuple[int, int, int]]:
    """The masks on one grid, the smallest that holds all of them, and its start (z, y, x)."""
    starts = np.array([mask.start for mask in masks])
    low = starts.min(axis=0)
    shape = ((starts + [mask.mask.shape for mask in masks]).max(axis=0) - low).tolist()
    _check_size(shape)
    placed = []
    for mask, start in zip(masks, starts - low, strict=True):
        whole = np.zeros(shape, dtype=np.bool_)
        whole[tuple(slice(a, a + n) for a, n in zip(start.tolist(), mask.mask.shape, strict=True))] = mask.mask
        placed.append(whole)
    z, y, x = low.tolist()
    return placed, (z, y, x)


def _check_size(shape: Iterable[int]) -> None:
    if int(np.prod(list(shape), dtype=np.int64)) > _MAX_VOXELS:
        raise MarksError(
            f"The outlines of a nodule span {' x '.join(map(str, shape))} voxels (z, y, x), which no nodule does; check its file."
        )


def _slice_indices(contours: Sequence[Contour], z_positions: ArrayLike) -> list[int]:
    grid = np.asarray(z_positions, dtype=np.float64)
    steps = np.diff(grid)
    if grid.ndim != 1 or not grid.size or not np.isfinite(grid).all():
        raise ValueError("z_positions are finite numbers of mm, one a slice")
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError("z_positions must rise or fall from slice to slice")
    tolerance = _SLICE_TOLERANCE * float(np.abs(steps).min()) if steps.size else _SINGLE_SLICE_TOLERANCE
    indices = []
    for contour in contours:
        index = int(np.abs(grid - contour.z).argmin())
        distance = abs(float(grid[index]) - contour.z)
        if distance > tolerance:
            raise MarksError(
                f"A contour at z = {contour.z:g} mm is on none of the {len(grid)} slices from {grid.min():g} to "
                f"{grid.max():g} mm (the nearest is {distance:.2f} mm away): the marks belong to another series, or "
                "slices are missing."
            )
        indices.append(index)
    return indices
