"""Axial chest CT slices in a lung window: body, ribs, spine, lungs with vessels, heart, table; nodule or mass.

Coordinates: the picture is 2 wide, about 330 mm; y points to the back, x to the patient's left, as on a screen.
Grey values follow a lung window (about -1350 to 150 HU): air 0.1, lung 0.22, fat 0.70, soft tissue 0.80, bone 1.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from synthoma.phantoms.shapes import Array, Canvas, Stroke, blob, branching, ellipse, inside, spread_points

CLASSES = ("benign", "malignant", "normal")
# Benign cases are the fewest in most hospitals' collections.
SHARES = (0.28, 0.38, 0.34)

_AIR, _LUNG, _FAT, _TISSUE, _BONE = 0.12, 0.24, 0.70, 0.80, 1.0
# Softness of borders as relative distance: about a pixel at 96 pixels.
_EDGE = 0.03


@dataclass(frozen=True)
class _Person:
    """Body build and scanner settings that the slices of one patient share; lengths in canvas units."""

    width: float
    depth: float
    fat: float
    heart: float
    lung_grey: float
    table: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Person":
        width = rng.uniform(0.78, 0.94)
        return cls(
            width=width,
            depth=width * rng.uniform(0.68, 0.78),
            fat=rng.uniform(0.05, 0.14),
            heart=rng.uniform(0.9, 1.12),
            lung_grey=_LUNG + rng.uniform(-0.04, 0.05),
            table=rng.uniform(0.0, 1.0),
            noise=rng.uniform(0.008, 0.025),
        )


@dataclass(frozen=True)
class _Chest:
    """The lungs of one slice: relative distance, mask, and the roots (y, x) where vessels enter the right and left.

    centres and radii (y, x) of the two lungs; origin of the canvas that they are seen from.
    """

    distance: Array
    lungs: Array
    roots: tuple[tuple[float, float], tuple[float, float]]
    centres: tuple[tuple[float, float], tuple[float, float]]
    radii: tuple[float, float]
    origin: tuple[float, float]


def draw_chest_ct(label: str, person: np.random.Generator, rng: np.random.Generator, size: int) -> Array:
    """One slice of class `label`: [size, size], about [0, 1]; `person` draws what the patient's slices share."""
    who = _Person.draw(person)
    # Patients do not lie exactly in the middle of the field of view.
    on = Canvas.at(size, (rng.uniform(-0.1, 0.0), rng.uniform(-0.04, 0.04)))
    level = rng.uniform(0.1, 1.0)
    picture = np.full((size, size), _AIR)
    picture += 0.7 * _table(who, on)
    body = on.ellipse((0.0, 0.0), (who.depth, who.width), 2.5)
    chest = _lungs(who, level, rng, on)
    _tissues(picture, who, body, on)
    _bones(picture, who, level, rng, on)
    picture += chest.lungs * (who.lung_grey - picture)
    _mediastinum(picture, who, level, on)
    _vessels(picture, chest, rng, on)
    if label == "malignant":
        _mass(picture, chest, rng, on)
    elif label == "benign":
        _nodule(picture, chest, rng, on)
    picture = gaussian_filter(picture, 0.45 * size / 96.0)
    # Reconstruction noise is correlated: neighbouring pixels share rays.
    grain = gaussian_filter(rng.standard_normal((size, size)), 0.6) * 2.0
    return np.asarray(picture + who.noise * grain)


def _lungs(who: _Person, level: float, rng: np.random.Generator, on: Canvas) -> _Chest:
    """Two lungs: small at the apex (level 0), wide in the middle, cut by heart and diaphragm at the base (level 1)."""
    growth = np.sin(np.pi * min(0.18 + 0.5 * level, 0.62))
    half_width = 0.36 * who.width * (0.55 + 0.45 * growth)
    half_depth = 0.70 * who.depth * (0.45 + 0.55 * growth)
    away = 0.48 * who.width * (0.85 + 0.15 * growth)
    wobble = 0.05 * on.noise(rng, 5)
    centres = ((0.02, -away), (0.02, away))
    # The lungs lean towards each other in front.
    lean = 0.12 * np.minimum(on.y - 0.1, 0.0)
    right = ellipse(on.y, on.x + lean, centres[0], (half_depth, half_width), 2.3)
    left = ellipse(on.y, on.x - lean, centres[1], (half_depth, half_width), 2.3)
    distance = np.minimum(right, left) + wobble
    lungs = inside(distance, _EDGE)
    # The heart presses into the left lung; the spine stands between the two.
    heart = _heart(who, level, on)
    lungs *= inside(-heart, _EDGE)
    lungs *= inside(-on.ellipse((0.52 * who.depth, 0.0), (0.34 * who.depth, 0.17 * who.width)), 2 * _EDGE)
    lungs *= inside(-on.ellipse((-0.1 * who.depth, 0.0), (0.62 * who.depth, 0.13 * who.width)), 2 * _EDGE)
    if level > 0.88:
        # The dome of the liver rises from the front into the right lung, next to the heart.
        rise = (level - 0.86) / 0.14
        radii = (0.55 * who.depth * rise**0.5, 0.34 * who.width * rise**0.5)
        dome = on.ellipse((-0.36 * who.depth, -0.40 * who.width), radii)
        lungs *= inside(-dome, _EDGE)
    distance = np.maximum(distance, -heart)
    root = 0.2 * who.width
    return _Chest(distance, lungs, ((0.02, -root), (0.02, root)), centres, (half_depth, half_width), on.origin)


def _heart(who: _Person, level: float, on: Canvas) -> Array:
    """Relative distance to the heart, or to the great vessels above it."""
    reach = who.heart * (0.30 + 0.72 * np.clip((level - 0.35) / 0.5, 0.0, 1.0))
    centre = (-0.26 * who.depth, (0.02 + 0.13 * min(level, 0.9)) * who.width)
    return on.ellipse(centre, (0.46 * who.depth * reach**0.5, 0.36 * who.width * reach), 2.2)


def _tissues(picture: Array, who: _Person, body: Array, on: Canvas) -> None:
    """Skin, fat and the muscles of the chest wall."""
    picture += inside(body, _EDGE) * (_FAT - picture)
    wall = on.ellipse((0.02, 0.0), (who.depth * (1 - who.fat), who.width * (1 - who.fat)), 2.5)
    picture += inside(wall, _EDGE) * (_TISSUE - picture)
    rim = np.exp(-((body / 0.02) ** 2))
    picture += 0.6 * rim * (_TISSUE - picture)


def _bones(picture: Array, who: _Person, level: float, rng: np.random.Generator, on: Canvas) -> None:
    """Ribs cut aslant (pieces of a ring around the lungs), breastbone, vertebra with its canal and processes."""
    angle = np.arctan2(on.y / who.depth, on.x / who.width)
    ring = on.ellipse((0.02, 0.0), (0.84 * who.depth * (1 - who.fat / 2), 0.88 * who.width * (1 - who.fat / 2)), 2.4)
    pieces = np.cos(rng.integers(9, 12) * np.abs(angle) + rng.uniform(0.0, 2 * np.pi))
    ribs = np.exp(-((ring / 0.045) ** 2)) * inside(-pieces, 0.15)
    spine = 0.66 * who.depth
    vertebra = inside(on.ellipse((spine - 0.08, 0.0), (0.10, 0.125), 2.6), 0.06)
    canal = inside(on.ellipse((spine + 0.055, 0.0), (0.05, 0.055)), 0.15)
    processes = [
        Stroke(np.array(((spine + 0.05, -0.03), (spine + 0.09, side * 0.2), (spine + 0.04, side * 0.27))), 0.05)
        for side in (-1.0, 1.0)
    ]
    processes.append(Stroke(np.array(((spine + 0.09, 0.0), (spine + 0.2, 0.0))), 0.045))
    breastbone = inside(on.ellipse((-0.86 * who.depth, 0.0), (0.035, 0.13)), 0.12)
    bone = np.maximum.reduce((0.95 * ribs, vertebra, 0.9 * on.strokes(processes), 0.8 * breastbone))
    if level < 0.45:
        for side in (-1.0, 1.0):
            blade = np.abs((on.y - 0.45 * who.depth) - 0.55 * (side * on.x - 0.74 * who.width)) / 0.03
            reach = on.ellipse((0.45 * who.depth, side * 0.76 * who.width), (0.25, 0.14))
            bone = np.maximum(bone, 0.9 * np.exp(-(blade**2)) * inside(reach, 0.1))
    picture += bone * (_BONE - picture)
    picture += canal * (_TISSUE - 0.03 - picture)


def _mediastinum(picture: Array, who: _Person, level: float, on: Canvas) -> None:
    """Heart and aorta a little brighter than muscle, fat between them, the windpipe black."""
    picture += inside(_heart(who, level, on), _EDGE) * (_TISSUE + 0.05 - picture)
    aorta = inside(on.ellipse((0.38 * who.depth, 0.14 * who.width), (0.065, 0.065)), 0.12)
    picture += aorta * (_TISSUE + 0.06 - picture)
    gap = np.exp(-(((on.y + 0.08 * who.depth) / 0.035) ** 2 + (on.x / 0.16) ** 2))
    picture += 0.6 * gap * (_FAT - 0.03 - picture)
    if level < 0.5:
        windpipe = inside(on.ellipse((0.08 * who.depth, 0.0), (0.055, 0.05)), 0.15)
    else:
        # Below the fork there are two main bronchi instead of one windpipe.
        aside = 0.13 * who.width
        bronchi = [on.ellipse((0.12 * who.depth, x), (0.04, 0.045)) for x in (-aside, aside)]
        windpipe = inside(np.minimum(*bronchi), 0.15) * np.clip((0.85 - level) / 0.1, 0.0, 1.0)
    picture += windpipe * (_AIR - picture)


def _vessels(picture: Array, chest: _Chest, rng: np.random.Generator, on: Canvas) -> None:
    """Vessels branch from the root of each lung and thin out; those cut across are dots."""
    strokes: list[Stroke] = []
    dots = []
    for (root_y, root_x), centre in zip(chest.roots, chest.centres, strict=True):
        outward = 0.0 if root_x > 0 else np.pi
        for turn in np.linspace(-1.15, 1.15, 4) + rng.normal(0.0, 0.12, 4):
            root = (root_y, root_x)
            strokes += branching(rng, root, outward + turn, 0.2, 0.034, 3, wander=0.12, spread=0.5, taper=0.66)
        dots.append(spread_points(rng, 14, 0.9) * np.asarray(chest.radii) + np.asarray(centre))
    centres = np.concatenate(dots)
    cover = np.maximum(0.62 * on.strokes(strokes), 0.5 * on.spots(centres, rng.uniform(0.006, 0.014, len(centres))))
    # Gravity: the back of the lung holds more blood.
    picture += chest.lungs * (0.05 * on.y + 0.012 * on.noise(rng, 10))
    picture += cover * chest.lungs * (_TISSUE - picture)


def _place(chest: _Chest, rng: np.random.Generator, radius: float) -> tuple[float, float]:
    """A place (y, x) in either lung with about `radius` of lung around it, or what comes nearest to that."""
    size = chest.lungs.shape[0]
    side = int(rng.integers(2))
    candidates = spread_points(rng, 40, 0.9) * np.asarray(chest.radii) + np.asarray(chest.centres[side])
    pixels = (
        np.rint((candidates + np.asarray(chest.origin) + 1.0) * (size / 2.0) - 0.5).astype(np.int64).clip(0, size - 1)
    )
    room = gaussian_filter(chest.lungs, 0.6 * radius * size / 2.0)[pixels[:, 0], pixels[:, 1]]
    chosen = candidates[int(np.argmax(room >= 0.93 * room.max()))]
    return float(chosen[0]), float(chosen[1])


def _mass(picture: Array, chest: _Chest, rng: np.random.Generator, on: Canvas) -> None:
    """A mass of 40 to 75 mm: lobed, irregular, with spicules, a hazy rim, sometimes a cavity (Fleischner terms)."""
    radius = rng.uniform(0.12, 0.22)
    centre = _place(chest, rng, radius)
    border = blob(rng, on.y - centre[0], on.x - centre[1], radius, irregularity=0.18, harmonics=(2, 3, 4, 5, 7))
    border += 0.14 * on.noise(rng, 14, 2)
    around = inside(chest.distance - 0.1, 0.06)
    haze = 0.3 * np.exp(-np.clip(border, 0.0, None) * 3.5)
    spicules = []
    for angle in rng.uniform(0.0, 2 * np.pi, int(rng.integers(9, 15))):
        direction = np.array((np.sin(angle), np.cos(angle)))
        reach = radius * rng.uniform(1.4, 2.1)
        spicules.append(Stroke(np.stack((0.6 * radius * direction, reach * direction)) + np.asarray(centre), 0.018))
    solid = np.maximum(inside(border, 0.06), 0.6 * on.strokes(spicules))
    solid = np.maximum(solid, haze) * around
    picture += solid * (_TISSUE - 0.02 + 0.03 * on.noise(rng, 12) - picture)
    if rng.random() < 0.2:
        cavity = blob(rng, on.y - centre[0], on.x - centre[1], 0.4 * radius, irregularity=0.15)
        picture += inside(cavity, 0.15) * around * (0.3 - picture)


def _nodule(picture: Array, chest: _Chest, rng: np.random.Generator, on: Canvas) -> None:
    """A nodule of 20 to 30 mm: smooth, round, sharply bordered, in most cases with a calcified heart (granuloma)."""
    radius = rng.uniform(0.06, 0.09)
    centre = _place(chest, rng, 1.6 * radius)
    border = blob(rng, on.y - centre[0], on.x - centre[1], radius, irregularity=0.03, harmonics=(2, 3))
    picture += inside(border, 0.1) * (_TISSUE + 0.02 - picture)
    if rng.random() < 0.75:
        calcium = inside(border + rng.uniform(0.25, 0.5), 0.12)
        picture += calcium * (_BONE + 0.05 - picture)


def _table(who: _Person, on: Canvas) -> Array:
    """The curved couch below the patient: two thin shells, lower at the sides of a flat one."""
    curve = 0.28 * (0.4 + who.table)
    top = who.depth + 0.12 - curve * on.x**2
    shells = [np.exp(-(((on.y - top - offset) / 0.016) ** 2)) for offset in (0.0, 0.16)]
    return np.asarray(np.maximum(*shells) * inside(np.abs(on.x) - 0.93, 0.02))
