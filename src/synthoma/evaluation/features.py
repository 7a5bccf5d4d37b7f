"""Features of image sets, taken once: kept in a folder of the caller's, keyed by set and extractor."""

import io
import zipfile
from pathlib import Path

import numpy as np

from synthoma.evaluation.imagesets import ImageSet, ValueRange
from synthoma.networks.features import Extractor, Measured
from synthoma.recipe import content_hash
from synthoma.run import write_atomically


def cached_features(
    images: ImageSet, extractor: Extractor, cache: Path | None, value_range: ValueRange | None = None
) -> Measured:
    """Features (and probabilities) of a set in a space, read from `cache` where they were taken before.

    A damaged file is taken anew. `value_range` is that of the comparison, else the set's own.
    """
    value_range = value_range or images.range
    if cache is None:
        return extractor.measure(images.images, value_range)
    file = (
        cache / f"{extractor.name}-{content_hash([images.content, len(images), extractor.hash, list(value_range)])}.npz"
    )
    kept = _read(file, len(images), extractor.dimension)
    if kept is not None:
        return kept
    measured = extractor.measure(images.images, value_range)
    arrays = {"features": measured.features}
    if measured.probabilities is not None:
        arrays["probabilities"] = measured.probabilities
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(file, buffer.getvalue())
    return measured


def _read(file: Path, count: int, dimension: int) -> Measured | None:
    """The content of a cache file; None where there is none, or where it is damaged."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            features = arrays["features"]
            probabilities = arrays["probabilities"] if "probabilities" in arrays.files else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # a cache: what cannot be read is computed again
    return Measured(features, probabilities) if features.shape == (count, dimension) else None
