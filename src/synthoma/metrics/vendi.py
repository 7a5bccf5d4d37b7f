"""Vendi score: how many different images a set holds, as an effective number.

Friedman and Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine Learning", TMLR 2023: the exponential of
the Shannon entropy (order 1) of the eigenvalues of K / n, with K the matrix of similarities. Here K is the cosine of
feature vectors, so it is 1 where all images are the same and at most min(n, d). It grows with n: compare it at
equal n only.
"""

import torch

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_matrix


def vendi_score(x: Matrix) -> float:
    """Vendi score of order 1 for feature vectors x [n, d], n >= 1; between 1 and min(n, d).

    A zero vector has no direction; it counts as similar to nothing but other zero vectors.
    """
    x = as_matrix(x)
    if len(x) == 0:
        raise EvaluationError("there are no images to tell the diversity of.")
    lengths = x.norm(dim=1, keepdim=True)
    zero = lengths == 0
    unit = torch.where(zero, torch.zeros_like(x), x / torch.where(zero, torch.ones_like(lengths), lengths))
    if bool(zero.any()):  # one direction more, which all zero vectors share
        unit = torch.cat((unit, zero.to(unit.dtype)), dim=1)
    # The eigenvalues of K / n other than zero are those of the d x d products.
    gram = unit.T @ unit if unit.shape[1] < len(unit) else unit @ unit.T
    values = torch.linalg.eigvalsh(gram / len(unit)).clamp_min(0)
    return float(torch.special.entr(values).sum().exp())
