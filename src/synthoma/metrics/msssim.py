"""Multi-scale structural similarity between pairs of images, as a measure of how alike images of a set are.

Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003, eq. 7; between
pairs of one class as in Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", ICML 2017, sec. 4.2.
Two or three dimensions. Small images have fewer than five scales; the weights of those left are scaled to add up to 1.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from synthoma.draws import Draws
from synthoma.errors import EvaluationError

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SIGMA = 1.5
_WINDOW = 11
_K1, _K2 = 0.01, 0.03
_VALUES_IN_BATCH = 64 * 3 * 64 * 64


def scales(size: tuple[int, ...]) -> int:
    """Scales that images of this size have: the window must fit into the coarsest. 0 where it fits into none."""
    shortest, count = min(size), 0
    while count < len(WEIGHTS) and shortest >= _WINDOW:
        count, shortest = count + 1, shortest // 2
    return count


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of each pair of images x, y [n, c, *spatial] within [0, 1]: float64 [n]; 1 where they are equal.

    Channels are averaged. A negative structure term counts as zero, for it has no fractional power.
    """
    levels = scales(tuple(x.shape[2:]))
    if x.shape != y.shape or x.ndim not in (4, 5) or levels == 0:
        raise EvaluationError(
            f"MS-SSIM takes two equal stacks of images of at least {_WINDOW} pixels a side, not {tuple(x.shape)} and "
            f"{tuple(y.shape)}."
        )
    block = max(1, _VALUES_IN_BATCH // x[0].numel())
    parts = [_of_block(a, b, levels) for a, b in zip(x.split(block), y.split(block), strict=True)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


def pairs_between_groups(groups: Tensor, count: int, seed: int) -> Tensor:
    """`count` pairs of rows from different groups [count, 2]; fewer where there are not so many.

    Rows are paired along random orders, so that each is in about as many pairs as any other.
    """
    n = len(groups)
    rows = torch.arange(n)
    found: dict[tuple[int, int], None] = {}
    for step in range(64):
        order = Draws(seed, "pairs").uniform(step, rows).argsort(stable=True)
        half = n // 2
        for i, j in zip(order[:half].tolist(), order[half : 2 * half].tolist(), strict=True):
            if groups[i] != groups[j]:
                found[(min(i, j), max(i, j))] = None
            if len(found) >= count:
                return torch.tensor(list(found), dtype=torch.int64).reshape(-1, 2)
    return torch.tensor(list(found), dtype=torch.int64).reshape(-1, 2)


def _of_block(x: Tensor, y: Tensor, levels: int) -> Tensor:
    x, y = x.float(), y.float()  # single precision: the constants of Wang et al. are 1000 times above its rounding
    weights = torch.tensor(WEIGHTS[:levels], dtype=torch.float64)
    weights = weights / weights.sum()
    result = torch.ones(len(x), x.shape[1], dtype=torch.float64)
    for level in range(levels):
        luminance, structure = _terms(x, y)
        term = structure if level < levels - 1 else luminance * structure
        axes = tuple(range(2, term.ndim))
        result = result * term.double().mean(dim=axes).clamp_min(0) ** weights[level]
        if level < levels - 1:
            pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
            x, y = pool(x, 2), pool(y, 2)
    return result.mean(dim=1)


def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of the luminance term, and of contrast times structure."""
    stacked = torch.stack((x, y, x * x, y * y, x * y)).flatten(0, 1)
    mean_x, mean_y, xx, yy, xy = _smoothed(stacked).unflatten(0, (5, len(x))).unbind(0)
    c1, c2 = _K1**2, _K2**2
    variance_x, variance_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (variance_x + variance_y + c2)


def _smoothed(x: Tensor) -> Tensor:
    """Gaussian window of 11 pixels along each spatial axis of [n, c, *spatial], only where all of it lies within.

    As a product with a banded matrix: several times faster than a convolution of one channel.
    """
    for axis in range(2, x.ndim):
        x = (x.movedim(axis, -1) @ _band(x.shape[axis])).movedim(-1, axis)
    return x


@functools.lru_cache(maxsize=32)
def _band(size: int) -> Tensor:
    """[size, size - 10]: column i holds the window from row i on."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    kernel = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    band = torch.zeros(size, size - _WINDOW + 1, dtype=torch.float64)
    columns = torch.arange(band.shape[1])
    for step, weight in enumerate(kernel / kernel.sum()):
        band[columns + step, columns] = weight
    return band.float()
