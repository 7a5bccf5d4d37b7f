"""What an annotation file says, whatever its format, and the collector that the parsers fill."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import AnnotationError
from synthoma.formats.annotations.areas import BadShape, area_from_rings, merge_areas
from synthoma.formats.files import normal_name

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

Format = Literal["asap", "imagescope", "geojson"]
FORMAT_NAMES: dict[Format, str] = {
    "asap": "ASAP XML",
    "imagescope": "Aperio ImageScope XML",
    "geojson": "QuPath GeoJSON",
}
_LONGEST_LABEL = 200
_MAX_SKIPPED = 100_000


@dataclass(frozen=True)
class Annotation:
    """One outlined area.

    geometry: valid polygon(s) with an area, in level-0 pixels, x right and y down.
    label: name of its class as the file has it (composed Unicode, no control characters); None where it has none.
    negative: whether the area is to be left out, whatever its class (ImageScope's NegativeROA).
    place: where it stands in the file, in words, counted from one: "annotation 3", "feature 12".
    """

    geometry: "Polygon | MultiPolygon"
    label: str | None
    negative: bool
    place: str


@dataclass(frozen=True)
class AnnotationFile:
    """The areas of one file; `skipped` and `repaired` hold (place, what was wrong with it in words).

    microns_per_pixel: of the slide that was annotated, where the file says so (ImageScope).
    """

    format: Format
    annotations: tuple[Annotation, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    repaired: tuple[tuple[str, str], ...] = ()
    microns_per_pixel: float | None = None

    @property
    def labels(self) -> dict[str | None, int]:
        """Number of annotations of each class, negative ones left out, in the file's order."""
        counts: dict[str | None, int] = {}
        for annotation in self.annotations:
            if not annotation.negative:
                counts[annotation.label] = counts.get(annotation.label, 0) + 1
        return counts


class ShapeCollector:
    """Takes outlines from a parser, makes areas of them, and keeps the reasons where that does not work."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._annotations: list[Annotation] = []
        self._skipped: list[tuple[str, str]] = []
        self._repaired: list[tuple[str, str]] = []

    def skip(self, place: str, reason: str) -> None:
        """Leave a shape out. Raises `AnnotationError` when so many are bad that the file cannot be what it seems."""
        if len(self._skipped) == _MAX_SKIPPED:
            first = ": ".join(self._skipped[0])
            raise AnnotationError(f"{self.path}: more than {_MAX_SKIPPED:,} shapes cannot be used; {first}.")
        self._skipped.append((place, reason))

    def add(
        self,
        place: str,
        label: str | None,
        parts: Sequence[tuple[str, Sequence[NDArray[np.float64]]]],
        negative: bool = False,
    ) -> None:
        """One annotation. parts: (place, [outline [n, 2], holes ...]) of each of its polygons; bad ones are skipped."""
        if label is not None and len(label) > _LONGEST_LABEL:
            self.skip(place, f"the name of its class has {len(label):,} characters")
            return
        areas = []
        for where, rings in parts:
            try:
                area, notes = area_from_rings(rings)
            except BadShape as problem:
                self.skip(where, str(problem))
                continue
            self._repaired += [(where, note) for note in notes]
            areas.append(area)
        if areas:
            try:
                geometry, notes = merge_areas(areas)
            except BadShape as problem:
                self.skip(place, str(problem))
                return
            self._repaired += [(place, note) for note in notes]
            self._annotations.append(Annotation(geometry, label, negative, place))

    def file(self, kind: Format, microns_per_pixel: float | None = None) -> AnnotationFile:
        """All that was collected."""
        return AnnotationFile(
            kind, tuple(self._annotations), tuple(self._skipped), tuple(self._repaired), microns_per_pixel
        )


def clean_label(text: object) -> str | None:
    """Name of a class from untrusted text: composed Unicode, control characters and outer space gone; None if empty."""
    if isinstance(text, float):
        text = str(int(text)) if text.is_integer() else str(text)
    if not isinstance(text, str):
        return None
    kept = (" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in normal_name(text))
    return "".join(kept).strip() or None


def shown(value: object) -> str:
    """A piece of an untrusted file as a message may show it: quoted, escaped and short."""
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
