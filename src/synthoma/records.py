"""What there is, without pixels: a `Record` per image, and the `Pixels` that are read when asked for."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["rgb8", "grey8", "grey16", "hu", "unknown"]

# Groups are named by people (a patient number, a file prefix). The name is replaced the moment a record is made,
# with a key that lives as long as this process, so that nothing downstream can hold or print it. The dataset
# then numbers the groups by content (`cohort.number_groups`); the way back is in `private/links.parquet` only.
_PROCESS_KEY = secrets.token_bytes(32)


def pseudonym(identifier: str) -> str:
    """A name for a patient or group that cannot be turned back without the key of this process."""
    return hmac.new(_PROCESS_KEY, identifier.encode(), hashlib.sha256).hexdigest()[:16]


@dataclass(frozen=True)
class Origin:
    """Where a record came from. Never leaves the machine: it is written to `private/links.parquet` only.

    path: the file; inside: place in an archive such as `train_images[17]`; group: the group's name as the user wrote it.
    """

    path: Path
    inside: str = ""
    group: str = ""

    def __str__(self) -> str:
        return f"{self.path}{':' + self.inside if self.inside else ''}"


@dataclass(frozen=True)
class Record:
    """One image of a source.

    key: unique within the source, made from the place of the image there (stable between runs, no file name in it).
    label: class name; None where the image has none (it is then left out of a conditional recipe, with the reason).
    group: pseudonym of the patient or group; None where nothing is known, then each image is its own group.
    given_split: "train", "val" or "test" where the source says so (`split: given` honours it).
    attributes: further columns (diameter_mm, malignancy, ...), numbers or text, None where missing.
    spacing: of the pixels in mm or µm, in array order; None where unknown.
    """

    key: str
    label: str | None
    group: str | None
    origin: Origin = field(repr=False)
    given_split: str | None = None
    attributes: dict[str, float | str | None] = field(default_factory=dict)
    unit: Unit = "unknown"
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Pixels:
    """Decoded image: `array` [*spatial, channels], its unit, and spacing in array order (None: unknown)."""

    array: NDArray[np.generic]
    unit: Unit
    spacing: tuple[float, ...] | None = None
    mask: NDArray[np.uint8] | None = None


def record_key(place: str) -> str:
    """Key of a record from its place in the source (relative path, index): 16 hex digits, no name readable in it."""
    return hashlib.sha256(place.encode()).hexdigest()[:16]
