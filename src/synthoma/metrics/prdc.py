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
    radius_x = within_x.kthvalue(k + 1, dim=1).values
    radius_y = within_y.kthvalue(k + 1, dim=1).values
    in_real = between < radius_y[None, :]
    in_synthetic = between < radius_x[:, None]
    return Prdc(
        precision=float(in_real.any(dim=1).double().mean()),
        recall=float(in_synthetic.any(dim=0).double().mean()),
        density=float(in_real.double().sum(dim=1).mean() / k),
        coverage=float((between.min(dim=0).values < radius_y).double().mean()),
    )
