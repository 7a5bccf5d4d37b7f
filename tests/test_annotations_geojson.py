"""QuPath GeoJSON: documents, classes, holes and parts are read as they were meant, and what is written QuPath can read."""

import json
from pathlib import Path

import pytest

shapely = pytest.importorskip("shapely")

from annotation_fixture import SQUARE, area_of, feature, moved, polygon, read, ring  # noqa: E402
from synthoma.errors import AnnotationError  # noqa: E402
from synthoma.formats.annotations import read_annotations, write_geojson  # noqa: E402


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
