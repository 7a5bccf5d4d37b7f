"""QuPath GeoJSON: features whose `properties.classification` is their class. In and out.

What QuPath writes and reads is in its qupath-core/src/main/java/qupath/lib/io (QuPathTypeAdapters, GsonTools): a bare
list (before 0.3), a Feature or a FeatureCollection; the class as {name, colorRGB} (before 0.4), {name, color} or
{names, color}, or as a plain text; features below others as `childObjects`. A class without a colour is an error to
QuPath, so one is always written.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import AnnotationError, SynthomaError
from synthoma.formats.annotations.areas import BadShape, require_shapely
from synthoma.formats.annotations.shapes import AnnotationFile, ShapeCollector, clean_label, shown
from synthoma.run import write_atomically

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

# One thing to write: its area, its class (None: none), the colour of the class, and further properties.
GeoJsonItem = tuple["BaseGeometry", str | None, tuple[int, int, int], Mapping[str, float | str]]

_POINTS_AND_LINES = ("Point", "MultiPoint", "LineString", "MultiLineString")
_GEOMETRIES = (*_POINTS_AND_LINES, "Polygon", "MultiPolygon", "GeometryCollection")
# Python needs about 50 bytes for a value. Twenty million points have this many.
_MAX_VALUES = 60_000_000


def read_geojson(content: bytes, path: Path) -> AnnotationFile:
    """Annotations in the bytes of a GeoJSON file (UTF-8 or UTF-16). Raises `AnnotationError`."""
    shapes = ShapeCollector(path)
    seen, features = 0, 0
    for node in _nodes(_document(content, path), path):
        seen += 1
        place = f"feature {seen}"
        if not (isinstance(node, dict) and node.get("type") == "Feature"):
            shapes.skip(place, "it is no GeoJSON feature")
            continue
        features += 1
        _add_feature(node, place, shapes)
    if seen and not features:
        raise AnnotationError(f"{path} is JSON, but none of its {seen:,} entries is a GeoJSON feature.")
    return shapes.file("geojson")


def write_geojson(
    path: Path, items: Iterable[GeoJsonItem], object_type: Literal["annotation", "tile"] = "annotation"
) -> None:
    """Write areas as a FeatureCollection that QuPath opens, a feature a line; the file appears whole or not at all.

    items: (polygon or multipolygon in level-0 pixels, class name or None, colour (r, g, b) of the class in 0..255,
    properties). Of the properties, numbers become QuPath's measurements (those that are not finite are left out),
    texts its metadata. object_type: what QuPath makes of them; many thousand are quicker as "tile".
    Raises `AnnotationError` where the file cannot be written, `ValueError` for an item that is no area.
    """
    require_shapely()
    lines = ",\n".join(json.dumps(_feature(item, object_type), allow_nan=False) for item in items)
    try:
        write_atomically(Path(path), f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n')
    except OSError as error:
        raise AnnotationError(f"cannot write {path}: {error.strerror or error}.") from error
    except SynthomaError as error:
        raise AnnotationError(str(error)) from error


def _feature(item: GeoJsonItem, object_type: str) -> dict[str, Any]:
    import shapely

    geometry, name, colour, properties = item
    if geometry.is_empty or geometry.geom_type not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"only areas can be written, not a {geometry.geom_type} of area {geometry.area}")
    if len(colour) != 3 or not all(0 <= part <= 255 for part in colour):
        raise ValueError(f"a colour has three parts in 0..255, not {colour}")
    written: dict[str, Any] = {"objectType": object_type}
    if name is not None:
        written["classification"] = {"name": name, "color": [int(part) for part in colour]}
    written["isLocked"] = False
    texts = {key: value for key, value in properties.items() if isinstance(value, str)}
    numbers = {key: float(value) for key, value in properties.items() if not isinstance(value, str)}
    if finite := {key: value for key, value in numbers.items() if math.isfinite(value)}:
        written["measurements"] = finite
    if texts:
        written["metadata"] = texts
    return {"type": "Feature", "geometry": shapely.geometry.mapping(geometry), "properties": written}


def _document(content: bytes, path: Path) -> Any:
    """The parsed JSON; every number in it is a float, so that one with thousands of digits is no error but infinite."""
    if content.count(b",") + content.count(b"[") + content.count(b"{") > _MAX_VALUES:
        raise AnnotationError(f"{path} holds more than {_MAX_VALUES:,} values; split it into several files.")
    try:
        return json.loads(content, parse_int=float)
    except RecursionError as error:
        raise AnnotationError(f"{path} is no annotation file: its JSON is nested too deeply.") from error
    except MemoryError as error:
        raise AnnotationError(f"{path} is too large for the memory of this machine.") from error
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path} is not in UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except ValueError as error:
        raise AnnotationError(f"{path} is truncated or damaged JSON ({error}).") from error


def _nodes(document: Any, path: Path) -> Iterator[Any]:
    """The features of a document, in its order and with those below others; and what stands where one should."""
    if isinstance(document, dict) and document.get("type") in _GEOMETRIES:
        document = {"type": "Feature", "geometry": document}
    if isinstance(document, dict) and document.get("type") not in ("Feature", "FeatureCollection"):
        raise AnnotationError(f"{path} is JSON, but no GeoJSON: its type is {shown(document.get('type'))}.")
    pending = [iter(document if isinstance(document, list) else [document])]
    while pending:
        for node in pending[-1]:
            below = _below(node, path)
            if not (isinstance(node, dict) and node.get("type") == "FeatureCollection"):
                yield node
            if below:
                pending.append(iter(below))
                break
        else:
            pending.pop()


def _below(node: Any, path: Path) -> list[Any]:
    """What a collection holds; the children of a feature."""
    if not isinstance(node, dict):
        return []
    if node.get("type") == "FeatureCollection":
        features = node.get("features")
        if not isinstance(features, list):
            raise AnnotationError(f"{path} is damaged GeoJSON: a FeatureCollection without a list of features.")
        return features
    properties = node.get("properties")
    children = properties.get("childObjects", properties.get("children")) if isinstance(properties, dict) else None
    return children if isinstance(children, list) else []


def _add_feature(feature: dict[str, Any], place: str, shapes: ShapeCollector) -> None:
    """Hand the polygons of a feature to the collector."""
    polygons, others = _polygons(feature.get("geometry"))
    for kind in others:
        shapes.skip(place, kind)
    parts = []
    for number, rings in enumerate(polygons, start=1):
        where = place if len(polygons) == 1 else f"{place}, part {number}"
        try:
            parts.append((where, [_ring(ring) for ring in _listed(rings)]))
        except BadShape as problem:
            shapes.skip(where, str(problem))
    if parts:
        shapes.add(place, _label(feature.get("properties")), parts)


def _polygons(geometry: Any) -> tuple[list[Any], list[str]]:
    """Coordinates of all polygons in a geometry, and why there are not more."""
    polygons: list[Any] = []
    problems: list[str] = []
    pending = [geometry]
    while pending:
        part = pending.pop()
        kind = part.get("type") if isinstance(part, dict) else None
        inside = part.get("geometries" if kind == "GeometryCollection" else "coordinates") if kind else None
        if part is None:
            problems.append("it has no geometry")
        elif kind in _POINTS_AND_LINES:
            problems.append(f"a {kind} has no area")
        elif kind not in _GEOMETRIES or not isinstance(inside, list):
            problems.append(f"its geometry of type {shown(kind)} cannot be read")
        elif kind == "GeometryCollection":
            pending += reversed(inside)
        elif kind == "Polygon":
            polygons.append(inside)
        else:
            polygons += inside
    return polygons, problems


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BadShape("its coordinates are no list of points")
    return value


def _ring(points: Any) -> NDArray[np.float64]:
    """Points [n, 2] of a ring; a third coordinate is left out. Raises `BadShape` for anything that is no number."""
    try:
        flat = list(chain.from_iterable((point[0], point[1]) for point in _listed(points)))
    except (TypeError, LookupError) as error:
        raise BadShape("its coordinates are no list of points") from error
    if not set(map(type, flat)) <= {float}:
        raise BadShape("a coordinate is no number")
    return np.array(flat, dtype=np.float64).reshape(-1, 2)


def _label(properties: Any) -> str | None:
    """Class of a feature. Derived classes read as QuPath shows them: `Tumor: Positive`."""
    found = properties.get("classification") if isinstance(properties, dict) else None
    names: Sequence[Any] = [found]
    if isinstance(found, dict):
        listed = found.get("names")
        names = listed if isinstance(listed, list) else [found.get("name")]
        if isinstance(found.get("parentClass"), dict):  # before 0.4
            names = [found["parentClass"].get("name"), *names]
    return clean_label(": ".join(name for name in map(clean_label, names) if name))
