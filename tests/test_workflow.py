"""Stages: what is refused, what is skipped, and what a tampered split leads to."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from make_dataset import Silent, make_dataset
from synthoma import workflow
from synthoma.cohort import cohort_hash
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError, EvaluationError, RecipeError
from synthoma.evaluation.contamination import load_shipped
from synthoma.fetching import FetchError
from synthoma.model import Model
from synthoma.phantoms import write_phantom
from synthoma.recipe import Recipe, load_recipe
from synthoma.run import Run, file_sha256, read_json, write_json

SETTINGS = [
    "preparation.size=16",
    "preparation.label_errors=false",
    "model.generator_widths=[16,8]",
    "model.discriminator_widths=[8,16]",
    "model.latent=8",
    "training.batch=16",
    "training.kimg=0.064",
    "training.precision=fp32",
    "evaluation.count=100",
    "evaluation.subsamples=20",
    "evaluation.validation_count=32",
]


def recipe(*settings: str) -> Recipe:
    return load_recipe("demo", [*SETTINGS, *settings])


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "skin"
    write_phantom("skin", folder, count=270, size=24)
    return folder


@pytest.fixture(scope="module")
def finished(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    workflow.run_recipe(recipe(), phantoms, out, Silent())
    return out


def test_only_what_changed_is_done_again(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    assert workflow.run_recipe(recipe(), phantoms, out, Silent()).ran == []
    assert workflow.run_recipe(recipe("evaluation.count=110"), phantoms, out, Silent()).ran == ["evaluate", "report"]
    longer = workflow.run_recipe(recipe("evaluation.count=110", "training.kimg=0.096"), phantoms, out, Silent())
    assert longer.ran == ["train", "evaluate", "report"]
    (out / "report.html").unlink()
    assert workflow.run_recipe(recipe("evaluation.count=110", "training.kimg=0.096"), phantoms, out, Silent()).ran == [
        "report"
    ]


def test_changed_data_are_refused_once_training_began(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(phantoms, data)
    shutil.copytree(finished, out)
    next(data.glob("melanoma/*")).unlink()
    with pytest.raises(DatasetError, match="changed since"):
        workflow.run_recipe(recipe(), data, out, Silent())


def test_a_moved_folder_of_data_changes_nothing(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.copytree(phantoms, tmp_path / "elsewhere")
    assert workflow.run_recipe(recipe(), tmp_path / "elsewhere", out, Silent()).ran == []


def test_groups_never_straddle_the_split(finished: Path) -> None:
    dataset = Dataset.open(finished / "dataset", full=True)
    of = {split: set(dataset.groups[dataset.rows(split)]) for split in ("train", "val", "test")}
    assert not of["train"] & of["val"]
    assert not of["train"] & of["test"]
    assert not of["val"] & of["test"]
    assert of["test"]


def tamper(dataset: Path, *, whole_group: bool) -> None:
    """Move one test image, or its whole group, to train in records.parquet, and renew that file's sum."""
    table = pq.read_table(dataset / "records.parquet")
    splits, groups = table.column("split").to_pylist(), table.column("group").to_pylist()
    victim = splits.index("test")
    members = [i for i, group in enumerate(groups) if group == groups[victim]]
    for row in members if whole_group else [victim]:
        splits[row] = "train"
    table = table.set_column(table.column_names.index("split"), "split", pa.array(splits))
    pq.write_table(table, dataset / "records.parquet")
    info = read_json(dataset / "dataset.json")
    info["files"]["records.parquet"] = file_sha256(dataset / "records.parquet")
    write_json(dataset / "dataset.json", info)


def test_an_edited_table_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    table = pq.read_table(tmp_path / "data" / "records.parquet")
    pq.write_table(table.slice(0, len(table)), tmp_path / "data" / "records.parquet", compression="none")
    with pytest.raises(DatasetError, match="changed after it was written"):
        Dataset.open(tmp_path / "data")


def test_a_group_on_two_sides_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    tamper(tmp_path / "data", whole_group=False)
    with pytest.raises(DatasetError, match="is in both"):
        Dataset.open(tmp_path / "data")


def test_a_moved_group_breaks_the_frozen_hash(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    tamper(tmp_path / "data", whole_group=True)
    with pytest.raises(DatasetError, match="not the one that was frozen"):
        Dataset.open(tmp_path / "data")


def test_even_a_consistently_forged_split_is_refused_by_the_run(finished: Path, tmp_path: Path) -> None:
    """Every hash in the dataset is forged to fit; the run still knows the split that it was trained on."""
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    data = out / "dataset"
    tamper(data, whole_group=True)
    table, info = pq.read_table(data / "records.parquet"), read_json(data / "dataset.json")
    info["cohort"]["hash"] = cohort_hash(*[table.column(name).to_pylist() for name in ("content", "group", "split")])
    write_json(data / "dataset.json", info)
    Dataset.open(data)
    for stage in (
        lambda: workflow.evaluate_run(out, Silent()),
        lambda: workflow.resume_run(out, Silent()),
        lambda: workflow.report_run(out),
    ):
        with pytest.raises(DatasetError, match="not the dataset"):
            stage()


def test_changed_pixels_are_found_by_the_full_check(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    images = np.load(tmp_path / "data" / "images.npy")
    images[0, 0, 0, 0] ^= 1
    np.save(tmp_path / "data" / "images.npy", images)
    with pytest.raises(DatasetError, match=r"images\.npy was changed"):
        Dataset.open(tmp_path / "data", full=True)


def test_a_shared_dataset_is_used_in_place(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", count=160)
    out = tmp_path / "run"
    outcome = workflow.run_recipe(recipe(), None, out, Silent(), dataset=tmp_path / "data")
    assert outcome.ran == ["train", "evaluate", "report"]
    assert not (out / "dataset").exists()
    assert str(tmp_path) not in (out / "report.html").read_text()
    assert Run(out).model.is_dir()


def test_a_damaged_recipe_of_a_run_is_told(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "recipe.yaml").write_text("a: [1\n")
    with pytest.raises(RecipeError, match="not valid YAML"):
        workflow.resume_run(out, Silent())


def test_the_detector_travels_with_the_model(finished: Path, phantoms: Path, tmp_path: Path) -> None:
    model = Model.load(finished / "model")
    assert load_shipped(finished).model_hash == load_shipped(finished / "model").model_hash == model.hash
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "model" / "detector")  # as after a release of the same model
    assert workflow.run_recipe(recipe(), phantoms, out, Silent()).ran == []
    assert load_shipped(out).threshold == load_shipped(finished).threshold


def test_weights_that_are_not_there_are_told_before_anything_is_done(
    finished: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHOMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for named, error in (("gone.pth", EvaluationError), ("inception", FetchError)):
        out = tmp_path / named
        with pytest.raises(error, match=r"does not exist|synthoma fetch weights inception"):
            workflow.run_recipe(recipe(f"evaluation.weights=[{named}]"), phantoms, out, Silent())
        assert not (out / "recipe.yaml").exists()
        with pytest.raises(error):
            workflow.evaluate_run(finished, Silent(), [Path(named)])
