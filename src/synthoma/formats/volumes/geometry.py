"""Where the voxels of a volume lie: index (z, y, x) <-> world (x, y, z) in mm, LPS or RAS."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ORTHONORMAL = 1e-4
# From LPS to RAS and back: x and y change their sign.
_LPS_RAS = np.array((-1.0, -1.0, 1.0))


@dataclass(frozen=True)
class Geometry:
    """A regular grid. World coordinates are (x, y, z) in mm, LPS: to the patient's left, to the back, to the head.

    size: voxels along the array's axes. spacing: mm along the same axes. origin: world place of the centre of voxel
    (0, 0, 0). directions: one unit vector (x, y, z) for each axis of the array, at right angles to the others.
    Raises `ValueError` for what is no such grid.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    directions: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        if len(self.size) != 3 or min(self.size) < 1:
            raise ValueError(f"a volume has three axes of at least one voxel, not {self.size}")
        if len(self.spacing) != 3 or not all(0 < length < np.inf for length in self.spacing):
            raise ValueError(f"the spacing of voxels is three lengths above 0 mm, not {self.spacing}")
        axes = np.asarray(self.directions, dtype=np.float64)
        if axes.shape != (3, 3) or not np.allclose(axes @ axes.T, np.eye(3), atol=_ORTHONORMAL):
            raise ValueError("the axes of the volume are not at right angles to each other")
        if not np.isfinite(self.origin).all():
            raise ValueError("the origin of the volume is no place")

    @property
    def steps(self) -> NDArray[np.float64]:
        """[3, 3]: row k is the way in the world (x, y, z), mm, of one step along axis k of the array."""
        return np.asarray(self.directions) * np.asarray(self.spacing)[:, None]

    def world(self, index: ArrayLike) -> NDArray[np.float64]:
        """World places [..., 3] (x, y, z) of indices [..., 3] (z, y, x), which need not be whole numbers."""
        return np.asarray(index, dtype=np.float64) @ self.steps + np.asarray(self.origin)

    def index(self, world: ArrayLike) -> NDArray[np.float64]:
        """Indices [..., 3] (z, y, x) of world places [..., 3] (x, y, z)."""
        away = np.asarray(world, dtype=np.float64) - np.asarray(self.origin)
        found = np.linalg.solve(self.steps.T, away[..., None])[..., 0]
        return np.asarray(found, dtype=np.float64)

    def contains(self, index: ArrayLike) -> NDArray[np.bool_]:
        """Whether indices [..., 3] lie within the volume, half a voxel beyond the outermost centres included."""
        found = np.asarray(index, dtype=np.float64)
        inside = ((found >= -0.5) & (found <= np.asarray(self.size) - 0.5)).all(axis=-1)
        return np.asarray(inside)

    @property
    def ras_affine(self) -> NDArray[np.float64]:
        """[4, 4] from voxel (x, y, z), the array's axes reversed, to RAS mm: what NIfTI keeps."""
        affine = np.eye(4)
        affine[:3, :3] = (self.steps * _LPS_RAS)[::-1].T
        affine[:3, 3] = np.asarray(self.origin) * _LPS_RAS
        return affine

    @classmethod
    def from_ras_affine(cls, size: Sequence[int], affine: ArrayLike) -> Self:
        """The geometry of an array of `size` (z, y, x) with an affine as in `ras_affine`. Raises `ValueError` for shear."""
        matrix = np.asarray(affine, dtype=np.float64)
        steps = matrix[:3, :3].T[::-1] * _LPS_RAS
        return cls.from_steps(size, steps, matrix[:3, 3] * _LPS_RAS)

    @classmethod
    def from_steps(cls, size: Sequence[int], steps: ArrayLike, origin: ArrayLike) -> Self:
        """From `steps` [3, 3] and `origin` [3]; size (z, y, x)."""
        rows = np.asarray(steps, dtype=np.float64)
        lengths = np.linalg.norm(rows, axis=1)
        if not (lengths > 0).all():
            raise ValueError("an axis of the volume has no length")
        z, y, x = (int(n) for n in size)
        directions = tuple((float(a), float(b), float(c)) for a, b, c in rows / lengths[:, None])
        place = np.asarray(origin, dtype=np.float64)
        return cls(
            (z, y, x),
            (float(lengths[0]), float(lengths[1]), float(lengths[2])),
            (float(place[0]), float(place[1]), float(place[2])),
            directions,
        )


def in_lps_order(array: NDArray[np.generic], geometry: Geometry) -> tuple[NDArray[np.generic], Geometry]:
    """The same voxels with axes z, y, x that grow to head, back and left, as nearly as whole turns and mirrors can.

    No value is changed. array: [z, y, x] of the geometry's size. The result is a view.
    """
    directions = np.asarray(geometry.directions)
    # Which axis of the array runs most along z, then along y; what is left runs along x.
    order: list[int] = []
    for world_axis in (2, 1, 0):
        left = [axis for axis in range(3) if axis not in order]
        order.append(max(left, key=lambda axis: abs(directions[axis, world_axis])))
    turned = array.transpose(order)
    steps = geometry.steps[order]
    origin = np.asarray(geometry.origin, dtype=np.float64)
    for axis, world_axis in enumerate((2, 1, 0)):
        if steps[axis, world_axis] < 0:
            turned = np.flip(turned, axis)
            origin = origin + steps[axis] * (turned.shape[axis] - 1)
            steps[axis] = -steps[axis]
    return turned, Geometry.from_steps(turned.shape, steps, origin)
