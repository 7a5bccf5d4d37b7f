"""What a report shows of the slides that its data were cut from: a table and overlays, on the private page only."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openslide")
pytest.importorskip("shapely")

from synthoma.dataset import Dataset
from synthoma.phantoms.slides import write_slide_phantoms
from synthoma.preparation.raw import prepare_dataset
from synthoma.preparation.slides.summary import keep_slides
from synthoma.preparation.slides.tiles import cut_slides, find_slides
from synthoma.recipe import load_recipe
from synthoma.report import write_report
from synthoma.report.slides import slides_view
from synthoma.run import Run
from synthoma.training.start import prepare_run
from test_tiles import Said

SETTINGS = [
    "preparation.size=64",
    "slides.mpp=1",
    "preparation.label_errors=false",
    "preparation.near_duplicates=false",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("slides")
    data = folder / "slides"
    write_slide_phantoms(data, count=2, size=(1536, 1536), seed=1)
    Image.fromarray(np.full((1200, 1200, 3), 244, np.uint8)).save(data / "blank.tif")
    (folder / "mpp.csv").write_text("file,mpp\nblank.tif,0.5\n")
    recipe = load_recipe(
        "lung-histology-pggan", [*SETTINGS, "source.kind=slides", f"slides.mpp_table={folder / 'mpp.csv'}"]
    )
    return prepare_dataset(recipe, data, folder / "set", Said()).dataset


def test_the_table_says_what_was_taken_and_what_was_not(dataset: Dataset) -> None:
    view = slides_view(dataset)
    assert view is not None
    assert [line.name for line in view.lines] == ["blank.tif", "slide_000.tif", "slide_001.tif"]
    assert [line.empty for line in view.lines] == [True, False, False]
    assert view.lines[0].note.startswith("blank slide: ")
    assert sum(int(line.tiles) for line in view.lines) == len(dataset)
    assert f"{len(dataset)} tiles of 3 slides" in view.summary
    assert "1 slide gave no tile." in view.summary
    assert [one.title for one in view.overlays] == ["blank.tif", "slide_000.tif", "slide_001.tif"]
    assert len({one.tile.uri for one in view.overlays}) == 3


def test_slides_are_on_the_private_page_only(dataset: Dataset, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    prepare_run(run, load_recipe("lung-histology-pggan", SETTINGS))
    public, private = write_report(run, dataset)
    shown = private.read_text()
    assert '<tr class="sum"><th scope="row">blank.tif</th>' in shown
    assert '<tr><th scope="row">slide_000.tif</th>' in shown
    view = slides_view(dataset)
    assert view is not None
    assert all(one.tile.uri in shown for one in view.overlays)
    assert "slide_000" not in public.read_text()


def test_data_that_are_no_slides_have_none(dataset: Dataset, tmp_path: Path) -> None:
    assert slides_view(None) is None
    shutil.copytree(dataset.path, tmp_path / "plain")
    (tmp_path / "plain" / "private" / "slides.json").unlink()
    assert slides_view(Dataset.open(tmp_path / "plain")) is None


def test_parts_of_a_cluster_are_one_table(dataset: Dataset, tmp_path: Path) -> None:
    data = tmp_path / "slides"
    write_slide_phantoms(data, count=3, size=(1024, 1024), seed=2)
    recipe = load_recipe("lung-histology-pggan", SETTINGS)
    counts = {}
    for part in range(2):
        cut = cut_slides(find_slides(data, recipe), recipe, tmp_path / "tiles", workers=1, shard=(part, 2))
        counts |= {file.name: cut.done[key]["taken"] for file, key in cut.keys.items()}
    shutil.copytree(dataset.path, tmp_path / "set")
    keep_slides(tmp_path / "tiles", tmp_path / "set")
    view = slides_view(Dataset.open(tmp_path / "set"))
    assert view is not None
    assert {line.name: int(line.tiles) for line in view.lines} == counts
    assert len(counts) == 3
