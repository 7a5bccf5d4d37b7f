"""What all measures ask of their arrays: three axes, finite numbers, a spacing that is one."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Unit = Literal["hu", "unknown"]
Spacing = Sequence[float]


def checked_array(volume: ArrayLike) -> NDArray[np.generic]:
    """`volume` as an array [z, y, x] of real numbers, not copied. Raises `ValueError` for other shapes and types."""
    array = np.asarray(volume)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"a volume has three axes of at least one voxel, not the shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"voxels are real numbers, not {array.dtype}")
    return array


def checked_volume(volume: ArrayLike) -> NDArray[np.float32]:
    """`volume` as float32 [z, y, x]. Raises `ValueError` as `checked_array` does, and for NaN and infinity."""
    array = checked_array(volume)
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("the volume has voxels that are NaN or infinite; replace them before it is measured")
    return values


def checked_mask(mask: ArrayLike, shape: tuple[int, ...] | None = None) -> NDArray[np.bool_]:
    """`mask` as bool [z, y, x]; voxels other than 0 are inside. Raises `ValueError` where its shape is not `shape`."""
    array = np.asarray(mask)
    if array.ndim != 3 or array.size == 0:
        raise ValueError(f"a mask has three axes of at least one voxel, not the shape {array.shape}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"the mask has the shape {array.shape} and the volume {shape}; they must be equal")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("the mask has voxels that are NaN or infinite")
    return array != 0


def checked_spacing(spacing: Spacing | None) -> tuple[float, float, float]:
    """Lengths of a voxel (z, y, x); (1, 1, 1) voxels where `spacing` is None. Raises `ValueError` for what is none."""
    if spacing is None:
        return (1.0, 1.0, 1.0)
    if len(spacing) != 3 or not all(math.isfinite(length) and length > 0 for length in spacing):
        raise ValueError(f"the spacing is three lengths above 0 (z, y, x), not {tuple(spacing)}")
    z, y, x = (float(length) for length in spacing)
    return (z, y, x)


def checked_unit(unit: str) -> None:
    """Raises `ValueError` where the unit is neither "hu" nor "unknown"."""
    if unit not in ("hu", "unknown"):
        raise ValueError(f"the unit of a volume is 'hu' or 'unknown', not '{unit}'")


def box_around(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box with all voxels of a mask that is not empty."""
    slices = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        slices.append(slice(int(places[0]), int(places[-1]) + 1))
    return slices[0], slices[1], slices[2]
