"""Annotation files as tests write them, in all three formats."""

import json
from pathlib import Path

import numpy as np

from synthoma.formats.annotations import Annotation, AnnotationFile, read_annotations

SQUARE = [(0, 0), (10, 0), (10, 10), (0, 10)]


def area_of(shape: Annotation) -> float:
    return float(shape.geometry.area)


def shoelace(points: object) -> float:
    """Area of one ring, without shapely."""
    x, y = np.asarray(points, dtype=np.float64)[:, :2].T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def asap_shape(points: object, group: str = "tumor", kind: str = "Polygon", order: list[int] | None = None) -> str:
    numbered = enumerate(points) if order is None else zip(order, points, strict=True)  # type: ignore[arg-type, call-overload]
    inside = "".join(f'<Coordinate Order="{place}" X="{x}" Y="{y}" />' for place, (x, y) in numbered)
    return (
        f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>{inside}</Coordinates>'
        "</Annotation>"
    )


def asap(*shapes: str, head: str = '<?xml version="1.0"?>') -> str:
    return (
        f"{head}<ASAP_Annotations><Annotations>{''.join(shapes)}</Annotations><AnnotationGroups /></ASAP_Annotations>"
    )


def region(points: object, kind: str = "0", negative: str = "0") -> str:
    inside = "".join(f'<Vertex X="{x}" Y="{y}" Z="0" />' for x, y in points)  # type: ignore[attr-defined]
    return f'<Region Id="1" Type="{kind}" NegativeROA="{negative}"><Vertices>{inside}</Vertices></Region>'


def layer(*regions: str, name: str = "", colour: str = "65280") -> str:
    return f'<Annotation Id="1" Name="{name}" LineColor="{colour}"><Regions>{"".join(regions)}</Regions></Annotation>'


def imagescope(*layers: str, mpp: str = "0.252000") -> str:
    return f'<Annotations MicronsPerPixel="{mpp}">{"".join(layers)}</Annotations>'


def ring(points: list[tuple[float, float]]) -> list[list[float]]:
    return [list(point) for point in [*points, points[0]]]


def polygon(*rings: list[tuple[float, float]]) -> dict[str, object]:
    return {"type": "Polygon", "coordinates": [ring(points) for points in rings]}


def feature(geometry: object, **properties: object) -> dict[str, object]:
    return {"type": "Feature", "id": "x", "geometry": geometry, "properties": properties}


def read(tmp_path: Path, content: str | bytes | object, name: str = "slide.txt") -> AnnotationFile:
    """Read some content; the ending of the name says nothing."""
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_annotations(path)


def moved(points: list[tuple[float, float]], by: float) -> list[tuple[float, float]]:
    return [(x + by, y + by) for x, y in points]
