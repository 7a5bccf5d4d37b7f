"""Dermoscopy-like pictures: skin of varying tone, a lesion, and what the instrument and the hair add."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from synthoma.phantoms.lesions import LESIONS, Layers, Site
from synthoma.phantoms.shapes import (
    Array,
    Stroke,
    cell_pattern,
    grid,
    inside,
    noise,
    paint_strokes,
    rotated,
    spread_points,
    walk,
)

CLASSES = tuple(LESIONS)
# Roughly how the classes are spread in collections of dermoscopic pictures, evened out so that none is rare.
SHARES = (0.08, 0.14, 0.07, 0.15, 0.15, 0.15, 0.08, 0.09, 0.09)

# Reflectance of bloodless, unpigmented skin, and absorption of melanin and haemoglobin, in red, green, blue:
# chosen by eye after the curves in Jacques, "Optical properties of biological tissues", Phys Med Biol 58:R37 (2013).
_SKIN = np.array((0.95, 0.82, 0.76))
_MELANIN = np.array((0.55, 1.00, 1.35))
_BLOOD = np.array((0.13, 0.88, 0.62))
_BLUE_GREY = np.array((0.33, 0.39, 0.50))
_WHITE = np.array((0.95, 0.92, 0.90))
_KERATIN = np.array((0.88, 0.72, 0.40))
_CRUST = np.array((0.14, 0.05, 0.06))


@dataclass(frozen=True)
class _Person:
    """What the pictures of one patient share: skin, hair, the strength of pigment, and the instrument's colour."""

    melanin: float
    blood: float
    pigment: float
    lesion_radius: float
    hairs: float
    hair_colour: Array
    light: Array

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Person":
        return cls(
            melanin=0.75 * float(rng.beta(1.2, 4.5)),
            blood=rng.uniform(0.06, 0.26),
            pigment=rng.uniform(0.88, 1.15),
            lesion_radius=rng.uniform(0.46, 0.62),
            hairs=float(rng.choice((0.0, 3.0, 9.0), p=(0.6, 0.25, 0.15))),
            hair_colour=np.array((0.16, 0.11, 0.09)) + rng.uniform(0.0, 0.22) * np.array((1.0, 0.75, 0.5)),
            light=1.0 + rng.uniform(-1.0, 1.0, 2) @ np.array(((0.03, 0.0, -0.07), (0.02, -0.05, 0.02))),
        )


def draw_dermoscopy(label: str, person: np.random.Generator, rng: np.random.Generator, size: int) -> Array:
    """A lesion of class `label`: [size, size, 3], about [0, 1]; `person` draws what the patient's pictures share."""
    who = _Person.draw(person)
    y, x = grid(size)
    centre = (rng.uniform(-0.13, 0.13), rng.uniform(-0.13, 0.13))
    turned_y, turned_x = rotated(y, x, centre, rng.uniform(0.0, 2.0 * np.pi))
    stretch = rng.uniform(0.88, 1.12)
    radius = who.lesion_radius * rng.uniform(0.9, 1.1)
    site = Site(size, turned_y * stretch, turned_x / stretch, centre, radius, who.pigment)
    layers = _bare_skin(who, rng, size)
    LESIONS[label](layers, site, rng)
    _scatter(layers)
    return _instrument(_hair(_reflectance(layers), who, rng), who, rng)


def _bare_skin(who: _Person, rng: np.random.Generator, size: int) -> Layers:
    first, second = cell_pattern(rng, size, 22)
    furrows = inside(second - first - 0.12, 0.06)
    melanin = who.melanin * (1.0 + 0.12 * noise(rng, size, 4)) + 0.035 * furrows + 0.015 * noise(rng, size, 28)
    blood = who.blood * (1.0 + 0.22 * noise(rng, size, 5, 2)) + 0.012 * noise(rng, size, 24)
    empty = np.zeros((4, size, size))
    return Layers(melanin.clip(0.0), blood.clip(0.0), *empty)


def _scatter(layers: Layers) -> None:
    """Blur what lies in the skin, the deeper the more: light is scattered on its way out."""
    width = layers.melanin.shape[0] / 96.0
    layers.melanin = gaussian_filter(layers.melanin, 0.6 * width)
    layers.blood = gaussian_filter(layers.blood, 0.8 * width)
    layers.blue = gaussian_filter(layers.blue, 1.2 * width)
    layers.white = gaussian_filter(layers.white, 0.7 * width)


def _reflectance(layers: Layers) -> Array:
    """Colour [size, size, 3] of the layers: absorption (Beer and Lambert), then what covers it, the topmost last."""
    density = layers.melanin.clip(0.0)[..., None] * _MELANIN + layers.blood.clip(0.0)[..., None] * _BLOOD
    picture = _SKIN * np.exp(-density)
    for opacity, colour in (
        (layers.blue, _BLUE_GREY),
        (layers.keratin, _KERATIN),
        (layers.white, _WHITE),
        (layers.crust, _CRUST),
    ):
        picture += opacity.clip(0.0, 1.0)[..., None] * (colour - picture)
    return np.asarray(picture)


def _hair(picture: Array, who: _Person, rng: np.random.Generator) -> Array:
    count = int(rng.poisson(who.hairs))
    if count == 0:
        return picture
    lie = rng.uniform(0.0, 2.0 * np.pi)
    strokes = []
    for start in spread_points(rng, count, 1.3):
        angle = lie + rng.normal(0.0, 0.35)
        begin = (float(start[0] - np.sin(angle)), float(start[1] - np.cos(angle)))
        strokes.append(Stroke(walk(rng, begin, angle, rng.uniform(1.2, 2.4), 0.06), rng.uniform(0.015, 0.028)))
    cover = 0.85 * paint_strokes(picture.shape[0], strokes)
    return picture + cover[..., None] * (who.hair_colour - picture)


def _instrument(picture: Array, who: _Person, rng: np.random.Generator) -> Array:
    """Gel bubbles, ruler, uneven light, dark corners, colour of the lamp and sensor noise."""
    size = picture.shape[0]
    y, x = grid(size)
    if rng.random() < 0.15:
        for centre in spread_points(rng, int(rng.integers(1, 5)), 1.2):
            reach = np.hypot(y - centre[0], x - centre[1]) / rng.uniform(0.04, 0.11)
            rim = np.exp(-(((reach - 1.0) / 0.3) ** 2)) * (0.55 + 0.45 * np.sign(centre[0] - y))
            picture = picture + 0.4 * rim[..., None] * (1.0 - picture)
    if rng.random() < 0.12:
        picture = picture * (1.0 - 0.85 * _ruler(size, rng)[..., None])
    tilt = rng.uniform(0.0, 2.0 * np.pi)
    light = 1.0 + 0.05 * (np.sin(tilt) * y + np.cos(tilt) * x)
    reach = np.hypot(y, x)
    light = light * (1.0 - rng.uniform(0.05, 0.2) * reach**2)
    if rng.random() < 0.18:
        light = light * inside(reach - rng.uniform(1.0, 1.15), 0.03)
    grain = 0.012 * rng.standard_normal((size, size, 3))
    return np.asarray(picture * light[..., None] * who.light + grain)


def _ruler(size: int, rng: np.random.Generator) -> Array:
    """Tick marks along one edge, every fifth one longer."""
    side = int(rng.integers(4))
    step = rng.uniform(0.09, 0.14)
    strokes = []
    for number in range(int(2.0 / step)):
        along, tip = -1.0 + (number + 0.5) * step, -0.84 if number % 5 == 0 else -0.92
        strokes.append(Stroke(np.array(((along, -1.0), (along, tip))), 0.018))
    return np.rot90(paint_strokes(size, strokes), side)
