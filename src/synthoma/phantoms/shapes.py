"""What pictures are made of: smooth noise, cell patterns, blobs with irregular borders, branching strokes.

Coordinates are (y, x) in [-1, 1] at pixel centres, y downwards. Noise lives on a lattice whose number of cells is
fixed, not on the pixels, so that a picture shows the same thing at every size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.special import expit

Array = NDArray[np.float64]

# Strokes are drawn this many times finer and averaged, so that thin ones fade instead of breaking up.
_FINER = 3


@dataclass(frozen=True)
class Stroke:
    """A line through `points` [n, 2] (y, x), `width` wide, both in canvas units (the picture is 2 wide)."""

    points: Array
    width: float


@lru_cache(maxsize=16)
def grid(size: int) -> tuple[Array, Array]:
    """Coordinates (y, x) of the pixel centres of a square picture, each [size, size] in [-1, 1]; read-only."""
    axis = (2.0 * np.arange(size) + 1.0) / size - 1.0
    y, x = (np.ascontiguousarray(part) for part in np.meshgrid(axis, axis, indexing="ij"))
    y.flags.writeable = x.flags.writeable = False
    return y, x


def rotated(y: Array, x: Array, centre: tuple[float, float], angle: float) -> tuple[Array, Array]:
    """Coordinates seen from `centre`, turned by `angle` in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    y, x = y - centre[0], x - centre[1]
    return cosine * y - sine * x, sine * y + cosine * x


def ellipse(y: Array, x: Array, centre: tuple[float, float], radii: tuple[float, float], power: float = 2.0) -> Array:
    """Relative distance to a superellipse with `radii` (y, x): -1 in its centre, 0 on its border, positive outside."""
    within = np.abs((y - centre[0]) / radii[0]) ** power + np.abs((x - centre[1]) / radii[1]) ** power
    return np.asarray(within ** (1.0 / power) - 1.0)


def inside(distance: Array, softness: float) -> Array:
    """1 where `distance` is negative, 0 where it is positive, with a logistic border `softness` wide."""
    return np.asarray(expit(-distance / softness))


@lru_cache(maxsize=64)
def _spline_weights(cells: int, size: int) -> Array:
    """Weights [size, cells + 3] of the cubic B-spline control points at each pixel of one axis."""
    place = (np.arange(size) + 0.5) / size * cells
    distance = np.abs(place[:, None] + 1.0 - np.arange(cells + 3)[None])
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    return np.asarray(np.where(distance < 1.0, near, far))


# Mean over the cell of the squared cubic B-spline weights, which is the variance of the field along one axis.
_SPLINE_VARIANCE = 0.479365


def noise(rng: np.random.Generator, size: int, cells: int, octaves: int = 1, gain: float = 0.5) -> Array:
    """Smooth random field [size, size] with mean 0 and variance about 1.

    Each octave is a cubic B-spline over normal control points on a lattice of `cells` x `cells`, doubled from octave
    to octave, with its amplitude multiplied by `gain` (fractional Brownian noise).
    """
    field = np.zeros((size, size))
    amplitude, variance = 1.0, 0.0
    for _ in range(octaves):
        weights = _spline_weights(cells, size)
        field += amplitude / _SPLINE_VARIANCE * (weights @ rng.standard_normal((cells + 3, cells + 3)) @ weights.T)
        variance += amplitude**2
        cells, amplitude = 2 * cells, amplitude * gain
    return np.asarray(field / np.sqrt(variance))


def cell_pattern(rng: np.random.Generator, size: int, cells: int, jitter: float = 0.8) -> tuple[Array, Array]:
    """Distances [size, size] to the nearest and second nearest of jittered lattice points, in lattice units.

    The first is 0 at the heart of a cell; their difference is 0 on the borders between cells, which makes networks
    (Worley, "A cellular texture basis function", SIGGRAPH 1996).
    """
    place = (np.arange(size) + 0.5) / size * cells
    cell = place.astype(np.int64)
    offset = rng.uniform(0.5 - jitter / 2, 0.5 + jitter / 2, (2, cells + 2, cells + 2))
    first = np.full((size, size), np.inf)
    second = first.copy()
    for row in range(3):
        for column in range(3):
            at = np.ix_(cell + row, cell + column)
            dy = (cell + row - 1 - place)[:, None] + offset[0][at]
            dx = (cell + column - 1 - place)[None, :] + offset[1][at]
            distance = dy * dy + dx * dx
            np.minimum(second, np.maximum(first, distance), out=second)
            np.minimum(first, distance, out=first)
    return np.sqrt(first), np.sqrt(second)


def blob(
    rng: np.random.Generator,
    y: Array,
    x: Array,
    radius: float,
    *,
    irregularity: float,
    harmonics: Sequence[int] = (2, 3, 4, 5),
) -> Array:
    """Relative distance to a closed border around (0, 0): about -1 in the middle, 0 on the border, positive outside.

    The border is a circle whose radius swings with the angle: `irregularity` is the size of each of the `harmonics`.
    """
    angle = np.arctan2(y, x)
    border = np.ones_like(angle)
    for harmonic in harmonics:
        amplitude = irregularity * rng.uniform(0.4, 1.0) / np.sqrt(harmonic)
        border += amplitude * np.cos(harmonic * angle + rng.uniform(0.0, 2.0 * np.pi))
    return np.asarray(np.hypot(y, x) / (radius * np.maximum(border, 0.25)) - 1.0)


def walk(
    rng: np.random.Generator, start: tuple[float, float], angle: float, length: float, wander: float, steps: int = 12
) -> Array:
    """Points [steps + 1, 2] of a random walk: the direction changes by a normal of `wander` radians at each step."""
    angles = angle + np.cumsum(rng.normal(0.0, wander, steps))
    moves = length / steps * np.stack((np.sin(angles), np.cos(angles)), axis=1)
    return np.concatenate((np.zeros((1, 2)), np.cumsum(moves, axis=0))) + np.asarray(start)


def branching(
    rng: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    length: float,
    width: float,
    depth: int,
    *,
    wander: float = 0.15,
    spread: float = 0.55,
    taper: float = 0.68,
) -> list[Stroke]:
    """A tree of vessels: a random walk that forks `depth` times, each branch thinner and shorter by `taper`."""
    points = walk(rng, start, angle, length, wander, steps=6)
    strokes = [Stroke(points, width)]
    if depth > 0:
        tip = points[-1] - points[-2]
        heading = float(np.arctan2(tip[0], tip[1]))
        for side in (-1.0, 1.0):
            fork = points[-1] if side > 0 else points[int(rng.integers(3, 6))]
            strokes += branching(
                rng,
                (float(fork[0]), float(fork[1])),
                heading + side * spread * rng.uniform(0.5, 1.3),
                length * taper * rng.uniform(0.8, 1.15),
                width * taper,
                depth - 1,
                wander=wander,
                spread=spread,
                taper=taper,
            )
    return strokes


def paint_strokes(size: int, strokes: Iterable[Stroke]) -> Array:
    """Coverage [size, size] in [0, 1] of strokes with round joints."""
    fine = size * _FINER
    image = Image.new("L", (fine, fine))
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        pixels = (stroke.points[:, ::-1] + 1.0) * (fine / 2.0)
        width = max(1, round(stroke.width * fine / 2.0))
        pen.line([(float(a), float(b)) for a, b in pixels], fill=255, width=width, joint="curve" if width > 3 else None)
    return np.asarray(image.reduce(_FINER), dtype=np.float64) / 255.0


def paint_spots(size: int, centres: Array, radii: Array) -> Array:
    """Coverage [size, size] in [0, 1] of discs at `centres` [n, 2] (y, x) with `radii` [n], in canvas units."""
    fine = size * _FINER
    image = Image.new("L", (fine, fine))
    pen = ImageDraw.Draw(image)
    for (y, x), radius in zip((centres + 1.0) * (fine / 2.0), radii * (fine / 2.0), strict=True):
        reach = max(float(radius), 0.5)
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    return np.asarray(image.reduce(_FINER), dtype=np.float64) / 255.0


def spread_points(rng: np.random.Generator, count: int, radius: float, inner: float = 0.0) -> Array:
    """`count` points [count, 2] spread evenly over a disc (or ring from `inner`) of `radius` around (0, 0)."""
    reach = np.sqrt(rng.uniform(inner**2, radius**2, count))
    angle = rng.uniform(0.0, 2.0 * np.pi, count)
    return np.stack((reach * np.sin(angle), reach * np.cos(angle)), axis=1)


@dataclass(frozen=True)
class Canvas:
    """A square picture whose contents are moved: `y`, `x` [size, size] are coordinates seen from `origin` (y, x)."""

    size: int
    y: Array
    x: Array
    origin: tuple[float, float]

    @classmethod
    def at(cls, size: int, origin: tuple[float, float]) -> "Canvas":
        y, x = grid(size)
        return cls(size, y - origin[0], x - origin[1], origin)

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float], power: float = 2.0) -> Array:
        """`ellipse` on this canvas."""
        return ellipse(self.y, self.x, centre, radii, power)

    def strokes(self, strokes: Iterable[Stroke]) -> Array:
        """`paint_strokes` with points seen from the origin."""
        moved = (Stroke(stroke.points + np.asarray(self.origin), stroke.width) for stroke in strokes)
        return paint_strokes(self.size, moved)

    def spots(self, centres: Array, radii: Array) -> Array:
        """`paint_spots` with centres seen from the origin."""
        return paint_spots(self.size, centres + np.asarray(self.origin), radii)

    def noise(self, rng: np.random.Generator, cells: int, octaves: int = 1) -> Array:
        """`noise` of this size."""
        return noise(rng, self.size, cells, octaves)
