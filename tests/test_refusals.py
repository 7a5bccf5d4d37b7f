"""Recipes and data that do not go together: named, with what to do, before anything is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from family_fixture import small_family
from make_dataset import Silent, make_dataset
from synthoma.cli.app import app
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError, RecipeError, SynthomaError
from synthoma.families import FAMILIES
from synthoma.recipe import Recipe
from synthoma.run import Run
from synthoma.training import precision, prepare_run, train
from synthoma.training.checkpoint import checkpoint_folders

SIZE = (8, 8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    known = [float(5 + n % 7) if n % 3 else None for n in range(60)]
    folder = tmp_path_factory.mktemp("data") / "d"
    return make_dataset(folder, count=60, size=SIZE, channels=1, attributes={"diameter_mm": known})


def recipe_for(family: str = "r3", *, model: Any = None, **training: Any) -> Recipe:
    fixed = {"kimg": 0.032, "tick_kimg": 0.032, "sample_kimg": 1}
    return small_family(family, SIZE, 1, model=model, **{**fixed, **training})


def trained(folder: Path, dataset: Dataset, recipe: Recipe) -> tuple[Run, Silent]:
    run, observer = Run(folder), Silent()
    prepare_run(run, recipe)
    train(run, dataset, observer)
    return run, observer


def refused(
    folder: Path, dataset: Dataset, recipe: Recipe, words: str, kind: type[SynthomaError] = RecipeError
) -> None:
    with pytest.raises(kind, match=words):
        trained(folder, dataset, recipe)
    assert checkpoint_folders(Run(folder).checkpoints) == []


def test_a_missing_attribute_is_refused_by_name_with_those_that_there_are(dataset: Dataset, tmp_path: Path) -> None:
    wanted = {"conditions": ["class", "malignancy"]}
    refused(tmp_path / "error", dataset, recipe_for(model=wanted), r"malignancy.*diameter_mm.*when_absent")
    _, observer = trained(tmp_path / "drop", dataset, recipe_for(model={**wanted, "when_absent": "drop"}))
    assert any("'malignancy' was dropped" in line for line in observer.said)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "mlp"])
def test_a_size_that_the_networks_cannot_have_is_refused_with_those_that_they_can(family: str, tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=40, size=(10, 12), channels=1)
    conditions = ["class"] if FAMILIES[family].needs_conditions else []
    recipe = small_family(family, (10, 12), 1, model={"conditions": conditions})
    words = r"size 10x12 does not fit.*multiple of 4 and at least 8 \(8, 12, 16, 24.*preparation\.size"
    refused(tmp_path / "run", data, recipe, words)


def test_a_recipe_of_the_other_dimension_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    solid = small_family("r3", (8, 8, 8), 1)
    refused(tmp_path / "a", dataset, solid, r"3D images.*holds 2D ones \(8x8\)", DatasetError)
    data = make_dataset(tmp_path / "data", count=20, size=(8, 8, 8), channels=1)
    refused(tmp_path / "b", data, recipe_for(), r"2D images.*holds 3D ones", DatasetError)


def test_a_3d_recipe_on_pictures_is_refused_by_the_command(image_tree: Callable[..., Path], tmp_path: Path) -> None:
    root = image_tree({"a": 20, "b": 20})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(small_family("r3", (16, 16, 16), 1).to_yaml())
    result = CliRunner().invoke(app, ["run", str(recipe), "--data", str(root), "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, SynthomaError), result.output
    assert "the recipe is for 3D images" in str(result.exception)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_changed_recipe_is_refused_by_key_and_what_may_change_is_said(dataset: Dataset, tmp_path: Path) -> None:
    run, _ = trained(tmp_path / "run", dataset, recipe_for())
    with pytest.raises(RecipeError, match=r"model\.blocks, training\.seed differ.*training\.kimg.*training\.health"):
        prepare_run(run, recipe_for(model={"blocks": 1}, seed=3))
    for key in ("learning_rate", "beta2", "gamma"):
        with pytest.raises(RecipeError, match=rf"training\.kimg=0\.032.*training\.{key}.*over_kimg"):
            prepare_run(run, recipe_for(kimg=0.064))
    prepare_run(run, recipe_for(tick_kimg=0.5, keep=7, health={"action": "stop"}, batch_per_device=4))


def test_a_run_whose_schedules_do_not_depend_on_its_length_may_become_longer(dataset: Dataset, tmp_path: Path) -> None:
    ramp = {"start": 2e-4, "end": 5e-5, "over_kimg": [0, 1]}
    fixed = {"learning_rate": ramp, "beta2": 0.99, "gamma": 1.0}
    run, _ = trained(tmp_path / "run", dataset, recipe_for(**fixed))
    trained(run.path, dataset, recipe_for(**fixed, kimg=0.064))
    assert json.loads(run.training_file.read_text())["images_seen"] == 64


@pytest.mark.parametrize("augment", [{"policy": ["colour"], "strength": {"start": 0, "end": 1}}, {}])
def test_a_ramp_of_the_augmentation_counts_only_where_it_is_used(
    augment: dict[str, Any], dataset: Dataset, tmp_path: Path
) -> None:
    run, _ = trained(tmp_path / "run", dataset, recipe_for("dcgan", augment=augment))
    longer = recipe_for("dcgan", augment=augment, kimg=0.064)
    if augment:
        with pytest.raises(RecipeError, match=r"augment\.strength"):
            prepare_run(run, longer)
    else:
        prepare_run(run, longer)


@pytest.mark.parametrize("why", ["slow", "wrong"])
def test_bf16_where_it_is_slow_or_wrong_becomes_fp32_and_is_said(
    why: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_supported", lambda device: why == "wrong")
    monkeypatch.setattr(precision, "worst_layer_error", lambda family, batch: 0.5)
    run, observer = trained(tmp_path / "run", dataset, recipe_for(precision="bf16"))
    words = {"slow": "bf16 was asked for, but", "wrong": "bf16 is wrong here: a layer is off by 0.5"}[why]
    assert any("in fp32" in line and words in line for line in observer.said)
    told = json.loads(run.training_file.read_text())
    assert told["precision"] == "fp32"
    assert words in told["precision_reason"]


def test_devices_that_are_not_there_are_refused(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(tmp_path / "a", dataset, recipe_for(device="cuda"), "finds no GPU")
    refused(tmp_path / "b", dataset, recipe_for(device="abacus"), "no device")
