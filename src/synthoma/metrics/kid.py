"""Kernel Inception distance: the unbiased squared maximum mean discrepancy with a cubic polynomial kernel.

Binkowski et al., "Demystifying MMD GANs", ICLR 2018. Kernel k(a, b) = (a.b / d + 1)^3 for features of dimension d;
MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over pairs of different images (Gretton et al., JMLR 2012,
eq. 3). All images enter at once: the mean over random subsets, as the original has it, estimates the
same number with more noise. Being unbiased it may be negative, and is near zero for equal distributions at every n.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from synthoma.metrics.arrays import Matrix, as_pair

BLOCK = 2048  # rows of a kernel matrix that are in memory at once


class KidResult(NamedTuple):
    """KID and its standard error."""

    value: float
    error: float


def polynomial_kernel(products: Tensor, dimension: int) -> Tensor:
    """The cubic kernel (a.b / d + 1)^3 from inner products a.b of any shape."""
    return polynomial_kernel_(products.clone(), dimension)


def polynomial_kernel_(products: Tensor, dimension: int) -> Tensor:
    """The same in the place of the products: new memory costs more than the arithmetic."""
    return products.div_(dimension).add_(1.0).pow_(3)


def kid(x: Matrix, y: Matrix) -> float:
    """Unbiased KID of feature vectors x [n, d] and y [m, d]; memory grows with n + m, not with their product."""
    return kid_with_error(x, y).value


def kid_with_error(x: Matrix, y: Matrix) -> KidResult:
    """KID and the standard error of its delete-one jackknife over both sets.

    Consistent when the distributions differ; at equality, where the statistic is degenerate, it is too large by a
    factor of about 1.4 (Arvesen 1969), never too small.
    """
    x, y = as_pair(x, y, least=3)
    n, m = len(x), len(y)
    rows_xx, rows_yy = _row_sums(x), _row_sums(y)
    rows_xy, columns_xy = _cross_sums(x, y)
    sum_xx, sum_yy, sum_xy = rows_xx.sum(), rows_yy.sum(), rows_xy.sum()
    value = sum_xx / (n * (n - 1)) + sum_yy / (m * (m - 1)) - 2 * sum_xy / (n * m)
    # Leaving out image i removes its row and its column: 2 rows_xx[i] of the sum over ordered pairs.
    without_x = (sum_xx - 2 * rows_xx) / ((n - 1) * (n - 2)) - 2 * (sum_xy - rows_xy) / ((n - 1) * m)
    without_y = (sum_yy - 2 * rows_yy) / ((m - 1) * (m - 2)) - 2 * (sum_xy - columns_xy) / (n * (m - 1))
    variance = (n - 1) * without_x.var(correction=0) + (m - 1) * without_y.var(correction=0)
    return KidResult(float(value), float(variance.sqrt()))


def _row_sums(x: Tensor) -> Tensor:
    """Sum of k(x_i, x_j) over j != i, for each i: [n]."""
    sums, _ = _cross_sums(x, x)
    return sums - polynomial_kernel((x * x).sum(dim=1), x.shape[1])


def _cross_sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column sums [n], [m] of the kernel matrix k(x_i, y_j), block by block."""
    rows, columns = [], torch.zeros(len(y), dtype=x.dtype, device=x.device)
    for block in x.split(BLOCK):
        part = torch.zeros(len(block), dtype=x.dtype, device=x.device)
        for start in range(0, len(y), BLOCK):
            kernel = polynomial_kernel(block @ y[start : start + BLOCK].T, x.shape[1])
            part += kernel.sum(dim=1)
            columns[start : start + BLOCK] += kernel.sum(dim=0)
        rows.append(part)
    return torch.cat(rows), columns
