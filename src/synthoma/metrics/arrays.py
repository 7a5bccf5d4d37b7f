"""What every metric takes: a matrix of feature vectors as numpy array or tensor."""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.errors import EvaluationError

Matrix: TypeAlias = NDArray[Any] | Tensor


def as_matrix(x: Matrix, name: str = "x") -> Tensor:
    """`x` [n, d] as a float64 tensor on its own device; `EvaluationError` if it is no finite matrix."""
    tensor = (torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x.detach()).double()
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        raise EvaluationError(f"{name} has shape {tuple(tensor.shape)}; a metric takes feature vectors [n, d].")
    if not bool(torch.isfinite(tensor).all()):
        raise EvaluationError(f"{name} holds values that are not finite; the features of some image overflowed.")
    return tensor


def as_pair(x: Matrix, y: Matrix, least: int) -> tuple[Tensor, Tensor]:
    """Both sets as float64 matrices of one dimension with at least `least` rows each."""
    x, y = as_matrix(x, "x"), as_matrix(y, "y")
    if x.shape[1] != y.shape[1]:
        raise EvaluationError(f"the two sets have {x.shape[1]} and {y.shape[1]} features; they come from two spaces.")
    if min(len(x), len(y)) < least:
        raise EvaluationError(
            f"the two sets have {len(x)} and {len(y)} images; this metric needs {least} on each side."
        )
    return x, y
