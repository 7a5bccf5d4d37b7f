"""Texture by grey-level co-occurrence: how the values of neighbouring pixels go together.

Haralick, Shanmugam and Dinstein, "Textural Features for Image Classification", IEEE Trans. SMC 1973. A small declared
set, which radiologists' texture tools share (IBSI names): contrast, correlation, homogeneity (inverse difference
moment) and joint entropy of a 16-level image, at distances of 1 and 2 pixels, each averaged over directions.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from synthoma.errors import EvaluationError

LEVELS = 16
DISTANCES = (1, 2)
NAMES = ("contrast", "correlation", "homogeneity", "entropy")


def directions(dim: int) -> list[tuple[int, ...]]:
    """Neighbours of a pixel, one of each opposite pair: 4 in two dimensions, 13 in three."""
    return [step for step in itertools.product((-1, 0, 1), repeat=dim) if step > (0,) * dim]


def texture_names() -> list[str]:
    """Names of the columns of `texture_features`."""
    return [f"{name}_{distance}" for distance in DISTANCES for name in NAMES]


def texture_features(images: Tensor) -> Tensor:
    """Texture of images [n, c, *spatial] within [0, 1], channels averaged: float64 [n, 8], columns `texture_names`.

    The correlation of an image without variance is 1, as its neighbours are equal.
    """
    dim = images.ndim - 2
    if dim not in (2, 3) or min(images.shape[2:]) <= max(DISTANCES):
        raise EvaluationError(f"texture needs images [n, c, *spatial] of at least 3 pixels a side, not {images.shape}.")
    levels = (images.double().mean(dim=1) * LEVELS).long().clamp(0, LEVELS - 1)
    columns = []
    for distance in DISTANCES:
        parts = [_statistics(levels, [distance * step for step in direction]) for direction in directions(dim)]
        columns.append(torch.stack(parts).mean(dim=0))
    return torch.cat(columns, dim=1)


def texture_distance(x: Tensor, y: Tensor) -> float:
    """Mean over columns of the earth mover's distance between x [n, k] and y [m, k], in standard deviations of y.

    A column that does not vary in y counts in its own unit.
    """
    spread = y.std(dim=0)
    spread = torch.where(spread > 1e-12, spread, torch.ones_like(spread))
    return float((earth_movers(x, y) / spread).mean())


def earth_movers(x: Tensor, y: Tensor) -> Tensor:
    """Earth mover's distance between the values of each column of x [n, k] and y [m, k]: [k] (Villani 2003, ch. 2.2)."""
    both = torch.cat((x, y)).sort(dim=0)
    share = torch.cat((x.new_full((len(x),), 1 / len(x)), y.new_full((len(y),), -1 / len(y))))
    ahead = share[both.indices].cumsum(dim=0)[:-1]
    return (ahead.abs() * both.values.diff(dim=0)).sum(dim=0)


def _statistics(levels: Tensor, offset: Sequence[int]) -> Tensor:
    """The four numbers of each image [n, *spatial] of grey levels for one offset: [n, 4]."""
    first, second = levels, levels
    for axis, step in enumerate(offset, start=1):
        length = levels.shape[axis] - abs(step)
        first = first.narrow(axis, max(0, -step), length)
        second = second.narrow(axis, max(0, step), length)
    n = len(levels)
    codes = (first * LEVELS + second).flatten(1) + torch.arange(n)[:, None] * LEVELS**2
    counts = torch.bincount(codes.flatten(), minlength=n * LEVELS**2).reshape(n, LEVELS, LEVELS).double()
    counts = counts + counts.transpose(1, 2)
    p = counts / counts.sum(dim=(1, 2), keepdim=True)
    value = torch.arange(LEVELS, dtype=torch.float64)
    difference = (value[:, None] - value[None, :]).square()
    marginal = p.sum(dim=2)
    mean = marginal @ value
    variance = marginal @ value.square() - mean.square()
    covariance = (p * (value[:, None] * value[None, :])).sum(dim=(1, 2)) - mean.square()
    flat = variance < 1e-12
    correlation = torch.where(flat, 1.0, covariance / torch.where(flat, 1.0, variance))
    contrast = (p * difference).sum(dim=(1, 2))
    homogeneity = (p / (1 + difference)).sum(dim=(1, 2))
    return torch.stack((contrast, correlation, homogeneity, torch.special.entr(p).sum(dim=(1, 2))), dim=1)
