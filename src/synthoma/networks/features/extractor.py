"""What every feature space offers, and how images reach it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.errors import EvaluationError

ValueRange = tuple[float, float]
EIGHT_BITS: ValueRange = (0.0, 255.0)


class Measured(NamedTuple):
    """features [n, d] float32, and class probabilities [n, classes] float32 where the space has them."""

    features: NDArray[np.float32]
    probabilities: NDArray[np.float32] | None


class Extractor(Protocol):
    """A feature space.

    name: short, for files and tables; title: for reports; licence: of the weights; dimension: d;
    hash: changes with the weights and with anything done to the images before them;
    is_fid_inception: only then may a Fréchet distance be called FID.
    """

    name: str
    title: str
    licence: str
    preprocessing: str
    dimension: int
    hash: str
    is_fid_inception: bool

    def measure(self, images: NDArray[np.generic], value_range: ValueRange) -> Measured:
        """Features and probabilities of images [n, c, *spatial] whose values lie within `value_range`."""
        ...

    def features(self, images: NDArray[np.generic], value_range: ValueRange = EIGHT_BITS) -> NDArray[np.float32]:
        """Features [n, d] alone."""
        ...

    def probabilities(
        self, images: NDArray[np.generic], value_range: ValueRange = EIGHT_BITS
    ) -> NDArray[np.float32] | None:
        """Class probabilities [n, classes] alone; None in a space that has none."""
        ...


class BaseExtractor(ABC):
    """`features` and `probabilities` by way of `measure`."""

    @abstractmethod
    def measure(self, images: NDArray[np.generic], value_range: ValueRange) -> Measured: ...

    def features(self, images: NDArray[np.generic], value_range: ValueRange = EIGHT_BITS) -> NDArray[np.float32]:
        return self.measure(images, value_range).features

    def probabilities(
        self, images: NDArray[np.generic], value_range: ValueRange = EIGHT_BITS
    ) -> NDArray[np.float32] | None:
        return self.measure(images, value_range).probabilities


def unit_batches(images: NDArray[np.generic], value_range: ValueRange, batch: int) -> Iterator[Tensor]:
    """Images [n, c, *spatial], memory-mapped or not, in batches of float32 within [0, 1]."""
    low, high = value_range
    if not high > low:
        raise EvaluationError(
            f"images cannot lie within [{low}, {high}]; the value range is [low, high] with low < high."
        )
    for start in range(0, len(images), batch):
        block = torch.from_numpy(np.asarray(images[start : start + batch], dtype=np.float32))
        yield ((block - low) / (high - low)).clamp_(0, 1)


@torch.inference_mode()
def run_batches(
    images: NDArray[np.generic],
    value_range: ValueRange,
    network: Callable[[Tensor], tuple[Tensor, Tensor | None]],
    batch: int,
) -> Measured:
    """Pass images through `network` (unit batch -> features, probabilities or None) and gather what comes out."""
    if len(images) == 0:
        raise EvaluationError("there are no images to take features of.")
    features, probabilities = [], []
    for block in unit_batches(images, value_range, batch):
        vectors, classes = network(block)
        features.append(vectors.float().cpu())
        if classes is not None:
            probabilities.append(classes.float().cpu())
    return Measured(torch.cat(features).numpy(), torch.cat(probabilities).numpy() if probabilities else None)


def three_channels(images: Tensor, name: str) -> Tensor:
    """2D images [n, 1 or 3, y, x] as RGB; `EvaluationError` for volumes and other channel counts."""
    if images.ndim != 4:
        raise EvaluationError(
            f"{name} takes two-dimensional images; these are volumes of {tuple(images.shape[2:])} voxels. "
            "Use the weight-free spaces randconv and pca for volumes."
        )
    if images.shape[1] not in (1, 3):
        raise EvaluationError(f"{name} takes grey or RGB images; these have {images.shape[1]} channels.")
    return images.expand(-1, 3, -1, -1)
