"""Volumes measured slice by slice: the middle slice on each of three planes, in the spaces of two-dimensional images.

Networks trained on photographs take slices only, and a slice shows at full resolution what a feature of the whole
volume averages over. The planes are kept apart, since slices of CT are thicker than their pixels are wide.
"""

import dataclasses

from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet

PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}  # the axis of (z, y, x) that is cut
METRICS = ("kid", "fd")


def middle_slices(volumes: ImageSet, plane: str) -> ImageSet:
    """The middle slice of each volume [n, c, z, y, x] on a plane, as pictures [n, c, *]: a view, nothing is copied."""
    if volumes.images.ndim != 5:
        raise EvaluationError(f"slices are cut from volumes [n, c, z, y, x], not from images {volumes.images.shape}.")
    axis = PLANES[plane] + 2
    index: list[slice | int] = [slice(None)] * 5
    index[axis] = volumes.images.shape[axis] // 2
    return dataclasses.replace(
        volumes,
        images=volumes.images[tuple(index)],
        content=f"{volumes.content}/{plane}",
        value_range=volumes.range,
    )
