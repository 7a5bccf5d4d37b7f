"""Near-duplicates of a prepared dataset, found again for the eye: images of one group that correlate after a flip or turn.

Preparation keeps near-duplicates in one group but does not list them; with the group known the search is small.
"""

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.report.facts import shown_pixels

LEAST_CORRELATION = 0.98  # as preparation asks for
LARGEST_GROUP = 12  # a larger group is a patient with many images; its first ones are compared
MOST_GROUPS = 2000
SIDE = 32  # pixels at which images are compared


def lookalike_pairs(dataset: Dataset, most: int) -> list[tuple[int, int, float]]:
    """At most `most` (row, row, correlation), the most alike first. Volumes and non-square images are compared unturned."""
    order = np.argsort(dataset.groups, kind="stable")
    _, starts, sizes = np.unique(dataset.groups[order], return_index=True, return_counts=True)
    found: list[tuple[int, int, float]] = []
    for start, size in list(zip(starts, sizes, strict=True))[:MOST_GROUPS]:
        rows = np.sort(order[start : start + min(size, LARGEST_GROUP)])
        if len(rows) > 1:
            found += _pairs_of_group(dataset, rows)
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]


def _pairs_of_group(dataset: Dataset, rows: NDArray[np.int64]) -> list[tuple[int, int, float]]:
    pixels = shown_pixels(dataset.images[rows], dict(dataset.info["encoding"])).astype(np.float32)
    small = _reduced(pixels.mean(axis=1))
    reference = _normalised(small)
    best = np.full((len(rows), len(rows)), -1.0, dtype=np.float32)
    for turned in _symmetries(small):
        best = np.maximum(best, reference @ _normalised(turned).T)
    return [
        (int(rows[i]), int(rows[j]), float(min(best[i, j], 1.0)))
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
        if best[i, j] >= LEAST_CORRELATION
    ]


def _reduced(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Block means of [n, *spatial] down to about `SIDE` pixels an axis; what is left over at the far edge is dropped."""
    for axis in range(1, images.ndim):
        block = max(1, images.shape[axis] // SIDE)
        length = images.shape[axis] // block
        cut = np.take(images, np.arange(length * block), axis=axis)
        images = cut.reshape(*cut.shape[:axis], length, block, *cut.shape[axis + 1 :]).mean(axis=axis + 1)
    return images


def _normalised(images: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _symmetries(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The eight flips and turns of square images, the four that keep the shape of other pictures, a volume as it is."""
    if images.ndim != 3:
        return [images]
    turns = range(4) if images.shape[1] == images.shape[2] else (0, 2)
    return [np.rot90(side, turn, axes=(1, 2)) for side in (images, images[:, :, ::-1]) for turn in turns]
