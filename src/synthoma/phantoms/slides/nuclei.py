"""Nuclei: prototypes that are drawn once, and stamped where they belong."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthoma.phantoms.slides.fields import Field, Window, cell_uniforms

ORIENTATIONS = 16
# Nothing that is stamped reaches further than this from its centre, in pixels.
REACH = 18
_SIZE = 2 * REACH
# Fainter parts of a prototype are its softened border, which does not cover what lies below.
_EDGE = np.float32(0.3)


@dataclass(frozen=True)
class Kind:
    """How nuclei of one sort look. Radii in pixels (0.5 µm), both varied by `spread` as a share.

    rim, chromatin, nucleoli: strength of the dark membrane, of clumps within, of round dark bodies (0 to 1).
    irregularity: how much the outline departs from an ellipse.
    """

    name: str
    major: float
    minor: float
    spread: float
    rim: float
    chromatin: float
    nucleoli: float
    irregularity: float
    variants: int = 8


EPITHELIAL = Kind("epithelial", 8.0, 5.6, 0.10, 0.25, 0.35, 0.2, 0.04)
ADENOCARCINOMA = Kind("adenocarcinoma", 10.5, 7.8, 0.25, 0.55, 0.55, 0.8, 0.06)
SQUAMOUS = Kind("squamous", 9.5, 8.0, 0.16, 0.5, 0.55, 0.6, 0.06)
BASAL = Kind("basal", 8.0, 5.5, 0.15, 0.2, 0.35, 0.2, 0.08)
LYMPHOCYTE = Kind("lymphocyte", 6.0, 5.6, 0.08, 0.1, 0.25, 0.0, 0.03)
FIBROBLAST = Kind("fibroblast", 12.0, 2.8, 0.2, 0.0, 0.2, 0.0, 0.05)
FLAT = Kind("flat", 9.0, 2.2, 0.2, 0.0, 0.2, 0.0, 0.05)


@lru_cache(maxsize=64)
def prototypes(seed: int, kind: Kind) -> Field:
    """Haematoxylin [orientations * variants, size, size], about 1 within: prototype `o * variants + v` lies at angle
    pi * o / orientations from the x axis."""
    turns, variants = np.meshgrid(np.arange(ORIENTATIONS), np.arange(kind.variants), indexing="ij")
    shape = (ORIENTATIONS * kind.variants, 1, 1)
    drawn = cell_uniforms(seed, f"slide/nucleus/{kind.name}", turns, variants, 16).reshape(*shape, 16)
    axis = np.arange(_SIZE) + 0.5 - REACH
    y, x = np.meshgrid(axis, axis, indexing="ij")
    turn = (turns.reshape(shape) + 0.6 * (drawn[..., 0] - 0.5)) * np.pi / ORIENTATIONS
    major = np.minimum(kind.major * (1.0 + kind.spread * (2.0 * drawn[..., 1] - 1.0)), REACH - 3.0)
    minor = np.minimum(kind.minor * (1.0 + kind.spread * (2.0 * drawn[..., 2] - 1.0)), major)
    along, across = np.cos(turn) * x + np.sin(turn) * y, -np.sin(turn) * x + np.cos(turn) * y
    angle = np.arctan2(across / minor, along / major)
    swing = np.ones_like(angle)
    for harmonic in (2, 3, 4):
        phase = 2.0 * np.pi * drawn[..., 2 + harmonic]
        swing += kind.irregularity * np.cos(harmonic * angle + phase)
    distance = np.hypot(along / major, across / minor) / swing
    depth = (1.0 - distance) * minor
    inside = np.clip(depth + 0.5, 0.0, 1.0)
    body = 0.78 + kind.rim * 0.45 * np.exp(-((depth - 1.2) ** 2) / 1.6)
    body = body + kind.chromatin * _clumps(seed, kind, shape[0])
    for spot in range(2):
        u, v = ((drawn[..., 8 + 2 * spot + k] - 0.5) * 0.9 for k in (0, 1))
        gap = (along - u * major) ** 2 + (across - v * minor) ** 2
        body = body + kind.nucleoli * 0.6 * (drawn[..., 12 + spot] > 0.4) * np.exp(-gap / 3.0)
    return np.asarray((inside * np.clip(body, 0.35, 1.6)).astype(np.float32))


def _clumps(seed: int, kind: Kind, count: int) -> NDArray[np.float64]:
    """Coarse chromatin: smoothed noise of deviation about 0.25, [count, size, size]."""
    rows, columns = np.meshgrid(np.arange(count), np.arange(_SIZE), indexing="ij")
    noise = cell_uniforms(seed, f"slide/chromatin/{kind.name}", rows, columns, _SIZE).astype(np.float64) - 0.5
    return np.asarray(gaussian_filter(noise, (0.0, 1.2, 1.2)) * 3.7)


def stamp(
    canvas: Field, window: Window, x: Field, y: Field, shapes: Field, which: NDArray[np.int64], dark: Field
) -> None:
    """Stamp prototypes `which` [n] of `shapes` at (x, y) [n] into `canvas`, times `dark` [n]; a later one lies on top."""
    height, width = canvas.shape
    left = np.floor(x).astype(np.int64) - window.x - REACH
    top = np.floor(y).astype(np.int64) - window.y - REACH
    near = (left > -_SIZE) & (top > -_SIZE) & (left < width) & (top < height)
    order = np.flatnonzero(near)
    for column, row, shape, strength in zip(
        left[order].tolist(), top[order].tolist(), which[order].tolist(), dark[order].tolist(), strict=True
    ):
        picture = shapes[shape]
        if column < 0 or row < 0 or column + _SIZE > width or row + _SIZE > height:
            picture = picture[max(-row, 0) : height - row, max(-column, 0) : width - column]
            row, column = max(row, 0), max(column, 0)
        target = canvas[row : row + picture.shape[0], column : column + picture.shape[1]]
        np.copyto(target, picture * strength, where=picture > _EDGE)


def facing(angle: Field, variant: Field, kind: Kind) -> NDArray[np.int64]:
    """Prototype whose long axis lies along `angle` [n] (radians), of the variant that `variant` [n] in [0, 1) picks."""
    turn = np.round(angle * (ORIENTATIONS / np.pi)).astype(np.int64) % ORIENTATIONS
    return turn * kind.variants + (variant * kind.variants).astype(np.int64)
