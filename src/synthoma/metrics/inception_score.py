"""Inception Score (Salimans et al., NeurIPS 2016): exp of the mean KL divergence of p(y|x) from the mean p(y).

Kept for comparison with older papers. It compares nothing with real images, and its classes are those of the
network that gives the probabilities (dogs and cars for ImageNet).
"""

import torch

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_matrix


def inception_score(probabilities: Matrix, splits: int = 1) -> float:
    """Mean over `splits` consecutive parts of the score of class probabilities [n, classes]; 1 is the lowest value.

    The convention for 50,000 images is ten splits; with the hundreds that clinics have each split would be too small.
    """
    p = as_matrix(probabilities, "probabilities")
    if len(p) < splits:
        raise EvaluationError(f"{len(p)} images cannot be cut into {splits} parts.")
    if bool((p < 0).any()) or bool(((p.sum(dim=1) - 1).abs() > 1e-3).any()):
        raise EvaluationError("class probabilities must not be negative and must add up to 1 for each image.")
    scores = []
    for part in p.tensor_split(splits):
        entropies = torch.special.entr(part).sum(dim=1).mean()
        marginal = torch.special.entr(part.mean(dim=0)).sum()
        scores.append(torch.exp(marginal - entropies))
    return float(torch.stack(scores).mean())
