"""Fréchet distance between the normal distributions fitted to two sets of feature vectors.

Dowson and Landau 1982; Heusel et al., NeurIPS 2017, eq. 6:
    FD = |mu_x - mu_y|^2 + tr C_x + tr C_y - 2 tr (C_x C_y)^(1/2).
With C_x = A'A and C_y = B'B the last trace is the sum of singular values of A B', so that no square root of a
non-symmetric matrix is needed. A is the Cholesky factor of the covariance where n > d, else the centred data:
whichever is smaller, so that fewer images than features cost less instead of failing.
FD is biased upwards by about 1/n: compare it at equal n only.
"""

import torch
from scipy import linalg
from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_matrix, as_pair


class Moments:
    """Mean and covariance of feature vectors that arrive in batches (Chan et al. 1979), float64.

    moments = Moments(dimension); moments.add(batch); ...; fd_from_moments(moments, other)
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean = torch.zeros(dimension, dtype=torch.float64)
        self.scatter = torch.zeros(dimension, dimension, dtype=torch.float64)

    def add(self, batch: Matrix) -> "Moments":
        """Take in feature vectors [n, d] in float64; how they are cut into batches does not matter."""
        x = as_matrix(batch).cpu()
        mean = x.mean(dim=0)
        centred = x - mean
        total = self.count + len(x)
        shift = mean - self.mean
        self.scatter += centred.T @ centred + torch.outer(shift, shift) * (self.count * len(x) / total)
        self.mean = self.mean + shift * (len(x) / total)
        self.count = total
        return self

    @classmethod
    def of(cls, first: "Moments", second: "Moments") -> "Moments":
        """The moments of two sets of vectors together."""
        result = cls(len(first.mean))
        result.count = first.count + second.count
        shift = second.mean - first.mean
        result.mean = first.mean + shift * (second.count / result.count)
        between = torch.outer(shift, shift) * (first.count * second.count / result.count)
        result.scatter = first.scatter + second.scatter + between
        return result

    @property
    def covariance(self) -> Tensor:
        """Sample covariance [d, d] with n - 1 in the denominator."""
        if self.count < 2:
            raise EvaluationError("a covariance needs at least two images.")
        return self.scatter / (self.count - 1)


def fd(x: Matrix, y: Matrix) -> float:
    """Fréchet distance of feature vectors x [n, d] and y [m, d]; any n and m from 2 on, also below d."""
    x, y = as_pair(x, y, least=2)
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    a = (x - mean_x) / (len(x) - 1) ** 0.5
    b = (y - mean_y) / (len(y) - 1) ** 0.5
    difference = ((mean_x - mean_y) ** 2).sum()
    few = min(len(x), len(y)) <= x.shape[1]
    root = nuclear_norm(a @ b.T) if few else _trace_of_root(a.T @ a, b.T @ b)
    return _not_negative(difference + (a * a).sum() + (b * b).sum() - 2 * root)


def fd_from_moments(x: Moments, y: Moments) -> float:
    """Fréchet distance of two streams of feature vectors."""
    covariance_x, covariance_y = x.covariance, y.covariance
    if covariance_x.shape != covariance_y.shape:
        raise EvaluationError(f"the two sets have {len(x.mean)} and {len(y.mean)} features; they come from two spaces.")
    difference = ((x.mean - y.mean) ** 2).sum()
    traces = torch.trace(covariance_x) + torch.trace(covariance_y)
    return _not_negative(difference + traces - 2 * _trace_of_root(covariance_x, covariance_y))


def nuclear_norm(matrix: Tensor) -> Tensor:
    """Sum of singular values, through the eigenvalues of the smaller Gram matrix: several times faster than an SVD."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    return torch.linalg.eigvalsh(tall.T @ tall).clamp_min(0).sqrt().sum()


def _trace_of_root(covariance_x: Tensor, covariance_y: Tensor) -> Tensor:
    """tr (C_x C_y)^(1/2): the eigenvalues of C_x C_y are those of the symmetric L' C_y L with C_x = L L'."""
    x, y = covariance_x.cpu().numpy(), covariance_y.cpu().numpy()
    try:  # one routine that knows both are symmetric: half the work of products of general matrices
        values = linalg.eigh(y, x, type=2, eigvals_only=True, check_finite=False)
        return torch.from_numpy(values).clamp_min(0).sqrt().sum()
    except linalg.LinAlgError:  # C_x is singular: fewer images than features, or constant features
        own, vectors = torch.linalg.eigh(covariance_x)
        factor = vectors * own.clamp_min(0).sqrt()
    product = factor.T @ covariance_y @ factor
    return torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()


def _not_negative(value: Tensor) -> float:
    """The distance as a number; rounding can leave -1e-12 for equal sets."""
    return max(float(value), 0.0)
