"""Feature spaces by name."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import EvaluationError, nearest_name_hint
from synthoma.networks.features.extractor import Extractor, ValueRange
from synthoma.networks.features.pca import PixelPca
from synthoma.networks.features.pretrained import Pretrained
from synthoma.networks.features.randconv import RandConv

WEIGHT_FREE = ("randconv", "pca")


def build_extractor(
    name: str, reference: NDArray[np.generic], value_range: ValueRange, reference_key: str
) -> Extractor:
    """A weight-free space for images like `reference` [n, c, *spatial], the training images that `pca` is fitted to.

    `reference_key` is the content hash of the reference set. Raises `EvaluationError` for an unknown name.
    """
    if name == "randconv":
        return RandConv(dim=reference.ndim - 2, channels=int(reference.shape[1]))
    if name == "pca":
        return PixelPca(reference, value_range, reference_key)
    hint = nearest_name_hint(name, WEIGHT_FREE) or "."
    raise EvaluationError(
        f"there is no feature space '{name}'{hint} Without weights: {', '.join(WEIGHT_FREE)}; others come from a "
        "weights file (evaluation.weights)."
    )


def load_extractor(path: Path | str) -> Extractor:
    """The space of a weights file: MobileNetV2, SqueezeNet 1.1, or the Inception of FID."""
    return Pretrained(Path(path))
