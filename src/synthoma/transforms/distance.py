"""Masks as signed distances, which a generator can learn as one smooth channel more."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def signed_distance(masks: NDArray[np.generic], limit: float) -> NDArray[np.float32]:
    """Masks [n, *spatial] (0 outside) -> distance to the border in voxels, cut off at `limit` and divided by it.

    Positive inside, negative outside, in [-1, 1]; the border lies between the two voxels, half a voxel from each. An empty
    mask is -1 everywhere. `mask_of` is the inverse.
    """
    result = np.empty(masks.shape, dtype=np.float32)
    for mask, distance in zip(masks, result, strict=True):
        inside = mask > 0
        if not inside.any():
            distance[:] = -1.0
            continue
        outwards = ndimage.distance_transform_edt(~inside) - 0.5 if not inside.all() else -np.full(mask.shape, limit)
        inwards = ndimage.distance_transform_edt(inside) - 0.5
        distance[:] = np.clip(np.where(inside, inwards, -outwards) / limit, -1.0, 1.0)
    return result


def mask_of(distance: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Signed distances -> masks of 0 and 1."""
    return (np.asarray(distance, dtype=np.float64) > 0).astype(np.uint8)
