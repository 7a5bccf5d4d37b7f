"""Lung nodules of known size, texture and spiculation: their shapes, their truth, and how they are painted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.marks import CroppedMask
from synthoma.phantoms.ct.anatomy import Anatomy
from synthoma.phantoms.ct.frame import Box, Field, Frame, Places, ellipsoid

Texture = Literal["solid", "part_solid", "ground_glass"]
TEXTURES: tuple[Texture, ...] = ("solid", "part_solid", "ground_glass")
# mm; voxels are cut into parts no longer than this for the share that a nodule takes of each, and for its volume.
_FINE_MM = 0.5
_SOLID_HU, _GROUND_GLASS_HU = (20.0, 60.0), (-700.0, -500.0)
_STRAND_TIP_MM = 0.25
# Radius of a strand at the nodule's centre, as a part of the nodule's.
_STRAND_BASE = 0.36
# Concentration of a bump: its height falls to 1/e at 29 degrees from its middle.
_BUMP = 8.0
_Direction = NDArray[np.float64]


@dataclass(frozen=True)
class PhantomNodule:
    """The truth about one nodule.

    center: its centre of mass, world (x, y, z) in mm, LPS. diameter_mm: of the ball of the same volume. volume_mm3: what
    lies within the lungs, strands included. spiculation: 0 (smooth) to 1. mean_hu: before noise, without what else lies
    in it. malignancy: 1 to 5, see `malignancy_of`. juxtapleural: whether the chest wall cuts it.
    """

    center: tuple[float, float, float]
    diameter_mm: float
    texture: Texture
    spiculation: float
    mean_hu: float
    malignancy: int
    volume_mm3: float
    juxtapleural: bool = False


@dataclass(frozen=True, eq=False)
class NoduleShape:
    """An ellipsoid with bumps and radial strands. Places (x, y, z) and lengths are mm in the frame of the volume.

    bumps: [k, 3] unit vectors, each raising the surface by a part `heights` [k] of the radius. tips: [m, 3] ends of the
    strands, relative to the centre. core: radius of the solid core as a part of the nodule's, 0 for none; core_shift: from
    the nodule's centre to the core's. haze: width of the border that fades out.
    """

    center: NDArray[np.float64]
    radii: tuple[float, float, float]
    axes: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    bumps: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    heights: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    tips: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    core: float = 0.0
    core_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    haze: float = 0.0

    @property
    def radius(self) -> float:
        """Of the ball of the ellipsoid's volume."""
        return float(np.prod(self.radii) ** (1 / 3))

    @property
    def reach(self) -> float:
        """Distance from the centre beyond which nothing of the nodule lies."""
        # Bumps add up where they lie close together; their sum is highest near the middle of one.
        together = np.exp(_BUMP * (self.bumps @ self.bumps.T - 1)) @ self.heights
        body = max(self.radii) * (1 + 1.15 * float(together.max(initial=0.0)))
        return max(body, float(np.linalg.norm(self.tips, axis=1).max(initial=0.0)) + _STRAND_TIP_MM)

    @property
    def is_ellipsoid(self) -> bool:
        return not len(self.bumps) and not len(self.tips)

    def distance(self, places: Places) -> Field:
        """Nearly the signed distance in mm to the surface, negative inside; exact for a sphere."""
        found = self.body_distance(places)
        for number in range(len(self.tips)):
            np.minimum(found, self.strand_distance(number, places), out=found)
        return found

    def body_distance(self, places: Places) -> Field:
        """The same without strands."""
        x, y, z = self._from_center(places)
        turned = [x * a + y * b + z * c for a, b, c in self.axes.tolist()]
        swell = self._swelling(x, y, z)
        return ellipsoid(turned[0] / swell, turned[1] / swell, turned[2] / swell, self.radii) * swell

    def strand_distance(self, number: int, places: Places) -> Field:
        """mm to one of the strands, a cone from the centre to its tip."""
        x, y, z = self._from_center(places)
        a, b, c = self.tips[number].astype(np.float32)
        share = np.clip((x * a + y * b + z * c) / (a * a + b * b + c * c), 0.0, 1.0)
        away = np.sqrt((x - share * a) ** 2 + (y - share * b) ** 2 + (z - share * c) ** 2)
        base = np.float32(_STRAND_BASE * self.radius)
        found: Field = away - (base + share * (_STRAND_TIP_MM - base))
        return found

    def core_distance(self, places: Places) -> Field:
        """The same for the solid core alone."""
        a, b, c = (self.core * radius for radius in self.radii)
        small = replace(self, center=self.center + self.core_shift, radii=(a, b, c), tips=np.empty((0, 3)), core=0.0)
        return small.distance(places)

    def _from_center(self, places: Places) -> Places:
        x, y, z = (axis - np.float32(middle) for axis, middle in zip(places, self.center.tolist(), strict=True))
        return x, y, z

    def _swelling(self, x: Field, y: Field, z: Field) -> Field:
        swell = np.ones((1, 1, 1), dtype=np.float32)
        if len(self.bumps):
            away = np.sqrt(x * x + y * y + z * z) + np.float32(1e-6)
            for (a, b, c), height in zip(self.bumps.tolist(), self.heights.tolist(), strict=True):
                swell = swell + height * np.exp(_BUMP * ((x * a + y * b + z * c) / away - 1))
        return swell.astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class DrawnNodule:
    """A nodule on the grid. mask: voxels of which it takes at least half.

    cover: share of each voxel of `box` that it would take if the lung went on, float32; hu: of the nodule's own matter.
    """

    nodule: PhantomNodule
    shape: NoduleShape
    box: Box
    cover: Field
    hu: Field
    mask: CroppedMask


def malignancy_of(diameter_mm: float, texture: Texture, spiculation: float) -> int:
    """The rule by which phantoms are rated 1 (benign) to 5: larger, spiculated and part-solid nodules are worse.

    These are the three strongest signs on the image in McWilliams et al., N. Engl. J. Med. 369 (2013) 910-919; the steps
    at 6, 10, 15 and 20 mm are this module's.
    """
    grade = 1 + sum(diameter_mm >= step for step in (6.0, 10.0, 15.0, 20.0))
    grade += int(spiculation >= 0.5) + int(texture == "part_solid") - int(texture == "ground_glass")
    return int(np.clip(grade, 1, 5))


def draw_shape(random: np.random.Generator, diameter: float, texture: Texture, spiculation: float) -> NoduleShape:
    """A shape about the origin, of about that diameter: nearly round, lobulated where it is large, with strands."""
    ratios = np.exp(random.normal(0, 0.09, 3))
    radii = diameter / 2 * ratios / np.prod(ratios) ** (1 / 3)
    axes = np.linalg.qr(random.normal(size=(3, 3)))[0]
    bumps = _directions(random, 2 + int(diameter > 10) * 3)
    heights = random.uniform(0.04, 0.2 + 0.15 * spiculation, len(bumps))
    strands = round(90 * spiculation) if spiculation > 0.1 else 0
    lengths = diameter / 2 * random.uniform(1.15, 1.4 + 0.6 * spiculation, strands)
    tips = _directions(random, strands) * lengths[:, None]
    a, b, c = radii.tolist()
    core, shift = 0.0, (0.0, 0.0, 0.0)
    if texture == "part_solid":
        core = draw_core(random)
        x, y, z = (_directions(random, 1)[0] * random.uniform(0, 0.6 * (1 - core)) * diameter / 2).tolist()
        shift = (x, y, z)
    haze = 0.0 if texture == "solid" else min(1.6, 0.12 * diameter)
    return NoduleShape(np.zeros(3), (a, b, c), axes, bumps, heights, tips, core, shift, haze)


def draw_core(random: np.random.Generator) -> float:
    """Radius of a solid core as a part of its nodule's."""
    return float(random.uniform(0.35, 0.65))


def put_nodule(
    random: np.random.Generator,
    frame: Frame,
    anatomy: Anatomy,
    shape: NoduleShape,
    texture: Texture,
    spiculation: float,
) -> DrawnNodule:
    """The nodule on the grid, with its truth. What lies outside the lungs is no part of it."""
    box = frame.box_around(shape.center, shape.reach + 2 * max(frame.geometry.spacing))
    if box is None:
        raise ValueError("the nodule lies outside the volume")
    fine = _FINE_MM if len(shape.tips) else float(np.clip(shape.radius / 8, _FINE_MM, 2 * _FINE_MM))
    parts = frame.parts(fine)
    places = frame.fine(box, parts)
    inside = _inside(frame, shape, box, parts)
    painted, whole = _block_means(inside, parts), float(inside.sum())
    if _depth(anatomy, shape) < 1.5 * shape.reach + 2:
        inside = inside * (anatomy.lung_distance(places) < 0)
    kept = float(inside.sum())
    cover = _block_means(inside, parts)
    core_hu = random.uniform(*_SOLID_HU)
    hu = np.full(cover.shape, core_hu if texture == "solid" else random.uniform(*_GROUND_GLASS_HU), dtype=np.float32)
    if texture == "part_solid":
        core = _block_means(np.asarray(shape.core_distance(places) < 0, dtype=np.float32) * inside, parts)
        hu += np.minimum(core / np.maximum(cover, 1e-6), 1) * (np.float32(core_hu) - hu)
    cut = kept < 0.995 * whole
    if shape.is_ellipsoid and not cut:
        volume, center = 4 / 3 * np.pi * float(np.prod(shape.radii)), shape.center
    else:
        volume = kept * float(np.prod(frame.geometry.spacing)) / float(np.prod(parts))
        center = np.array([float((inside * axis).sum(dtype=np.float64)) / max(kept, 1e-6) for axis in places])
    diameter = float((6 * volume / np.pi) ** (1 / 3))
    x, y, z = frame.world(center).tolist()
    mean = float((hu * cover).sum() / max(float(cover.sum()), 1e-6))
    rating = malignancy_of(diameter, texture, spiculation)
    nodule = PhantomNodule((x, y, z), diameter, texture, spiculation, mean, rating, float(volume), cut)
    return DrawnNodule(nodule, shape, box, painted, hu, _cropped(cover >= 0.5, box))


def paint_nodule(hu: Field, drawn: DrawnNodule) -> None:
    """In place. What is denser, such as a vessel within ground glass, stays visible."""
    part = hu[drawn.box]
    part += drawn.cover * (np.maximum(drawn.hu, part) - part)


def at(shape: NoduleShape, center: Sequence[float] | NDArray[np.float64]) -> NoduleShape:
    """The shape about another centre (x, y, z)."""
    return replace(shape, center=np.asarray(center, dtype=np.float64))


def _directions(random: np.random.Generator, count: int) -> _Direction:
    found: _Direction = random.normal(size=(count, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _cropped(mask: NDArray[np.bool_], box: Box) -> CroppedMask:
    """The mask in the smallest box that holds it; one voxel of nothing for a nodule that fills half of none."""
    places = np.argwhere(mask) if mask.any() else np.array([[length // 2 for length in mask.shape]])
    low, high = places.min(axis=0).tolist(), (places.max(axis=0) + 1).tolist()
    z, y, x = (part.start + first for part, first in zip(box, low, strict=True))
    return CroppedMask(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].copy(), (z, y, x))


def _depth(anatomy: Anatomy, shape: NoduleShape) -> float:
    """mm from the centre to the surface of the lung."""
    x, y, z = (np.array([value], dtype=np.float32) for value in shape.center.tolist())
    return -float(anatomy.lung_distance((x, y, z))[0])


def _inside(frame: Frame, shape: NoduleShape, box: Box, parts: tuple[int, int, int]) -> Field:
    """1 inside and 0 outside, with a narrow or a hazy edge, for each part of the voxels of a box."""
    width = np.float32(max(shape.haze, _FINE_MM / 4))
    inside = np.clip(0.5 - shape.body_distance(frame.fine(box, parts)) / width, 0.0, 1.0)
    for number, tip in enumerate(shape.tips):
        # Only where the strand leaves the body, which is most of the box's work.
        near = frame.box_around(
            shape.center + 0.75 * tip, 0.25 * float(np.linalg.norm(tip)) + _STRAND_BASE * shape.radius
        )
        if near is None:
            continue
        cut = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(near, box, strict=True)]
        if any(part.start >= part.stop for part in cut):
            continue
        strand = shape.strand_distance(number, frame.fine((cut[0], cut[1], cut[2]), parts))
        z, y, x = (
            slice((a.start - b.start) * n, (a.stop - b.start) * n) for a, b, n in zip(cut, box, parts, strict=True)
        )
        np.maximum(inside[z, y, x], np.clip(0.5 - strand / width, 0.0, 1.0), out=inside[z, y, x])
    return np.asarray(inside, dtype=np.float32)


def _block_means(field: NDArray[np.floating], parts: tuple[int, int, int]) -> Field:
    z, y, x = (length // part for length, part in zip(field.shape, parts, strict=True))
    blocks = field.reshape(z, parts[0], y, parts[1], x, parts[2])
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)
