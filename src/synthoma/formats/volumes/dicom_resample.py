"""Slices that lie where they lie, onto a regular grid: shifted in plane, interpolated between neighbours."""

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.volumes.dicom_pixels import LOWEST_HU

_EXACT = 1e-6


class Resampler:
    """Fills a grid slice by slice, so that two slices are in memory beside it, and not a second volume.

    places: [n, 3] where the first pixels of the slices lie in the grid (slice, row, column), rising along the first.
    array: int16 [slice, row, column] of -1024, which is filled.
    """

    def __init__(self, places: NDArray[np.float64], array: NDArray[np.int16]) -> None:
        self._places = places
        self._array = array
        self._added = 0
        self._last: NDArray[np.float32] | None = None

    def add(self, pixels: NDArray[np.int16]) -> None:
        """The next slice [row, column] in HU: fills all grid slices between it and the one before."""
        place = self._places[self._added]
        slab = self._on_grid(pixels, place[1:])
        if self._last is None:
            nearest = round(place[0])
            if abs(place[0] - nearest) <= _EXACT:
                self._array[nearest] = np.rint(slab)
        else:
            self._between(self._last, slab, float(self._places[self._added - 1][0]), float(place[0]))
        self._last = slab
        self._added += 1

    def _between(self, last: NDArray[np.float32], slab: NDArray[np.float32], start: float, end: float) -> None:
        """Grid slices in (start, end]."""
        first, final = int(np.floor(start + _EXACT)) + 1, int(np.floor(end + _EXACT))
        for index in range(first, min(final, len(self._array) - 1) + 1):
            weight = np.float32(min((index - start) / (end - start), 1.0))
            self._array[index] = np.rint(last + weight * (slab - last))

    def _on_grid(self, pixels: NDArray[np.int16], corner: NDArray[np.float64]) -> NDArray[np.float32]:
        """A slice on the rows and columns of the grid, bilinear; air where it does not reach."""
        rows, columns = self._array.shape[1:]
        whole = np.floor(corner + _EXACT).astype(int)
        shift = corner - whole
        slab = np.full((rows + 1, columns + 1), LOWEST_HU, np.float32)
        slab[whole[0] : whole[0] + pixels.shape[0], whole[1] : whole[1] + pixels.shape[1]] = pixels
        for axis, part in enumerate(shift):
            if part > _EXACT:
                # A slice that begins `part` of a pixel later: each grid line lies between the one before it and its own.
                slab = slab + np.float32(part) * (_moved(slab, axis) - slab)
        return slab[:rows, :columns]


def _moved(slab: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The array one line later along an axis, air in the first."""
    moved = np.full_like(slab, LOWEST_HU)
    if axis == 0:
        moved[1:] = slab[:-1]
    else:
        moved[:, 1:] = slab[:, :-1]
    return moved
