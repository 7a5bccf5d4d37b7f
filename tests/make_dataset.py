"""Small datasets and observers that tests make themselves."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import ndimage

from synthoma.cohort import cohort_hash
from synthoma.dataset import Dataset, seal_dataset
from synthoma.recipe import content_hash


def blob_images(
    count: int, channels: int, size: tuple[int, ...], classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian blobs whose radius and colour depend on the class: uint8 [n, c, *size], labels [n]."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % max(classes, 1)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij")
    images = np.empty((count, channels, *size), dtype=np.uint8)
    for i, label in enumerate(labels):
        centre = random.uniform(-0.2, 0.2, len(size))
        distance = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
        blob = np.exp(-distance / (0.05 + 0.2 * label / max(classes, 1) + random.uniform(0, 0.02)))
        for channel in range(channels):
            tone = 230 - 90 * blob * (1 + ((label + channel) % 3)) / 1.5
            images[i, channel] = np.clip(tone + random.normal(0, 4, size), 0, 255)
    return images, labels


def smooth_images(
    count: int, channels: int, size: tuple[int, ...], classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random pictures, brighter with the class: far more different from each other than blobs are."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % max(classes, 1)
    zoom = [1, 1, *(n / 3 for n in size)]
    coarse = random.uniform(0, 180, (count, channels, *(3,) * len(size)))
    images = ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode="nearest")
    bright = (60 * labels / max(classes, 1)).reshape(-1, 1, *(1,) * len(size))
    return np.clip(images + bright, 0, 255).astype(np.uint8), labels


def blob_masks(images: np.ndarray) -> np.ndarray:
    """The blob, which is darker than its surroundings: uint8 [n, 1, *size]."""
    first = images[:, :1].astype(np.float64)
    axes = tuple(range(1, images.ndim))
    middle = (first.min(axis=axes, keepdims=True) + first.max(axis=axes, keepdims=True)) / 2
    return (first < middle).astype(np.uint8)


def attribute_column(values: Sequence[float | str | None]) -> pa.Array:
    """Numbers where all known values are numbers, else texts, as preparation writes them."""
    if any(isinstance(value, str) for value in values):
        return pa.array(values, pa.string())
    return pa.array([None if value is None or np.isnan(value) else float(value) for value in values], pa.float64())


def make_dataset(
    folder: Path,
    *,
    count: int = 96,
    channels: int = 3,
    size: tuple[int, ...] = (16, 16),
    classes: int = 3,
    per_group: int = 2,
    attributes: Mapping[str, Sequence[float | str | None]] | None = None,
    masks: bool = False,
    draw: Callable[..., tuple[np.ndarray, np.ndarray]] = blob_images,
    train: int | None = None,
) -> Dataset:
    """A valid dataset folder with groups of `per_group` images, 70/15/15 by group.

    attributes: name -> a value for each image (None or NaN: missing); masks: also masks.npy, the blob of each image;
    draw: what makes the images; train: only the first so many are training images, the others are mostly for validation.
    """
    images, labels = draw(count, channels, size, classes)
    names = [f"class{label}" for label in labels]
    contents = [hashlib.sha256(image.tobytes()).hexdigest()[:32] for image in images]
    number = np.arange(count) // per_group
    share = (number * 7919 % 100) / 100
    splits = np.where(share < 0.7, "train", np.where(share < 0.85, "val", "test"))
    if train is not None:
        splits = np.where(np.arange(count) < train, "train", np.where(number % 5 > 0, "val", "test"))
    groups = [f"G{n:05d}" for n in number]
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    if masks:
        np.save(folder / "masks.npy", blob_masks(images))
    columns = {name: attribute_column(values) for name, values in (attributes or {}).items()}
    table = {
        "row": list(range(count)),
        "key": [content[:16] for content in contents],
        "content": contents,
        "label": names if classes else [None] * count,
        "group": groups,
        "split": splits.tolist(),
        "unit": ["rgb8" if channels == 3 else "grey8"] * count,
        "spacing": [None] * count,
        "upscaled": [False] * count,
        **{f"attr.{name}": column for name, column in columns.items()},
    }
    pq.write_table(pa.table(table), folder / "records.parquet")
    counts = {
        split: {
            name: int(sum(1 for n, s in zip(names, splits, strict=True) if n == name and s == split))
            for name in sorted(set(names))
        }
        for split in ("train", "val", "test")
    }
    info: dict[str, Any] = {
        "name": "blobs",
        "recipe_hash": "0" * 16,
        "encoding": {"unit": table["unit"][0], "channels": channels, "size": list(size), "dtype": "uint8"},
        "classes": sorted(set(names)) if classes else [],
        "counts": counts,
        "groups": {split: len({g for g, s in zip(groups, splits, strict=True) if s == split}) for split in counts},
        "cohort": {
            "hash": cohort_hash(contents, groups, splits.tolist()),
            "fractions": [0.7, 0.15, 0.15],
            "seed": 0,
            "deviations": [],
            "independent_reference": True,
        },
        "content": content_hash(
            [contents, names, splits.tolist(), *({n: c.to_pylist() for n, c in columns.items()},) * bool(columns)]
        ),
        "data": {"licence": "CC0-1.0", "citation": None, "may_release": True},
        "preparation": {"found": count, "kept": count, "rejected": {}, "duplicates": 0, "conflicts": 0},
        "notes": [],
        "warnings": [],
        "label_errors": [],
    }
    seal_dataset(folder, info)
    return Dataset.open(folder)


class Silent:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)

    def row(self, row: dict[str, Any], total_images: int) -> None:
        self.rows.append(row)

    def progress(self, what: str, done: int, total: int) -> None:
        pass
