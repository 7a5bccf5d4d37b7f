"""Polygons with exact coordinates: what is written into an annotation file is what decides each pixel."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synthoma.phantoms.slides.fields import Mask, Window

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Outline:
    """A closed polygon: points [n, 2] (x, y) in level-0 pixels, the first not repeated; coordinates have two decimals."""

    points: Points

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        x0, y0 = self.points.min(axis=0)
        x1, y1 = self.points.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    @cached_property
    def area(self) -> float:
        """Square pixels, by the shoelace formula."""
        x, y = self.points.T
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)

    def fill(self, window: Window) -> Mask:
        """Which pixel centres of a window lie inside, by the even-odd rule: [height, width]."""
        inside = np.zeros(window.shape, dtype=bool)
        if not window.meets(self.box):
            return inside
        start, end = self.points, np.roll(self.points, -1, axis=0)
        centres = np.arange(window.y, window.y + window.height) + 0.5
        # The edges that each row of pixel centres crosses; an edge owns its upper end, so corners count once.
        low, high = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
        first = np.searchsorted(centres, low, side="left")
        count = np.searchsorted(centres, high, side="left") - first
        edge = np.repeat(np.arange(len(start)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        share = (centres[row] - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
        crossing = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
        column = np.clip(np.ceil(crossing - 0.5) - window.x, 0, window.width).astype(np.int64)
        flips = np.bincount(row * (window.width + 1) + column, minlength=window.height * (window.width + 1))
        odd = flips.reshape(window.height, -1)[:, :-1].astype(np.uint8) & 1
        return np.bitwise_xor.accumulate(odd, axis=1).astype(bool)


@dataclass(frozen=True)
class Region:
    """An area with a name: `outline` without `holes`."""

    name: str
    outline: Outline
    holes: tuple[Outline, ...] = field(default=())

    def fill(self, window: Window) -> Mask:
        """Which pixel centres of a window belong to it: [height, width]."""
        inside = self.outline.fill(window)
        for hole in self.holes:
            inside &= ~hole.fill(window)
        return inside


def outline(points: Points) -> Outline:
    """An outline whose coordinates are rounded to what files hold."""
    return Outline(np.asarray(np.round(points, 2), dtype=np.float64))


def blob(
    rng: np.random.Generator,
    centre: tuple[float, float],
    radius: float,
    irregularity: float = 0.08,
    corners: int = 120,
    stretch: float = 1.0,
) -> Outline:
    """A closed curve around `centre` whose radius swings with the angle; it never crosses itself.

    irregularity: amplitude of the slowest swing as a share of the radius. stretch: width / height.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, corners, endpoint=False)
    reach = np.ones(corners)
    for harmonic in range(2, 9):
        amplitude = irregularity * rng.uniform(0.3, 1.0) * 2.0 / harmonic
        reach += amplitude * np.cos(harmonic * angle + rng.uniform(0.0, 2.0 * np.pi))
    reach = radius * np.maximum(reach, 0.3)
    x, y = reach * np.cos(angle) * np.sqrt(stretch), reach * np.sin(angle) / np.sqrt(stretch)
    return outline(np.stack((centre[0] + x, centre[1] + y), axis=1))


def band(rng: np.random.Generator, centre: tuple[float, float], angle: float, length: float, width: float) -> Outline:
    """A bent stroke with round ends through `centre`: its two sides and its ends as one polygon."""
    along = np.linspace(-0.5, 0.5, 25)
    bend, phase = 0.09 * length * rng.uniform(0.5, 1.0), rng.uniform(0.0, 2.0 * np.pi)
    spine = np.stack((along * length, bend * np.sin(2.0 * np.pi * 0.8 * along + phase)), axis=1)
    tangent = np.gradient(spine, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = np.stack((-tangent[:, 1], tangent[:, 0]), axis=1)
    half = 0.5 * width * (1.0 + 0.06 * np.sin(9.0 * along + phase))[:, None]
    turn = np.linspace(0.0, np.pi, 9)[1:-1, None]
    tip = spine[-1] + half[-1] * (np.cos(turn) * normal[-1] + np.sin(turn) * tangent[-1])
    tail = spine[0] + half[0] * (-np.cos(turn) * normal[0] - np.sin(turn) * tangent[0])
    points = np.concatenate((spine + half * normal, tip, (spine - half * normal)[::-1], tail))
    cosine, sine = np.cos(angle), np.sin(angle)
    return outline(points @ np.array(((cosine, sine), (-sine, cosine))) + np.asarray(centre))
