"""Cervical cells of seven classes, drawn as densities of the dyes of the Papanicolaou stain.

What grows from normal to carcinoma in situ is what the textbook names: the nucleus against its cell, its darkness, the
clumps of its chromatin, the irregularity of its outline (Nayar and Wilbur, "The Bethesda System for Reporting Cervical
Cytology", 3rd ed., 2015; Jantzen et al., "Pap-smear benchmark data for pattern classification", NiSIS 2005). They are
drawings, not a model of disease.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from synthoma.phantoms.shapes import (
    Array,
    Stroke,
    blob,
    grid,
    inside,
    noise,
    paint_spots,
    paint_strokes,
    rotated,
    spread_points,
    walk,
)


@dataclass(frozen=True)
class Cell:
    """What the cells of one class look like. Pairs are a range; lengths in micrometres.

    nucleus: diameter. ratio: area of the nucleus to that of the cell. density: of haematoxylin in the nucleus.
    stretch: length of the nucleus to its width. irregular: swing of its outline. clumps: how coarse its chromatin is.
    cytoplasm: density. eosin: chance that it takes eosin and not light green. crowd: chance of neighbours.
    pyknotic: whether the nucleus is shrunken, dark and without structure.
    """

    shape: Literal["flat", "column", "round"]
    nucleus: tuple[float, float]
    ratio: tuple[float, float]
    density: tuple[float, float]
    stretch: tuple[float, float]
    irregular: float
    clumps: float
    cytoplasm: tuple[float, float]
    eosin: float
    crowd: float
    pyknotic: bool = False


# Class: shape, nucleus, ratio, density, stretch, irregular, clumps, cytoplasm, eosin, crowd.
CELLS: dict[str, Cell] = {
    "normal_superficiel": Cell(
        "flat", (4.5, 6.0), (0.007, 0.015), (1.35, 1.7), (1.0, 1.25), 0.03, 0.0, (0.30, 0.55), 0.75, 0.45, True
    ),
    "normal_intermediate": Cell(
        "flat", (7.0, 9.0), (0.016, 0.034), (0.85, 1.2), (1.05, 1.4), 0.03, 0.15, (0.24, 0.48), 0.15, 0.45
    ),
    "normal_columnar": Cell(
        "column", (7.0, 8.5), (0.20, 0.34), (0.60, 0.95), (1.15, 1.6), 0.03, 0.25, (0.30, 0.60), 0.08, 0.85
    ),
    "light_dysplastic": Cell(
        "flat", (11.0, 14.0), (0.11, 0.19), (0.62, 0.95), (1.05, 1.45), 0.035, 0.40, (0.26, 0.48), 0.30, 0.50
    ),
    "moderate_dysplastic": Cell(
        "round", (11.0, 14.0), (0.24, 0.36), (0.68, 1.02), (1.1, 1.7), 0.055, 0.60, (0.34, 0.62), 0.30, 0.55
    ),
    "severe_dysplastic": Cell(
        "round", (11.0, 14.0), (0.42, 0.56), (0.76, 1.12), (1.15, 1.9), 0.075, 0.80, (0.38, 0.70), 0.25, 0.70
    ),
    "carcinoma_in_situ": Cell(
        "round", (10.0, 13.0), (0.60, 0.78), (0.82, 1.2), (1.1, 1.8), 0.095, 1.0, (0.38, 0.72), 0.15, 0.85
    ),
}


@dataclass(frozen=True)
class Stain:
    """How a patient's smears took the dyes: strength in nuclei and in cytoplasm, eosin in nuclei, leaning to eosin."""

    nuclear: float
    plasma: float
    redness: float
    eosinophilia: float


@dataclass
class Smear:
    """Densities [size, size] of the three dyes, and how many canvas units a micrometre has."""

    size: int
    micron: float
    haematoxylin: Array = field(init=False)
    eosin: Array = field(init=False)
    green: Array = field(init=False)

    def __post_init__(self) -> None:
        self.haematoxylin, self.eosin, self.green = np.zeros((3, self.size, self.size))

    def lattice(self, grain: float) -> int:
        """Lattice cells across the picture for noise with grains of so many micrometres."""
        return int(np.clip(round(2.0 / (self.micron * grain)), 2, 60))


@dataclass(frozen=True)
class Body:
    """One cell: coordinates seen from its middle and turned with it, then lengths in canvas units.

    radius: of a circle of its area. nucleus: radius of the nucleus. away: where that lies, in the cell's coordinates.
    """

    y: Array
    x: Array
    radius: float
    nucleus: float
    away: tuple[float, float]

    @property
    def from_nucleus(self) -> Array:
        """Distance to the middle of the nucleus."""
        return np.asarray(np.hypot(self.y - self.away[0], self.x - self.away[1]))


def draw_cell(
    smear: Smear,
    kind: Cell,
    stain: Stain,
    rng: np.random.Generator,
    centre: tuple[float, float],
    lie: float,
    diameter: float,
    ratio: float,
) -> None:
    """Lay one cell on the smear: cytoplasm with folds and wrinkles, then the nucleus in it.

    centre (y, x) in canvas units, lie in radians; diameter of the nucleus in micrometres, ratio of its area to the cell's.
    """
    y, x = rotated(*grid(smear.size), centre, lie)
    nucleus = 0.5 * diameter * smear.micron
    radius = nucleus / np.sqrt(ratio)
    body = Body(y, x, radius, nucleus, _nucleus_place(kind, rng, radius, nucleus))
    plasma = {"flat": _flat_plasma, "column": _column_plasma, "round": _round_plasma}[kind.shape](smear, body, rng)
    _stain_plasma(smear, plasma, body, kind, stain, rng)
    _nucleus(smear, body, kind, stain, rng)


def _nucleus_place(kind: Cell, rng: np.random.Generator, radius: float, nucleus: float) -> tuple[float, float]:
    """Where the nucleus lies in the cell: near the middle, in columnar cells towards their foot."""
    if kind.shape == "column":
        return 0.0, -0.35 * radius * rng.uniform(0.6, 1.3)
    free = max(radius - 1.15 * nucleus, 0.0)
    turn = rng.uniform(0.0, 2.0 * np.pi)
    reach = free * rng.uniform(0.0, 0.22 if kind.shape == "flat" else 0.6)
    return float(reach * np.sin(turn)), float(reach * np.cos(turn))


def _polygon(rng: np.random.Generator, radius: float) -> Callable[[Array, Array], Array]:
    """Relative distance, at any (y, x), to a bent polygon with five to seven rounded corners, as flat cells have."""
    corners = int(rng.integers(5, 8))
    angles = (np.arange(corners) + rng.uniform(-0.28, 0.28, corners)) * (2.0 * np.pi / corners)
    reaches = radius * rng.uniform(0.72, 1.08, corners)
    waves = [(n, rng.uniform(0.3, 1.0) * 0.06 / np.sqrt(n), rng.uniform(0.0, 2.0 * np.pi)) for n in (3, 5, 8, 13, 21)]
    bends, phases = rng.uniform(1.5, 3.5, 2) / radius, rng.uniform(0.0, 2.0 * np.pi, 2)

    def distance(y: Array, x: Array) -> Array:
        y, x = (
            y + 0.09 * radius * np.sin(bends[0] * x + phases[0]),
            x + 0.09 * radius * np.sin(bends[1] * y + phases[1]),
        )
        sides = [(np.sin(angle) * y + np.cos(angle) * x) / reach for angle, reach in zip(angles, reaches, strict=True)]
        # A smooth maximum rounds the corners.
        furthest = np.log(np.sum(np.exp(14.0 * np.stack(sides)), axis=0)) / 14.0
        turn = np.arctan2(y, x)
        ripple = sum(swing * np.cos(n * turn + phase) for n, swing, phase in waves)
        return np.asarray(furthest - 1.0 + ripple)

    return distance


def _flat_plasma(smear: Smear, body: Body, rng: np.random.Generator) -> Array:
    """Thickness of a thin polygonal cell: corners folded over, wrinkles, an edge that curls, now and then a halo."""
    y, x = body.y, body.x
    outline = _polygon(rng, body.radius)
    edge = outline(y, x)
    sheet = inside(edge, 0.018)
    for _ in range(int(rng.choice(4, p=(0.45, 0.35, 0.15, 0.05)))):
        turn, line = rng.uniform(0.0, 2.0 * np.pi), body.radius * rng.uniform(0.6, 0.88)
        along = np.sin(turn) * y + np.cos(turn) * x - line + 0.04 * np.sin(rng.uniform(1.0, 4.0) * (y - x))
        kept = inside(along / body.radius, 0.01)
        # What was cut off lies mirrored on the cell, which doubles its thickness.
        flap = inside(outline(y - 2.0 * along * np.sin(turn), x - 2.0 * along * np.cos(turn)), 0.018)
        sheet = kept * (sheet + 0.8 * flap)
    wrinkles = []
    for start in spread_points(rng, int(rng.integers(0, 7)), 0.7 * body.radius):
        points = walk(rng, (float(start[0]), float(start[1])), rng.uniform(0.0, 2.0 * np.pi), 0.9 * body.radius, 0.22)
        wrinkles.append(Stroke(points, max(0.4 * smear.micron, 0.011)))
    sheet = sheet * (1.0 + 0.7 * gaussian_filter(paint_strokes(smear.size, wrinkles), 0.006 * smear.size))
    sheet = sheet * (1.0 + 0.3 * np.exp(-(((edge + 0.03) / 0.035) ** 2)))
    if body.nucleus > 0.28 * body.radius and rng.random() < 0.4:
        # Koilocyte: a cleared zone around the nucleus with a thick wall.
        reach = body.from_nucleus / (body.nucleus * rng.uniform(1.5, 1.9)) + 0.08 * noise(rng, smear.size, 5)
        sheet = sheet * (1.0 - 0.6 * inside(reach - 1.0, 0.06) + 0.35 * np.exp(-(((reach - 1.15) / 0.12) ** 2)))
    return np.asarray(sheet)


def _column_plasma(smear: Smear, body: Body, rng: np.random.Generator) -> Array:
    """Thickness of a columnar cell: long, narrow at its foot, flat at its free end, with pale drops of mucin."""
    length, width = 1.25 * body.radius, max(0.72 * body.radius, 1.12 * body.nucleus)
    narrowing = 1.0 + 0.45 * np.tanh(body.x / length)
    distance = np.maximum(np.abs(body.y) / (width * narrowing), np.abs(body.x - 0.1 * length) / length)
    sheet = inside(distance - 1.0 + 0.09 * noise(rng, smear.size, 6, 2), 0.06)
    for drop in spread_points(rng, int(rng.integers(0, 6)), 0.35 * body.radius):
        reach = np.hypot(body.y - drop[0], body.x - 0.55 * length - drop[1]) / (smear.micron * rng.uniform(0.7, 1.6))
        sheet = sheet * (1.0 - 0.55 * inside(reach - 1.0, 0.15))
    return np.asarray(sheet * (1.0 + 0.22 * noise(rng, smear.size, smear.lattice(2.2), 2)))


def _round_plasma(smear: Smear, body: Body, rng: np.random.Generator) -> Array:
    """Thickness of a small dysplastic cell: round to drawn out, with a frayed edge, following its nucleus."""
    stretch = rng.uniform(1.0, 1.3)
    distance = blob(rng, body.y * stretch, body.x / stretch, body.radius, irregularity=0.14, harmonics=(1, 2, 3, 5))
    distance = np.minimum(distance, body.from_nucleus / (1.18 * body.nucleus) - 1.0)
    if body.nucleus < 0.74 * body.radius and rng.random() < 0.25:
        # A tail, as tadpole and fibre cells have.
        taper = 0.45 * body.radius * np.exp(-0.8 * body.x.clip(0.0) / body.radius)
        tail = np.maximum(np.abs(body.y) / taper - 1.0, -body.x / body.radius)
        distance = np.minimum(distance, np.maximum(tail, body.x / body.radius - 2.2))
    sheet = inside(distance + 0.07 * noise(rng, smear.size, 9, 2), 0.05)
    return np.asarray(sheet * (1.0 + 0.2 * noise(rng, smear.size, smear.lattice(3.0), 2)))


def _stain_plasma(smear: Smear, plasma: Array, body: Body, kind: Cell, stain: Stain, rng: np.random.Generator) -> None:
    """Eosin and light green by the cell's share; the cytoplasm is thicker around the nucleus and finely granular."""
    eosinophilic = rng.random() < kind.eosin + stain.eosinophilia
    share = rng.uniform(0.75, 1.0) if eosinophilic else rng.uniform(0.0, 0.25)
    density = rng.uniform(*kind.cytoplasm) * stain.plasma
    reach = body.from_nucleus / body.radius
    thickness = 0.85 + 0.5 * np.exp(-((reach / 0.45) ** 2)) + 0.12 * noise(rng, smear.size, 5, 2)
    granules = 1.0 + 0.10 * noise(rng, smear.size, smear.lattice(1.2), 2, 0.7)
    amount = density * plasma * (thickness * granules).clip(0.2)
    # Cells are seldom of one dye: the hue drifts across them.
    pink = (share + 0.10 * noise(rng, smear.size, 3)).clip(0.0, 1.0)
    smear.eosin += amount * pink
    smear.green += amount * (1.0 - pink)
    smear.haematoxylin += 0.12 * amount
    dots = spread_points(rng, int(rng.poisson(min(6.0, 0.3 / smear.micron) * rng.gamma(1.0, 1.0))), 0.85 * body.radius)
    radii = smear.micron * rng.uniform(0.15, 0.5, len(dots))
    smear.haematoxylin += 0.45 * plasma.clip(0.0, 1.0) * paint_spots(smear.size, dots, radii)


def _nucleus(smear: Smear, body: Body, kind: Cell, stain: Stain, rng: np.random.Generator) -> None:
    """Outline, membrane and chromatin: even and fine in normal cells, clumped, dark and notched in high grades."""
    size, radius = smear.size, body.nucleus
    y, x = rotated(body.y - body.away[0], body.x - body.away[1], (0.0, 0.0), rng.normal(0.0, 0.5))
    stretch = np.sqrt(rng.uniform(*kind.stretch))
    distance = blob(rng, y * stretch, x / stretch, radius, irregularity=kind.irregular, harmonics=(2, 3, 4, 5, 7))
    if rng.random() < 5.0 * (kind.irregular - 0.05):
        turn, depth = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.3, 0.6)
        bite = np.hypot(y - 1.3 * radius * np.sin(turn), x - 1.3 * radius * np.cos(turn)) / (depth * radius)
        distance = np.maximum(distance, 0.5 * (1.0 - bite))
    within = inside(distance, 0.035 + 0.02 * rng.random())
    coarse, fine = (noise(rng, size, smear.lattice(grain), 2, 0.6) for grain in (2.0, 0.9))
    lumps = 0.22 * kind.clumps * np.tanh(1.4 * (coarse - 0.15))
    chromatin = 1.0 + (0.03 if kind.pyknotic else 0.10 + 0.05 * kind.clumps) * fine + lumps
    membrane = (0.10 + 0.16 * kind.clumps) * np.exp(-(((distance + 0.06) / 0.06) ** 2))
    density = rng.uniform(*kind.density) * stain.nuclear
    # The nucleus takes the room of cytoplasm: little of it is left above and below.
    smear.eosin *= 1.0 - 0.55 * within
    smear.green *= 1.0 - 0.55 * within
    smear.haematoxylin += density * within * (chromatin + membrane).clip(0.25)
    red = stain.redness * rng.uniform(0.4, 1.0) * np.exp(-(((distance + 1.0) / 0.6) ** 2))
    smear.eosin += red * density * within
    if not kind.pyknotic and rng.random() < 0.35:
        for spot in spread_points(rng, int(rng.integers(1, 3)), 0.5 * radius):
            reach = np.hypot(y - spot[0], x - spot[1]) / (smear.micron * rng.uniform(0.5, 0.9))
            smear.haematoxylin += 0.45 * density * within * inside(reach - 1.0, 0.2)
