"""From slides with annotations to tiles, to a dataset: what is taken, what is said, and what a bad slide costs."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from synthoma.cli.app import app
from synthoma.dataset import Dataset
from synthoma.errors import DataError, RecipeError, SynthomaError
from synthoma.formats.annotations import read_annotations
from synthoma.formats.slides import open_slide
from synthoma.formats.tiles import PixelsWriter, Shard, shards
from synthoma.phantoms.slides import write_slide_phantoms
from synthoma.preparation.raw import prepare_dataset
from synthoma.preparation.slides.detect import holds_slides, is_pyramid
from synthoma.preparation.slides.summary import describe_tiles, slide_rows
from synthoma.preparation.slides.tiles import TilesResult, cut_slides, find_slides
from synthoma.recipe import Recipe, load_recipe


class Said:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)

    def row(self, row: dict[str, Any], total_images: int) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides") / "phantoms"
    write_slide_phantoms(folder, count=2, size=(1536, 1536), seed=1)
    return folder


def recipe(*settings: str) -> Recipe:
    return load_recipe(
        "lung-histology-pggan", ["preparation.size=64", "slides.mpp=1", "preparation.label_errors=false", *settings]
    )


def cut(data: Path, out: Path, *settings: str, annotations: str | None = "geojson", **options: Any) -> TilesResult:
    wanted = recipe(*settings)
    slides = find_slides(data, wanted, data / f"annotations-{annotations}" if annotations else None)
    return cut_slides(slides, wanted, out, workers=2, **options)


@pytest.fixture(scope="module")
def tiles(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TilesResult]:
    out = tmp_path_factory.mktemp("tiles") / "out"
    return out, cut(phantoms, out, "slides.exclude=[exclusion]")


def test_pixels_are_those_of_the_slide_at_their_place(phantoms: Path, tiles: tuple[Path, TilesResult]) -> None:
    out, result = tiles
    assert len(result.done) == 2
    assert not result.failed
    for file, key in result.keys.items():
        shard = Shard.open(out / key)
        table, pixels = shard.table(), shard.pixels()
        assert shard.info["taken"] == sum(row is not None for row in table["row"]) > 5
        assert shard.info["classes"] == {
            name: sum(
                label == name and row is not None for label, row in zip(table["label"], table["row"], strict=True)
            )
            for name in shard.info["classes"]
        }
        with open_slide(file) as slide:
            for i in [i for i, row in enumerate(table["row"]) if row is not None][::5]:
                expected = slide.read(table["x"][i], table["y"][i], 64, 64, 1.0)
                assert np.abs(pixels[table["row"][i]].astype(int) - expected).max() <= 1
        reasons = {reason for reason, row in zip(table["reason"], table["row"], strict=True) if row is None}
        assert "" not in reasons
        assert (out / "private" / "slides" / f"{key}-overlay.png").is_file()
        assert (out / "private" / "slides" / f"{key}-tiles.png").is_file()
        found = read_annotations(out / "private" / "slides" / f"{key}.geojson")
        for name, count in shard.info["classes"].items():
            assert found.labels[name] == count
        assert found.labels["not taken: too little of it within one class"] > 0


def test_all_three_formats_of_annotation_give_the_same_tiles(
    phantoms: Path, tiles: tuple[Path, TilesResult], tmp_path: Path
) -> None:
    def taken(result: TilesResult) -> Mapping[str, Any]:
        return {key: (info["classes"], info["taken"]) for key, info in result.done.items()}

    asap = cut(phantoms, tmp_path / "asap", "slides.exclude=[exclusion]", annotations="asap")
    assert taken(asap) == taken(tiles[1])
    # ImageScope has negative regions instead of a class that is left out.
    imagescope = cut(phantoms, tmp_path / "imagescope", annotations="imagescope")
    assert taken(imagescope) == taken(tiles[1])


def test_no_name_of_a_slide_outside_of_private(tiles: tuple[Path, TilesResult]) -> None:
    out, result = tiles
    for file in out.rglob("*"):
        if file.is_file() and "private" not in file.parts:
            assert not any(slide.stem.encode() in file.read_bytes() for slide in result.keys), file
    assert any("slide_000" in file.read_text() for file in (out / "private" / "slides").glob("*.json"))


def test_what_is_done_is_not_cut_again_and_shards_make_the_same_folder(phantoms: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = cut(phantoms, out, shard=(0, 2))
    assert len(first.done) == 1
    assert first.reused == 0
    second = cut(phantoms, out)
    assert len(second.done) == 2
    assert second.reused == 1
    before = {shard.key: shard.pixels().tobytes() for shard in shards(out)}
    whole = tmp_path / "whole"
    cut(phantoms, whole)
    assert {shard.key: shard.pixels().tobytes() for shard in shards(whole)} == before
    assert cut(phantoms, out, "slides.min_annotated=0.5").reused == 0


def test_a_bad_slide_costs_that_slide_only(phantoms: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    whole = (data / "slide_000.tif").read_bytes()
    (data / "truncated.tif").write_bytes(whole[: len(whole) // 3])
    (data / "nonsense.svs").write_bytes(b"no slide at all")
    result = cut(data, tmp_path / "out", "slides.max_failed=0.5", annotations=None)
    assert len(result.done) + len(result.failed) == 4
    assert {file.name for file, key in result.keys.items() if key in result.failed} >= {"nonsense.svs"}
    assert "nonsense.svs" in (tmp_path / "out" / "private" / "slides.csv").read_text()
    rows = {row.name: row for row in slide_rows(result)}
    assert rows["slide_000.tif"].taken > 0
    assert not rows["slide_000.tif"].problem
    assert rows["nonsense.svs"].problem
    with pytest.raises(DataError, match=r"slides cannot be read, more than slides\.max_failed"):
        cut(data, tmp_path / "strict", "slides.max_failed=0.1", annotations=None)


def test_blank_slides_and_zero_tiles_are_said(phantoms: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    Image.fromarray(np.full((1200, 1200, 3), 244, np.uint8)).save(data / "blank.tif")
    (data / "table.csv").write_text("file,mpp\nblank.tif,0.5\n")
    wanted = recipe(f"slides.mpp_table={data / 'table.csv'}")
    slides = find_slides(data, wanted)
    result = cut_slides(slides, wanted, tmp_path / "out", workers=2)
    warned = " ".join(describe_tiles(result, slides.patients)[1])
    assert "1 of 3 slides gave no tile: blank.tif: blank slide: no tissue" in warned
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(data / "blank.tif", alone)
    with pytest.raises(DataError, match="none of the 1 slides gave a tile"):
        cut(alone, tmp_path / "none", "slides.given_mpp=0.5", annotations=None)


def test_a_slide_without_resolution_fails_by_name_and_works_with_one(tmp_path: Path, phantoms: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with open_slide(phantoms / "slide_000.tif") as slide:
        Image.fromarray(slide.thumbnail(1.0)).save(data / "plain.png")
    (data / "plain.png").rename(data / "plain.tif")
    with pytest.raises(DataError, match="has no resolution"):
        cut(data, tmp_path / "a", annotations=None)
    assert cut(data, tmp_path / "b", "slides.given_mpp=1", annotations=None).done


def test_annotation_classes_are_checked_and_those_without_partner_listed(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no annotation has the class 'beningn'; did you mean 'benign'\?"):
        cut(phantoms, tmp_path / "a", "slides.include=[beningn]")
    own = tmp_path / "annotations"
    shutil.copytree(phantoms / "annotations-geojson", own)
    (own / "slide_001.geojson").rename(own / "other.geojson")
    wanted = recipe("slides.include=[benign]")
    slides = find_slides(phantoms, wanted, own)
    result = cut_slides(slides, wanted, tmp_path / "b", workers=2)
    notes, warnings = describe_tiles(result, slides.patients)
    assert any("slides.include does not name were ignored" in note for note in notes)
    assert any("1 slides have no annotation, and no tile is taken of them: slide_001.tif" in w for w in warnings)
    assert any("1 annotation files have no slide, and they are not used: other.geojson" in w for w in warnings)
    (own / "slide_000.geojson").unlink()
    with pytest.raises(DataError, match="none of the 2 slides"):
        find_slides(phantoms, wanted, own)


def test_stain_and_own_quality(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "own_quality.py"
    module.write_text("def redness(tiles, mpp):\n    return {'redness': tiles[..., 0].mean((1, 2)) / 255}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    plain = cut(phantoms, tmp_path / "plain", "slides.quality=own_quality:redness", annotations=None)
    stained = cut(phantoms, tmp_path / "stained", "slides.stain=macenko", annotations=None)
    for key in plain.done:
        table = Shard.open(tmp_path / "plain" / key).table()
        assert all(0 < value < 1 for value, row in zip(table["redness"], table["row"], strict=True) if row is not None)
        assert stained.done[key]["stain"]["method"] == "macenko"
        one, other = (Shard.open(tmp_path / name / key).pixels() for name in ("plain", "stained"))
        assert one.shape == other.shape
        assert not np.array_equal(one, other)
    with pytest.raises(RecipeError, match=r"'own_quality:no' is no module:function"):
        cut(phantoms, tmp_path / "no", "slides.quality=own_quality:no", annotations=None)


def test_slides_become_a_dataset_split_by_patient(phantoms: Path, tmp_path: Path) -> None:
    observer = Said()
    wanted = recipe("slides.stride=32", "preparation.near_duplicates=false", "slides.exclude=[exclusion]")
    annotations = phantoms / "annotations-asap"
    result = prepare_dataset(wanted, phantoms, tmp_path / "set", observer, annotations=annotations)
    data = result.dataset
    assert data.size == (64, 64)
    assert set(data.classes) >= {"benign"}
    assert any("tiles of 2 slides" in line for line in observer.said)
    groups = np.array(data.column("group"))
    splits = np.array(data.column("split"))
    assert len(set(groups)) == 2
    assert all(len(set(splits[groups == group])) == 1 for group in set(groups))
    assert data.column("spacing")[0] == [0.001, 0.001]
    assert data.info["data"]["licence"], "what the owner says goes along with the tiles"
    again = prepare_dataset(wanted, tmp_path / "set-tiles", tmp_path / "again", Said())
    assert again.dataset.content_hash == data.content_hash
    assert isinstance(Dataset.open(tmp_path / "again"), Dataset)


def test_what_counts_as_slides(phantoms: Path, tiles: tuple[Path, TilesResult], tmp_path: Path) -> None:
    assert holds_slides(phantoms, recipe())
    assert not holds_slides(tiles[0], recipe())
    pictures = tmp_path / "pictures" / "a"
    pictures.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(pictures / "x.tif")
    Image.new("RGB", (64, 64)).save(pictures / "y.png")
    assert not holds_slides(tmp_path / "pictures", recipe())
    assert holds_slides(tmp_path / "pictures", recipe("source.kind=slides"))
    assert is_pyramid(phantoms / "slide_000.tif")
    assert not is_pyramid(pictures / "x.tif")
    (pictures / "x.tif").unlink()
    with pytest.raises(DataError, match="--annotations belongs to whole slides"):
        holds_slides(tmp_path / "pictures", recipe(), phantoms / "annotations-asap")


def test_damaged_shards_are_named(tiles: tuple[Path, TilesResult], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tiles[0], out)
    key = next(iter(tiles[1].done))
    whole = (out / key / "pixels.npy").read_bytes()
    (out / key / "pixels.npy").write_bytes(whole[:-10])
    with pytest.raises(DataError, match=f"{key}.*cut the slide again"):
        shards(out)
    (out / "tiles.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(DataError, match="schema 99"):
        shards(out)


def test_an_array_file_that_grows_has_a_right_header(tmp_path: Path) -> None:
    for count in (0, 1, 12345):
        with PixelsWriter(tmp_path / "x.npy", (2, 3)) as writer:
            for start in range(0, count, 5000):
                writer.append(np.full((min(5000, count - start), 2, 3), 7, np.uint8))
        found = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert found.shape == (count, 2, 3)
        assert (found == 7).all()
    with PixelsWriter(tmp_path / "y.npy", (2, 3)) as writer, pytest.raises(ValueError, match="expected"):
        writer.append(np.zeros((1, 3, 2), np.uint8))


def test_the_commands(phantoms: Path, tmp_path: Path) -> None:
    annotations = ["--annotations", str(phantoms / "annotations-imagescope")]
    own = ["--set", "slides.tile=64", "--set", "slides.mpp=1"]
    seen = CliRunner().invoke(app, ["slides", str(phantoms), *annotations, *own, "--json"])
    assert seen.exit_code == 0, seen.output
    facts = json.loads(seen.output)
    assert [row["name"] for row in facts] == ["slide_000.tif", "slide_001.tif"]
    assert all(row["places"] > 0 and row["mpp"] == pytest.approx(0.5) and not row["problem"] for row in facts)
    shown = CliRunner().invoke(app, ["slides", str(phantoms), *annotations, *own])
    assert "slide_000.tif" in shown.output
    assert "1536x1536" in shown.output
    out = tmp_path / "tiles"
    arguments = ["tiles", "lung-histology-pggan", "--data", str(phantoms), "--out", str(out), *annotations, *own]
    made = CliRunner().invoke(app, [*arguments, "--shard", "2/2", "--json"])
    assert made.exit_code == 0, made.output
    assert [row["name"] for row in json.loads(made.output)["slides"]] == ["slide_001.tif"]
    wrong = CliRunner().invoke(app, [*arguments, "--shard", "3/2"])
    assert isinstance(wrong.exception, SynthomaError)
