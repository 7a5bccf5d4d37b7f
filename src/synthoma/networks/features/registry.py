"""Feature spaces by name."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import EvaluationError, nearest_name_hint
from synthoma.fetching.weights import WEIGHTS, find_weights
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
    """The space of a weights file, or of weights that were fetched by name: MobileNetV2, SqueezeNet 1.1, or the Inception of FID."""
    return Pretrained(weights_file(path))


def weights_file(given: Path | str) -> Path:
    """The file that `evaluation.weights` or --weights means: a file as it is, a known name ("inception") as what was fetched.

    Raises `EvaluationError` for a file that does not exist, `FetchError` for a name whose file is not on this machine.
    """
    path = Path(given)
    if path.is_file():
        return path
    if str(given) in WEIGHTS:
        return find_weights(str(given))
    raise EvaluationError(
        f"{path} does not exist; weights are files, or names that `synthoma fetch weights` lists ({', '.join(WEIGHTS)})."
    )
