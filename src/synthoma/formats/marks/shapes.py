"""What files of marks say: points in mm, boxes in pixels, and the readings of LIDC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["lidc", "luna16_annotations", "luna16_excluded", "luna16_candidates", "pet_ct_dx", "table"]
AttributeValue = float | str | None

# The nine characteristics that LIDC's readers rate, and the highest grade of each; the lowest is 1.
# Armato et al., Med. Phys. 38 (2011) 915-931; McNitt-Gray et al., Acad. Radiol. 14 (2007) 1464-1474.
CHARACTERISTICS: Mapping[str, int] = {
    "subtlety": 5,
    "internal_structure": 4,
    "calcification": 6,
    "sphericity": 5,
    "margin": 5,
    "lobulation": 5,
    "spiculation": 5,
    "texture": 5,
    "malignancy": 5,
}


class BadMarks(Exception):
    """Why a file or a part of it cannot be used: the predicate of a sentence, without path, UID or name."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in a volume. series: SeriesInstanceUID or name of a file, as the table says; position: (x, y, z) in mm, LPS.

    diameter: mm, or None where it is not known. attributes: the further columns of the table.
    """

    series: str = field(repr=False)
    position: tuple[float, float, float]
    diameter: float | None
    label: str | None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SliceBox:
    """A box on one slice: (x0, y0, x1, y1) in pixels, x = column, y = row. image_size: (width, height) if it is said."""

    sop_instance_uid: str = field(repr=False)
    box: tuple[float, float, float, float]
    label: str
    difficult: bool = False
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Contour:
    """One outline on one slice. z: mm; points: [n, 2] whole pixels (x, y), which lie just OUTSIDE the nodule.

    inclusion: False for the outline of a hole.
    """

    z: float
    points: NDArray[np.int64]
    inclusion: bool
    sop_instance_uid: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class LidcNodule:
    """A nodule of 3 mm or more as one reader drew it. reader: from 1; ratings: those of `CHARACTERISTICS` that were given."""

    reader: int
    ratings: Mapping[str, int]
    contours: tuple[Contour, ...]


@dataclass(frozen=True, slots=True)
class LidcPoint:
    """A finding that was marked by one point: a nodule below 3 mm, or something that is no nodule. x, y in pixels, z in mm."""

    reader: int
    kind: Literal["small_nodule", "non_nodule"]
    x: int
    y: int
    z: float
    sop_instance_uid: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class LidcReading:
    """One LIDC file: all readers of one CT series. Reader 1 of two files need not be the same person."""

    series: str = field(repr=False)
    readers: int
    nodules: tuple[LidcNodule, ...]
    points: tuple[LidcPoint, ...]

    @property
    def small_nodules(self) -> tuple[LidcPoint, ...]:
        return tuple(point for point in self.points if point.kind == "small_nodule")

    @property
    def non_nodules(self) -> tuple[LidcPoint, ...]:
        return tuple(point for point in self.points if point.kind == "non_nodule")


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was left out, and why. place names no person and no UID; path is private, since names of files may."""

    place: str
    reason: str
    path: Path = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """All marks of a file or folder. files: number of files of each kind."""

    points: tuple[Mark, ...] = ()
    boxes: tuple[SliceBox, ...] = ()
    readings: tuple[LidcReading, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    files: Mapping[Kind, int] = field(default_factory=dict)


@dataclass(slots=True)
class Findings:
    """What a parser collects from one file; skipped: (place in the file, reason)."""

    kind: Kind
    points: list[Mark] = field(default_factory=list)
    boxes: list[SliceBox] = field(default_factory=list)
    readings: list[LidcReading] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
