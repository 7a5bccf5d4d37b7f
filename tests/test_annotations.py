"""Annotation files: what pathologists' programs write is read as they meant it, and what we write QuPath can read."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

shapely = pytest.importorskip("shapely")

from synthoma.errors import AnnotationError, MissingExtraError  # noqa: E402
from synthoma.formats.annotations import (  # noqa: E402
    Annotation,
    AnnotationFile,
    AnnotationIndex,
    read_annotations,
    write_geojson,
)

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


@pytest.mark.parametrize(
    ("document", "count"),
    [
        ([feature(polygon(SQUARE)), feature(polygon(SQUARE))], 2),
        (feature(polygon(SQUARE)), 1),
        ({"type": "FeatureCollection", "features": [feature(polygon(SQUARE))]}, 1),
        (polygon(SQUARE), 1),
        ({"type": "FeatureCollection", "features": []}, 0),
        ([], 0),
    ],
)
def test_geojson_documents(tmp_path: Path, document: object, count: int) -> None:
    file = read(tmp_path, document)
    assert (file.format, len(file.annotations), file.skipped) == ("geojson", count, ())
    assert all(a.label is None and area_of(a) == 100 for a in file.annotations)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_geojson_encodings(tmp_path: Path, encoding: str) -> None:
    text = json.dumps(feature(polygon(SQUARE), classification="Größe"), ensure_ascii=False)
    assert read(tmp_path, text.encode(encoding)).annotations[0].label == "Größe"


@pytest.mark.parametrize(
    ("classification", "label"),
    [
        ({"name": "Tumor", "color": [200, 0, 0]}, "Tumor"),
        ({"name": "Tumor", "colorRGB": -3670016}, "Tumor"),
        ("Stroma", "Stroma"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive"),
        ({"name": "Positive", "colorRGB": 1, "parentClass": {"name": "Tumor", "colorRGB": 1}}, "Tumor: Positive"),
        ({"name": 3}, "3"),
        ({"name": " a\u0007b\u001b[31m "}, "a b [31m"),
        ({"name": "a\ud800b"}, "a b"),
        ({}, None),
        ({"name": None}, None),
        ({"names": []}, None),
        (None, None),
        (["x"], None),
        ("", None),
        ("  ", None),
    ],
)
def test_geojson_classes(tmp_path: Path, classification: object, label: str | None) -> None:
    (annotation,) = read(tmp_path, feature(polygon(SQUARE), classification=classification)).annotations
    assert annotation.label == label


def test_geojson_without_properties(tmp_path: Path) -> None:
    for properties in (None, [], "x"):
        document = {"type": "Feature", "geometry": polygon(SQUARE), "properties": properties}
        assert read(tmp_path, document).annotations[0].label is None
    assert read(tmp_path, {"type": "Feature", "geometry": polygon(SQUARE)}).annotations[0].label is None


def test_geojson_holes_parts_and_collections(tmp_path: Path) -> None:
    hole = [(2, 2), (4, 2), (4, 4), (2, 4)]
    many = {"type": "MultiPolygon", "coordinates": [[ring(SQUARE), ring(hole)], [ring(moved(SQUARE, 20))]]}
    mixed = {
        "type": "GeometryCollection",
        "geometries": [polygon(SQUARE), {"type": "Point", "coordinates": [1, 1]}, many],
    }
    inside = {"type": "MultiPolygon", "coordinates": [[ring(SQUARE)], [ring(moved(SQUARE, 5))]]}
    file = read(
        tmp_path,
        [feature(polygon(SQUARE, hole)), feature(many), feature(mixed), feature(inside), feature(polygon(SQUARE))],
    )
    # The third: a square, the same with a hole, and one apart; the fourth: two squares that share a quarter.
    assert [area_of(a) for a in file.annotations] == [96, 196, 200, 175, 100]
    assert file.annotations[1].geometry.geom_type == "MultiPolygon"
    assert file.skipped == (("feature 3", "a Point has no area"),)
    assert [place for place, _ in file.repaired] == ["feature 3", "feature 4"]
    assert all("merged" in what for _, what in file.repaired)


def test_geojson_points_and_lines_are_left_out(tmp_path: Path) -> None:
    kinds = ["Point", "MultiPoint", "LineString", "MultiLineString"]
    file = read(tmp_path, [feature({"type": kind, "coordinates": [[0, 0], [1, 1]]}) for kind in kinds])
    assert file.annotations == ()
    assert file.skipped == tuple((f"feature {i}", f"a {kind} has no area") for i, kind in enumerate(kinds, 1))


def test_geojson_features_below_others(tmp_path: Path) -> None:
    child = feature(polygon(moved(SQUARE, 1)), classification="b")
    file = read(
        tmp_path, [feature(polygon(SQUARE), classification="a", childObjects=[child]), feature(polygon(SQUARE))]
    )
    assert [(a.label, a.place) for a in file.annotations] == [
        ("a", "feature 1"),
        ("b", "feature 2"),
        (None, "feature 3"),
    ]


def test_geojson_points_may_have_a_depth(tmp_path: Path) -> None:
    deep = {"type": "Polygon", "coordinates": [[[x, y, 7] for x, y in SQUARE]]}
    assert area_of(read(tmp_path, feature(deep)).annotations[0]) == 100, "and rings may be open"


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


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    holed = shapely.Polygon(SQUARE, [[(2, 2), (4, 2), (4, 4.123456789)]])
    many = shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(5, 5, 7, 7)])
    path = tmp_path / "new folder" / "taken 🎗.geojson"
    write_geojson(
        path,
        [
            (holed, "Größe", (1, 2, 3), {"share": 0.25, "fold": float("nan"), "reason": "pen"}),
            (many, None, (0, 0, 0), {}),
        ],
        object_type="tile",
    )
    file = read_annotations(path)
    assert [a.label for a in file.annotations] == ["Größe", None]
    assert all(a.geometry.equals(g) for a, g in zip(file.annotations, (holed, many), strict=True))
    assert (file.skipped, file.repaired) == ((), ())
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    first, second = document["features"]
    # What QuPath's readers ask for: GsonTools.PathClassTypeAdapter wants a colour beside every name.
    assert first["type"] == "Feature"
    assert first["properties"] == {
        "objectType": "tile",
        "classification": {"name": "Größe", "color": [1, 2, 3]},
        "isLocked": False,
        "measurements": {"share": 0.25},
        "metadata": {"reason": "pen"},
    }
    assert second["properties"] == {"objectType": "tile", "isLocked": False}
    assert second["geometry"]["type"] == "MultiPolygon"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_empty_list_is_written_too(tmp_path: Path) -> None:
    write_geojson(tmp_path / "none.geojson", [])
    assert json.loads((tmp_path / "none.geojson").read_text()) == {"type": "FeatureCollection", "features": []}
    assert read_annotations(tmp_path / "none.geojson").annotations == ()


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only areas"):
        write_geojson(tmp_path / "x.geojson", [(shapely.Point(1, 1), "a", (0, 0, 0), {})])
    with pytest.raises(ValueError, match=r"0\.\.255"):
        write_geojson(tmp_path / "x.geojson", [(shapely.box(0, 0, 1, 1), "a", (0, 0, 256), {})])
    assert not (tmp_path / "x.geojson").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(AnnotationError, match="cannot write"):
        write_geojson(tmp_path / "file" / "x.geojson", [])


@pytest.mark.parametrize("package", ["shapely", "defusedxml"])
def test_without_the_packages_the_extra_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*synthoma\[slides\]"):
        read_annotations(tmp_path / "x.xml")


def test_importing_does_not_import_shapely() -> None:
    script = "import sys, synthoma.formats.annotations; print({'shapely', 'defusedxml'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "set()", result.stderr


REAL = {
    "asap_xml/tumor_076.xml": 39,
    "asap_xml/TCGA-2G-AAGK-01Z-00-DX1.D0530A91-8CA1-47AA-95AF-AB7B901DC5B6.xml": 7,
    "asap_xml/TCGA-G9-6378-01A-01-BS1.bc59e095-f3ab-4a6e-8cef-ea7fc76abec8.xml": 6,
    "asap_xml/TCGA-L5-A4OQ_RES.xml": 6,
    "imagescope_xml/TCGA-EJ-5519-01Z-00-DX1.xml": 3,
    "qupath_geojson/TCGA-EJ-5519-01Z-00-DX1.json": 3,
    "qupath_geojson/holed.geojson": 1,
    "qupath_geojson/qupath05.geojson": 3,
    "qupath_geojson/TD_01_verysmall_mIF.geojson": 6,
}


def plain_reading(path: Path) -> list[tuple[str | None, float]]:
    """(class, area) of every area in a file, by xml.etree or json and the shoelace formula."""
    if path.suffix == ".xml":
        root = ET.parse(path).getroot()  # noqa: S314
        if root.tag == "ASAP_Annotations":
            return [
                (shape.get("PartOfGroup"), shoelace([(c.get("X"), c.get("Y")) for c in shape.iter("Coordinate")]))
                for shape in root.iter("Annotation")
            ]
        found = []
        for drawn in root.iter("Annotation"):
            colour = int(drawn.get("LineColor", "")).to_bytes(3, "little").hex().upper()
            for shape in drawn.iter("Region"):
                found.append((f"#{colour}", shoelace([(v.get("X"), v.get("Y")) for v in shape.iter("Vertex")])))
        return found
    document = json.loads(path.read_text())
    features = document if isinstance(document, list) else document.get("features", [document])
    found = []
    for one in features:
        coordinates = one["geometry"]["coordinates"]
        polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(one["geometry"]["type"])
        if polygons:
            area = sum(shoelace(shell) - sum(map(shoelace, holes)) for shell, *holes in polygons)
            found.append((one["properties"].get("classification", {}).get("name"), area))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(REAL))
def test_real_files_agree_with_a_plain_reading(name: str, data_root: Path) -> None:
    path = data_root / "annotations" / name
    file = read_annotations(path)
    expected = plain_reading(path)
    assert len(file.annotations) == len(expected) == REAL[name]
    assert [a.label for a in file.annotations] == [label for label, _ in expected]
    repaired = {place for place, _ in file.repaired}
    for annotation, (_, area) in zip(file.annotations, expected, strict=True):
        assert annotation.geometry.is_valid
        # The formula counts a loop that is run through twice double, and one run through backwards negative.
        tolerance = 6e-3 if annotation.place in repaired else 1e-9
        assert area_of(annotation) == pytest.approx(area, rel=tolerance)
    assert len(file.skipped) == (3 if "mIF" in name else 0), "three calibration points"
    assert len(repaired) == {"asap_xml/tumor_076.xml": 3, "imagescope_xml/TCGA-EJ-5519-01Z-00-DX1.xml": 2}.get(name, 0)


@pytest.mark.slow
def test_every_real_file_is_in_the_table(data_root: Path) -> None:
    folder = data_root / "annotations"
    there = {
        path.relative_to(folder).as_posix()
        for kind in ("asap_xml", "imagescope_xml", "qupath_geojson")
        for path in (folder / kind).iterdir()
    }
    assert there == set(REAL)


@pytest.mark.slow
def test_the_same_outlines_in_two_formats_are_the_same_areas(data_root: Path) -> None:
    """A slide's ImageScope file, and what another program made of it for QuPath (rounded to 0.01 pixels)."""
    folder = data_root / "annotations"
    drawn = read_annotations(folder / "imagescope_xml" / "TCGA-EJ-5519-01Z-00-DX1.xml")
    exported = read_annotations(folder / "qupath_geojson" / "TCGA-EJ-5519-01Z-00-DX1.json")
    pairs = {"#00FF00": "Tumor", "#00FFFF": "Other", "#FF0000": "Negative"}
    own = {a.label: a.geometry for a in drawn.annotations}
    others = {a.label: a.geometry for a in exported.annotations}
    for colour, name in pairs.items():
        common = own[colour].intersection(others[name]).area
        assert common / own[colour].union(others[name]).area > 0.9999
    assert drawn.microns_per_pixel == 0.252


@pytest.mark.slow
def test_other_xml_of_the_field_is_refused(data_root: Path) -> None:
    for kind in ("lidc_xml", "pet_ct_dx_voc"):
        path = next((data_root / "annotations" / kind).rglob("*.xml"))
        with pytest.raises(AnnotationError, match="is XML, but no annotations of a slide"):
            read_annotations(path)
