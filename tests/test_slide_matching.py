"""Which annotation and which patient belong to a slide; where tiles may lie."""

from pathlib import Path

import numpy as np
import pytest

from synthoma.errors import DataError
from synthoma.preparation.slides.matching import annotation_files, match_annotations, read_groups, tcga_patient
from synthoma.preparation.slides.places import (
    NO_TISSUE,
    OUTSIDE,
    SPARED,
    UNDECIDED,
    grid,
    judge,
    runs,
    spare,
)
from synthoma.slide_settings import SlidesSection


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


def test_annotations_match_by_name() -> None:
    slides = paths("s1.svs", "s10.svs", "s1_b.svs", "alone.svs")
    files = paths("s1.xml", "s10_tumour.geojson", "s1_b.svs.xml", "other.xml", "s1.extra.xml")
    found = match_annotations(slides, files)
    assert found.files[slides[0]] == (Path("s1.extra.xml"), Path("s1.xml"))
    assert found.files[slides[1]] == (Path("s10_tumour.geojson"),)
    assert found.files[slides[2]] == (Path("s1_b.svs.xml"),)
    assert found.slides_without == paths("alone.svs")
    assert found.annotations_without == paths("other.xml")


def test_a_longer_slide_name_matches_only_where_it_is_the_only_one() -> None:
    one = match_annotations(paths("TCGA-AA-0001-01Z.uuid.svs"), paths("TCGA-AA-0001-01Z.xml"))
    assert not one.annotations_without
    two = match_annotations(paths("p-1.svs", "p-2.svs"), paths("p.xml"))
    assert two.annotations_without == paths("p.xml")


def test_a_table_says_what_belongs_together(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("slide,annotation\ns1.svs,x.xml\ns1.svs,y.xml\n")
    found = match_annotations(paths("s1.svs", "s2.svs"), paths("x.xml", "y.xml", "z.xml"), table)
    assert found.files[Path("s1.svs")] == tuple(paths("x.xml", "y.xml"))
    assert (found.slides_without, found.annotations_without) == (paths("s2.svs"), paths("z.xml"))
    table.write_text("slide,annotation\ns3.svs,x.xml\n")
    with pytest.raises(DataError, match=r"there is no slide 's3\.svs'"):
        match_annotations(paths("s1.svs"), paths("x.xml"), table)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="needed are 'slide' and 'annotation'"):
        match_annotations(paths("s1.svs"), paths("x.xml"), table)


def test_annotation_files_are_those_with_their_endings(tmp_path: Path) -> None:
    for name in ("a.xml", "b.geojson", "c.json", "d.txt"):
        (tmp_path / name).write_text("")
    assert [file.name for file in annotation_files(tmp_path)] == ["a.xml", "b.geojson", "c.json"]
    with pytest.raises(DataError, match="does not exist"):
        annotation_files(tmp_path / "none")


def test_patients_come_from_a_table_or_a_tcga_name(tmp_path: Path) -> None:
    slides = [tmp_path / "x" / "s1.svs", tmp_path / "s2.svs"]
    table = tmp_path / "groups.csv"
    table.write_text("file,patient\nx/s1.svs,P1\ns2.svs,P1\nmissing.svs,P2\n")
    assert read_groups(table, slides, tmp_path) == dict.fromkeys(slides, "P1")
    table.write_text("file,group\ns1.svs,P1\nx/s1.svs,P2\n")
    with pytest.raises(DataError, match="two groups"):
        read_groups(table, slides, tmp_path)
    assert tcga_patient(Path("TCGA-CR-7395-01A-01-TS1.svs")) == "TCGA-CR-7395"
    assert tcga_patient(Path("TCGA-CR-73951.svs")) is None
    assert tcga_patient(Path("case_TCGA.svs")) is None


def test_the_grid_holds_whole_tiles_only() -> None:
    boxes = grid((1000, 600), (0.25, 0.25), SlidesSection(mpp=0.5), 128)
    assert boxes.shape == (3 * 2, 4)
    assert boxes[0].tolist() == [0, 0, 256, 256]
    assert boxes[-1].tolist() == [512, 256, 768, 512]
    # Exactly as many as fit, although 0.499 / 0.5 is no round number.
    assert len(grid((2220, 2967), (0.499, 0.499), SlidesSection(mpp=0.499), 555)) == 4 * 5
    overlapping = grid((1024, 256), (0.5, 0.5), SlidesSection(mpp=0.5, stride=128), 256)
    assert overlapping[:, 0].tolist() == [0, 128, 256, 384, 512, 640, 768]
    assert len(grid((100, 100), (0.5, 0.5), SlidesSection(mpp=0.5), 128)) == 0


def test_a_place_is_of_the_class_that_covers_most_of_it() -> None:
    boxes = np.zeros((5, 4))
    covered = {"b": np.array([0.8, 0.2, 0, 0.4, 0.9]), "a": np.array([0.1, 0.79, 0, 0.4, 0.0])}
    tissue = np.array([1, 1, 1, 1, 0.1])
    found = judge(boxes, tissue, covered, None, SlidesSection())
    assert found.labels == ["b", "a", None, None, "b"]
    assert found.reasons == ["", "", OUTSIDE, UNDECIDED, NO_TISSUE]
    assert found.wanted.tolist() == [0, 1]
    everywhere = judge(boxes, tissue, covered, None, SlidesSection(unannotated=True))
    assert everywhere.reasons == ["", "", "", UNDECIDED, NO_TISSUE]
    by_folder = judge(boxes, tissue, None, "adeno", SlidesSection())
    assert by_folder.labels == ["adeno"] * 5
    assert judge(boxes, tissue, {}, None, SlidesSection()).wanted.tolist() == []


def test_of_too_many_places_some_are_spared_by_the_key_alone() -> None:
    def made(key: str) -> list[int]:
        places = judge(np.zeros((100, 4)), np.ones(100), None, None, SlidesSection())
        spare(places, 10, key)
        assert places.reasons.count(SPARED) == 90
        return places.wanted.tolist()

    assert made("x") == made("x") != made("y")
    few = judge(np.zeros((4, 4)), np.ones(4), None, None, SlidesSection())
    spare(few, 10, "x")
    assert len(few.wanted) == 4


def test_places_that_touch_in_a_row_are_one_strip() -> None:
    boxes = grid((500, 200), (0.5, 0.5), SlidesSection(mpp=0.5), 100)
    assert runs([0, 1, 2, 4, 5, 6], boxes, 8) == [[0, 1, 2], [4], [5, 6]]
    assert runs([0, 1, 2, 3, 4], boxes, 2) == [[0, 1], [2, 3], [4]]


def test_places_below_what_hides_tissue_are_looked_at_and_not_taken() -> None:
    boxes = np.zeros((4, 4))
    tissue, hidden = np.array([0.6, 0.3, 0.3, 0.0]), np.array([0.4, 0.3, 0.1, 0.9])
    found = judge(boxes, tissue, None, None, SlidesSection(), hidden)
    assert found.wanted.tolist() == [0]
    assert found.doubtful == {1, 3}
    none = judge(boxes, tissue, {"tumour": np.array([1.0, 0.0, 0.0, 1.0])}, None, SlidesSection(), hidden)
    assert none.doubtful == {3}
