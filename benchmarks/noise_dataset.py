"""A dataset of smooth noise in the shape of the skin images, for benchmarks of speed: the pixels do not matter to it."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthoma.cohort import cohort_hash
from synthoma.dataset import Dataset, seal_dataset
from synthoma.recipe import content_hash

CLASSES = [f"class{number}" for number in range(9)]


def write_noise_dataset(folder: Path, train: int = 1284, size: int = 64) -> Dataset:
    """A valid dataset folder with `train` training images [3, size, size] of nine classes, and one image in val and test.

    1,284 is 70 % of the 1,834 pictures of skin9. Too few are in val for a validation: only training is measured.
    """
    random = np.random.default_rng(0)
    count = train + 2
    coarse = random.integers(0, 256, (count, 3, size // 8, size // 8), dtype=np.uint8)
    images = coarse.repeat(8, axis=2).repeat(8, axis=3)
    images ^= random.integers(0, 16, images.shape, dtype=np.uint8)
    labels = [CLASSES[number % len(CLASSES)] for number in range(count)]
    splits = ["train"] * train + ["val", "test"]
    contents = [hashlib.sha256(image.tobytes()).hexdigest()[:32] for image in images]
    groups = [f"G{number:05d}" for number in range(count)]
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    table = {
        "row": list(range(count)),
        "key": [content[:16] for content in contents],
        "content": contents,
        "label": labels,
        "group": groups,
        "split": splits,
        "unit": ["rgb8"] * count,
        "spacing": [None] * count,
        "upscaled": [False] * count,
    }
    pq.write_table(pa.table(table), folder / "records.parquet")
    seal_dataset(
        folder,
        {
            "name": "noise",
            "recipe_hash": "0" * 16,
            "encoding": {"unit": "rgb8", "channels": 3, "size": [size, size], "dtype": "uint8"},
            "classes": CLASSES,
            "counts": {
                s: {c: sum(a == c and b == s for a, b in zip(labels, splits, strict=True)) for c in CLASSES}
                for s in set(splits)
            },
            "cohort": {"hash": cohort_hash(contents, groups, splits)},
            "content": content_hash([contents, labels, splits]),
            "data": {"licence": "CC0-1.0", "citation": None, "may_release": True},
        },
    )
    return Dataset.open(folder)
