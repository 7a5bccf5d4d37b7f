"""ASAP XML: ASAP_Annotations / Annotations / Annotation[Type, PartOfGroup] / Coordinates / Coordinate[Order, X, Y].

Written by ASAP (computationalpathologygroup/ASAP, annotation/XmlRepository.cpp) and used by the CAMELYON challenges.
ASAP writes the group "None" for an annotation that is in no group.
"""

from collections.abc import Mapping

from synthoma.formats.annotations.areas import BadShape, corners_to_rectangle
from synthoma.formats.annotations.outline import Outline
from synthoma.formats.annotations.shapes import AnnotationFile, ShapeCollector, clean_label, shown

ROOT = "ASAP_Annotations"
_NO_GROUP = "None"
# A spline runs through its points; the polygon through the same points is what ASAP itself measures and fills.
_AREAS = ("Polygon", "Spline", "Rectangle")


class AsapReader:
    """Gets the tags of an ASAP file, in their order."""

    def __init__(self, shapes: ShapeCollector, root: Mapping[str, str]) -> None:
        self._shapes = shapes
        self._count = 0
        self._attributes: Mapping[str, str] = {}
        self._outline: Outline | None = None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "Annotation":
            self._finish()
            self._count += 1
            self._attributes, self._outline = attributes, Outline()
        elif tag == "Coordinate" and self._outline is not None:
            self._outline.add(attributes.get("X"), attributes.get("Y"), attributes.get("Order"))

    def end(self, tag: str) -> None:
        if tag == "Annotation":
            self._finish()

    def file(self) -> AnnotationFile:
        return self._shapes.file("asap")

    def _finish(self) -> None:
        """Turn the open annotation into an area."""
        outline, self._outline = self._outline, None
        if outline is None:
            return
        place, kind, group = (
            f"annotation {self._count}",
            self._attributes.get("Type"),
            self._attributes.get("PartOfGroup"),
        )
        if kind not in _AREAS:
            self._shapes.skip(place, f"its type {shown(kind)} is no area")
            return
        try:
            points = outline.points()
        except BadShape as problem:
            self._shapes.skip(place, str(problem))
            return
        if kind == "Rectangle":
            points = corners_to_rectangle(points)
        label = None if group == _NO_GROUP else clean_label(group)
        self._shapes.add(place, label, [(place, [points])])
