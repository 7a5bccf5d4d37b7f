"""Fréchet distance extrapolated to infinitely many images.

Chong and Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", CVPR 2020: FD is biased by
a term linear in 1/N, which depends on the model; a line through FD at 15 numbers of images gives its value at 1/N = 0.
There the real side is fixed, since it has images enough. A clinic's test set has not, so both sides are cut to N
here, which takes away the bias of both.

The bias is linear only where images outnumber features. Measured on normal vectors with the spectrum 1/k, both sides
equal: N = d leaves half of FD's bias, N = 2 d a tenth, N = 3 d none that is seen. So it takes 3 d images a side.
"""

import numpy as np
import torch

from synthoma.draws import Draws
from synthoma.metrics.arrays import Matrix, as_pair
from synthoma.metrics.frechet import Moments, fd_from_moments

POINTS = 15
POINTS_OF_HALVES = 5  # a spread needs no fine line
SMALLEST_SHARE = 3  # the fewest images of a point are a third of all
IMAGES_FOR_A_FEATURE = 3
_LEAST = 9  # rows with which a line is drawn at all


def least_images(dimension: int) -> int:
    """Images that a side needs for features of `dimension` numbers."""
    return max(100, IMAGES_FOR_A_FEATURE * dimension)


def fd_infinity_of_halves(x: Matrix, y: Matrix) -> float:
    """The same from 5 points instead of 15, for the spread of half-samples, which is all that is taken from them."""
    return fd_infinity(x, y, points=POINTS_OF_HALVES)


def fd_infinity(x: Matrix, y: Matrix, seed: int = 0, points: int = POINTS) -> float:
    """FD of x [n, d] and y [m, d] at 1/N = 0; near zero it may be negative.

    N runs from a third of min(n, m) to all of it at `points` places, along one random order of each side, drawn by `seed`.
    It is computed whatever d is; below `least_images(d)` rows it keeps part of the bias, which half-samples, of which
    only the spread is used, may.
    """
    x, y = as_pair(x, y, least=_LEAST)
    most = min(len(x), len(y))
    sizes = np.unique(np.linspace(most / SMALLEST_SHARE, most, points).round().astype(np.int64)).tolist()
    draws, centre = Draws(seed, "fd infinity"), (x.mean(dim=0) + y.mean(dim=0)) / 2
    sides = [
        (z - centre)[draws.uniform(side, torch.arange(len(z))).argsort(stable=True)] for side, z in enumerate((x, y))
    ]
    moments, start, values = [Moments(x.shape[1]) for _ in sides], 0, []
    for size in sizes:  # each point's images and some more make the next point: each enters a covariance once
        for moment, rows in zip(moments, sides, strict=True):
            moment.add(rows[start:size])
        start = size
        values.append(fd_from_moments(*moments))
    return float(np.polyfit(1 / np.array(sizes), values, 1)[1])
