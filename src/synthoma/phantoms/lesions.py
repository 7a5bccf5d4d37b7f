"""Nine kinds of skin lesion as layers of pigment, each with the signs that dermoscopy teaches for it.

The signs follow the consensus terms of Kittler et al., "Standardization of terminology in dermoscopy", J Am Acad
Dermatol 74:1093 (2016), simplified to what 32 pixels can show. They are drawings, not a model of disease.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthoma.phantoms.shapes import (
    Array,
    Stroke,
    blob,
    branching,
    cell_pattern,
    inside,
    noise,
    paint_spots,
    paint_strokes,
    spread_points,
    walk,
)


@dataclass
class Layers:
    """What lies in the skin at each pixel, [size, size] each.

    melanin and blood are optical densities; the rest are opacities in [0, 1]: blue (melanin deep in the dermis looks
    blue-grey), white (scar, scale, cyst), keratin (yellow), crust (dried blood, almost black).
    """

    melanin: Array
    blood: Array
    blue: Array
    white: Array
    keratin: Array
    crust: Array


@dataclass(frozen=True)
class Site:
    """Where a lesion sits: turned and shifted coordinates (y, x), its radius, and traits of the patient.

    pigment: how strongly this patient's lesions are coloured, around 1. centre: in canvas units.
    """

    size: int
    y: Array
    x: Array
    centre: tuple[float, float]
    radius: float
    pigment: float


Lesion = Callable[[Layers, Site, np.random.Generator], None]


def _spots(
    site: Site, rng: np.random.Generator, count: int, reach: float, low: float, high: float, inner: float = 0.0
) -> Array:
    """Coverage of `count` discs around the lesion's centre; `reach`, `inner` and radii relative to its radius."""
    centres = spread_points(rng, count, reach * site.radius, inner * site.radius) + np.asarray(site.centre)
    return paint_spots(site.size, centres, rng.uniform(low, high, count) * site.radius)


def melanoma(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """Asymmetric, irregular border that ends abruptly, several browns, black, blue-grey veil, scattered dots."""
    rough = blob(rng, site.y, site.x, site.radius * 1.12, irregularity=0.26, harmonics=(1, 2, 3, 5, 7))
    rough += 0.16 * noise(rng, site.size, 7, 2)
    body = inside(rough, 0.05)
    patches = noise(rng, site.size, 4, 3, 0.6)
    # One side darker than the other: colour is as asymmetric as the outline.
    lean = site.x / site.radius * rng.uniform(0.35, 0.6)
    dark = inside(-(patches + lean - 0.1), 0.15)
    layers.melanin += site.pigment * body * (0.95 + 0.4 * patches.clip(-1, 1) + 1.5 * dark)
    first, second = cell_pattern(rng, site.size, int(rng.integers(13, 18)), 1.0)
    layers.melanin += 0.45 * body * (1 - dark) * inside(second - first - 0.16, 0.07)
    away = site.radius * rng.uniform(0.1, 0.45), site.radius * rng.uniform(-0.4, 0.1)
    veil = blob(rng, site.y - away[0], site.x - away[1], site.radius * rng.uniform(0.4, 0.62), irregularity=0.2)
    haze = inside(veil + 0.2 * noise(rng, site.size, 6), 0.18) * (1.0 + 0.2 * noise(rng, site.size, 8, 2))
    layers.blue += rng.uniform(0.55, 0.8) * body * haze
    dots = _spots(site, rng, int(rng.integers(5, 14)), 1.15, 0.03, 0.08, 0.7)
    layers.melanin += 2.5 * dots * inside(rough - 0.25, 0.05)
    if rng.random() < 0.3:
        layers.white += 0.45 * body * inside(-(noise(rng, site.size, 5) - 1.3), 0.15)


def nevus(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """Round, one even brown, a regular network, the border fading into the skin."""
    border = blob(rng, site.y, site.x, site.radius * 0.95, irregularity=0.06, harmonics=(2, 3, 4))
    border += 0.045 * noise(rng, site.size, 8)
    body = inside(border, 0.075)
    depth = rng.uniform(0.85, 1.35)
    shade = depth - 0.25 * (border + 1.0).clip(0, 1) + 0.08 * noise(rng, site.size, 6, 2)
    layers.melanin += site.pigment * body * shade
    first, second = cell_pattern(rng, site.size, int(rng.integers(13, 19)), 0.7)
    network = inside(second - first - 0.2, 0.09) * (1.0 + 0.3 * noise(rng, site.size, 5))
    layers.melanin += site.pigment * 0.32 * inside(border + 0.02, 0.1) * network


def vascular_lesion(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """Sharply bordered red, purple or blue-black lagoons between paler walls."""
    border = blob(rng, site.y, site.x, site.radius * 0.82, irregularity=0.09) + 0.04 * noise(rng, site.size, 9)
    first, second = cell_pattern(rng, site.size, int(rng.integers(8, 12)), 0.9)
    lagoon = inside(-(second - first - 0.14), 0.07) * (1.0 + 0.25 * noise(rng, site.size, 6))
    body = inside(border, 0.035)
    purple = rng.uniform(0.0, 1.0)
    layers.blood += body * (1.15 + 1.2 * lagoon) * rng.uniform(0.75, 1.1)
    layers.melanin += 0.45 * purple * body * lagoon
    layers.blue += 0.30 * purple * body * lagoon
    if rng.random() < 0.3:
        clot = inside(noise(rng, site.size, 5) + 0.9, 0.15)
        layers.crust += 0.85 * body * clot * lagoon
    layers.blood += 0.25 * inside(border - 0.25, 0.12)


def basal_cell_carcinoma(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """Translucent pink, sharp branching vessels, blue-grey ovoid nests, now and then a small ulcer."""
    border = blob(rng, site.y, site.x, site.radius, irregularity=0.12)
    body = inside(border, 0.1)
    layers.blood += body * (0.30 + 0.06 * noise(rng, site.size, 5))
    layers.melanin *= 1.0 - 0.75 * body
    layers.white += 0.20 * body * (1.0 + 0.5 * noise(rng, site.size, 5, 2))
    vessels = []
    for _ in range(int(rng.integers(3, 6))):
        side = rng.uniform(0, 2 * np.pi)
        start = site.centre[0] + 0.95 * site.radius * np.sin(side), site.centre[1] + 0.95 * site.radius * np.cos(side)
        inwards, width = side + np.pi + rng.normal(0, 0.4), rng.uniform(0.03, 0.055)
        vessels += branching(rng, start, inwards, 0.7 * site.radius, width, 3, wander=0.3)
    layers.blood += 1.6 * paint_strokes(site.size, vessels) * inside(border - 0.1, 0.06)
    nests = np.zeros_like(body)
    for centre in spread_points(rng, int(rng.integers(3, 6)), 0.78 * site.radius, 0.25 * site.radius):
        x = (site.x - centre[1]) * rng.uniform(0.7, 1.2)
        nest = blob(rng, site.y - centre[0], x, 0.22 * site.radius, irregularity=0.1)
        nests = np.maximum(nests, inside(nest + 0.15 * noise(rng, site.size, 9), 0.18))
    mottle = 1.0 + 0.25 * noise(rng, site.size, 9, 2)
    layers.blue += 0.80 * nests * mottle
    layers.melanin += 0.75 * nests * mottle
    if rng.random() < 0.3:
        layers.crust += 0.6 * _spots(site, rng, 1, 0.5, 0.08, 0.14)


def dermatofibroma(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """A white scar-like patch in the middle, a light brown ring with a delicate network around it."""
    border = blob(rng, site.y, site.x, site.radius * 0.95, irregularity=0.05, harmonics=(2, 3))
    border += 0.07 * noise(rng, site.size, 6, 2)
    ring = np.exp(-(((border + 0.25) / 0.26) ** 2)) * (1.0 + 0.18 * noise(rng, site.size, 4, 2)).clip(0.0)
    first, second = cell_pattern(rng, site.size, int(rng.integers(14, 19)), 0.8)
    network = inside(second - first - 0.2, 0.1)
    layers.melanin += site.pigment * ring * (rng.uniform(0.34, 0.5) + 0.36 * network)
    layers.blood += 0.22 * inside(border, 0.12)
    scar = blob(rng, site.y, site.x, site.radius * rng.uniform(0.42, 0.54), irregularity=0.16)
    scar += 0.14 * noise(rng, site.size, 7, 2)
    streaks = 1.0 + 0.16 * noise(rng, site.size, 14)
    layers.white += rng.uniform(0.62, 0.8) * inside(scar, 0.16) * streaks


def seborrheic_keratosis(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """Stuck-on waxy brown plaque with a sharp border, white milia-like cysts, dark comedo openings, ridges."""
    border = blob(rng, site.y, site.x, site.radius * 1.08, irregularity=0.08, harmonics=(2, 3, 5, 8))
    border += 0.035 * noise(rng, site.size, 10)
    body = inside(border, 0.022)
    ridges, shade = noise(rng, site.size, 9, 2), noise(rng, site.size, 3, 3)
    layers.melanin += site.pigment * body * (1.05 + 0.5 * inside(np.abs(ridges) - 0.28, 0.12) + 0.3 * shade)
    layers.keratin += body * (0.28 + 0.08 * noise(rng, site.size, 12, 2))
    layers.blue += 0.12 * body * rng.uniform()
    layers.melanin += 0.3 * np.exp(-(((border + 0.05) / 0.06) ** 2))
    cysts = _spots(site, rng, int(rng.integers(9, 18)), 0.85, 0.04, 0.095)
    layers.white += rng.uniform(0.6, 0.85) * cysts * body
    layers.crust += 0.65 * body * (1 - cysts) * _spots(site, rng, int(rng.integers(4, 9)), 0.85, 0.04, 0.075)


def pigmented_benign_keratosis(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """Flat light tan with a sharp, scalloped (moth-eaten) border and fine fingerprint-like lines."""
    border = blob(rng, site.y, site.x, site.radius * 1.12, irregularity=0.13, harmonics=(2, 3, 4, 6))
    wobble = 0.12 * noise(rng, site.size, 9)
    body = inside(border + 0.5 * wobble, 0.03)
    for _ in range(int(rng.integers(5, 9))):
        side, bite = rng.uniform(0, 2 * np.pi), site.radius * rng.uniform(0.12, 0.32)
        away = site.radius * rng.uniform(0.98, 1.2)
        hole = np.hypot(site.y - away * np.sin(side), site.x - away * np.cos(side)) / bite - 1.0 + wobble
        body *= inside(-hole, 0.06)
    # Parallel lines that bend with a smooth field, as in a fingerprint, and come and go.
    phase = rng.uniform(26.0, 36.0) * site.y + 3.2 * noise(rng, site.size, 3)
    lines = np.sin(phase) * inside(noise(rng, site.size, 4), 0.3)
    shade = 0.16 * noise(rng, site.size, 5, 3, 0.7)
    layers.melanin += site.pigment * body * (0.46 + 0.10 * lines + shade).clip(0.15)
    layers.keratin += body * (0.27 + 0.06 * noise(rng, site.size, 10))


def actinic_keratosis(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """Strawberry pattern: a broad red pseudo-network around pale follicles, with white surface scale."""
    border = blob(rng, site.y, site.x, site.radius * 1.35, irregularity=0.15) + 0.14 * noise(rng, site.size, 4, 2)
    body = inside(border, 0.14)
    first, _ = cell_pattern(rng, site.size, int(rng.integers(8, 11)), 0.7)
    follicle = inside(first - rng.uniform(0.2, 0.26) + 0.05 * noise(rng, site.size, 6), 0.06)
    layers.blood += body * (0.80 + 0.24 * noise(rng, site.size, 6, 2)) * (1.0 - 0.75 * follicle)
    layers.white += 0.38 * body * follicle
    scale = inside(-(noise(rng, site.size, 7, 3, 0.7) - 1.15), 0.12)
    layers.white += 0.6 * body * scale


def squamous_cell_carcinoma(layers: Layers, site: Site, rng: np.random.Generator) -> None:
    """Pink-red plaque around a white to yellow keratin mass, with blood spots and looped vessels at the rim."""
    border = blob(rng, site.y, site.x, site.radius * 1.15, irregularity=0.12) + 0.06 * noise(rng, site.size, 6)
    body = inside(border, 0.07)
    layers.blood += body * (0.78 + 0.22 * noise(rng, site.size, 5, 3))
    loops = []
    for away in spread_points(rng, int(rng.integers(12, 20)), 1.05 * site.radius, 0.72 * site.radius):
        start = (site.centre[0] + float(away[0]), site.centre[1] + float(away[1]))
        points = walk(rng, start, rng.uniform(0, 2 * np.pi), 0.3 * site.radius, 0.7, 8)
        loops.append(Stroke(points, 0.035))
    layers.blood += 0.9 * paint_strokes(site.size, loops)
    mass = blob(rng, site.y, site.x, site.radius * rng.uniform(0.55, 0.7), irregularity=0.18)
    mass += 0.16 * noise(rng, site.size, 7, 2)
    core = inside(mass, 0.08) * (1.0 + 0.14 * noise(rng, site.size, 10, 2))
    yellow = rng.uniform(0.55, 1.0)
    layers.keratin += 0.85 * yellow * core
    layers.white += (0.55 - 0.30 * yellow) * core
    layers.white += 0.3 * np.exp(-(((mass - 0.12) / 0.1) ** 2))
    bleeding = core * inside(1.25 - noise(rng, site.size, 9, 2), 0.12)
    layers.keratin *= 1.0 - 0.9 * bleeding
    layers.white *= 1.0 - 0.9 * bleeding
    layers.blood += 2.6 * bleeding
    layers.crust += 0.4 * bleeding


LESIONS: dict[str, Lesion] = {
    "actinic_keratosis": actinic_keratosis,
    "basal_cell_carcinoma": basal_cell_carcinoma,
    "dermatofibroma": dermatofibroma,
    "melanoma": melanoma,
    "nevus": nevus,
    "pigmented_benign_keratosis": pigmented_benign_keratosis,
    "seborrheic_keratosis": seborrheic_keratosis,
    "squamous_cell_carcinoma": squamous_cell_carcinoma,
    "vascular_lesion": vascular_lesion,
}
