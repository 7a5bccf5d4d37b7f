"""Stacked shapes: small pictures whose modes can be counted.

Each channel holds one of ten shapes, drawn independently of the others, so that two channels make 100 equally likely
modes and three make 1,000. After the stacked digits of Metz et al., "Unrolled generative adversarial networks", ICLR
2017, with shapes that need no data. A generator that drops modes is found out by counting. They are no picture of
anything in medicine, so they are not among the kinds that `synthoma phantoms` writes.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.draws import Draws
from synthoma.errors import DataError

Distances = NDArray[np.floating]

SHAPES = (
    "disc",
    "ring",
    "frame",
    "plus",
    "horizontal bar",
    "vertical bar",
    "triangle",
    "diamond",
    "cross",
    "two dots",
)
LEAST_SIZE = 12
# In half-widths of the picture: at 16 px a radius of 4.4 to 5.8 px, moved by up to 1.4 px.
RADII, SHIFT = (0.55, 0.72), 0.18
# Grey levels of 0 .. 1; shape and ground always differ by 0.4.
GROUND, SHAPE = (0.0, 0.25), (0.65, 1.0)


def draw_stacked(
    seed: int, index: NDArray[np.int64], channels: int = 2, size: int = 16
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures of these numbers: uint8 [n, channels, size, size], and their modes, int64 [n] in 0 .. 10^channels - 1.

    The mode is read as a decimal number: the shape of the first channel is its first digit. Each picture is a function
    of (seed, number, channels, size). Raises `DataError` unless there are 1 to 3 channels of at least 12 px.
    """
    if not 1 <= channels <= 3:
        raise DataError(f"stacked shapes have 1 to 3 channels, not {channels}.")
    if size < LEAST_SIZE:
        raise DataError(f"ten shapes cannot be told apart at {size} px; take at least {LEAST_SIZE}.")
    numbers = torch.from_numpy(np.asarray(index, dtype=np.int64))
    shapes = Draws(seed, "stacked shapes").integers(0, numbers, len(SHAPES), (channels,)).numpy()
    uniform = Draws(seed, "stacked looks").uniform(0, numbers, (channels, 5)).numpy()
    looks = uniform.reshape(-1, 5)
    radius = _between(looks[:, 0], RADII)[:, None, None]
    axis = ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)
    y = (axis[None, :, None] - SHIFT * (2 * looks[:, 1, None, None] - 1)) / radius
    x = (axis[None, None, :] - SHIFT * (2 * looks[:, 2, None, None] - 1)) / radius
    distance = np.empty((len(looks), size, size), dtype=np.float32)
    for number in range(len(SHAPES)):
        places = np.flatnonzero(shapes.reshape(-1) == number)
        distance[places] = _distance(number, y[places], x[places])
    # A pixel is covered by the share of it that lies inside a straight border through it.
    cover = np.clip(0.5 - distance * radius * (size / 2), 0.0, 1.0)
    ground, level = (_between(looks[:, 3 + place], ends)[:, None, None] for place, ends in enumerate((GROUND, SHAPE)))
    pixels = np.rint(255 * (ground + cover * (level - ground))).astype(np.uint8)
    modes = shapes @ (len(SHAPES) ** np.arange(channels - 1, -1, -1))
    return pixels.reshape(len(numbers), channels, size, size), modes.astype(np.int64)


def mode_count(channels: int) -> int:
    """How many modes there are."""
    return int(len(SHAPES) ** channels)


def _between(uniform: NDArray[np.float32], ends: tuple[float, float]) -> NDArray[np.float32]:
    return np.asarray(ends[0] + (ends[1] - ends[0]) * uniform, dtype=np.float32)


def _distance(shape: int, y: Distances, x: Distances) -> Distances:
    """Signed distance to the border of a shape of radius 1 about (0, 0), negative inside: [n, size, size]."""
    name, wide = SHAPES[shape], (abs(y), abs(x))
    found: Distances
    if name == "disc":
        found = np.hypot(y, x) - 0.95
    elif name == "ring":
        found = abs(np.hypot(y, x) - 0.8) - 0.2
    elif name == "frame":
        found = abs(np.maximum(*wide) - 0.75) - 0.2
    elif name == "plus":
        found = _cross(y, x)
    elif name == "horizontal bar":
        found = np.maximum(wide[0] - 0.3, wide[1] - 1)
    elif name == "vertical bar":
        found = np.maximum(wide[1] - 0.3, wide[0] - 1)
    elif name == "triangle":
        # Corners at (-1, 0), (0.75, -0.95) and (0.75, 0.95): two slopes and a base.
        found = np.maximum((1.75 * wide[1] - 0.95 * (y + 1)) / np.hypot(1.75, 0.95), y - 0.75)
    elif name == "diamond":
        found = (wide[0] + wide[1] - 1.05) / np.sqrt(2)
    elif name == "cross":
        found = _cross((y + x) / np.sqrt(2), (y - x) / np.sqrt(2))
    else:
        found = np.hypot(y, wide[1] - 0.62) - 0.38
    return found


def _cross(y: Distances, x: Distances) -> Distances:
    """Two bars across each other."""
    return np.minimum(np.maximum(abs(y) - 0.26, abs(x) - 1), np.maximum(abs(x) - 0.26, abs(y) - 1))
