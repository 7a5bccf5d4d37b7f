"""Feature spaces by name."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import EvaluationError, nearest_name_hint
from synthoma.networks.features.extractor import EIGHT_BITS, Extractor, ValueRange
from synthoma.networks.features.pca import PixelPca
from synthoma.networks.features.pretrained import Pretrained
from synthoma.networks.features.randconv import RandConv

WEIGHT_FREE = ("randconv", "pca")


def build_extractor(
    name: str,
    channels: int,
    dim: int,
    *,
    reference: NDArray[np.generic] | None = None,
    value_range: ValueRange = EIGHT_BITS,
    reference_key: str = "",
) -> Extractor:
    """A weight-free space for images with `channels` channels in `dim` dimensions.

    `reference` [n, c, *spatial]: the training images, whose content hash is `reference_key`. `pca` is fitted to them;
    `randconv` is decorrelated by them, and without them is less sensitive but needs no data at all.
    Raises `EvaluationError` for an unknown name, and for `pca` without a reference.
    """
    if name == "randconv":
        return RandConv(dim, channels, reference, value_range, reference_key)
    if name == "pca":
        if reference is None:
            raise EvaluationError("the feature space pca is fitted to training images, and none were given.")
        return PixelPca(reference, value_range, reference_key)
    hint = nearest_name_hint(name, WEIGHT_FREE) or "."
    raise EvaluationError(
        f"there is no feature space '{name}'{hint} Without weights: {', '.join(WEIGHT_FREE)}; others come from a "
        "weights file (evaluation.weights)."
    )


def load_extractor(path: Path | str) -> Extractor:
    """The space of a weights file: MobileNetV2, SqueezeNet 1.1, or the Inception of FID."""
    return Pretrained(Path(path))
