"""Outlines -> valid polygons. What encloses nothing is refused with its reason, what crosses itself is repaired."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import MissingExtraError

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon
    from shapely.geometry.base import BaseGeometry

# The largest slides have about a million pixels a side; what lies ten times beyond is damage.
MAX_COORDINATE = 1e7
ELLIPSE_POINTS = 64
_SMALLEST_AREA = 1e-6  # square pixels; a line that rounding made a sliver is no area
# Repair takes time and memory with the number of crossings. Outlines up to this length are repaired unseen ...
_ALWAYS_REPAIRED = 500
# ... longer ones where their segments, beside this many neighbours each, come near each other no more often than this.
_USUAL_NEIGHBOURS = 10
_MAX_ENCOUNTERS = 200_000
_REPAIRS = 3


class BadShape(Exception):
    """One shape of a file that cannot be used. The text is the reason; it names no file."""


def require_shapely() -> None:
    """Raises `MissingExtraError` where the packages that read annotations are not installed."""
    try:
        import defusedxml  # noqa: F401
        import shapely  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"annotations of slides need {error.name}, which is not installed: pip install 'synthoma[slides]'."
        ) from error


def corners_to_rectangle(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four corners [4, 2] of a rectangle that is given by two opposite ones; more points are left as they are."""
    if len(points) != 2:
        return points
    (left, top), (right, bottom) = points
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def corners_to_ellipse(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Polygon [64, 2] of the ellipse in the box around two (or all four) corners; an outline of more points is kept."""
    if len(points) not in (2, 4):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    return (low + high) / 2 + (high - low) / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def area_from_rings(rings: Sequence[NDArray[np.float64]]) -> tuple["Polygon | MultiPolygon", list[str]]:
    """A valid area from an outline and its holes, each [n, 2], open or closed; and what had to be repaired, in words.

    An outline that crosses itself keeps all that it encloses: where a freehand line runs twice round the same place,
    that place is inside (`make_valid` by structure; the other method would punch a hole there). Raises `BadShape`.
    """
    import shapely

    if not rings:
        raise BadShape("it has no outline")
    shell, *holes = (_checked_ring(ring) for ring in rings)
    if shell is None:
        raise BadShape("its outline has fewer than 3 different points")
    notes = ["a hole without area was left out"] * sum(hole is None for hole in holes)
    polygon = shapely.Polygon(shell, [hole for hole in holes if hole is not None])
    if polygon.is_valid:
        area: Polygon | MultiPolygon = polygon
    else:
        notes.append(f"it was repaired: {shapely.is_valid_reason(polygon).lower()}")
        if _is_tangled(polygon):
            raise BadShape("its outline crosses itself too often to be repaired")
        area = made_valid(polygon)
    if area.area < _SMALLEST_AREA:
        raise BadShape("it has no area")
    return area, notes


def merge_areas(areas: Sequence["Polygon | MultiPolygon"]) -> tuple["Polygon | MultiPolygon", list[str]]:
    """The parts of one annotation as one area, and what had to be repaired, in words."""
    import shapely

    if len(areas) == 1:
        return areas[0], []
    together = shapely.MultiPolygon([part for area in areas for part in shapely.get_parts(area)])
    if together.is_valid:
        return together, []
    return made_valid(together), ["parts of it that overlap or touch were merged"]


def only_polygons(geometry: "BaseGeometry") -> "Polygon | MultiPolygon":
    """The polygons in a geometry, without the points and lines that overlays and repairs leave beside them."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(geometry))
    polygons = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(list(polygons))


def made_valid(geometry: "BaseGeometry") -> "Polygon | MultiPolygon":
    """All that the outlines enclose, as valid polygons. Raises `BadShape` where GEOS cannot do it.

    Now and then the repair leaves a crossing where its own rounding made one; a second turn then mends that.
    """
    import shapely

    try:
        for _ in range(_REPAIRS):
            mended = only_polygons(shapely.make_valid(geometry, method="structure", keep_collapsed=False))
            if mended.is_valid:
                return mended
            geometry = mended
    except shapely.errors.GEOSException as error:
        raise BadShape("its outline crosses itself and cannot be repaired") from error
    raise BadShape("its outline crosses itself and cannot be repaired")


def _checked_ring(points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The points of a ring, or None where they are too few to enclose anything."""
    if not np.isfinite(points).all():
        raise BadShape("a coordinate is not finite")
    if (largest := float(np.abs(points).max(initial=0.0))) > MAX_COORDINATE:
        raise BadShape(f"a coordinate of {largest:.3g} is beyond {MAX_COORDINATE:,.0f} pixels")
    return points if len(np.unique(points, axis=0)) >= 3 else None


def _is_tangled(polygon: "Polygon") -> bool:
    """Whether the number of crossings, estimated from 500 segments spread over the outlines, is beyond repair."""
    import shapely

    coordinates, ring = shapely.get_coordinates(shapely.get_rings(polygon), return_index=True)
    same_ring = ring[1:] == ring[:-1]
    segments: Any = shapely.linestrings(np.stack([coordinates[:-1][same_ring], coordinates[1:][same_ring]], axis=1))
    if len(segments) <= _ALWAYS_REPAIRED:
        return False
    probes = segments[:: len(segments) // _ALWAYS_REPAIRED]
    neighbours = shapely.STRtree(segments).query(probes).shape[1] / len(probes)
    return bool((neighbours - _USUAL_NEIGHBOURS) * len(segments) > _MAX_ENCOUNTERS)
