"""Real annotation files against a plain reading of them."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("shapely")

from annotation_fixture import area_of, shoelace
from synthoma.errors import AnnotationError
from synthoma.formats.annotations import read_annotations

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
