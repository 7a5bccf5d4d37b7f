"""Nearest neighbours between two sets of vectors, block by block."""

import torch
from torch import Tensor

from synthoma.metrics.arrays import Matrix, as_pair

BLOCK = 2048
# Squared distances come from inner products; what is below this share of the squared lengths is rounding, and zero.
_ROUNDING = 64  # units of the last digit


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 for float64 x [n, d] and y [m, d]: [n, m]. Identical vectors are at distance zero exactly."""
    centre = y.mean(dim=0)  # short vectors lose fewer digits in |x|^2 + |y|^2 - 2 x.y
    x, y = x - centre, y - centre
    return distances_from_products((x * x).sum(dim=1), x @ y.T, (y * y).sum(dim=1))


def distances_from_products(lengths_x: Tensor, products: Tensor, lengths_y: Tensor) -> Tensor:
    """Squared distances [n, m] from squared lengths [n], [m] and inner products [n, m]."""
    lengths = lengths_x[:, None] + lengths_y[None, :]
    distances = torch.add(lengths, products, alpha=-2)
    return distances.masked_fill_(distances <= lengths.mul_(_ROUNDING * torch.finfo(products.dtype).eps), 0.0)


def nearest(x: Matrix, y: Matrix, k: int = 1) -> tuple[Tensor, Tensor]:
    """Distances and row numbers of the k nearest vectors of y [m, d] for each x [n, d]: two [n, k], nearest first."""
    x, y = as_pair(x, y, least=1)
    k = min(k, len(y))
    distances, rows = [], []
    for block in x.split(BLOCK):
        best = torch.full((len(block), 0), 0.0, dtype=torch.float64), torch.zeros((len(block), 0), dtype=torch.int64)
        for start in range(0, len(y), BLOCK):
            part = squared_distances(block, y[start : start + BLOCK])
            near = part.topk(min(k, part.shape[1]), dim=1, largest=False)
            values = torch.cat((best[0], near.values), dim=1)
            places = torch.cat((best[1], near.indices + start), dim=1)
            values, order = values.sort(dim=1, stable=True)
            best = values[:, :k], places.gather(1, order)[:, :k]
        distances.append(best[0].sqrt())
        rows.append(best[1])
    return torch.cat(distances), torch.cat(rows)
