"""Bring an image to the training size, antialiased, with a declared fit. Two or three axes, one rule.

    crop     the largest centred part with the wanted aspect ratio is scaled to the size
    pad      the whole image is scaled to fit inside, centred, and the rest is filled
    stretch  each axis is scaled by itself

Without resampling, crop cuts the centre out and pad fills around the image; its pixels and their spacing stay as they are.

What is filled: `black` (0) shows a picture for what it is, but gives a cube that was cut from a scan a box of air around it
that no scan has. `edge` repeats the outermost pixels: no box, no new structures, some streaks. `reflect` goes on with mirrored
tissue, which keeps grey values, noise and edges as they are inside, but mirrors a lesion near the border too (of 100 lung
nodules in cubes of 51 voxels made 64, ten got such a second piece), so that cubes are better stretched or cropped. Masks follow.

8-bit pictures are resampled by Pillow: Lanczos (antialiased when shrinking), after an integer box reduction where the
factor is large (`reducing_gap=3`, which Pillow describes as indistinguishable). Everything else (volumes, 16 bits, masks)
is resampled axis by axis: shrinking averages over the exact area of each new pixel, enlarging is linear, so that a
volume is resampled trilinearly after area averaging.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit = Literal["crop", "pad", "stretch"]
Fill = Literal["black", "edge", "reflect"]
_PAD_MODES: dict[Fill, Literal["edge", "reflect"]] = {"edge": "edge", "reflect": "reflect"}
AIR = -1024  # HU: what a scanner writes outside of the body


@dataclass(frozen=True)
class Placement:
    """Which part of the image goes where: source box `start`, `extent` (pixels, may be fractions), new size and offset.

    `placed` and `offset` are whole pixels in the target; `scale` is target pixels a source pixel on each axis.
    """

    start: tuple[float, ...]
    extent: tuple[float, ...]
    placed: tuple[int, ...]
    offset: tuple[int, ...]

    @property
    def scale(self) -> tuple[float, ...]:
        return tuple(placed / extent for placed, extent in zip(self.placed, self.extent, strict=True))

    @property
    def upscales(self) -> bool:
        """Whether any axis is enlarged."""
        return any(scale > 1 + 1e-9 for scale in self.scale)


def misfit(shape: tuple[int, ...], size: tuple[int, ...], fit: Fit) -> str | None:
    """Why an image cannot be fitted without resampling, or None: crop cannot enlarge, pad cannot shrink."""
    if fit == "crop" and any(own < target for own, target in zip(shape, size, strict=True)):
        return "smaller than the training size, which a crop without resampling cannot fill"
    if fit == "pad" and any(own > target for own, target in zip(shape, size, strict=True)):
        return "larger than the training size, which padding without resampling cannot hold"
    return None


def place(shape: tuple[int, ...], size: tuple[int, ...], fit: Fit, resample: bool = True) -> Placement:
    """How an image of spatial `shape` is fitted into `size` (both in array order)."""
    if not resample:
        placed = tuple(min(own, target) for own, target in zip(shape, size, strict=True))
        cut = tuple(float((own - part) // 2) for own, part in zip(shape, placed, strict=True))
        offset = tuple((target - part) // 2 for target, part in zip(size, placed, strict=True))
        return Placement(cut, tuple(float(n) for n in placed), placed, offset)
    ratios = [target / own for own, target in zip(shape, size, strict=True)]
    if fit == "stretch":
        return Placement((0.0,) * len(shape), tuple(float(n) for n in shape), size, (0,) * len(shape))
    if fit == "crop":
        scale = max(ratios)
        extent = tuple(min(float(own), target / scale) for own, target in zip(shape, size, strict=True))
        start = tuple((own - part) / 2 for own, part in zip(shape, extent, strict=True))
        return Placement(start, extent, size, (0,) * len(shape))
    scale = min(ratios)
    placed = tuple(min(target, max(1, round(own * scale))) for own, target in zip(shape, size, strict=True))
    offset = tuple((target - part) // 2 for target, part in zip(size, placed, strict=True))
    return Placement((0.0,) * len(shape), tuple(float(n) for n in shape), placed, offset)


def resize(
    array: NDArray[np.generic], size: tuple[int, ...], fit: Fit, resample: bool = True, fill: Fill = "black"
) -> NDArray[np.generic]:
    """[*spatial, c] uint8, uint16 or int16 (HU) -> [*size, c] of the same type. `black` is air (-1024) in int16."""
    where = place(array.shape[:-1], size, fit, resample)
    if array.shape[:-1] == size:
        return array
    if not resample:
        part = _cut(array, where)
    elif array.dtype == np.uint8 and len(size) == 2:
        part = _by_pillow(array.astype(np.uint8, copy=False), where)
    else:
        values = _by_matrices(array, where)
        limits = np.iinfo(array.dtype.name)
        part = np.rint(np.clip(values, limits.min, limits.max)).astype(array.dtype)
    return _pad(part, size, where, fill)


def resize_mask(
    mask: NDArray[np.uint8], size: tuple[int, ...], fit: Fit, resample: bool = True, fill: Fill = "black"
) -> NDArray[np.uint8]:
    """Mask of 0 and 1, placed like its image: a new pixel belongs to it where at least half of its area does."""
    where = place(mask.shape[:-1], size, fit, resample)
    part = (_by_matrices(mask, where) >= 0.5).astype(np.uint8) if resample else _cut(mask, where)
    return _pad(part, size, where, fill).astype(np.uint8, copy=False)


def _cut(array: NDArray[np.generic], where: Placement) -> NDArray[np.generic]:
    window = tuple(slice(int(start), int(start) + n) for start, n in zip(where.start, where.placed, strict=True))
    return array[window]


def _pad(part: NDArray[np.generic], size: tuple[int, ...], where: Placement, fill: Fill) -> NDArray[np.generic]:
    if where.placed == size:
        return part
    around = [
        (offset, target - offset - placed)
        for offset, target, placed in zip(where.offset, size, where.placed, strict=True)
    ]
    if fill == "black":
        return np.pad(part, [*around, (0, 0)], constant_values=AIR if part.dtype == np.int16 else 0)
    result: NDArray[np.generic] = np.pad(part, [*around, (0, 0)], mode=_PAD_MODES[fill])
    return result


def _by_pillow(array: NDArray[np.uint8], where: Placement) -> NDArray[np.uint8]:
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    (top, left), (height, width) = where.start, where.extent
    small = image.resize(
        (where.placed[1], where.placed[0]),
        Image.Resampling.LANCZOS,
        box=(left, top, left + width, top + height),
        reducing_gap=3.0,
    )
    return np.asarray(small).reshape(*where.placed, array.shape[-1])


def _by_matrices(array: NDArray[np.generic], where: Placement) -> NDArray[np.float32]:
    values = array.astype(np.float32)
    for axis, (start, extent, count) in enumerate(zip(where.start, where.extent, where.placed, strict=True)):
        weights = resampling_matrix(array.shape[axis], start, extent, count)
        before, after = values.shape[:axis], values.shape[axis + 1 :]
        # einsum, not a BLAS product: the matrices are small, and its threads would fight with the other workers.
        if math.prod(after) == 1:
            values = np.einsum("kj,aj->ak", weights, values.reshape(-1, array.shape[axis]))
        else:
            values = np.einsum("kj,ajb->akb", weights, values.reshape(-1, array.shape[axis], math.prod(after)))
        values = values.reshape(*before, count, *after)
    return values


@lru_cache(maxsize=64)
def resampling_matrix(length: int, start: float, extent: float, count: int) -> NDArray[np.float32]:
    """Weights [count, length] that resample the part [start, start + extent) of an axis to `count` pixels.

    Shrinking: overlap of each new pixel with each old one (area average). Enlarging: linear between pixel centres,
    constant beyond the outermost centres.
    """
    step = extent / count
    old = np.arange(length, dtype=np.float64)
    if step >= 1:
        low = start + step * np.arange(count, dtype=np.float64)[:, None]
        weights = np.clip(np.minimum(low + step, old + 1) - np.maximum(low, old), 0, None)
    else:
        centre = np.clip(start + step * (np.arange(count) + 0.5) - 0.5, 0, length - 1)[:, None]
        weights = np.clip(1 - np.abs(centre - old), 0, None)
    result: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    result.setflags(write=False)
    return result
