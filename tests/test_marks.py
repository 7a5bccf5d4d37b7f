"""Radiologists' marks: what LIDC's XML, boxes and tables say is read as it was meant."""

import pytest

pytest.importorskip("defusedxml")

from marks_fixture import RATINGS, SERIES, SOP, SQUARE, lidc, nodule, non_nodule, read, roi, voc, voc_object

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
