"""Earth mover's distance between the pooled histograms of two sets of images, in the unit of their values.

For CT in Hounsfield units: by how many HU the tissue of one set must be moved to have the densities of the other. In one
dimension it is the area between the two distribution functions (Villani, "Topics in Optimal Transportation", 2003, 2.2).
"""

import torch
from torch import Tensor

from synthoma.errors import EvaluationError

BINS = 256


def histograms(images: Tensor, value_range: tuple[float, float], bins: int = BINS) -> Tensor:
    """Shares of the values of each image [n, c, *spatial] in `bins` equal bins: float64 [n, bins].

    Values beyond `value_range` count in the first and last bin: synthetic images are made within it.
    """
    low, high = value_range
    if not high > low:
        raise EvaluationError(f"a histogram from {low} to {high} has no bins.")
    flat = images.double().flatten(1)
    codes = ((flat - low) * (bins / (high - low))).floor().long().clamp_(0, bins - 1)
    codes += torch.arange(len(flat))[:, None] * bins
    return torch.bincount(codes.flatten(), minlength=len(flat) * bins).reshape(-1, bins).double() / flat.shape[1]


def histogram_distance(x: Tensor, y: Tensor, width: float = 1.0) -> float:
    """Earth mover's distance between the mean histograms of x [n, bins] and y [m, bins], in units of `width` a bin."""
    return float((x.mean(dim=0) - y.mean(dim=0)).cumsum(dim=0).abs().sum() * width)
