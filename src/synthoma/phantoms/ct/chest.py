"""A whole CT volume of the chest of an invented person, with nodules whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import DataError
from synthoma.formats.marks import CroppedMask
from synthoma.formats.volumes import Geometry
from synthoma.phantoms.ct.acquisition import KERNELS, Kernel, add_noise, draw_noise_level, to_int16
from synthoma.phantoms.ct.anatomy import BLOOD, Anatomy, draw_anatomy
from synthoma.phantoms.ct.frame import Field, Frame
from synthoma.phantoms.ct.nodules import (
    TEXTURES,
    DrawnNodule,
    NoduleShape,
    PhantomNodule,
    Texture,
    at,
    draw_core,
    draw_shape,
    paint_nodule,
    put_nodule,
)
from synthoma.phantoms.ct.vessels import Airways, Tubes, draw_vessels, joined
from synthoma.phantoms.registry import stream

SMALLEST_MM, LARGEST_MM = 4.0, 30.0
_SPOT_MM = (2.0, 2.9)
_PLEURA_MM, _CLEAR_MM = 2.0, 4.0
_BIG_VESSEL_MM, _STEM_MM = 1.3, 2.4
_CANDIDATES = 6000
_BRONCHUS_WALL_HU, _BRONCHUS_AIR_HU = 20.0, -985.0
_JUXTAPLEURAL_SHARE = 0.12


@dataclass(frozen=True, eq=False)
class ChestPhantom:
    """A drawn volume and all that is known about it.

    hu: int16 [z, y, x]. masks: of each nodule the voxels it takes at least half of. spots: solid nodules below 3 mm.
    decoys: world places (x, y, z) where a vessel looks like a nodule. lung_mask: bool [z, y, x], nodules included.
    shapes: of the nodules, in mm from the middle of the volume. noise: standard deviation in HU.
    """

    hu: NDArray[np.int16] = field(repr=False)
    geometry: Geometry
    nodules: tuple[PhantomNodule, ...]
    masks: tuple[CroppedMask, ...] = field(repr=False)
    lung_mask: NDArray[np.bool_] = field(repr=False)
    spots: tuple[PhantomNodule, ...]
    decoys: tuple[tuple[float, float, float], ...]
    shapes: tuple[NoduleShape, ...] = field(repr=False)
    kernel: Kernel
    noise: float


def draw_chest(
    seed: int,
    number: int,
    geometry: Geometry,
    *,
    nodules: tuple[int, int] = (2, 6),
    diameters: tuple[float, float] = (SMALLEST_MM, LARGEST_MM),
    textures: Sequence[Texture] = TEXTURES,
    spheres: bool = False,
    spots: tuple[int, int] = (0, 2),
    noise: float | None = None,
    person: int | None = None,
) -> ChestPhantom:
    """Draw volume `number` of a seed: same arguments, same voxels.

    geometry: any spacing and orientation; its middle is the middle of the chest, and a field of view that is narrow from
    side to side or from front to back gets a smaller person. nodules, spots: least and greatest number of nodules, and of
    nodules below 3 mm; of those that find no free place in the lungs, the smallest are left out. diameters: mm, drawn
    evenly by logarithm. spheres: perfect balls in lung tissue without vessels near, for tests of accuracy; else nodules
    are lobulated, may have strands and may touch the chest wall. noise: standard deviation in HU; drawn where it is None.
    person: volumes of one person share the build of the chest; by default each has a person of its own.

    Raises `DataError` for ranges that cannot be drawn, and where no lung lies in the volume.
    """
    _check(nodules, diameters, textures, spots)
    frame = Frame(geometry)
    anatomy = draw_anatomy(stream(seed, "ct", "person", number if person is None else person), frame)
    hu, lungs = anatomy.paint(frame)
    lung_mask = lungs < 0
    if not lung_mask.any():
        raise DataError("no lung lies within a volume of this size and spacing; make it larger.")
    vessels, airways = draw_vessels(stream(seed, "ct", number, "vessels"), anatomy, frame.edge_width)
    placing = _Placing(stream(seed, "ct", number, "nodules"), frame, anatomy, joined([vessels, airways.walls]))
    found = placing.nodules(nodules, diameters, textures, spheres)
    small = placing.spots(spots)
    if spheres:
        vessels, airways = _cleared(vessels, airways, [*found, *small], max(geometry.spacing))
    _paint_lungs(hu, frame, vessels, airways)
    for drawn in (*found, *small):
        paint_nodule(hu, drawn)
    scanner = stream(seed, "ct", number, "scanner")
    kernel = KERNELS[int(scanner.integers(len(KERNELS)))]
    deviation = draw_noise_level(scanner, kernel) if noise is None else noise
    if deviation > 0:
        add_noise(scanner, hu, frame, kernel, deviation)
    return ChestPhantom(
        to_int16(hu),
        geometry,
        tuple(drawn.nodule for drawn in found),
        tuple(drawn.mask for drawn in found),
        lung_mask,
        tuple(drawn.nodule for drawn in small),
        placing.decoys(vessels, int(scanner.integers(0, 4))),
        tuple(drawn.shape for drawn in found),
        kernel,
        float(deviation),
    )


class _Placing:
    """Finds places for nodules: within the lungs and the volume, apart from each other and from what is thick."""

    def __init__(self, random: np.random.Generator, frame: Frame, anatomy: Anatomy, tubes: Tubes) -> None:
        self._random, self._frame, self._anatomy, self._tubes = random, frame, anatomy, tubes
        self._taken: list[tuple[NDArray[np.float64], float]] = []
        size = np.asarray(frame.size)
        index = random.uniform(size=(_CANDIDATES, 3)) * (size - 1)
        middle = (size - 1) / 2
        self._places = (index - middle) @ frame.geometry.steps
        # mm from the border of the volume.
        self._border = (np.minimum(index, size - 1 - index) * frame.geometry.spacing).min(axis=1)
        x, y, z = self._places.T.astype(np.float32)
        self._depth = -anatomy.lung_distance((x, y, z))

    def nodules(
        self, count: tuple[int, int], diameters: tuple[float, float], textures: Sequence[Texture], spheres: bool
    ) -> list[DrawnNodule]:
        random = self._random
        wanted = int(random.integers(count[0], count[1] + 1))
        sizes = np.sort(np.exp(random.uniform(np.log(diameters[0]), np.log(diameters[1]), wanted)))[::-1].tolist()
        found = []
        for diameter in sizes:
            texture = textures[int(random.integers(len(textures)))]
            spiculation = 0.0 if spheres else _draw_spiculation(random, diameter, texture)
            if spheres:
                core = draw_core(random) if texture == "part_solid" else 0.0
                shape = NoduleShape(np.zeros(3), (diameter / 2,) * 3, core=core)
            else:
                shape = draw_shape(random, diameter, texture, spiculation)
            at_pleura = not spheres and random.random() < _JUXTAPLEURAL_SHARE
            place = self._place(shape, spheres, at_pleura)
            if place is not None:
                shape = at(shape, place)
                found.append(put_nodule(random, self._frame, self._anatomy, shape, texture, spiculation))
        return found

    def spots(self, count: tuple[int, int]) -> list[DrawnNodule]:
        random = self._random
        found = []
        for _ in range(int(random.integers(count[0], count[1] + 1))):
            shape = NoduleShape(np.zeros(3), (float(random.uniform(*_SPOT_MM)) / 2,) * 3)
            place = self._place(shape)
            if place is not None:
                found.append(put_nodule(random, self._frame, self._anatomy, at(shape, place), "solid", 0.0))
        return found

    def decoys(self, vessels: Tubes, count: int) -> tuple[tuple[float, float, float], ...]:
        """Places on middling vessels, away from all nodules."""
        middles = vessels.ends.mean(axis=1)
        fit = (vessels.radii.max(axis=1) > 0.9) & self._frame.geometry.contains(self._frame.index(middles))
        order = self._random.permutation(np.flatnonzero(fit))
        free = [i for i in order.tolist() if all(np.linalg.norm(middles[i] - p) > r + 8 for p, r in self._taken)]
        places = self._frame.world(middles[free[:count]]).tolist()
        return tuple((x, y, z) for x, y, z in places)

    def _place(self, shape: NoduleShape, alone: bool = False, at_pleura: bool = False) -> NDArray[np.float64] | None:
        """The first of the candidates that fits; it is taken then. alone: with nothing but lung around."""
        radius, body, spacing = shape.reach, max(shape.radii), max(self._frame.geometry.spacing)
        around = _CLEAR_MM + spacing if alone else _PLEURA_MM
        deep = self._depth > body + around
        if at_pleura:
            deep = (self._depth > 0.35 * shape.radius) & (self._depth < 0.75 * shape.radius)
        # Where all thin vessels near a ball are cleared away later, only the thick stems are in its way.
        least, clear = (_STEM_MM, body + around) if alone else (_BIG_VESSEL_MM, body + 0.5)
        for place in self._places[deep & (self._border > radius + 1.5 * spacing)]:
            if any(np.linalg.norm(place - other) < radius + reach + 1.5 * around for other, reach in self._taken):
                continue
            if self._tubes.clearance(place, least) < clear:
                continue
            self._taken.append((place, radius))
            found: NDArray[np.float64] = place
            return found
        return None


def _draw_spiculation(random: np.random.Generator, diameter: float, texture: Texture) -> float:
    """0 for most; large nodules that are not ground glass have strands more often."""
    share = 0.12 + 0.5 * min(1.0, diameter / 24)
    if texture == "ground_glass" or random.random() > share:
        return float(random.uniform(0.0, 0.1))
    return float(random.uniform(0.25, 1.0))


def _cleared(vessels: Tubes, airways: Airways, drawn: Sequence[DrawnNodule], spacing: float) -> tuple[Tubes, Airways]:
    """Without the tubes that come nearer to a nodule than 4 mm and a voxel."""

    def far(tubes: Tubes) -> NDArray[np.bool_]:
        keep = np.ones(len(tubes.radii), dtype=np.bool_)
        for each in drawn:
            keep &= tubes.distances(each.shape.center) > each.shape.reach + _CLEAR_MM + spacing
        return keep

    kept = far(airways.walls)
    return vessels.only(far(vessels)), Airways(airways.walls.only(kept), airways.lumina.only(kept))


def _paint_lungs(hu: Field, frame: Frame, vessels: Tubes, airways: Airways) -> None:
    """Vessels, walls of the airways and the air in them. In place."""
    for tubes, value in ((vessels, BLOOD), (airways.walls, _BRONCHUS_WALL_HU), (airways.lumina, _BRONCHUS_AIR_HU)):
        cover = np.zeros(frame.size, dtype=np.float32)
        tubes.paint(cover, frame)
        cover *= value - hu
        hu += cover


def _check(
    nodules: tuple[int, int], diameters: tuple[float, float], textures: Sequence[Texture], spots: tuple[int, int]
) -> None:
    for low, high in (nodules, spots):
        if not 0 <= low <= high <= 100:
            raise DataError(f"the number of nodules is a range from 0 to 100, not {low} to {high}.")
    if not 3.0 <= diameters[0] <= diameters[1] <= 60.0:
        raise DataError(f"nodules have diameters between 3 and 60 mm, not {diameters[0]:g} to {diameters[1]:g}.")
    unknown = sorted(set(textures) - set(TEXTURES))
    if unknown or not textures:
        raise DataError(f"nodules are {', '.join(TEXTURES)}; not {', '.join(unknown) or 'nothing'}.")
