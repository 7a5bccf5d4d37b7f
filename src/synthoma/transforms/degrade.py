"""Declared degradations of real images: the yardstick that distances between image sets are shown on."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from synthoma.draws import Draws


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images [n, c, *spatial] (two or three spatial axes, float) by a Gaussian of `sigma` pixels on each axis.

    The kernel reaches to 4 sigma; the border is continued by its last pixel.
    """
    if sigma <= 0:
        return images
    radius = math.ceil(4 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(images.dtype)
    dim = images.ndim - 2
    convolve = {2: F.conv2d, 3: F.conv3d}[dim]
    result = images.flatten(0, 1).unsqueeze(1)  # every channel of every image on its own
    for axis in range(dim):
        padding = [0, 0] * dim
        padding[2 * (dim - 1 - axis)] = padding[2 * (dim - 1 - axis) + 1] = radius
        shape = [1, 1] + [len(kernel) if a == axis else 1 for a in range(dim)]
        result = convolve(F.pad(result, padding, mode="replicate"), kernel.to(images.device).reshape(shape))
    return result.reshape(images.shape)


def add_noise(images: Tensor, std: float, seed: int) -> Tensor:
    """Add white Gaussian noise of standard deviation `std` to float images [n, c, *spatial].

    Image i gets the same noise whichever images are beside it.
    """
    index = torch.arange(len(images), device=images.device)
    return images + std * Draws(seed, "degrade/noise").normal(0, index, tuple(images.shape[1:])).to(images.dtype)
