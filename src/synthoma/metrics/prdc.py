"""Precision, recall, density and coverage by k nearest neighbours.

Kynkäänniemi et al., NeurIPS 2019 (precision, recall); Naeem et al., "Reliable Fidelity and Diversity Metrics for
Generative Models", ICML 2020, eqs. 1-6 (density, coverage). The radius of an image is the distance to its k-th
nearest neighbour within its own set.
"""

from typing import NamedTuple

from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_pair
from synthoma.metrics.nearest import squared_distances

NEIGHBOURS = 5


class Prdc(NamedTuple):
    """precision, recall and coverage lie in [0, 1]; density is about 1 for equal distributions, without bound."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(synthetic: Matrix, real: Matrix, k: int = NEIGHBOURS) -> Prdc:
    """The four numbers for feature vectors `synthetic` [n, d] and `real` [m, d] with n, m > k."""
    x, y = as_pair(synthetic, real, least=k + 1)
    return prdc_from_distances(squared_distances(x, x), squared_distances(x, y), squared_distances(y, y), k)


def prdc_from_distances(within_x: Tensor, between: Tensor, within_y: Tensor, k: int = NEIGHBOURS) -> Prdc:
    """The same from (squared) distances [n, n], [n, m], [m, m], x synthetic and y real.

    The diagonal of the inner ones is each image's distance to itself, the smallest of its row.
    """
    n, m = between.shape
    if min(n, m) <= k:
        raise EvaluationError(
            f"{n} and {m} images are too few for neighbours k={k}; it takes more than k on each side."
        )
    return prdc_from_radii(squared_radii(within_x, k), between, squared_radii(within_y, k), k)


def prdc_from_radii(radius_x: Tensor, between: Tensor, radius_y: Tensor, k: int = NEIGHBOURS) -> Prdc:
    """The same from each image's (squared) distance to its k-th nearest neighbour [n], [m], and between sets [n, m]."""
    in_real = between < radius_y[None, :]
    in_synthetic = between < radius_x[:, None]
    return Prdc(
        precision=float(in_real.any(dim=1).double().mean()),
        recall=float(in_synthetic.any(dim=0).double().mean()),
        density=float(in_real.count_nonzero()) / (k * len(between)),
        coverage=float(in_real.any(dim=0).double().mean()),
    )


def squared_radii(within: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Each row's k-th smallest distance to another, from distances [n, n] whose diagonal is the smallest of each row: [n]."""
    # topk sorts out the few smallest, several times faster than kthvalue.
    return within.topk(k + 1, dim=1, largest=False).values[:, -1]
