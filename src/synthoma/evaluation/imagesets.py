"""A set of images that can be measured: pixels, labels, groups, and a hash of all that."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError
from synthoma.recipe import content_hash

ValueRange = tuple[float, float]
# What pixels mean where nothing else is declared: 8- and 16-bit pictures, Hounsfield units of a 12-bit scanner.
_RANGES: dict[str, ValueRange] = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "int16": (-1024.0, 3071.0)}


@dataclass(frozen=True)
class ImageSet:
    """Images [n, c, *spatial] (memory-mapped or not), and what is known of each.

    labels: class indices [n] into `classes`, -1 where there is none; groups: pseudonym of the patient or group [n];
    content: hash that changes with any pixel, the key under which features are cached;
    value_range: what black and white are; None: by the type of the array;
    rows: row of each image in the dataset that it comes from; None: its own place.
    """

    images: NDArray[np.generic]
    labels: NDArray[np.int64]
    classes: list[str]
    groups: NDArray[np.str_]
    content: str
    value_range: ValueRange | None = None
    rows: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.ndim not in (4, 5):
            raise EvaluationError(f"images have shape {self.images.shape}; expected [n, c, y, x] or [n, c, z, y, x].")
        if len(self.labels) != n or len(self.groups) != n:
            raise EvaluationError(f"{n} images, {len(self.labels)} labels and {len(self.groups)} groups do not fit.")
        if self.value_range is None and self.images.dtype.name not in _RANGES:
            raise EvaluationError(f"images of type {self.images.dtype} need a declared value range.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, *spatial)."""
        return tuple(int(n) for n in self.images.shape[1:])

    @property
    def range(self) -> ValueRange:
        """Values that count as black and white."""
        return self.value_range or _RANGES[self.images.dtype.name]

    def rows_of(self, name: str) -> NDArray[np.int64]:
        """Rows of a class, by its name; none where the class is unknown here."""
        if name not in self.classes:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(self.labels == self.classes.index(name)).astype(np.int64)

    def take(self, rows: NDArray[np.int64]) -> "ImageSet":
        """The set of some rows, in that order."""
        origin = rows if self.rows is None else self.rows[rows]
        content = content_hash([self.content, hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()])
        return ImageSet(
            self.images[rows], self.labels[rows], self.classes, self.groups[rows], content, self.value_range, origin
        )


def image_set_from_dataset(dataset: Dataset, split: str) -> ImageSet:
    """One side of a dataset's frozen split."""
    return image_set_from_rows(dataset, dataset.rows(split), f"{dataset.content_hash}/{split}")


def image_set_from_rows(dataset: Dataset, rows: NDArray[np.int64], content: str) -> ImageSet:
    """Some rows of a dataset, under a content hash of their own."""
    return ImageSet(
        images=_rows_of_array(dataset.images, rows),
        labels=dataset.labels[rows],
        classes=dataset.classes,
        groups=dataset.groups[rows],
        content=content,
        value_range=_window(dataset),
        rows=rows,
    )


def image_set_of_generated(
    images: NDArray[np.generic], labels: NDArray[np.int64], dataset: Dataset, content: str
) -> ImageSet:
    """Images [n, c, *spatial] that a model of this dataset made, in its encoding and with its classes; each is a group of its own."""
    groups = np.array([f"S{number}" for number in range(len(images))])
    return ImageSet(images, labels, dataset.classes, groups, content, _window(dataset))


def _window(dataset: Dataset) -> ValueRange | None:
    """Values that are black and white, where the dataset declares them."""
    window = dataset.info["encoding"].get("window")
    return None if window is None else (float(window[0]), float(window[1]))


def _rows_of_array(images: NDArray[np.generic], rows: NDArray[np.int64]) -> NDArray[np.generic]:
    """Rows of a memory-mapped array; a view where they are consecutive, so that nothing is read."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return images[rows[0] : rows[-1] + 1]
    return images[rows]


def pixel_hash(images: NDArray[np.generic]) -> str:
    """SHA-256 over type, shape and values of an array, 16 hex digits."""
    digest = hashlib.sha256(f"{images.dtype.str}{images.shape}".encode())
    for image in images:
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]
