"""Drawn pictures of made-up patients, and copies planted among them."""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.evaluation.privacy.copies import Copies
from synthoma.evaluation.privacy.plant import planted


def image_set(images: np.ndarray, name: str, of_each: int = 2, window: tuple[float, float] | None = None) -> ImageSet:
    groups = np.array([f"{name}{i // of_each}" for i in range(len(images))])
    return ImageSet(images, np.full(len(images), -1), [], groups, pixel_hash(images), window)


def pictures(n: int, seed: int, name: str, channels: int = 1, size: tuple[int, ...] = (24, 24)) -> ImageSet:
    """Smooth random pictures with a little noise; each seed is another set of patients."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(30, 200, (n, channels, *(5,) * len(size)))
    images = ndimage.zoom(coarse, [1, 1, *(length / 5 for length in size)], order=1, grid_mode=True, mode="nearest")
    images += random.normal(0, 2, images.shape)
    return image_set(np.clip(images, 0, 255).astype(np.uint8), name)


def with_copies(
    made: ImageSet, train: ImageSet, counts: Mapping[str, int], seed: int = 5
) -> tuple[ImageSet, dict[str, set[int]]]:
    """Synthetic images of which the first ones are copies of training images, and which these are, by kind."""
    images, places, start = np.array(made.images), {}, 0
    rows = np.random.default_rng(seed).permutation(len(train))
    for kind, count in counts.items():
        images[start : start + count] = planted(train.images[rows[start : start + count]], train.range, seed, [kind])[
            kind
        ]
        places[kind] = set(range(start, start + count))
        start += count
    return image_set(images, "S", 1, made.value_range), places


def found_in(copies: Copies) -> set[int]:
    return {pair.synthetic for pair in copies.pairs if pair.copy}
