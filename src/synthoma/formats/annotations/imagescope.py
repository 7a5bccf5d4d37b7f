"""Aperio ImageScope XML: Annotations[MicronsPerPixel] / Annotation[Name, LineColor] / Regions / Region[Type, NegativeROA] /
Vertices / Vertex[X, Y].

An Annotation is a layer with a name and a colour, its Regions are the outlines drawn in it. A region of type 1 is a
rectangle by its corners, but real files also hold freehand outlines under that number; so more than two points are
taken as they are.
"""

from collections.abc import Mapping

from synthoma.formats.annotations.areas import BadShape, corners_to_ellipse, corners_to_rectangle
from synthoma.formats.annotations.outline import Outline, number
from synthoma.formats.annotations.shapes import AnnotationFile, ShapeCollector, clean_label, shown

ROOT = "Annotations"
_OUTLINE, _RECTANGLE, _ELLIPSE = "0", "1", "2"
_PLAUSIBLE_MPP = (0.01, 100.0)


class ImageScopeReader:
    """Gets the tags of an ImageScope file, in their order."""

    def __init__(self, shapes: ShapeCollector, root: Mapping[str, str]) -> None:
        self._shapes = shapes
        mpp = number(root.get("MicronsPerPixel"))
        low, high = _PLAUSIBLE_MPP
        self._mpp = mpp if mpp is not None and low <= mpp <= high else None
        self._layer = 0
        self._label: str | None = None
        self._region = 0
        self._attributes: Mapping[str, str] = {}
        self._outline: Outline | None = None

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "Annotation":
            self._finish()
            self._layer += 1
            self._region = 0
            self._label = clean_label(attributes.get("Name")) or _colour(attributes.get("LineColor"))
        elif tag == "Region":
            self._finish()
            self._region += 1
            self._attributes, self._outline = attributes, Outline()
        elif tag == "Vertex" and self._outline is not None:
            self._outline.add(attributes.get("X"), attributes.get("Y"))

    def end(self, tag: str) -> None:
        if tag == "Region":
            self._finish()

    def file(self) -> AnnotationFile:
        return self._shapes.file("imagescope", self._mpp)

    def _finish(self) -> None:
        """Turn the open region into an area."""
        outline, self._outline = self._outline, None
        if outline is None:
            return
        place, kind = f"annotation {self._layer}, region {self._region}", self._attributes.get("Type", _OUTLINE)
        if kind not in (_OUTLINE, _RECTANGLE, _ELLIPSE):
            self._shapes.skip(place, f"its type {shown(kind)} is none of 0 (outline), 1 (rectangle) and 2 (ellipse)")
            return
        try:
            points = outline.points()
        except BadShape as problem:
            self._shapes.skip(place, str(problem))
            return
        if kind == _RECTANGLE:
            points = corners_to_rectangle(points)
        elif kind == _ELLIPSE:
            points = corners_to_ellipse(points)
        negative = self._attributes.get("NegativeROA", "0").strip().casefold() in ("1", "true")
        self._shapes.add(place, self._label, [(place, [points])], negative)


def _colour(text: str | None) -> str | None:
    """`#RRGGBB` of a layer's colour, which ImageScope writes as one number with blue in its highest byte."""
    value = number(text)
    if value is None or not value.is_integer():
        return None
    bits = int(value) & 0xFFFFFF
    return f"#{bits & 0xFF:02X}{bits >> 8 & 0xFF:02X}{bits >> 16:02X}"
