"""Which share of a tile lies in which class: boxes against the annotations of one slide."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import AnnotationError, nearest_name_hint
from synthoma.formats.annotations.areas import BadShape, made_valid, only_polygons, require_shapely
from synthoma.formats.annotations.shapes import Annotation, clean_label

if TYPE_CHECKING:
    from shapely import MultiPolygon, Polygon

# Boxes are done in such portions, so that memory stays flat.
_PORTION = 4096
# A polygon is cut into pieces with no more corners than this before boxes on its border are measured against it,
# so that the time for a box does not grow with the length of an outline. Each cut halves a side.
_CORNERS_OF_A_PIECE = 256
_MOST_CUTS = 24


class AnnotationIndex:
    """The annotations of one slide, ready to be asked for shares of boxes.

    include: the classes that count, None for all there are (those without a class count under None). exclude: classes
    that are cut out of every other one, as negative annotations are. Names are compared as `clean_label` makes them;
    the empty name stands for no class.
    `regions` holds what is left of each class, a valid (multi)polygon; `ignored` names the classes that the file has
    and that are neither included nor excluded. Raises `AnnotationError` for a name that is both.
    """

    def __init__(
        self, annotations: Iterable[Annotation], include: Sequence[str] | None = None, exclude: Sequence[str] = ()
    ) -> None:
        require_shapely()
        annotations = list(annotations)
        without = {clean_label(name) for name in exclude}
        wanted = None if include is None else list(dict.fromkeys(clean_label(name) for name in include))
        if both := sorted(name for name in without.intersection(wanted or ()) if name):
            raise AnnotationError(f"the annotation class '{both[0]}' is both included and excluded; name it once.")
        there = list(dict.fromkeys(annotation.label for annotation in annotations if not annotation.negative))
        self.labels = tuple(label for label in there if label not in without) if wanted is None else tuple(wanted)
        self.ignored = tuple(label for label in there if label not in without and label not in self.labels)
        self._known = [label for label in there if label is not None]
        self._shapes: dict[str | None, _Shapes] = {}
        with _failures_told():
            holes = _Shapes(_united(a.geometry for a in annotations if a.negative or a.label in without))
            for label in self.labels:
                own = _united(a.geometry for a in annotations if a.label == label and not a.negative)
                self._shapes[label] = _Shapes(holes.cut_out_of(own))

    @property
    def regions(self) -> dict[str | None, "Polygon | MultiPolygon"]:
        """What is left of each class after everything was cut out of it; empty where the slide has none of it."""
        import shapely

        return {label: only_polygons(shapely.GeometryCollection(list(s.parts))) for label, s in self._shapes.items()}

    def fraction(self, boxes: NDArray[np.floating]) -> dict[str | None, NDArray[np.float64]]:
        """Covered share of each box, in [0, 1], for each class; exactly 1 or 0 for boxes inside or apart.

        boxes: [n, 4] as x0, y0, x1, y1 in level-0 pixels. Overlapping annotations of a class count once; a place in
        two classes counts for both. Raises `ValueError` for a box without an area.
        """
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise ValueError("boxes are x0, y0, x1, y1 with x0 < x1 and y0 < y1, in finite numbers")
        shares = {label: np.zeros(len(boxes)) for label in self._shapes}
        with _failures_told():
            for start in range(0, len(boxes), _PORTION):
                portion = slice(start, start + _PORTION)
                for label, shapes in self._shapes.items():
                    shares[label][portion] = shapes.shares(boxes[portion])
        return shares

    def unknown_labels(self, names: Iterable[str]) -> dict[str, str]:
        """Those of `names` that no annotation here has, each with a hint such as `; did you mean 'tumor'?` or ""."""
        return unknown_labels(names, self._known)


def unknown_labels(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Those of `names` that are not among the classes `known` (of many files), each with a hint or ""."""
    known = sorted(set(known))
    return {name: nearest_name_hint(name, known) for name in names if clean_label(name) not in known}


@contextlib.contextmanager
def _failures_told() -> Iterator[None]:
    """GEOS gives up on an overlay only where coordinates defeat its arithmetic; nothing is guessed then."""
    import shapely

    try:
        yield
    except shapely.errors.GEOSException as error:
        raise AnnotationError(f"the outlines of the annotations cannot be laid over each other: {error}.") from error


class _Shapes:
    """Polygons whose insides are apart from each other, so that covered areas add up."""

    def __init__(self, parts: NDArray[Any]) -> None:
        import shapely

        self.parts = parts
        shapely.prepare(self.parts)
        self._tree = shapely.STRtree(self.parts)
        self._pieces: tuple[Any, NDArray[np.float64], NDArray[np.float64]] | None = None

    def cut_out_of(self, areas: NDArray[Any]) -> NDArray[Any]:
        """`areas` without what these polygons cover; those that they do not touch stay as they are."""
        import shapely

        reached, by = self._tree.query(areas, predicate="intersects")
        left = [areas[np.setdiff1d(np.arange(len(areas)), reached)]]
        for index in np.unique(reached):
            rest = shapely.difference(areas[index], shapely.MultiPolygon(list(self.parts[by[reached == index]])))
            left.append(_polygons_in(rest))
        return np.concatenate(left)

    def shares(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Covered share [n] of boxes [n, 4]."""
        import shapely

        share = np.zeros(len(boxes))
        rectangles: Any = shapely.box(*boxes.T)
        box, part = self._tree.query(rectangles)
        share[box[shapely.covers(self.parts[part], rectangles[box])]] = 1.0
        open_ones = share[box] == 0.0
        box, part = box[open_ones], part[open_ones]
        border = np.unique(box[shapely.intersects(self.parts[part], rectangles[box])])
        if len(border):
            size = (boxes[border, 2:] - boxes[border, :2]).prod(axis=1)
            share[border] = np.clip(self._covered_area(boxes[border], rectangles[border]) / size, 0.0, 1.0)
        return share

    def _covered_area(self, boxes: NDArray[np.float64], rectangles: NDArray[Any]) -> NDArray[np.float64]:
        """Covered area [n] of boxes on borders: whole pieces count with their area, others are clipped."""
        import shapely

        if self._pieces is None:
            pieces = np.array([piece for part in self.parts for piece in _pieces(part)], dtype=object)
            self._pieces = shapely.STRtree(pieces), shapely.bounds(pieces), shapely.area(pieces)
        tree, bounds, areas = self._pieces
        box, piece = tree.query(rectangles)
        covered = areas[piece]
        within = (bounds[piece, :2] >= boxes[box, :2]) & (bounds[piece, 2:] <= boxes[box, 2:])
        clipped = ~within.all(axis=1)
        covered[clipped] = shapely.area(shapely.intersection(tree.geometries[piece[clipped]], rectangles[box[clipped]]))
        return np.asarray(np.bincount(box, weights=covered, minlength=len(boxes)), dtype=np.float64)


def _united(areas: Iterable["Polygon | MultiPolygon"]) -> NDArray[Any]:
    """The union of areas as polygons whose insides are apart."""
    import shapely

    listed = list(areas)
    return _polygons_in(shapely.disjoint_subset_union_all(listed)) if listed else np.empty(0, dtype=object)


def _polygons_in(geometry: Any) -> NDArray[Any]:
    """The polygons in a geometry [n]; none of them is empty."""
    import shapely

    parts: NDArray[Any] = shapely.get_parts(only_polygons(geometry))
    return parts[~shapely.is_empty(parts)]


def _pieces(polygon: "Polygon") -> list["Polygon"]:
    """A polygon in small pieces, or as it is where GEOS cannot cut it cleanly: slower, not wrong."""
    try:
        return list(_cut_up(polygon))
    except BadShape:
        return [polygon]


def _cut_up(polygon: "Polygon") -> Iterator["Polygon"]:
    """Valid pieces of a polygon with few corners each: halved across the longer side until that is so."""
    import shapely

    pending = [(polygon, 0)]
    while pending:
        whole, cuts = pending.pop()
        if shapely.get_num_coordinates(whole) > _CORNERS_OF_A_PIECE and cuts < _MOST_CUTS:
            pending += [(piece, cuts + 1) for piece in _halved(whole)]
        elif whole.is_valid:
            yield whole
        else:  # it meets itself along a cut
            yield from _polygons_in(made_valid(whole))


def _halved(polygon: "Polygon") -> NDArray[Any]:
    """The polygons [n] on both sides of the middle of the longer side.

    Clipping is fifty times faster than an overlay, but GEOS does not promise it to be clean. So the areas must add up.
    """
    import shapely

    x0, y0, x1, y1 = polygon.bounds
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    sides = ((x0, y0, x, y1), (x, y0, x1, y1)) if x1 - x0 >= y1 - y0 else ((x0, y0, x1, y), (x0, y, x1, y1))
    halves = np.concatenate([_polygons_in(shapely.clip_by_rect(polygon, *side)) for side in sides])
    if math.isclose(shapely.area(halves).sum(), polygon.area, rel_tol=1e-9, abs_tol=1e-6):
        return halves
    valid = polygon if polygon.is_valid else made_valid(polygon)
    return np.concatenate([_polygons_in(shapely.intersection(valid, shapely.box(*side))) for side in sides])
