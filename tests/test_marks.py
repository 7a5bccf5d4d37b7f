"""Radiologists' marks: what files say is read as it was meant, and damaged or hostile ones end in clear errors."""

import itertools
import random
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("defusedxml")

from synthoma.errors import MarksError
from synthoma.formats.marks import (
    CHARACTERISTICS,
    Contour,
    LidcNodule,
    LidcReading,
    Marks,
    NoduleCluster,
    RatingSummary,
    cluster_nodules,
    consensus,
    contour_mask,
    fill_contour,
    read_marks,
    summarise_ratings,
    suspicion_label,
)

SERIES = "1.2.840.999.7.31"
SOP = "1.2.840.999.8.44"
SQUARE = [(10, 20), (14, 20), (14, 24), (10, 24)]
RATINGS = dict.fromkeys(CHARACTERISTICS, 3) | {"malignancy": 5, "internal_structure": 1}


def roi(points: object, z: object = -50.0, inclusion: object = "TRUE") -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)  # type: ignore[attr-defined]
    return (
        f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{SOP}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


def nodule(*rois: str, ratings: dict[str, object] | None = None) -> str:
    given = RATINGS if ratings is None else ratings
    tags = "".join(
        f"<{tag}>{grade}</{tag}>"
        for name, grade in given.items()
        for tag in [name.replace("internal_structure", "internalStructure")]
    )
    rated = f"<characteristics>{tags}</characteristics>" if given else ""
    return f"<unblindedReadNodule><noduleID>Doe^Jane</noduleID>{rated}{''.join(rois)}</unblindedReadNodule>"


def non_nodule(x: object = 7, y: object = 8, z: object = -3.5) -> str:
    return (
        f"<nonNodule><nonNoduleID>9</nonNoduleID><imageZposition>{z}</imageZposition><imageSOP_UID>{SOP}</imageSOP_UID>"
        f"<locus><xCoord>{x}</xCoord><yCoord>{y}</yCoord></locus></nonNodule>"
    )


def lidc(*sessions: str, head: str = '<?xml version="1.0"?>', series: str = SERIES) -> str:
    inside = "".join(
        f"<readingSession><annotationVersion>3.12</annotationVersion><servicingRadiologistID>Doe^Jane"
        f"</servicingRadiologistID>{session}</readingSession>"
        for session in sessions
    )
    return (
        f'{head}<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader><SeriesInstanceUid>{series}'
        f"</SeriesInstanceUid></ResponseHeader>{inside}</LidcReadMessage>"
    )


def voc(*objects: str, size: str = "<size><width>512</width><height>400</height></size>") -> str:
    return f'<annotation verified="no"><folder>Unknow</folder>{size}{"".join(objects)}</annotation>'


def voc_object(name: str = "A", box: tuple[object, ...] = (286, 310, 355, 399), difficult: int = 0) -> str:
    tags = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><Difficult>{difficult}</Difficult><bndbox>{tags}</bndbox></object>"


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(tmp_path: Path, content: str | bytes, name: str = "marks.txt") -> Marks:
    return read_marks(written(tmp_path / name, content))


def reading(tmp_path: Path, *sessions: str) -> LidcReading:
    return read(tmp_path, lidc(*sessions)).readings[0]


def drawn(reader: int, points: object, zs: tuple[float, ...] = (0.0,), **ratings: int) -> LidcNodule:
    return LidcNodule(reader, ratings, tuple(Contour(z, np.array(points, dtype=np.int64), True) for z in zs))


def box_at(x: int, y: int, side: int = 4) -> list[tuple[int, int]]:
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


# --- LIDC -----------------------------------------------------------------------------------------------------------


def test_a_reading_has_readers_nodules_points_and_ratings(tmp_path):
    marks = read(
        tmp_path,
        lidc(
            nodule(roi(SQUARE, -50), roi(SQUARE, -52.5, "FALSE"))
            + nodule(roi([(5, 6)], -10), ratings={})
            + non_nodule(),
            "",
        ),
    )
    assert marks.files == {"lidc": 1}
    assert marks.skipped == ()
    (one,) = marks.readings
    assert (one.series, one.readers) == (SERIES, 2)
    (big,) = one.nodules
    assert big.reader == 1
    assert dict(big.ratings) == RATINGS
    assert [(contour.z, contour.inclusion, contour.sop_instance_uid) for contour in big.contours] == [
        (-50.0, True, SOP),
        (-52.5, False, SOP),
    ]
    assert big.contours[0].points.tolist() == [list(point) for point in SQUARE]
    (small,), (other,) = one.small_nodules, one.non_nodules
    assert (small.x, small.y, small.z, small.reader) == (5, 6, -10.0, 1)
    assert (other.x, other.y, other.z) == (7, 8, -3.5)


def test_no_repr_shows_a_uid(tmp_path):
    marks = read(tmp_path, lidc(nodule(roi(SQUARE)) + non_nodule()))
    boxes = read(tmp_path, voc(voc_object()), f"{SOP}.xml")
    table = read(tmp_path, f"series,x,y,z\n{SERIES},1,2,3\n")
    for text in (repr(marks), repr(boxes), repr(table), repr(marks.readings[0]), repr(marks.readings[0].nodules)):
        assert SERIES not in text
        assert SOP not in text
    assert boxes.boxes[0].sop_instance_uid == SOP


@pytest.mark.parametrize(
    ("session", "place", "reason"),
    [
        (nodule(), "reader 1, nodule 2", "no roi"),
        (nodule(roi([])), "reader 1, nodule 2", "roi 1 has no edgeMap"),
        (nodule(roi(SQUARE), roi(SQUARE, "")), "reader 1, nodule 2", "roi 2 has no imageZposition"),
        (nodule(roi(SQUARE, "nan")), "reader 1, nodule 2", "imageZposition that is no number"),
        (nodule(roi(SQUARE, 1e9)), "reader 1, nodule 2", "beyond 10,000 mm"),
        (nodule(roi([(1, 2), (3, "x"), (4, 4)])), "reader 1, nodule 2", "yCoord that is no number"),
        (nodule(roi([(1, 2), (3, 3.5), (4, 4)])), "reader 1, nodule 2", "yCoord that is no whole number"),
        (nodule(roi([(1, 2), (-3, 3), (4, 4)])), "reader 1, nodule 2", "xCoord that is no whole number"),
        (nodule(roi(SQUARE, inclusion="maybe")), "reader 1, nodule 2", "TRUE or FALSE"),
        (nodule(roi(SQUARE).replace(SOP, "Doe^Jane")), "reader 1, nodule 2", "imageSOP_UID that is no UID"),
        (non_nodule(x=""), "reader 1, non-nodule 1", "no xCoord"),
        ("<nonNodule><imageZposition>1</imageZposition></nonNodule>", "reader 1, non-nodule 1", "no locus"),
        ("<blindedReadNodule/>", "reader 1", "neither unblindedReadNodule"),
    ],
)
def test_a_damaged_finding_is_left_out_as_a_whole_and_listed(tmp_path, session, place, reason):
    marks = read(tmp_path, lidc(nodule(roi(SQUARE)) + session))
    assert len(marks.readings[0].nodules) == 1
    assert marks.readings[0].points == ()
    (skipped,) = marks.skipped
    assert skipped.place == place
    assert reason in skipped.reason
    assert "Doe" not in skipped.reason + skipped.place


def test_a_rating_outside_its_scale_is_left_out_alone(tmp_path):
    marks = read(tmp_path, lidc(nodule(roi(SQUARE), ratings=RATINGS | {"malignancy": 6, "calcification": 6})))
    assert dict(marks.readings[0].nodules[0].ratings) == {
        name: grade for name, grade in (RATINGS | {"calcification": 6}).items() if name != "malignancy"
    }
    assert [(skip.place, skip.reason) for skip in marks.skipped] == [
        ("reader 1, nodule 1, malignancy", "has a malignancy that is no whole number between 1 and 5")
    ]
    marks = read(tmp_path, lidc(nodule(roi(SQUARE), ratings={})))
    assert dict(marks.readings[0].nodules[0].ratings) == {}
    assert "no characteristics" in marks.skipped[0].reason


# --- masks ----------------------------------------------------------------------------------------------------------


def strictly_inside(points: list[tuple[int, int]], x: int, y: int) -> bool:
    """Even-odd rule with exact fractions, one pixel at a time; the outline itself is outside."""
    inside = False
    for (xa, ya), (xb, yb) in zip(points, points[1:] + points[:1], strict=True):
        in_box = min(ya, yb) <= y <= max(ya, yb) and min(xa, xb) <= x <= max(xa, xb)
        if in_box and (xb - xa) * (y - ya) == (yb - ya) * (x - xa):
            return False
        if (ya > y) != (yb > y) and x < xa + Fraction((y - ya) * (xb - xa), yb - ya):
            inside = not inside
    return inside


def test_filling_agrees_with_exact_arithmetic_for_any_polygon():
    draw = random.Random(3)
    filled = 0
    for _ in range(60):
        points = [(draw.randrange(11), draw.randrange(11)) for _ in range(draw.randrange(1, 9))]
        inside, outline = fill_contour(np.array(points))
        x0, y0 = min(x for x, _ in points), min(y for _, y in points)
        expected = [
            [strictly_inside(points, x0 + x, y0 + y) for x in range(inside.shape[1])] for y in range(inside.shape[0])
        ]
        assert inside.tolist() == expected
        assert not (inside & outline).any()
        assert all(outline[y - y0, x - x0] for x, y in points)
        filled += int(inside.sum())
    assert filled > 300


def test_the_outline_is_outside_the_nodule_and_holes_are_taken_away():
    outer, hole = np.array(box_at(10, 20, 8)), np.array(box_at(12, 22, 4))
    mask = contour_mask([Contour(2.0, hole, False), Contour(2.0, outer, True)], [4.0, 3.0, 2.0, 1.0])
    assert mask.start == (2, 20, 10)
    assert mask.mask.shape == (1, 9, 9)
    expected = np.zeros((9, 9), dtype=bool)
    expected[1:8, 1:8] = True
    expected[2:7, 2:7] = False
    assert np.array_equal(mask.mask[0], expected)


def test_two_parts_on_one_slice_are_both_kept_and_a_slice_between_stays_empty():
    parts = [Contour(z, np.array(box_at(x, 0)), True) for z, x in ((0.0, 0), (0.0, 4), (2.0, 0))]
    mask = contour_mask(parts, [0.0, 1.0, 2.0]).mask
    assert mask.shape == (3, 5, 9)
    assert mask.sum(axis=(1, 2)).tolist() == [18, 0, 9]


def test_a_contour_on_no_slice_is_an_error():
    contour = Contour(7.4, np.array(SQUARE), True)
    with pytest.raises(
        MarksError, match=r"z = 7.4 mm is on none of the 3 slices from 5 to 10 mm \(the nearest is 1.40 mm"
    ):
        contour_mask([contour], [5.0, 6.0, 10.0])
    assert contour_mask([contour], [5.0, 7.5, 10.0]).start == (1, 20, 10)
    for positions in ([], [1.0, 3.0, 2.0], [1.0, 1.0], [0.0, float("nan")]):
        with pytest.raises(ValueError, match="z_positions"):
            contour_mask([contour], positions)
    with pytest.raises(ValueError, match="at least one contour"):
        contour_mask([], [0.0])


def test_outlines_that_span_the_whole_body_are_refused():
    far = [Contour(float(z), np.array([(0, 0), (16000, 0), (16000, 16000)]), True) for z in range(2)]
    with pytest.raises(MarksError, match="2 x 16001 x 16001 voxels"):
        contour_mask(far, [0.0, 1.0])


# --- clusters, consensus, ratings -----------------------------------------------------------------------------------


def test_readers_who_drew_one_nodule_are_joined_in_mm():
    near = [drawn(1, box_at(0, 0)), drawn(2, box_at(6, 0)), drawn(3, box_at(0, 40))]
    # The first two are 2 pixels apart in x: 1 mm at spacing 0.5, 4 mm at 2.0. y has a spacing of its own.
    assert [cluster.readers for cluster in cluster_nodules(near, (9.0, 0.5), 1.0)] == [2, 1]
    assert [cluster.readers for cluster in cluster_nodules(near, (9.0, 2.0), 1.0)] == [1, 1, 1]
    assert [cluster.readers for cluster in cluster_nodules(near, (9.0, 2.0), 1.0, tolerance=4.0)] == [2, 1]
    apart = [drawn(1, SQUARE, (0.0,)), drawn(2, SQUARE, (2.5,)), drawn(3, SQUARE, (7.5,))]
    assert [len(cluster.nodules) for cluster in cluster_nodules(apart, (0.7, 0.7), 2.5)] == [2, 1]
    assert cluster_nodules([], (1.0, 1.0), 1.0) == ()
    with pytest.raises(ValueError, match="spacings"):
        cluster_nodules(near, (0.0, 1.0), 1.0)


def test_clusters_do_not_depend_on_the_order_of_readers():
    parts = [drawn(1, box_at(0, 0)), drawn(2, box_at(5, 0)), drawn(3, box_at(10, 0)), drawn(4, box_at(90, 0), (5.0,))]
    for order in itertools.permutations(parts):
        clusters = cluster_nodules(order, (1.0, 1.0), 1.0)
        assert [sorted(nodule.reader for nodule in cluster.nodules) for cluster in clusters] == [[1, 2, 3], [4]]


def test_a_cluster_with_too_many_outlines_is_parted_and_others_are_left_alone():
    # Two nodules 2 px apart, drawn by four readers each; a third one of two outlines that are 2 px apart as well.
    left = [drawn(reader, box_at(0, reader % 2)) for reader in (1, 2, 3, 4)]
    right = [drawn(reader, box_at(6, reader % 2)) for reader in (1, 2, 3, 4)]
    third = [drawn(1, box_at(100, 9)), drawn(2, box_at(106, 9))]
    clusters = cluster_nodules(left + right + third, (1.0, 1.0), 2.0)
    assert [(len(cluster.nodules), cluster.unresolved) for cluster in clusters] == [(4, False), (4, False), (2, False)]
    assert {id(nodule) for nodule in clusters[0].nodules} == {id(nodule) for nodule in left}


def test_two_nodules_of_one_reader_are_parted_or_told():
    apart = [drawn(1, box_at(0, 0)), drawn(1, box_at(6, 0)), drawn(2, box_at(0, 0))]
    clusters = cluster_nodules(apart, (1.0, 1.0), 2.0)
    assert [(cluster.readers, len(cluster.nodules)) for cluster in clusters] == [(2, 2), (1, 1)]
    touching = [drawn(1, box_at(0, 0)), drawn(1, box_at(4, 0)), drawn(2, box_at(0, 0))]
    (cluster,) = cluster_nodules(touching, (1.0, 1.0), 2.0)
    assert (cluster.readers, len(cluster.nodules), cluster.unresolved) == (2, 3, True)


def test_the_consensus_is_the_mean_of_the_masks_at_a_level():
    a, b = drawn(1, box_at(10, 10, 6), (0.0, 2.5)), drawn(2, box_at(12, 10, 6), (0.0,))
    c = drawn(3, box_at(14, 10, 6), (0.0,))
    cluster = NoduleCluster((a, b, c))
    sums = {}
    for level in (0.1, 1 / 3, 0.5, 2 / 3, 1.0):
        sums[level] = int(consensus(cluster, [-2.5, 0.0, 2.5], level).mask.mask.sum())
    # Insides are columns 11-15, 13-17, 15-19 of five rows, and 11-15 once more on the second slice.
    assert sums == {0.1: 45 + 25, 1 / 3: 45 + 25, 0.5: 25, 2 / 3: 25, 1.0: 5}
    at_half = consensus(cluster, [-2.5, 0.0, 2.5])
    assert at_half.mask.start == (1, 10, 10)
    assert at_half.mask.mask.shape == (2, 7, 11)
    assert at_half.center == (1.0, 13.0, 15.0)
    assert (at_half.center_z, at_half.readers) == (0.0, 3)
    with pytest.raises(ValueError, match="level"):
        consensus(cluster, [-2.5, 0.0, 2.5], 0.0)


def test_an_empty_consensus_has_no_center():
    far = NoduleCluster((drawn(1, box_at(0, 0)), drawn(2, box_at(8, 0)), drawn(3, box_at(20, 0))))
    empty = consensus(far, [0.0])
    assert not empty.mask.mask.any()
    assert empty.center is None
    assert empty.center_z is None


def test_one_reader_with_two_outlines_has_one_vote_and_one_rating():
    twice = [drawn(1, box_at(0, 0), malignancy=1), drawn(1, box_at(4, 0), malignancy=4)]
    cluster = NoduleCluster((*twice, drawn(2, box_at(4, 0), malignancy=5)))
    assert int(consensus(cluster, [0.0], 1.0).mask.mask.sum()) == 9
    assert summarise_ratings(cluster) == {"malignancy": RatingSummary(3.75, 2, 1.25)}


@pytest.mark.parametrize(
    ("grades", "median", "label"),
    [
        ((1, 2, 2, 5), 2.0, "rated_benign"),
        ((2, 3), 2.5, "rated_benign"),
        ((3, 3, 5), 3.0, None),
        ((2, 4), 3.0, None),
        ((3, 4), 3.5, "rated_suspicious"),
        ((5,), 5.0, "rated_suspicious"),
    ],
)
def test_malignancy_is_a_median_with_readers_and_spread(grades, median, label):
    cluster = NoduleCluster(tuple(drawn(i, SQUARE, malignancy=grade) for i, grade in enumerate(grades)))
    ratings = summarise_ratings(cluster)
    mean = sum(grades) / len(grades)
    spread = (sum((grade - mean) ** 2 for grade in grades) / len(grades)) ** 0.5
    assert ratings["malignancy"].median == median
    assert ratings["malignancy"].readers == len(grades)
    assert ratings["malignancy"].sd == pytest.approx(spread)
    assert suspicion_label(ratings) == label
    assert suspicion_label({}) is None


# --- boxes ----------------------------------------------------------------------------------------------------------


def test_boxes_of_a_slice_have_the_class_of_their_letter(tmp_path):
    objects = [voc_object("E", (0, 1, 512, 400)), voc_object("E", difficult=1)]
    marks = read(tmp_path, voc(*objects), f"Lung_Dx-E0012/{SOP}.xml")
    assert [(box.sop_instance_uid, box.box, box.label, box.difficult) for box in marks.boxes] == [
        (SOP, (0.0, 1.0, 512.0, 400.0), "large_cell", False),
        (SOP, (286.0, 310.0, 355.0, 399.0), "large_cell", True),
    ]
    assert marks.boxes[0].image_size == (512, 400)
    assert marks.skipped == ()
    letters = {name: read(tmp_path, voc(voc_object(name)), f"{SOP}.xml").boxes[0].label for name in "ABgE"}
    assert letters == {"A": "adenocarcinoma", "B": "small_cell", "g": "squamous", "E": "large_cell"}
    assert read(tmp_path, voc(voc_object("")), f"G0001/{SOP}.xml").boxes[0].label == "squamous"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (voc_object("dog"), "none of the letters A, B, E, G"),
        (voc_object("B"), "is of class B, but its patient's folder of class A"),
        (voc_object(box=(300, 310, 300, 350)), "box without area"),
        (voc_object(box=(300, 310, 320, 401)), "beyond the borders"),
        (voc_object(box=(-1, 310, 320, 350)), "beyond the borders"),
        (voc_object(box=("inf", 310, 320, 350)), "xmin that is no number"),
        ("<object><name>A</name></object>", "no bndbox"),
    ],
)
def test_a_bad_box_is_listed_and_the_others_are_read(tmp_path, bad, reason):
    marks = read(tmp_path, voc(bad, voc_object("A")), f"A0001/{SOP}.xml")
    assert len(marks.boxes) == 1
    assert marks.skipped[0].place == "object 1"
    assert reason in marks.skipped[0].reason


# --- tables ---------------------------------------------------------------------------------------------------------


def test_luna16_tables_are_told_apart_by_their_columns(tmp_path):
    head = "seriesuid,coordX,coordY,coordZ"
    nodules = read(tmp_path, f"{head},diameter_mm\n{SERIES},-128.69,-175.3,-298.4,5.65\n")
    assert nodules.files == {"luna16_annotations": 1}
    (mark,) = nodules.points
    assert (mark.series, mark.position, mark.diameter, mark.label) == (
        SERIES,
        (-128.69, -175.3, -298.4),
        5.65,
        "nodule",
    )
    assert dict(mark.attributes) == {}
    candidates = read(tmp_path, f"{head},class\n{SERIES},1,2,3,0\n{SERIES},1,2,4,1\n")
    assert candidates.files == {"luna16_candidates": 1}
    assert [mark.label for mark in candidates.points] == ["non_nodule", "nodule"]
    excluded = read(tmp_path, f"{head},diameter_mm\n{SERIES},1,2,3,-1\n{SERIES},1,2,4,3.5\n")
    assert excluded.files == {"luna16_excluded": 1}
    assert [(mark.label, mark.diameter) for mark in excluded.points] == [("excluded", None), ("excluded", 3.5)]


def test_a_plain_table_has_attributes_as_numbers_or_texts(tmp_path):
    marks = read(
        tmp_path,
        "\ufeffFile; X_mm ;y;Z;Diameter_mm;label;lobe;age;note;Patient\r\n"
        "a.nii;1.5;-2;3e1;6;solid;RUL;61;;Doe^Jane\r\n\r\n"
        '"b;c.nii";0;0;0;;;LLL;na;"x\ny";Doe^Jane\r\n',
    )
    first, second = marks.points
    assert (first.series, first.position, first.diameter, first.label) == ("a.nii", (1.5, -2.0, 30.0), 6.0, "solid")
    assert dict(first.attributes) == {"lobe": "RUL", "age": 61.0, "note": None}
    assert (second.series, second.diameter, second.label) == ("b;c.nii", None, None)
    assert dict(second.attributes) == {"lobe": "LLL", "age": None, "note": "x\ny"}
    assert [(skip.place, skip.reason) for skip in marks.skipped] == [
        ("column 10", "may name a person; it was left out")
    ]
    assert "Doe" not in repr(marks)


def test_bad_rows_are_listed_by_line_without_their_values(tmp_path):
    rows = [
        "",
        ",1,2,3,4",
        "s,x9,2,3,4",
        "s,1,2,inf,4",
        "s,1,2,30000,4",
        "s,1,2,3,0",
        "s,1,2,3,900",
        "s,1,2",
        "s,1,2,3,4",
    ]
    marks = read(tmp_path, "\n".join(["series,x,y,z,diameter", *rows]))
    assert len(marks.points) == 1
    assert [skip.place for skip in marks.skipped] == [f"line {line}" for line in range(3, 10)]
    reasons = [skip.reason for skip in marks.skipped]
    assert [reason.partition(" ")[0] for reason in reasons] == ["names", *["has"] * 6]
    assert "x9" not in "".join(reasons)


# --- files and folders ----------------------------------------------------------------------------------------------

ENTITIES = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe  \n", "is empty"),
        (b" " * 5000, "neither XML nor a table"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither XML nor a table"),
        (b"a\xff,b\n", "UTF-8"),
        (b"just words\n", "no file of marks"),
        (b"x,y\n1,2\n", "no file of marks"),
        (SERIES.encode(), "no file of marks"),
        (b"series,x,X,y,z\n", "two columns have one name"),
        (b"series,x,coordX,y,z\n", "two columns for x"),
        (b"series,x,y,z\n", "without a usable row"),
        (f"patient,series,x,y,z\nDoe,{SERIES},1,Jane,3\n".encode(), "without a usable row; line 2 has a y that"),
        (b"seriesuid,coordX,coordY,coordZ,class\n1.2,1,2,3,7\n", "neither 0 nor 1"),
        (b"<svg/>", "neither a reading of LIDC"),
        (b"<IdriReadMessage/>", "radiographs"),
        (b"<LidcReadMessage/>", "does not name the CT series"),
        (lidc("").replace(SERIES, "Doe^Jane").encode(), "SeriesInstanceUid that is no UID"),
        (lidc().encode(), "no reading session"),
        (lidc("<a/>" * 1001).encode(), "more than 1,000 marks"),
        (lidc(nodule(roi(SQUARE)))[:-30].encode(), "truncated or damaged XML"),
        (lidc("&who;").encode(), "truncated or damaged XML"),
        (b"<LidcReadMessage>" + b"<a>" * 50 + b"</a>" * 50 + b"</LidcReadMessage>", "nested deeper than 32"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "encoding|damaged"),
        (lidc("", head=f'<!DOCTYPE a [<!ENTITY l0 "lol">{ENTITIES}]>').replace("3.12", "&l11;").encode(), "entities"),
        (lidc("", head='<!DOCTYPE a [<!ENTITY l SYSTEM "file:///etc/hostname">]>').encode(), "document type"),
        (lidc("", head="<!DOCTYPE LidcReadMessage>").encode(), "document type"),
        (b"<annotation><object/></annotation>", "no SOP instance UID"),
        (b"<annotation/>", "without any object"),
        (b"<LidcReadMessage>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</LidcReadMessage>", "nested deeper than 32"),
        (b"<LidcReadMessage>" + b" " * (8 << 20), "larger than 8 MB"),
    ],
)
def test_what_is_no_file_of_marks_says_so(tmp_path, content, message):
    path = written(tmp_path / "marks.xml", content)
    with pytest.raises(MarksError, match=message) as caught:
        read_marks(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert SERIES not in text
    assert "Doe" not in text


def test_a_mixed_folder_is_read_file_by_file(tmp_path):
    written(tmp_path / "marks/a/LIDC.csv", lidc(nodule(roi(SQUARE)) + nodule()))
    written(tmp_path / f"marks/A0001/{SOP}.xml", voc(voc_object("dog"), voc_object()))
    written(tmp_path / "marks/points.xml", "series,x,y,z\ns,1,2,3\n")
    written(tmp_path / "marks/Doe^Jane/broken.xml", "<LidcReadMessage>")
    written(tmp_path / "marks/Doe^Jane/1.dcm", bytes(200))
    marks = read_marks(tmp_path / "marks")
    assert marks.files == {"lidc": 1, "pet_ct_dx": 1, "table": 1}
    assert (len(marks.readings), len(marks.boxes), len(marks.points)) == (1, 1, 1)
    assert sorted(skip.place for skip in marks.skipped) == [
        "file 1 of 5, object 1",
        "file 2 of 5",
        "file 3 of 5",
        "file 4 of 5, reader 1, nodule 2",
    ]
    assert "Doe" not in repr(marks.skipped)
    assert SOP not in repr(marks.skipped)
    assert {skip.path.name for skip in marks.skipped} == {f"{SOP}.xml", "1.dcm", "broken.xml", "LIDC.csv"}


def test_a_folder_without_marks_is_an_error(tmp_path):
    written(tmp_path / "marks/Doe^Jane/1.dcm", bytes(200))
    with pytest.raises(MarksError, match=r"no file of marks among its 1 files; file 1 of 1 is") as caught:
        read_marks(tmp_path / "marks")
    assert "Doe" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MarksError, match="among its 0 files"):
        read_marks(tmp_path / "empty")
    with pytest.raises(MarksError, match="does not exist"):
        read_marks(tmp_path / "absent")


WHOLE = lidc(
    *[
        nodule(roi(SQUARE, z), roi(box_at(11, 20), z - 2.5)) + nodule(roi([(3, 4)]), ratings={}) + non_nodule()
        for z in (0, 1)
    ]
).encode()


@pytest.mark.parametrize("case", range(25))
def test_truncated_files_end_in_a_clear_error(tmp_path, case):
    cut = random.Random(case).randrange(1, len(WHOLE))
    with pytest.raises(MarksError, match=r"truncated or damaged|is XML, but|is empty"):
        read(tmp_path, WHOLE[:cut])


def damaged(draw: random.Random) -> bytes:
    """The whole file with bits flipped anywhere, or with digits of its values changed, so that it stays XML."""
    content = bytearray(WHOLE)
    if draw.random() < 0.4:
        for _ in range(draw.choice((1, 2, 5, 20))):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(content)
    values = [i for found in re.finditer(rb">([-0-9.]+)<", WHOLE) for i in range(*found.span(1))]
    for _ in range(draw.choice((1, 3, 10))):
        content[draw.choice(values)] = draw.choice(b"0123456789.-e ")
    return bytes(content)


def outcome(tmp_path: Path, content: bytes) -> Marks | str:
    try:
        return read(tmp_path, content)
    except MarksError as error:
        return str(error)


def test_damaged_bytes_end_in_a_clear_error_or_in_plausible_marks(tmp_path):
    draw = random.Random(5)
    ends = {"read": 0, "listed": 0, "error": 0}
    for _ in range(80):
        marks = outcome(tmp_path, damaged(draw))
        if isinstance(marks, str):
            ends["error"] += 1
            assert marks.startswith(str(tmp_path))
            assert not re.search(r"\d+\.\d+\.\d{3}|Doe", marks.removeprefix(str(tmp_path)))
            continue
        ends["listed" if marks.skipped else "read"] += 1
        assert not re.search(r"\d+\.\d+\.\d{3}|Doe", repr(marks.skipped))
        (one,) = marks.readings
        for found in one.nodules:
            assert set(found.ratings) <= set(CHARACTERISTICS)
            assert all(1 <= grade <= CHARACTERISTICS[name] for name, grade in found.ratings.items())
            assert all(abs(contour.z) <= 10_000 and contour.points.min() >= 0 for contour in found.contours)
    assert min(ends.values()) >= 10, ends


def test_without_defusedxml_tables_are_read_and_xml_names_the_extra(tmp_path):
    table = written(tmp_path / "a.csv", "series,x,y,z\ns,1,2,3\n")
    xml = written(tmp_path / "a.xml", lidc(nodule(roi(SQUARE))))
    code = (
        "import sys; sys.modules['defusedxml'] = None\n"
        "from pathlib import Path\n"
        "from synthoma.errors import MissingExtraError\n"
        "from synthoma.formats.marks import read_marks\n"
        f"print(len(read_marks(Path({str(table)!r})).points))\n"
        "try:\n"
        f"    read_marks(Path({str(xml)!r}))\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("1\n")
    assert "synthoma[ct]" in out
