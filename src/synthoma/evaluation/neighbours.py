"""The training images that synthetic ones resemble most, as evidence to look at."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.evaluation.features import cached_features
from synthoma.evaluation.imagesets import ImageSet, ValueRange
from synthoma.metrics.nearest import nearest
from synthoma.networks.features import Extractor, build_extractor


def nearest_training(
    synthetic: ImageSet,
    train: ImageSet,
    *,
    cache: Path | None = None,
    top: int = 16,
    extractor: Extractor | None = None,
) -> dict[str, Any]:
    """The `top` synthetic images that are closest to a training image, each with its nearest one, closest first.

    {"space", "pairs": [{"synthetic", "train_row", "distance", "pixel_distance"}]}: `train_row` is the row in the
    dataset that the training set comes from; `distance` is the root mean square difference of the features,
    `pixel_distance` that of the pixels, 1 being black to white.
    """
    extractor = extractor or _default_space(train)
    if len(train) == 0 or len(synthetic) == 0:
        return {"space": extractor.name, "pairs": []}
    real = cached_features(train, extractor, cache).features.astype(np.float64)
    made = cached_features(synthetic, extractor, cache, train.range).features.astype(np.float64)
    distances, rows = nearest(made, real)
    order = np.argsort(distances[:, 0].numpy(), kind="stable")[:top]
    pairs = []
    for number in order:
        row = int(rows[number, 0])
        pairs.append(
            {
                "synthetic": int(number),
                "train_row": row if train.rows is None else int(train.rows[row]),
                "distance": float(distances[number, 0]) / math.sqrt(extractor.dimension),
                "pixel_distance": _pixel_distance(synthetic.images[number], train.images[row], train.range),
            }
        )
    return {"space": extractor.name, "pairs": pairs}


def _default_space(train: ImageSet) -> Extractor:
    """The space that `evaluate_fidelity` uses too, so that its cached features serve."""
    reference = train.images if len(train) >= 3 else None
    return build_extractor(
        "randconv",
        train.shape[0],
        len(train.shape) - 1,
        reference=reference,
        value_range=train.range,
        reference_key=train.content,
    )


def _pixel_distance(a: NDArray[np.generic], b: NDArray[np.generic], value_range: ValueRange) -> float:
    low, high = value_range
    # Hounsfield units of a real image go beyond the window that synthetic ones are made in.
    difference = (np.clip(a.astype(np.float64), low, high) - np.clip(b.astype(np.float64), low, high)) / (high - low)
    return float(np.sqrt(np.mean(difference**2)))
