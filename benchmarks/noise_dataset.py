"""A dataset of smooth noise in any shape, for benchmarks of speed: the pixels do not matter to it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from synthoma.cohort import cohort_hash
from synthoma.dataset import Dataset, seal_dataset
from synthoma.recipe import content_hash

# 70 % of the 1,834 pictures of skin9.
SKIN_IMAGES = 1284


def noise_images(count: int, channels: int, size: Sequence[int], seed: int = 0) -> NDArray[np.uint8]:
    """Blocks of random tones with fine noise on them: uint8 [count, channels, *size]; each axis a multiple of 8."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, channels, *(n // 8 for n in size)), dtype=np.uint8)
    for axis in range(2, images.ndim):
        images = images.repeat(8, axis=axis)
    images ^= random.integers(0, 16, images.shape, dtype=np.uint8)
    return images


def write_noise_dataset(
    folder: Path, train: int = SKIN_IMAGES, size: Sequence[int] = (64, 64), channels: int = 3, classes: int = 9
) -> Dataset:
    """A valid dataset folder with `train` training images [channels, *size], and one image in val and in test.

    One held-out image is too few for a validation: only training is measured. classes: how many, in equal shares.
    """
    images = noise_images(train + 2, channels, size)
    names = [f"class{number}" for number in range(classes)]
    labels = [names[number % classes] for number in range(len(images))]
    splits = ["train"] * train + ["val", "test"]
    contents = [hashlib.sha256(image.tobytes()).hexdigest()[:32] for image in images]
    groups = [f"G{number:05d}" for number in range(len(images))]
    unit = "rgb8" if channels == 3 else "grey8"
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    table = {
        "row": list(range(len(images))),
        "key": [content[:16] for content in contents],
        "content": contents,
        "label": labels,
        "group": groups,
        "split": splits,
        "unit": [unit] * len(images),
        "spacing": [None] * len(images),
        "upscaled": [False] * len(images),
    }
    pq.write_table(pa.table(table), folder / "records.parquet")
    placed = list(zip(splits, labels, strict=True))
    seal_dataset(
        folder,
        {
            "name": "noise",
            "recipe_hash": "0" * 16,
            "encoding": {"unit": unit, "channels": channels, "size": list(size), "dtype": "uint8"},
            "classes": names,
            "counts": {split: {name: placed.count((split, name)) for name in names} for split in set(splits)},
            "cohort": {"hash": cohort_hash(contents, groups, splits)},
            "content": content_hash([contents, labels, splits]),
            "data": {"licence": "CC0-1.0", "citation": None, "may_release": True},
        },
    )
    return Dataset.open(folder)
