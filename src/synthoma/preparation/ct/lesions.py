"""Marks on one volume to lesions: each once, with its centre in mm, its mask where readers drew one, and its class.

What cannot or should not be cut stays in the list, with the reason.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthoma.ct_settings import CtSection
from synthoma.errors import MarksError
from synthoma.formats.marks import (
    LidcNodule,
    LidcPoint,
    LidcReading,
    Mark,
    NoduleCluster,
    RatingSummary,
    SliceBox,
    cluster_nodules,
    consensus,
    summarise_ratings,
    suspicion_label,
)
from synthoma.formats.volumes.geometry import Geometry, in_lps_order
from synthoma.formats.volumes.shapes import VolumeFile
from synthoma.preparation.ct.join import VolumeMarks

Place = tuple[float, float, float]
AttributeValue = float | str | None

NO_PLACE = "the volume has no spacing, so that no place in it is known"
OUTSIDE = "outside the volume"
NO_NODULE = "marked as no nodule by a reader"
SMALL = "nodule below 3 mm, which has no outline"
INDETERMINATE = "rated 3 of 5 for malignancy"
UNRATED = "its malignancy was not rated"
# Classes of Lung-PET-CT-Dx in full.
_CLASSES = {"small_cell": "small_cell_carcinoma", "large_cell": "large_cell_carcinoma", "squamous": "squamous_cell_carcinoma"}  # fmt: skip
# These two are also measured, under their plain names.
_RATED = {"texture": "rated_texture", "sphericity": "rated_sphericity"}
# Two positions nearer than this are one mark, whatever their diameters; and a position or box so near to the middle of a
# nodule of 3 mm or more, as readers outlined it, is that nodule.
_SAME_MM, _SAME_AS_OUTLINED_MM = 1.0, 3.0
# On an interpolated grid, an outline may lie so many slices off the next one.
_OFF_SLICE = 0.25


@dataclass(frozen=True, eq=False)
class LesionMask:
    """Voxels [z, y, x] of a lesion in the smallest box, and where they lie."""

    voxels: NDArray[np.bool_]
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion. center: (x, y, z) LPS mm, None where it is not known. reason: why it is not to be cut, else "".

    boxes: corners [4, 3] of each box of its slices, in LPS mm. radius: mm, None where nobody says it. said: the mark's
    own class, whatever `label` is by the recipe.
    """

    mark: Literal["readers", "point", "box"]
    center: Place | None
    label: str | None
    reason: str = ""
    radius: float | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    mask: LesionMask | None = None
    boxes: tuple[NDArray[np.float64], ...] = ()
    said: str | None = None


@dataclass(frozen=True)
class Lesions:
    """All lesions of a volume. merged: marks of lesions that are marked in another way, or in another file, too."""

    lesions: list[Lesion]
    merged: int


def find_lesions(volume: VolumeFile, geometry: Geometry | None, marks: VolumeMarks, section: CtSection) -> Lesions:
    """Lesions of a volume whose array has `geometry`, in the order: readers' outlines, positions, boxes."""
    if geometry is None:
        nowhere = [Lesion("readers", None, None, NO_PLACE) for one in marks.readings for _ in one.nodules]
        nowhere += [Lesion("point", None, point.label, NO_PLACE) for point in marks.points]
        nowhere += [Lesion("box", None, box.label, NO_PLACE) for _, box in marks.boxes]
        return Lesions(nowhere, 0)
    outlined: list[Lesion] = []
    merged = 0
    for reading in marks.readings:
        own = list(_outlined(volume, geometry, reading, section))
        # Two files may be readings of one series; the first that has a nodule counts.
        new = [lesion for lesion in own if not any(_is_same(lesion, other) for other in outlined)]
        outlined, merged = [*outlined, *new], merged + len(own) - len(new)
    pointed, joined = _pointed(geometry, marks.points, outlined, section)
    boxed = list(_boxed(volume, geometry, marks.boxes, section))
    alone = [lesion for lesion in boxed if not any(_is_same(lesion, other) for other in outlined)]
    return Lesions([*outlined, *pointed, *alone], merged + joined + len(boxed) - len(alone))


def lps_geometry(geometry: Geometry) -> Geometry:
    """Geometry of the array after `in_lps_order`."""
    return in_lps_order(np.broadcast_to(np.int8(0), geometry.size), geometry)[1]


def _outlined(volume: VolumeFile, geometry: Geometry, reading: LidcReading, section: CtSection) -> Iterator[Lesion]:
    # Outlines are pixels of the DICOM images. ITK keeps these axes in MetaImage and NRRD; converters to NIfTI mirror them.
    grid = lps_geometry(geometry) if volume.kind == "nifti" else geometry
    slices = grid.world(np.column_stack([np.arange(grid.size[0]), np.zeros((grid.size[0], 2))]))[:, 2]
    steps = np.diff(slices)
    if not ((steps > 0).all() or (steps < 0).all()):
        for _ in reading.nodules:
            yield Lesion("readers", None, None, "outlines of axial slices, but the volume has other ones")
        return
    nodules = []
    for nodule in reading.nodules:
        placed = nodule if volume.problem is None else _on_interpolated(nodule, volume, geometry)
        if placed is None:
            yield Lesion("readers", None, None, "outlined on slices that are missing or lie unevenly")
        else:
            nodules.append(placed)
    for cluster in cluster_nodules(nodules, grid.spacing[1:], grid.spacing[0]):
        yield _cluster_lesion(cluster, grid, slices, section)
    for point in reading.points:
        yield _small_lesion(point, grid, slices)


def _on_interpolated(nodule: LidcNodule, volume: VolumeFile, geometry: Geometry) -> LidcNodule | None:
    """A nodule's outlines on the regular grid that a series with gaps, uneven spacing or tilt is interpolated on.

    None where an outline is on no slice of this grid, or the grid has a slice between them without one.
    """
    from synthoma.formats.volumes.dicom import pixel_to_world

    own = {one.sop_instance_uid for one in volume.slices}
    contours, found = [], set()
    for contour in nodule.contours:
        if contour.sop_instance_uid not in own:
            return None
        index = geometry.index(pixel_to_world(volume, str(contour.sop_instance_uid), contour.points))
        k = round(float(index[:, 0].mean()))
        if np.abs(index[:, 0] - k).max() > _OFF_SLICE:
            return None
        found.add(k)
        points = np.rint(index[:, [2, 1]]).astype(np.int64)
        contours.append(replace(contour, z=float(geometry.world((k, 0, 0))[2]), points=points))
    return None if max(found) - min(found) >= len(found) else replace(nodule, contours=tuple(contours))


def _cluster_lesion(cluster: NoduleCluster, grid: Geometry, slices: NDArray[np.float64], section: CtSection) -> Lesion:
    ratings = summarise_ratings(cluster)
    attributes: dict[str, AttributeValue] = {_RATED.get(name, name): own.median for name, own in ratings.items()}
    if "malignancy" in ratings:
        attributes |= {"malignancy_readers": ratings["malignancy"].readers, "malignancy_sd": ratings["malignancy"].sd}
    attributes["readers"] = float(cluster.readers)
    nothing = Lesion("readers", None, None, attributes=attributes)
    try:
        found = consensus(cluster, slices, section.consensus)
    except MarksError:
        return replace(nothing, reason="outlines on none of the volume's slices")
    mask, start = found.mask.mask, np.asarray(found.mask.start)
    if (start < 0).any() or (start + mask.shape > grid.size).any():
        return replace(nothing, reason=OUTSIDE)
    if found.center is None:
        return replace(nothing, reason="outlines of the readers without a common voxel")
    own = LesionMask(mask, Geometry.from_steps(mask.shape, grid.steps, grid.world(start)))
    radius = (3 * mask.sum() * np.prod(grid.spacing) / (4 * np.pi)) ** (1 / 3)
    label, reason = _rated_class(ratings, section)
    if cluster.unresolved:
        reason = "outlines that cannot be told apart"
    elif cluster.readers < section.min_readers:
        reason = f"outlined by fewer readers than ct.min_readers ({cluster.readers} of {section.min_readers})"
    return replace(
        nothing, center=_place(grid.world(found.center)), mask=own, radius=float(radius), label=label, reason=reason
    )


def _rated_class(ratings: Mapping[str, RatingSummary], section: CtSection) -> tuple[str | None, str]:
    """Class by the readers' ratings, and why the nodule is not to be cut."""
    if section.label in ("none", "texture"):
        return None, ""
    if "malignancy" not in ratings:
        return None, UNRATED if section.label == "suspicion" else ""
    label = suspicion_label(ratings)
    if label is None:
        return "rated_indeterminate", INDETERMINATE if section.indeterminate == "drop" else ""
    return label, ""


def _small_lesion(point: LidcPoint, grid: Geometry, slices: NDArray[np.float64]) -> Lesion:
    order = np.argsort(slices)
    k = float(np.interp(point.z, slices[order], order.astype(np.float64)))
    center = _place(grid.world((k, point.y, point.x)))
    return Lesion("readers", center, None, NO_NODULE if point.kind == "non_nodule" else SMALL)


def _pointed(
    geometry: Geometry, points: Sequence[Mark], outlined: Sequence[Lesion], section: CtSection
) -> tuple[list[Lesion], int]:
    """Lesions of positions without those that are marked already; and how many were."""
    found: list[Lesion] = []
    merged = 0
    # Those that say a diameter come first, so that it is kept.
    for point in sorted(points, key=lambda point: point.diameter is None):
        lesion = _point_lesion(geometry, point, section)
        if any(_is_same(lesion, other) for other in [*outlined, *found]):
            merged += 1
        else:
            found.append(lesion)
    return found, merged


def _point_lesion(geometry: Geometry, point: Mark, section: CtSection) -> Lesion:
    radius = None if point.diameter is None else point.diameter / 2
    attributes: dict[str, AttributeValue] = dict(point.attributes)
    if point.diameter is not None:
        attributes["marked_diameter_mm"] = point.diameter
    reason = ""
    if not geometry.contains(geometry.index(point.position)):
        reason = OUTSIDE
    elif point.label == "excluded":
        reason = "excluded in LUNA16"
    elif section.label == "suspicion":
        reason = UNRATED
    elif section.label == "texture" and point.label == "non_nodule":
        reason = "no nodule by its mark"
    label = point.label if section.label == "auto" else None
    return Lesion("point", point.position, label, reason, radius, attributes, said=point.label)


def _is_same(lesion: Lesion, other: Lesion) -> bool:
    """Whether a position is that of a lesion which is known; a finding that is no nodule is none."""
    if lesion.center is None or other.center is None or other.reason in (NO_NODULE, SMALL) or lesion.reason == OUTSIDE:
        return False
    if lesion.said != other.said and (other.mark == "point" or lesion.said == "non_nodule"):
        return False
    return math.dist(lesion.center, other.center) <= max(
        _SAME_AS_OUTLINED_MM if other.mark == "readers" else _SAME_MM, other.radius or 0.0
    )


def _boxed(
    volume: VolumeFile, geometry: Geometry, boxes: Sequence[tuple[int, SliceBox]], section: CtSection
) -> Iterator[Lesion]:
    from synthoma.formats.volumes.dicom import pixel_to_world

    height, width = geometry.size[1], geometry.size[2]
    usable = []
    for index, box in boxes:
        x0, y0, x1, y1 = box.box
        if volume.problem is not None:
            # The grid that the slices are interpolated on may be larger than they are.
            usable.append((index, box))
        elif box.image_size not in (None, (width, height)):
            yield Lesion("box", None, None, "box of an image of another size")
        elif x1 > width or y1 > height:
            yield Lesion("box", None, None, OUTSIDE)
        else:
            usable.append((index, box))
    for lesion in joined_boxes(usable):
        corners = []
        for _, box in lesion:
            x0, y0, x1, y1 = box.box
            pixels = np.array([(x0, y0), (x1, y0), (x0, y1), (x1, y1)])
            corners.append(np.asarray(pixel_to_world(volume, box.sop_instance_uid, pixels)))
        x0, y0 = np.min([box.box[:2] for _, box in lesion], axis=0)
        x1, y1 = np.max([box.box[2:] for _, box in lesion], axis=0)
        middle = np.array([((x0 + x1) / 2, (y0 + y1) / 2)])
        ends = [pixel_to_world(volume, lesion[i][1].sop_instance_uid, middle)[0] for i in (0, -1)]
        longest = max((x1 - x0) * geometry.spacing[2], (y1 - y0) * geometry.spacing[1])
        name = lesion[0][1].label
        label = _CLASSES.get(name, name) if section.label == "auto" else None
        reason = UNRATED if section.label == "suspicion" else ""
        attributes: dict[str, AttributeValue] = {
            "marked_diameter_mm": float(longest),
            "marked_slices": float(len(lesion)),
        }
        yield Lesion(
            "box", _place(np.mean(ends, axis=0)), label, reason, float(longest) / 2, attributes, boxes=tuple(corners)
        )


def joined_boxes(boxes: Sequence[tuple[int, SliceBox]]) -> list[list[tuple[int, SliceBox]]]:
    """Boxes (with the number of their slice) that are one lesion, in the order of their slices.

    Two boxes of a class belong together if they overlap, on one slice or on neighbouring ones.
    """
    groups: list[list[tuple[int, SliceBox]]] = []
    for index, box in sorted(boxes, key=lambda pair: (pair[0], pair[1].box)):
        touching = [group for group in groups if any(_touch((index, box), other) for other in group)]
        groups = [group for group in groups if not any(group is one for one in touching)]
        groups.append([*(member for group in touching for member in group), (index, box)])
    return [sorted(group, key=lambda pair: pair[0]) for group in groups]


def _touch(one: tuple[int, SliceBox], other: tuple[int, SliceBox]) -> bool:
    if one[1].label != other[1].label or abs(one[0] - other[0]) > 1:
        return False
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = one[1].box, other[1].box
    return min(ax1, bx1) > max(ax0, bx0) and min(ay1, by1) > max(ay0, by0)


def _place(world: NDArray[np.float64]) -> Place:
    x, y, z = (float(value) for value in world)
    return x, y, z
