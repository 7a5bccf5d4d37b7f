"""Marks to volumes and lesions: each finds its place, each lesion is one, and what has no place is counted."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synthoma.ct_settings import CtSection
from synthoma.formats.marks import Contour, LidcNodule, LidcPoint, LidcReading, Mark, Marks, SliceBox
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.shapes import SliceFile, VolumeFile, VolumeKind
from synthoma.preparation.ct.join import VolumeMarks, join_marks, told_lost
from synthoma.preparation.ct.lesions import (
    INDETERMINATE,
    NO_NODULE,
    NO_PLACE,
    OUTSIDE,
    SMALL,
    UNRATED,
    find_lesions,
    joined_boxes,
)

GRID = Geometry((30, 60, 60), (2.5, 0.7, 0.7), (-20.0, -21.0, -40.0))
SERIES = "1.2.840.1"


def volume(
    series: str | None = SERIES,
    geometry: Geometry | None = GRID,
    path: str = "a/scan.mhd",
    kind: VolumeKind = "metaimage",
    slices: tuple[SliceFile, ...] = (),
    patient: str | None = None,
) -> VolumeFile:
    return VolumeFile(kind, Path(path), slices, geometry, "hu", patient, series)


def circle(center: tuple[float, float], radius: float) -> NDArray[np.int64]:
    """Pixels (x, y) just outside a disc, in order around it: LIDC's rule."""
    x, y = np.meshgrid(np.arange(60), np.arange(60))
    inside = (x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2
    edge = ~inside & (np.roll(inside, 1, 0) | np.roll(inside, -1, 0) | np.roll(inside, 1, 1) | np.roll(inside, -1, 1))
    points = np.column_stack([x[edge], y[edge]])
    return points[np.argsort(np.arctan2(points[:, 1] - center[1], points[:, 0] - center[0]))]


def ball_nodule(
    reader: int,
    malignancy: int | None,
    index: tuple[float, float, float] = (15, 30, 28),
    diameter: float = 12.0,
    grid: Geometry = GRID,
) -> LidcNodule:
    """A ball around the voxel `index` (z, y, x) as a reader would outline it on the slices of `grid`."""
    contours = []
    for k in range(grid.size[0]):
        square = (diameter / 2) ** 2 - ((k - index[0]) * grid.spacing[0]) ** 2
        if square > 0.5:
            z = float(grid.world((k, 0, 0))[2])
            contours.append(Contour(z, circle((index[2], index[1]), np.sqrt(square) / grid.spacing[1]), True))
    return LidcNodule(reader, {} if malignancy is None else {"malignancy": malignancy, "texture": 5}, tuple(contours))


def reading(*nodules: LidcNodule, points: tuple[LidcPoint, ...] = (), series: str = SERIES) -> LidcReading:
    return LidcReading(series, 4, nodules, points)


def mark(position: tuple[float, float, float], series: str = SERIES, **others: object) -> Mark:
    values: dict[str, object] = {"diameter": None, "label": "nodule", **others}
    return Mark(series, position, **values)  # type: ignore[arg-type]


def test_marks_find_volumes_by_series_stem_and_place() -> None:
    volumes = [volume(), volume("77", path="b/scan.nii.gz", kind="nifti")]
    marks = Marks(points=tuple(mark((0, 0, 0), name) for name in (SERIES, "b/scan", "b/scan.nii.gz", "77", "nobody")))
    found = join_marks(volumes, ["a/scan.mhd", "b/scan.nii.gz"], marks)
    assert [len(one.points) for one in found.marks] == [1, 3]
    assert found.lost == {"point_absent": 1}
    assert told_lost(found.lost) == ["1 position names a series or file that is not here."]


def test_of_two_volumes_with_one_name_the_one_that_holds_the_mark_has_it() -> None:
    far = Geometry((30, 60, 60), (2.5, 0.7, 0.7), (-20.0, -21.0, 200.0))
    volumes = [volume(), volume(geometry=far)]
    marks = Marks(points=(mark((0, 0, 0)), mark((0, 0, 230)), mark((0, 0, 900))))
    found = join_marks(volumes, ["a.mhd", "b.mhd"], marks)
    assert [len(one.points) for one in found.marks] == [1, 1]
    assert found.lost == {"point_outside": 1}
    both = join_marks([volume(), volume()], ["a.mhd", "b.mhd"], marks)
    assert both.lost == {"point_double": 1, "point_outside": 2}


def test_boxes_go_to_their_slice_and_absent_images_are_counted() -> None:
    slices = tuple(SliceFile(Path(f"{k}.dcm"), f"1.9.{k}", (0.0, 0.0, float(k))) for k in range(3))
    boxes = tuple(SliceBox(f"1.9.{k}", (1.0, 1.0, 4.0, 5.0), "adenocarcinoma") for k in (1, 2, 8, 9))
    found = join_marks([volume(kind="dicom", slices=slices)], ["a"], Marks(boxes=boxes))
    assert [index for index, _ in found.marks[0].boxes] == [1, 2]
    assert told_lost(found.lost) == ["2 boxes name images that are not here."]


def test_columns_that_name_persons_or_dates_do_not_come_along() -> None:
    attributes = {"grade": 2.0, "patient_id": "x", "scan_date": "20200101", "remark": "MRN-0042", "side": "left"}
    points = (mark((0, 0, 0), attributes=attributes),)
    found = join_marks([volume(patient="MRN-0042")], ["a.mhd"], Marks(points=points))
    assert found.marks[0].points[0].attributes == {"grade": 2.0, "side": "left"}
    assert found.left_out == ("patient_id", "scan_date", "remark")


@pytest.mark.parametrize(
    "kind_and_grid",
    [
        ("metaimage", GRID),
        # Stored from head to feet.
        ("dicom", Geometry((30, 60, 60), (2.5, 0.7, 0.7), (-20.0, -21.0, 40.0), ((0, 0, -1.0), (0, 1.0, 0), (1.0, 0, 0)))),
        # Prone: both axes of the image run the other way.
        ("dicom", Geometry((30, 60, 60), (2.5, 0.7, 0.7), (20.0, 21.0, -40.0), ((0, 0, 1.0), (0, -1.0, 0), (-1.0, 0, 0)))),
    ],
)  # fmt: skip
def test_outlines_of_a_ball_become_its_mask_at_its_place(kind_and_grid: tuple[VolumeKind, Geometry]) -> None:
    kind, grid = kind_and_grid
    nodules = [ball_nodule(reader, rating, grid=grid) for reader, rating in enumerate((4, 5, 5, 2), start=1)]
    (lesion,) = find_lesions(volume(kind=kind), grid, VolumeMarks((reading(*nodules),)), CtSection()).lesions
    assert lesion.reason == ""
    assert lesion.label == "rated_suspicious"
    np.testing.assert_allclose(lesion.center, grid.world((15, 30, 28)), atol=0.05)
    assert lesion.mask is not None
    volume_mm3 = lesion.mask.voxels.sum() * np.prod(grid.spacing)
    assert volume_mm3 == pytest.approx(np.pi / 6 * 12**3, rel=0.05)
    places = lesion.mask.geometry.world(np.argwhere(lesion.mask.voxels))
    np.testing.assert_allclose(places.mean(axis=0), lesion.center, atol=1e-6)
    assert np.linalg.norm(places - lesion.center, axis=1).max() < 6.5
    assert lesion.attributes["malignancy"] == 4.5
    assert lesion.attributes["malignancy_sd"] == pytest.approx(np.std([4, 5, 5, 2]))
    assert lesion.attributes["readers"] == lesion.attributes["malignancy_readers"] == 4
    assert lesion.attributes["rated_texture"] == 5
    assert "texture" not in lesion.attributes


def test_a_nifti_whose_rows_are_mirrored_has_its_outlines_where_dicom_had_them() -> None:
    mirrored = Geometry((30, 60, 60), (2.5, 0.7, 0.7), (-20.0, -21.0 + 59 * 0.7, -40.0), ((0, 0, 1.0), (0, -1.0, 0), (1.0, 0, 0)))  # fmt: skip
    marks = VolumeMarks((reading(ball_nodule(1, 4)),))
    (lesion,) = find_lesions(volume(kind="nifti"), mirrored, marks, CtSection()).lesions
    np.testing.assert_allclose(lesion.center, GRID.world((15, 30, 28)), atol=0.05)


@pytest.mark.parametrize(
    ("ratings", "settings", "expected"),
    [
        ((1, 2), {}, ("rated_benign", "")),
        ((3, 3), {}, ("rated_indeterminate", INDETERMINATE)),
        ((3, 3), {"indeterminate": "keep"}, ("rated_indeterminate", "")),
        ((3, 3), {"label": "none"}, (None, "")),
        ((3, 3), {"label": "texture"}, (None, "")),
        ((None, None), {}, (None, "")),
        ((None, None), {"label": "suspicion"}, (None, UNRATED)),
        ((4, 4), {"min_readers": 3}, ("rated_suspicious", "outlined by fewer readers than ct.min_readers (2 of 3)")),
    ],
)
def test_classes_of_rated_nodules(
    ratings: tuple[int | None, ...], settings: dict[str, object], expected: tuple[str | None, str]
) -> None:
    nodules = [ball_nodule(reader, rating) for reader, rating in enumerate(ratings, start=1)]
    section = CtSection.model_validate(settings)
    (lesion,) = find_lesions(volume(), GRID, VolumeMarks((reading(*nodules),)), section).lesions
    assert (lesion.label, lesion.reason) == expected


def test_what_cannot_be_cut_is_listed_with_its_reason() -> None:
    points = (LidcPoint(1, "small_nodule", 10, 12, -10.0), LidcPoint(2, "non_nodule", 20, 22, 0.0))
    elsewhere = ball_nodule(1, 4)
    elsewhere = LidcNodule(1, {}, tuple(Contour(one.z + 500, one.points, True) for one in elsewhere.contours))
    marks = VolumeMarks((reading(elsewhere, points=points),), (mark((500, 0, 0)), mark((0, 0, 0), label="excluded")))
    found = find_lesions(volume(), GRID, marks, CtSection()).lesions
    assert [one.reason for one in found] == [
        "outlines on none of the volume's slices",
        SMALL,
        NO_NODULE,
        OUTSIDE,
        "excluded in LUNA16",
    ]
    np.testing.assert_allclose(found[1].center, (-20 + 7.0, -21 + 8.4, -10), atol=1e-6)
    nowhere = find_lesions(volume(geometry=None), None, marks, CtSection()).lesions
    assert [one.reason for one in nowhere] == [NO_PLACE] * 3


def test_a_position_within_a_consensus_is_the_same_lesion() -> None:
    marks = VolumeMarks(
        (reading(ball_nodule(1, 5), ball_nodule(2, 4)),),
        (
            mark(tuple(np.add(GRID.world((15, 30, 28)), (2, 1, 1)).tolist()), diameter=11.0),
            mark((15.0, 15.0, 20.0), diameter=6.0),
            mark((15.5, 15.0, 20.0)),
            mark((0.0, 0.0, 0.0), label="non_nodule"),
        ),
    )
    found = find_lesions(volume(), GRID, marks, CtSection())
    assert found.merged == 2
    assert [(one.mark, one.label) for one in found.lesions] == [
        ("readers", "rated_suspicious"),
        ("point", "nodule"),
        ("point", "non_nodule"),
    ]
    assert found.lesions[1].attributes == {"marked_diameter_mm": 6.0}


def test_two_readings_of_a_series_are_one_list_of_nodules() -> None:
    first, second = ball_nodule(1, 5), ball_nodule(1, 2, index=(20, 10, 12), diameter=8.0)
    marks = VolumeMarks((reading(first), reading(ball_nodule(1, 4), second)))
    found = find_lesions(volume(), GRID, marks, CtSection())
    assert found.merged == 1
    assert [one.label for one in found.lesions] == ["rated_suspicious", "rated_benign"]


def box(index: int, *corners: float, label: str = "adenocarcinoma") -> tuple[int, SliceBox]:
    x0, y0, x1, y1 = corners
    return index, SliceBox(f"1.{index}", (x0, y0, x1, y1), label)


def test_boxes_on_neighbouring_slices_that_overlap_are_one_lesion() -> None:
    chain = [box(4, 10, 10, 20, 20), box(5, 12, 12, 22, 22), box(6, 20, 20, 26, 26)]
    apart = [box(8, 20, 20, 26, 26), box(5, 40, 40, 44, 44), box(5, 12, 12, 20, 20, label="small_cell")]
    groups = joined_boxes([*chain, *apart])
    assert sorted(len(group) for group in groups) == [1, 1, 1, 3]
    assert next(group for group in groups if len(group) == 3) == chain
