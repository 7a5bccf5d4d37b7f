"""The voxels of a volume in the frame of the patient: mm from the middle of the volume, x to the left, y back, z to the head."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthoma.formats.volumes import Geometry

Field = NDArray[np.float32]
Places = tuple[Field, Field, Field]
Box = tuple[slice, slice, slice]
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Frame:
    """A grid whose middle is the origin. Any orientation; what does not vary along an axis has length 1 there."""

    geometry: Geometry

    @property
    def size(self) -> tuple[int, int, int]:
        return self.geometry.size

    @property
    def _middle(self) -> NDArray[np.float64]:
        return (np.asarray(self.size) - 1) / 2

    @cached_property
    def places(self) -> Places:
        """x, y, z of all voxel centres, to be broadcast to [z, y, x]."""
        return self._places([np.arange(length, dtype=np.float64) for length in self.size])

    @cached_property
    def edge_width(self) -> float:
        """Width in mm of the soft edge of a large structure: the middle one of the three spacings."""
        return sorted(self.geometry.spacing)[1]

    @property
    def extent(self) -> NDArray[np.float64]:
        """Width (x, y, z) in mm of the volume in the world."""
        lengths: NDArray[np.float64] = np.abs(self.geometry.steps * np.asarray(self.size)[:, None]).sum(axis=0)
        return lengths

    def in_box(self, box: Box) -> Places:
        """x, y, z of the voxel centres within a box."""
        x, y, z = (
            axis[tuple(part if length > 1 else slice(None) for part, length in zip(box, axis.shape, strict=True))]
            for axis in self.places
        )
        return x, y, z

    def fine(self, box: Box, parts: tuple[int, int, int]) -> Places:
        """x, y, z of the centres of equal parts of the voxels of a box, `parts` along each axis."""
        return self._places(
            [(np.arange(b.start * n, b.stop * n) + 0.5) / n - 0.5 for b, n in zip(box, parts, strict=True)]
        )

    def parts(self, length: float) -> tuple[int, int, int]:
        """Into how many parts each side of a voxel is cut, so that none is longer than `length` mm; at least 2."""
        z, y, x = (max(2, math.ceil(spacing / length)) for spacing in self.geometry.spacing)
        return z, y, x

    def index(self, places: ArrayLike) -> NDArray[np.float64]:
        """Indices [..., 3] (z, y, x) of places [..., 3] (x, y, z)."""
        directions = np.asarray(self.geometry.directions)
        found: NDArray[np.float64] = np.asarray(places, dtype=np.float64) @ directions.T / self.geometry.spacing
        return found + self._middle

    def world(self, places: ArrayLike) -> NDArray[np.float64]:
        """World places (x, y, z), LPS mm, of places in this frame."""
        return self.geometry.world(self.index(places))

    def box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> Box | None:
        """The voxels whose centres lie between two indices [3], within the volume; None where there is none."""
        start = np.maximum(np.ceil(low), 0).astype(int).tolist()
        stop = np.minimum(np.floor(high) + 1, self.size).astype(int).tolist()
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            return None
        z, y, x = (slice(a, b) for a, b in zip(start, stop, strict=True))
        return z, y, x

    def box_around(self, center: ArrayLike, radius: float) -> Box | None:
        """The box of a ball about a place (x, y, z); radius in mm."""
        middle, reach = self.index(center), radius / np.asarray(self.geometry.spacing)
        return self.box(middle - reach, middle + reach)

    def box_spanning(self, low: ArrayLike, high: ArrayLike) -> Box | None:
        """The box of all places (x, y, z) between two, in mm."""
        ends = np.array([low, high])
        corners = ends[np.indices((2, 2, 2)).reshape(3, -1).T, np.arange(3)]
        index = self.index(corners)
        return self.box(index.min(axis=0) - 1, index.max(axis=0) + 1)

    def _places(self, indices: list[NDArray[np.float64]]) -> Places:
        steps = self.geometry.steps
        axes = []
        for world_axis in range(3):
            total = np.zeros((1, 1, 1))
            for axis, index in enumerate(indices):
                step = steps[axis, world_axis]
                if abs(step) > _NEGLIGIBLE:
                    shape = [1, 1, 1]
                    shape[axis] = -1
                    total = total + ((index - self._middle[axis]) * step).reshape(shape)
            axes.append(total.astype(np.float32))
        x, y, z = axes
        return x, y, z


def blended(field: Field, value: Any, distance: Field, width: float) -> Field:
    """`field` with `value` where `distance` (mm, negative inside) is below 0, with a linear edge of `width` mm.

    value: a number, or one for each voxel. All broadcast against each other: what does not vary along an axis yet costs nothing there.
    """
    cover = distance * np.float32(-1 / width)
    cover += np.float32(0.5)
    np.clip(cover, 0.0, 1.0, out=cover)
    return field + cover * (value - field)


def ellipsoid(x: Field, y: Field, z: Field | None, radii: tuple[Field | float, ...]) -> Field:
    """Nearly the signed distance in mm to an ellipsoid about the origin, exact for a sphere and on the surface.

    f (f - 1) / |grad f / 2| with f = |p / radii| (I. Quilez, "Ellipsoid - bound"). z None: an elliptic cylinder along z.
    """
    u, v = x / radii[0], y / radii[1]
    square, slope = u * u + v * v, (u / radii[0]) ** 2 + (v / radii[1]) ** 2
    if z is not None:
        w = z / radii[2]
        square, slope = square + w * w, slope + (w / radii[2]) ** 2
    f = np.sqrt(square)
    slope = np.sqrt(slope)
    slope += np.float32(1e-9)
    distance: Field = f * (f - 1) / slope
    return distance.astype(np.float32, copy=False)


def smooth_union(a: Field, b: Field, radius: float) -> Field:
    """The lower of two distances, with a fillet of about `radius` mm where they meet (polynomial minimum)."""
    near = np.abs(a - b)
    np.subtract(radius, near, out=near)
    np.maximum(near, 0.0, out=near)
    near *= near
    near *= np.float32(0.25 / radius)
    joined: Field = np.minimum(a, b) - near
    return joined


def paint_tube(
    cover: Field, frame: Frame, ends: NDArray[np.float64], radii: tuple[float, float], width: float | None = None
) -> None:
    """Raise `cover` [z, y, x] in 0..1 to the share of each voxel that a tapering tube takes. In place.

    ends: [2, 3] (x, y, z) in mm. A tube that is thinner than a voxel fades instead of vanishing.
    """
    width = frame.edge_width if width is None else width
    index = frame.index(ends)
    reach = (max(radii) + width) / np.asarray(frame.geometry.spacing)
    box = frame.box(index.min(axis=0) - reach, index.max(axis=0) + reach)
    if box is None:
        return
    x, y, z = frame.in_box(box)
    start, along = ends[0].astype(np.float32), (ends[1] - ends[0]).astype(np.float32)
    x, y, z = x - start[0], y - start[1], z - start[2]
    length = max(float(along @ along), 1e-6)
    share = np.clip((x * along[0] + y * along[1] + z * along[2]) / np.float32(length), 0.0, 1.0)
    distance = np.sqrt((x - share * along[0]) ** 2 + (y - share * along[1]) ** 2 + (z - share * along[2]) ** 2)
    distance -= radii[0] + share * np.float32(radii[1] - radii[0])
    taken = np.clip(0.5 - distance / np.float32(width), 0.0, 1.0) * np.float32(min(1.0, sum(radii) / width))
    part = cover[box]
    np.maximum(part, taken, out=part)
