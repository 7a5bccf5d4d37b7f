"""Annotation files: what pathologists' programs write is read as they meant it, and bad shapes are left out with their reason."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

shapely = pytest.importorskip("shapely")

from annotation_fixture import (  # noqa: E402
    SQUARE,
    area_of,
    asap,
    asap_shape,
    feature,
    imagescope,
    layer,
    moved,
    polygon,
    read,
    region,
    ring,
)
from synthoma.errors import MissingExtraError  # noqa: E402
from synthoma.formats.annotations import AnnotationIndex, read_annotations  # noqa: E402


def test_asap_kinds_groups_and_places(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        asap(
            asap_shape(SQUARE, "_0"),
            asap_shape([(5, 5)], "_0", "Dot"),
            asap_shape(SQUARE, "None", "Spline"),
            asap_shape(SQUARE, "  Größe ", "Rectangle"),
            asap_shape([(0, 0), (4, 2)], "_1", "Rectangle"),
            asap_shape([(5, 5), (6, 6), (7, 9)], "_0", "PointSet"),
        ),
    )
    assert file.format == "asap"
    assert [(a.label, a.place, a.negative) for a in file.annotations] == [
        ("_0", "annotation 1", False),
        (None, "annotation 3", False),
        ("Größe", "annotation 4", False),
        ("_1", "annotation 5", False),
    ]
    assert [area_of(a) for a in file.annotations] == [100, 100, 100, 8]
    assert [place for place, _ in file.skipped] == ["annotation 2", "annotation 6"]
    assert all("is no area" in reason for _, reason in file.skipped)
    assert file.labels == {"_0": 1, None: 1, "Größe": 1, "_1": 1}


def test_asap_points_stand_in_their_order(tmp_path: Path) -> None:
    shuffled = [SQUARE[i] for i in (2, 0, 3, 1)]
    file = read(tmp_path, asap(asap_shape(shuffled, order=[2, 0, 3, 1])))
    assert area_of(file.annotations[0]) == 100
    assert not file.repaired
    unnumbered = asap(asap_shape(SQUARE)).replace('Order="1"', "")
    assert area_of(read(tmp_path, unnumbered).annotations[0]) == 100


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "iso-8859-1"])
def test_xml_encodings(tmp_path: Path, encoding: str) -> None:
    declared = {"utf-8-sig": "UTF-8", "utf-16-le": "UTF-16"}.get(encoding, encoding)
    text = asap(asap_shape(SQUARE, "Größe"), head=f'<?xml version="1.0" encoding="{declared}"?>')
    assert read(tmp_path, text.encode(encoding)).annotations[0].label == "Größe"


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    file = read(tmp_path, asap(asap_shape(SQUARE, "Drüse"), asap_shape(moved(SQUARE, 50), "Dru\u0308se")))
    assert file.labels == {"Drüse": 2}
    assert AnnotationIndex(file.annotations, include=["Dru\u0308se"]).fraction(np.array([[0, 0, 10, 10]])) == {
        "Drüse": pytest.approx([1])
    }


def test_imagescope_layers_names_and_colours(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        imagescope(
            layer(region(SQUARE), name="Tumour"),
            layer(region(SQUARE), region(SQUARE, negative="1"), colour="16711935"),
            layer(region(SQUARE), colour="255"),
            layer(region(SQUARE), colour="16711680"),
            layer(region(SQUARE), colour="green"),
        ),
    )
    assert (file.format, file.microns_per_pixel) == ("imagescope", 0.252)
    assert [(a.label, a.negative, a.place) for a in file.annotations] == [
        ("Tumour", False, "annotation 1, region 1"),
        ("#FF00FF", False, "annotation 2, region 1"),
        ("#FF00FF", True, "annotation 2, region 2"),
        ("#FF0000", False, "annotation 3, region 1"),
        ("#0000FF", False, "annotation 4, region 1"),
        (None, False, "annotation 5, region 1"),
    ]
    assert file.labels == {"Tumour": 1, "#FF00FF": 1, "#FF0000": 1, "#0000FF": 1, None: 1}


def test_imagescope_shapes(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        imagescope(
            layer(
                region([(0, 0), (8, 4)], "1"),
                region(SQUARE, "1"),
                region([(2, 2), (12, 22)], "2"),
                region([(2, 2), (12, 2), (12, 22), (2, 22)], "2"),
                region(SQUARE, "4"),
                region([(0, 0), (8, 4)], "0"),
            )
        ),
    )
    rectangle, given, ellipse, same = (a.geometry for a in file.annotations)
    assert (rectangle.area, given.area) == (32, 100)
    assert len(ellipse.exterior.coords) == 65
    # A 64-gon in an ellipse of half axes 5 and 10 has 64/2 sin(2 pi / 64) of their product.
    assert ellipse.area == pytest.approx(32 * np.sin(2 * np.pi / 64) * 50)
    assert ellipse.bounds == pytest.approx((2, 2, 12, 22))
    assert ellipse.equals(same)
    assert [place for place, _ in file.skipped] == ["annotation 1, region 5", "annotation 1, region 6"]
    assert "0 (outline)" in file.skipped[0][1]
    assert "3 different points" in file.skipped[1][1]


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "x", "1e9"])
def test_an_implausible_resolution_is_unknown(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, imagescope(layer(region(SQUARE)), mpp=text)).microns_per_pixel is None


BAD_RINGS = {
    "two points": ([(0, 0), (5, 5)], "3 different points"),
    "one point often": ([(3, 3)] * 9, "3 different points"),
    "a line": ([(0, 0), (5, 5), (9, 9), (2, 2)], "no area"),
    "no points": ([], "3 different points"),
    "far away": ([(0, 0), (2e7, 0), (2e7, 5)], "beyond 10,000,000"),
    "far below": ([(0, 0), (5, 0), (5, -1e300)], "beyond 10,000,000"),
    "not a number": ([(0, 0), (float("nan"), 0), (5, 5)], "not finite"),
    "infinite": ([(0, 0), (float("inf"), 0), (5, 5)], "not finite"),
}


@pytest.mark.parametrize("name", list(BAD_RINGS))
def test_a_bad_shape_is_left_out_with_its_reason(tmp_path: Path, name: str) -> None:
    points, reason = BAD_RINGS[name]
    bad = {"type": "Polygon", "coordinates": [[list(point) for point in points]]}
    for content, place in (
        (asap(asap_shape(SQUARE), asap_shape(points)), "annotation 2"),
        (imagescope(layer(region(SQUARE), region(points))), "annotation 1, region 2"),
        ([feature(polygon(SQUARE)), feature(bad)], "feature 2"),
    ):
        file = read(tmp_path, content)
        assert [area_of(a) for a in file.annotations] == [100]
        ((where, why),) = file.skipped
        assert where == place
        assert reason in why


@pytest.mark.parametrize("text", ["abc", "", "1,5", "1_0", "0x10", "&#233;"])
def test_text_for_a_coordinate_is_left_out_with_its_reason(tmp_path: Path, text: str) -> None:
    wrong = [(0, 0), (5, 0), (5, 5)]
    for content in (
        asap(asap_shape(wrong).replace('X="5" Y="5"', f'X="5" Y="{text}"')),
        imagescope(layer(region(wrong).replace('X="5" Y="5"', f'X="{text}" Y="5"'))),
    ):
        file = read(tmp_path, content)
        assert file.annotations == ()
        assert "of point 3 is no number" in file.skipped[0][1]


def test_a_figure_of_eight_keeps_both_halves(tmp_path: Path) -> None:
    file = read(tmp_path, feature(polygon([(0, 0), (10, 10), (10, 0), (0, 10)])))
    assert area_of(file.annotations[0]) == pytest.approx(50)
    assert file.annotations[0].geometry.is_valid
    ((place, what),) = file.repaired
    assert place == "feature 1"
    assert "self-intersection" in what


def test_a_repair_that_leaves_a_crossing_is_repaired_again(tmp_path: Path) -> None:
    """Found by flipping digits of a real file: here GEOS's own rounding makes a new crossing (GEOS 3.14)."""
    points = [(944610, 6008), (9719, 6005), (9726, 6004), (9734, 6001), (9719, 6005), (9726, 6004)]
    (found,) = read(tmp_path, asap(asap_shape(points))).annotations
    assert found.geometry.is_valid


def test_a_line_that_runs_round_twice_makes_no_hole(tmp_path: Path) -> None:
    """A hand that overshoots its start encloses the overlap twice; that is inside, not a hole."""
    twice = [(0, 0), (10, 0), (10, 10), (0, 10), (0, -2), (8, -2), (8, 8), (2, 8), (2, 1)]
    file = read(tmp_path, asap(asap_shape(twice)))
    assert area_of(file.annotations[0]) == pytest.approx(10 * 10 + 8 * 2)
    assert file.annotations[0].geometry.contains(shapely.Point(5, 5))


def test_a_hole_that_sticks_out_only_cuts_what_is_there(tmp_path: Path) -> None:
    file = read(tmp_path, feature(polygon(SQUARE, [(5, 5), (15, 5), (15, 8), (5, 8)])))
    assert area_of(file.annotations[0]) == pytest.approx(85)
    file = read(tmp_path, feature(polygon(SQUARE, [(5, 5), (6, 5)])))
    assert area_of(file.annotations[0]) == 100
    assert "hole without area" in file.repaired[0][1]


def test_a_bad_part_leaves_the_others(tmp_path: Path) -> None:
    parts = {"type": "MultiPolygon", "coordinates": [[ring(SQUARE)], [[[0, 0], [1, 1]]], [ring(moved(SQUARE, 30))], 7]}
    file = read(tmp_path, feature(parts))
    assert area_of(file.annotations[0]) == 200
    assert [place for place, _ in file.skipped] == ["feature 1, part 4", "feature 1, part 2"]


@pytest.mark.parametrize("package", ["shapely", "defusedxml"])
def test_without_the_packages_the_extra_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*synthoma\[slides\]"):
        read_annotations(tmp_path / "x.xml")


def test_importing_does_not_import_shapely() -> None:
    script = "import sys, synthoma.formats.annotations; print({'shapely', 'defusedxml'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "set()", result.stderr
