"""Principal components of pixels, fitted to the training images (Turk and Pentland, 1991).

The plainest space there is: what differs in it can be looked at. Images are averaged down to at most 32 pixels a side
(16 in volumes). Components are whitened, that is divided by their standard deviation over the training images:
unwhitened, the first few (overall brightness) would be all that a distance sees.
"""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from synthoma.errors import EvaluationError
from synthoma.networks.features.extractor import BaseExtractor, Measured, ValueRange, run_batches, unit_batches

VERSION = 1
COMPONENTS = 64
MOST_FITTED = 1024  # images, evenly spaced: the fit takes an eigenvalue problem of this size
_LARGEST_SIDE = {2: 32, 3: 16}
_BATCH = 64


class PixelPca(BaseExtractor):
    """The space `pca`, fitted to reference images [n, c, *spatial] with at least three images.

    `reference_key` names the reference set (its content hash) and becomes part of the space's hash.
    """

    name = "pca"
    title = "principal components of pixels (whitened)"
    licence = "none needed: no weights"
    is_fid_inception = False

    def __init__(self, reference: NDArray[np.generic], value_range: ValueRange, reference_key: str) -> None:
        if len(reference) < 3:
            raise EvaluationError(f"principal components need at least three training images, not {len(reference)}.")
        self.shape = tuple(int(n) for n in reference.shape[1:])
        self.preprocessing = (
            f"area average to at most {_LARGEST_SIDE[len(self.shape) - 1]} pixels a side, scaled to [0, 1]"
        )
        rows = np.unique(np.linspace(0, len(reference) - 1, MOST_FITTED).round().astype(np.int64))
        blocks = (reference[part] for part in np.array_split(rows, -(-len(rows) // _BATCH)))
        pixels = torch.cat([_flatten(batch) for block in blocks for batch in unit_batches(block, value_range, _BATCH)])
        self._fit(pixels.double())
        identity = f"{self.name}/{VERSION}/{COMPONENTS}/{self.shape}/{value_range}/{reference_key}"
        self.hash = hashlib.sha256(identity.encode()).hexdigest()[:16]

    def _fit(self, pixels: Tensor) -> None:
        self._mean = pixels.mean(dim=0)
        centred = pixels - self._mean
        n = len(pixels)
        # Eigenvectors of the n x n products give those of the covariance: there are fewer images than pixels.
        values, vectors = torch.linalg.eigh(centred @ centred.T / (n - 1))
        kept = values > values[-1] * 1e-8
        values, vectors = values[kept].flip(0)[:COMPONENTS], vectors[:, kept].flip(1)[:, :COMPONENTS]
        if len(values) == 0:
            raise EvaluationError("all training images are the same: there are no principal components.")
        directions = centred.T @ vectors / (values * (n - 1)).sqrt()
        # An eigenvector's sign is arbitrary; here its largest entry is positive.
        peaks = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
        self._whitening = directions * peaks.sign() / values.sqrt()
        self.dimension = int(self._whitening.shape[1])

    def measure(self, images: NDArray[np.generic], value_range: ValueRange) -> Measured:
        """Features [n, up to 64] with mean 0 and variance 1 on the fitted images; no probabilities."""
        if tuple(images.shape[1:]) != self.shape:
            raise EvaluationError(
                f"pca was fitted to images of shape {self.shape}; these are {tuple(images.shape[1:])}."
            )
        return run_batches(images, value_range, self._features, _BATCH)

    def _features(self, images: Tensor) -> tuple[Tensor, None]:
        return (_flatten(images).double() - self._mean) @ self._whitening, None


def _flatten(images: Tensor) -> Tensor:
    """Unit images [n, c, *spatial], averaged down, as vectors [n, p]."""
    dim = images.ndim - 2
    side = _LARGEST_SIDE[dim]
    if dim == 2:
        pooled = F.adaptive_avg_pool2d(images, (min(images.shape[2], side), min(images.shape[3], side)))
    else:
        pooled = F.adaptive_avg_pool3d(images, tuple(min(n, side) for n in images.shape[2:]))  # type: ignore[arg-type]
    return pooled.flatten(1)
