"""A corpus of malformed slides and annotations: each costs itself only, says why, and ends in time."""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openslide")
pytest.importorskip("shapely")

from slide_corpus_fixture import Corpus, make_corpus
from synthoma.errors import DataError
from synthoma.formats.tiles import Shard, shards
from synthoma.phantoms.slides import write_slide_phantoms
from synthoma.preparation.slides.inspect import SlideFacts, inspect_slides
from synthoma.preparation.slides.tiles import TilesResult, cut_slides, find_slides
from synthoma.recipe import Recipe, load_recipe

PATIENCE_S, LONGEST_S = 10.0, 30.0
# Words of Python and of our own insides, which tell a user nothing.
INSIDES = ("Traceback", 'File "', ".py", "Errno", "NoneType", "numpy", "PIL.", "ctypes")


def recipe(*settings: str) -> Recipe:
    own = ["slides.tile=128", "slides.mpp=0.5", "slides.unannotated=true"]
    return load_recipe(
        "lung-histology-pggan", [*own, f"slides.patience_s={PATIENCE_S}", "slides.max_failed=1", *settings]
    )


def cut(slides: Path, annotations: Path, out: Path) -> tuple[TilesResult, float]:
    """What comes of a folder, and the longest time in seconds in which nothing came."""
    gaps, last = [0.0], time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        gaps.append(time.monotonic() - last)
        last = time.monotonic()

    wanted = recipe()
    result = cut_slides(find_slides(slides, wanted, annotations), wanted, out, workers=2, progress=progress)
    return result, max(gaps)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "whole"
    write_slide_phantoms(folder, count=2, size=(1024, 1024), seed=5)
    return folder


@pytest.fixture(scope="module")
def corpus(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(phantoms, tmp_path_factory.mktemp("corpus"))


def told(reason: str, file: Path) -> str:
    """A reason without the names of the files that it speaks of."""
    return reason.replace(str(file), "").replace(file.stem, "")


def check_words(reason: str, file: Path) -> None:
    words = told(reason, file)
    assert 10 < len(words) < 600, reason
    assert not any(inside in words for inside in INSIDES), reason
    assert "\n" not in words.strip(), reason


def check_shard(shard: Shard, info: Mapping[str, Any]) -> None:
    """A legal result: its parts agree, and what is said of a tile can be."""
    table, pixels = shard.table(), shard.pixels()
    rows = [row for row in table["row"] if row is not None]
    assert len(rows) == len(set(rows)) == info["taken"] <= info["stored"] == len(pixels) <= info["places"]
    assert all(0 <= row < len(pixels) for row in rows)
    assert pixels.shape[1:] == (128, 128, 3)
    assert all((reason == "") == (row is not None) for reason, row in zip(table["reason"], table["row"], strict=True))
    assert sum(info["classes"].values()) == info["taken"]
    for name in set(table) - {"x", "y", "row", "label", "reason", "blur_z"}:
        values = np.array([table[name][i] for i, row in enumerate(table["row"]) if row is not None])
        assert ((values >= 0) & (values <= 1)).all(), name


@pytest.mark.slow
def test_each_bad_slide_costs_itself_only(corpus: Corpus, phantoms: Path, tmp_path: Path) -> None:
    assert len(corpus.files) - len(corpus.whole) >= 200
    clean, _ = cut(phantoms, phantoms / "annotations-geojson", tmp_path / "clean")
    result, longest = cut(corpus.slides, corpus.annotations, tmp_path / "out")
    assert longest < LONGEST_S
    assert sorted(result.keys) == corpus.files
    assert set(result.done) | set(result.failed) == set(result.keys.values())
    assert not set(result.done) & set(result.failed)
    for file, key in result.keys.items():
        if key in result.failed:
            check_words(result.failed[key], file)
            assert not (tmp_path / "out" / key).exists()
        else:
            check_shard(Shard.open(tmp_path / "out" / key), result.done[key])
    failed = {file.name for file, key in result.keys.items() if key in result.failed}
    assert corpus.hopeless <= failed
    assert not failed & {file.name for file in corpus.whole}
    # What those that were killed left half written is taken for nothing.
    assert {shard.key for shard in shards(tmp_path / "out")} == set(result.done)
    for file in corpus.whole:
        own = Shard.open(tmp_path / "out" / result.keys[file])
        other = Shard.open(tmp_path / "clean" / clean.keys[phantoms / file.name])
        assert own.info["taken"] == other.info["taken"] >= 5
        assert repr(own.table()) == repr(other.table())
        assert np.array_equal(own.pixels(), other.pixels())


@pytest.mark.slow
def test_slides_are_looked_at_in_spite_of_bad_ones(corpus: Corpus, phantoms: Path) -> None:
    found = {facts.name: facts for facts in inspect_slides(corpus.slides, recipe(), corpus.annotations)}
    assert len(found) == len(corpus.files)
    clean = {facts.name: facts for facts in inspect_slides(phantoms, recipe(), phantoms / "annotations-geojson")}
    for file in corpus.files:
        facts: SlideFacts = found[file.name]
        if facts.problem:
            check_words(facts.problem, file)
        else:
            assert facts.width is not None
            assert facts.height is not None
            assert facts.places is not None
            assert facts.tissue is not None
            assert 0 < facts.tissue <= 1
        for warning in facts.warnings:
            check_words(warning, file)
    assert all(found[name].problem for name in corpus.hopeless)
    assert {name: found[name] for name in clean} == clean


def test_a_link_that_leads_nowhere_costs_that_slide_only(phantoms: Path, tmp_path: Path) -> None:
    slides, annotations = tmp_path / "slides", tmp_path / "annotations"
    slides.mkdir()
    annotations.mkdir()
    for name in ("a", "b"):
        shutil.copy(phantoms / "slide_000.tif", slides / f"{name}.tif")
        shutil.copy(phantoms / "annotations-geojson" / "slide_000.geojson", annotations / f"{name}.geojson")
    os.symlink(tmp_path / "nowhere", slides / "c.svs")
    (annotations / "b.geojson").unlink()
    os.symlink(tmp_path / "nowhere", annotations / "b.geojson")
    result, _ = cut(slides, annotations, tmp_path / "out")
    reasons = {file.name: result.failed.get(key) for file, key in result.keys.items()}
    assert reasons["a.tif"] is None
    assert reasons["b.tif"] == f"{annotations / 'b.geojson'} does not exist."
    assert reasons["c.svs"] == f"{slides / 'c.svs'} does not exist."


def test_a_slide_without_annotation_gives_nothing_where_others_have_some(phantoms: Path, tmp_path: Path) -> None:
    own = tmp_path / "annotations"
    own.mkdir()
    shutil.copy(phantoms / "annotations-geojson" / "slide_000.geojson", own)
    strict = recipe("slides.unannotated=false")
    slides = find_slides(phantoms, strict, own)
    result = cut_slides(slides, strict, tmp_path / "out", workers=1)
    taken = {file.name: result.done[key]["taken"] for file, key in result.keys.items()}
    assert taken["slide_000.tif"] > 0
    assert taken["slide_001.tif"] == 0
    assert [facts.places for facts in inspect_slides(phantoms, strict, own, workers=1)][1] == 0
    # What is asked for in so many words is done.
    wide = recipe()
    loose = cut_slides(find_slides(phantoms, wide, own), wide, tmp_path / "wide", workers=1)
    assert all(info["taken"] > 0 for info in loose.done.values())


def test_what_a_kill_left_is_no_shard(phantoms: Path, tmp_path: Path) -> None:
    result, _ = cut(phantoms, phantoms / "annotations-geojson", tmp_path / "out")
    for key in result.done:
        for ending in ("part", "old"):
            shutil.copytree(tmp_path / "out" / key, tmp_path / "out" / f".{key}.{ending}")
    assert [shard.key for shard in shards(tmp_path / "out")] == sorted(result.done)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_no_text_are_told(phantoms: Path, tmp_path: Path) -> None:
    shutil.copy(phantoms / "slide_000.tif", tmp_path / os.fsdecode(b"Bl\xf6ck.tif"))
    with pytest.raises(DataError, match=r"Bl\\xf6ck\.tif.*UTF-8.*rename"):
        find_slides(tmp_path, recipe())
