"""Frontal chest X-rays as sums of shadows: trunk, lungs, ribs, clavicles, heart, diaphragm, side letter; opacities.

Coordinates: the picture is 2 wide; the patient's right is on the left of the picture, as radiographs are hung.
Brightness is attenuation: what is dense is bright.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from synthoma.phantoms.shapes import Array, Canvas, Stroke, blob, branching, grid, inside, spread_points

CLASSES = ("NORMAL", "PNEUMONIA")
# Hospitals keep more films of the ill than of the healthy.
SHARES = (0.42, 0.58)

_EDGE = 0.035
_SIDE_LETTERS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}


@dataclass(frozen=True)
class _Person:
    """Build, posture of ribs and diaphragm, and the film's exposure, shared by the pictures of one patient."""

    width: float
    apex: float
    diaphragm: float
    heart: float
    rib_slope: float
    rib_gap: float
    clavicle: float
    exposure: float
    contrast: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Person":
        return cls(
            width=rng.uniform(0.70, 0.82),
            apex=rng.uniform(-0.86, -0.76),
            diaphragm=rng.uniform(0.48, 0.66),
            heart=rng.uniform(0.90, 1.15),
            rib_slope=rng.uniform(0.30, 0.55),
            rib_gap=rng.uniform(0.155, 0.185),
            clavicle=rng.uniform(-0.72, -0.62),
            exposure=rng.uniform(-0.03, 0.04),
            contrast=rng.uniform(0.92, 1.08),
        )


def draw_chest_xray(label: str, person: np.random.Generator, rng: np.random.Generator, size: int) -> Array:
    """One film of class `label`: [size, size], about [0, 1]; `person` draws what the patient's films share."""
    who = _Person.draw(person)
    on = Canvas.at(size, (rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05)))
    breath = rng.uniform(-0.05, 0.05)
    fields = _lung_fields(who, breath, on)
    lungs = np.maximum(*fields)
    picture = _trunk(who, on)
    picture -= 0.47 * lungs * (1.0 - 0.25 * np.exp(-((on.x / 0.3) ** 2)))
    picture += 0.05 * lungs * on.noise(rng, 5, 2)
    picture += _ribs(who, on) * (0.35 + 0.65 * lungs)
    picture += _markings(rng, on) * lungs
    picture += _heart_and_spine(who, breath, on)
    picture += _clavicles(who, rng, on)
    if label == "PNEUMONIA":
        picture += _opacities(fields, rng, on) * lungs
    # What is bright already gains little from more shadow: film and detector saturate.
    picture = 1.0 - np.exp(-1.25 * np.clip(picture + who.exposure, 0.0, None)) + 0.03
    picture = 0.5 + who.contrast * (picture - 0.5)
    picture = gaussian_filter(picture, 0.5 * size / 96.0)
    picture = np.maximum(picture, _letter(rng, size))
    return np.asarray(picture + 0.012 * gaussian_filter(rng.standard_normal((size, size)), 0.5) * 1.8)


def _trunk(who: _Person, on: Canvas) -> Array:
    """Soft tissue: neck, shoulders that fall off to the sides, chest wall and arms; black where there is none."""
    shoulder = -0.98 + 0.62 * np.clip(np.abs(on.x) - 0.26, 0.0, None) ** 1.6
    neck = np.abs(on.x) - 0.24
    above = np.minimum(shoulder - on.y, np.maximum(neck, -0.05))
    sides = np.abs(on.x) - (who.width + 0.20 + 0.22 * np.clip(-on.y - 0.05, 0.0, None) ** 0.7)
    thickness = 0.62 + 0.10 * np.clip(on.y, -0.5, 1.0) - 0.22 * np.clip(np.abs(on.x) / who.width - 0.75, 0.0, 0.6)
    return np.asarray(inside(above, 0.03) * inside(sides, 0.03) * thickness)


def _lung_fields(who: _Person, breath: float, on: Canvas) -> tuple[Array, Array]:
    """The right and left lung: narrow at the top, wide at the base, cut by the dome of the diaphragm."""
    fields = []
    for side in (-1.0, 1.0):
        # The liver lifts the right dome.
        base = who.diaphragm + breath + (0.0 if side < 0 else 0.07)
        height = (on.y - who.apex) / (base - who.apex)
        outer = who.width * np.clip(height, 0.0, None) ** 0.33 * (0.88 + 0.14 * height.clip(0.0, 1.0))
        inner = 0.12 + 0.03 * np.cos(2.5 * on.y)
        middle = 0.55 * who.width
        dome = base + 0.75 * np.abs(side * on.x - 0.42 * who.width) ** 2.0 / middle
        across = side * on.x
        field = inside(across - outer, _EDGE) * inside(inner - across, _EDGE)
        fields.append(field * inside(on.y - dome, 0.02) * inside(who.apex - on.y, 0.02))
    return fields[0], fields[1]


def _ribs(who: _Person, on: Canvas) -> Array:
    """Ten pairs: the back part falls gently outwards, the fainter front part runs from the wall to the middle."""
    strokes_back, strokes_front = [], []
    across = np.linspace(0.0, 1.0, 14)
    for side in (-1.0, 1.0):
        for number in range(10):
            top = who.apex + 0.03 + who.rib_gap * number * (1.0 - 0.012 * number)
            reach = who.width * min(1.0, 0.62 + 0.15 * number) + 0.04
            x = 0.08 + (reach - 0.08) * np.sin(across * np.pi / 2)
            y = top - 0.10 * np.sin(np.pi * across * 0.8) + who.rib_slope * 0.85 * across**2.4
            strokes_back.append(Stroke(np.stack((y, side * x), axis=1), 0.062))
            if 1 <= number <= 7:
                front_x = reach - 0.62 * reach * across
                front_y = y[-1] + 0.22 * across + 0.05 * np.sin(np.pi * across)
                strokes_front.append(Stroke(np.stack((front_y, side * front_x), axis=1), 0.05))
    # The rims of a rib are denser than its middle: subtract a thinner stroke.
    back = on.strokes(strokes_back) - 0.35 * on.strokes([Stroke(s.points, 0.4 * s.width) for s in strokes_back])
    return 0.19 * back + 0.06 * on.strokes(strokes_front)


def _markings(rng: np.random.Generator, on: Canvas) -> Array:
    """Vessels that leave the roots of the lungs."""
    strokes: list[Stroke] = []
    for side in (-1.0, 1.0):
        outward = 0.0 if side > 0 else np.pi
        for turn in np.linspace(-1.0, 1.2, 5) + rng.normal(0.0, 0.1, 5):
            root = (-0.05, side * 0.17)
            strokes += branching(rng, root, outward + side * turn, 0.24, 0.035, 2, wander=0.1, spread=0.4)
    roots = np.exp(-(((np.abs(on.x) - 0.2) / 0.1) ** 2 + ((on.y + 0.03) / 0.18) ** 2))
    return 0.10 * on.strokes(strokes) + 0.10 * roots


def _heart_and_spine(who: _Person, breath: float, on: Canvas) -> Array:
    """Heart to the patient's left, the great vessels above it, the vertebrae as a faint ladder."""
    base = who.diaphragm + breath
    heart = on.ellipse((base - 0.30, 0.13), (0.36, 0.33 * who.heart), 2.2)
    vessels = on.ellipse((-0.28, 0.03), (0.38, 0.15))
    shadow = 0.34 * inside(np.minimum(heart, vessels), 0.05)
    belly = 0.22 * inside(base + 0.02 + 0.28 * on.x**2 - on.y, 0.05)
    column = 0.15 * inside((np.abs(on.x) - 0.115) / 0.1, 0.15)
    discs = 1.0 - 0.22 * np.clip(np.cos(2 * np.pi * on.y / 0.15), 0.0, 1.0)
    windpipe = 0.14 * inside((np.abs(on.x) - 0.04) / 0.04, 0.3) * inside(on.y + 0.32, 0.05)
    return shadow + belly + column * discs - windpipe


def _clavicles(who: _Person, rng: np.random.Generator, on: Canvas) -> Array:
    """S-shaped bones from the breastbone up to the shoulders, and the blades and heads of the upper arms."""
    along = np.linspace(0.0, 1.0, 12)
    tilt = rng.uniform(0.12, 0.28)
    strokes = []
    blades = np.zeros_like(on.x)
    for side in (-1.0, 1.0):
        y = who.clavicle + 0.10 - tilt * along - 0.04 * np.sin(2 * np.pi * along)
        strokes.append(Stroke(np.stack((y, side * (0.10 + 0.72 * along)), axis=1), 0.075))
        blades = np.maximum(blades, inside(on.ellipse((-0.52, side * (who.width + 0.14)), (0.24, 0.13)), 0.12))
    return 0.21 * on.strokes(strokes) + 0.14 * blades


def _opacities(fields: tuple[Array, Array], rng: np.random.Generator, on: Canvas) -> Array:
    """Either one dense lobe with a soft border, or fluffy patches in both lungs; the clear parts turn hazy too."""
    severity = rng.uniform(0.7, 1.1)
    haze = severity * (0.05 + 0.03 * on.noise(rng, 4))
    fluff = (0.5 + 0.5 * on.noise(rng, 6, 3)).clip(0.15, 1.2)
    if rng.random() < 0.45:
        side = int(rng.integers(2))
        centre = (rng.choice((-0.35, 0.22)) + rng.uniform(-0.08, 0.08), (-1.0, 1.0)[side] * rng.uniform(0.30, 0.45))
        lobe = blob(rng, (on.y - centre[0]) * 0.95, on.x - centre[1], rng.uniform(0.32, 0.42), irregularity=0.12)
        dense = inside(lobe + 0.12 * on.noise(rng, 6, 2), 0.16) * fields[side]
        return np.asarray(haze + severity * (0.34 + 0.10 * fluff) * dense)
    patches = np.zeros_like(on.x)
    for centre in spread_points(rng, int(rng.integers(5, 9)), 0.5) * np.array((1.0, 0.4)):
        side_sign = float(rng.choice((-1.0, 1.0)))
        reach = rng.uniform(0.14, 0.26)
        spot = blob(rng, on.y - centre[0] + 0.02, on.x - side_sign * (0.36 + centre[1]), reach, irregularity=0.25)
        patches = np.maximum(patches, inside(spot + 0.2 * on.noise(rng, 8), 0.3) * rng.uniform(0.7, 1.0))
    return np.asarray(haze + severity * patches * (0.16 + 0.26 * fluff))


def _letter(rng: np.random.Generator, size: int) -> Array:
    """The letter of the side in an upper corner, as lead markers show it; left off now and then."""
    if rng.random() < 0.15:
        return np.zeros((size, size))
    letter = "L" if rng.random() < 0.5 else "R"
    glyph = np.array([[float(dot) for dot in row] for row in _SIDE_LETTERS[letter]])
    height, width = 0.16, 0.115
    centre = (rng.uniform(-0.88, -0.82), (0.86 if letter == "L" else -0.86) + rng.uniform(-0.03, 0.03))
    y, x = grid(3 * size)
    row = np.floor(((y - centre[0]) / height + 0.5) * 7).astype(np.int64)
    column = np.floor(((x - centre[1]) / width + 0.5) * 5).astype(np.int64)
    within = (row >= 0) & (row < 7) & (column >= 0) & (column < 5)
    fine = np.zeros((3 * size, 3 * size))
    fine[within] = 0.95 * glyph[row[within], column[within]]
    return np.asarray(fine.reshape(size, 3, size, 3).mean(axis=(1, 3)))
