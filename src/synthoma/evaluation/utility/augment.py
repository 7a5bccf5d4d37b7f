"""Classical augmentation of training images, the honest rival of synthetic ones: flips, small turns and shifts, tone.

Parameters are drawn first, by (seed, update, place in the batch); one resampling then turns and shifts.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from synthoma.draws import StepDraws
from synthoma.transforms.augmentation import Colour, change_colour
from synthoma.transforms.symmetries import Symmetry, apply, symmetry_group

DEGREES = 15.0  # in the plane (y, x), either way
SHIFT = 1 / 16  # of each side, either way
BRIGHTNESS = 0.1  # of the range of values, either way
CONTRAST = 0.1  # factor 0.9 to 1.1


def describe_augmentation(symmetries: str) -> dict[str, Any]:
    """What a protocol states of the augmentation."""
    return {
        "symmetries": symmetries,
        "degrees": DEGREES,
        "shift": SHIFT,
        "brightness": BRIGHTNESS,
        "contrast": CONTRAST,
    }


def augment_batch(images: Tensor, draw: StepDraws, symmetries: str) -> Tensor:
    """Images [n, c, *size] in [-1, 1], each changed in its own way; `draw` is that of one update, n samples."""
    group: list[Symmetry] = symmetry_group(symmetries, images.ndim - 2, tuple(images.shape[2:]))
    elements = draw.integers("classifier symmetry", len(group))
    images = apply(images, elements, group)
    places = draw.uniform("classifier movement", (1 + images.ndim - 2,)) * 2 - 1
    images = turn_and_shift(images, places[:, 0] * math.radians(DEGREES), places[:, 1:] * SHIFT)
    tone = draw.uniform("classifier tone", (2,)) * 2 - 1
    colour = Colour(tone[:, 0] * BRIGHTNESS * 2, torch.ones(len(images)), 1 + tone[:, 1] * CONTRAST)
    return change_colour(images, colour, images.shape[1]).clamp(-1, 1)


def turn_and_shift(images: Tensor, angles: Tensor, shifts: Tensor) -> Tensor:
    """Turn images [n, c, *size] by `angles` [n] (radians, in the plane of the last two axes) and shift them.

    shifts: [n, dim] in shares of each side, in the order of the axes. Linear interpolation, the border is continued.
    Sides of different length turn as pixels do: a turned circle stays a circle.
    """
    dim, size = images.ndim - 2, images.shape[2:]
    height, width = size[-2], size[-1]
    matrix = torch.zeros(len(images), dim, dim + 1)
    cosine, sine = angles.cos(), angles.sin()
    # Coordinates of grid_sample are x first, each from -1 to 1 over its own side.
    matrix[:, 0, 0], matrix[:, 0, 1] = cosine, -sine * height / width
    matrix[:, 1, 0], matrix[:, 1, 1] = sine * width / height, cosine
    if dim == 3:
        matrix[:, 2, 2] = 1
    matrix[:, :, dim] = -2 * shifts.flip(1)
    grid = F.affine_grid(matrix, [len(images), images.shape[1], *size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
