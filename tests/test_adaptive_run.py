"""Adaptive augmentation in a run: its strength moves, is logged, and goes on where it was."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from family_fixture import small_family
from make_dataset import Silent, make_dataset, smooth_images
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError
from synthoma.recipe import Recipe
from synthoma.run import Run, file_sha256
from synthoma.training import iteration, prepare_run, train
from synthoma.training.checkpoint import checkpoint_folders

SIZE = (8, 8)


def recipe_for(family: str = "dcgan", strength: Any = "adaptive", **training: Any) -> Recipe:
    augment = {"policy": ["colour", "translation", "cutout"], "strength": strength, "adapt_kimg": 0.5}
    return small_family(family, SIZE, 1, augment=augment, **{"sample_kimg": 1, "tick_kimg": 0.032, **training})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "d", count=320, size=SIZE, channels=1, draw=smooth_images)


def run_with(folder: Path, dataset: Dataset, recipe: Recipe) -> Run:
    run = Run(folder)
    prepare_run(run, recipe)
    train(run, dataset, Silent())
    return run


def strengths(run: Run) -> list[float]:
    return [row["strength"] for row in run.stats() if row["kind"] == "tick"]


def overfitting_is(monkeypatch: pytest.MonkeyPatch, values: dict[int, float], otherwise: float) -> None:
    """What the comparison finds, by its number."""
    count = iter(range(10**6))
    monkeypatch.setattr(iteration, "overfitting", lambda *scores: values.get(next(count), otherwise))


def test_the_strength_moves_with_the_overfitting_and_is_logged(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Compared every 8 iterations of 16 images: a step is 128 images of the 500 from 0 to 1.
    overfitting_is(monkeypatch, {0: 1.0, 1: 1.0}, 0.0)
    run = run_with(tmp_path / "run", dataset, recipe_for(kimg=1.6))
    found = strengths(run)
    assert found[3] == pytest.approx(128 / 500)
    assert max(found) > 0.4
    assert found[-1] < max(found)
    assert all(0 <= strength <= 0.85 for strength in found)


@pytest.mark.parametrize("family", ["r3", "dcgan", "pggan", "style"])
def test_the_strength_of_a_killed_run_goes_on_to_the_same_bits(family: str, dataset: Dataset, tmp_path: Path) -> None:
    straight = run_with(tmp_path / "straight", dataset, recipe_for(family))
    killed = Run(tmp_path / "killed")
    shutil.copytree(straight.path, killed.path)
    for folder in checkpoint_folders(killed.checkpoints)[1:]:
        shutil.rmtree(folder)
    train(killed, dataset, Silent())
    assert strengths(killed) == strengths(straight)
    sums = [
        sorted(file_sha256(file) for file in checkpoint_folders(run.checkpoints)[-1].glob("*"))
        for run in (straight, killed)
    ]
    # state.json holds seconds of its own, and with it the manifest differs.
    assert len(set(sums[0]) & set(sums[1])) >= len(sums[0]) - 2


def test_comparing_changes_nothing_but_the_strength(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No draw of the training depends on it: held at 0, the run is one without strength."""
    overfitting_is(monkeypatch, {}, 0.0)
    held = run_with(tmp_path / "held", dataset, recipe_for("r3"))
    fixed = run_with(tmp_path / "fixed", dataset, recipe_for("r3", strength=0.0))
    assert set(strengths(held)) == {0.0}
    names = ("generator", "discriminator", "average", "generator_optimizer", "discriminator_optimizer")
    for name in names:
        first, second = (
            file_sha256(checkpoint_folders(run.checkpoints)[-1] / f"{name}.safetensors") for run in (held, fixed)
        )
        assert first == second, name


def test_too_few_held_out_images_are_refused_with_what_to_do(tmp_path: Path) -> None:
    few = make_dataset(tmp_path / "data", count=96, size=SIZE, channels=1)
    run = Run(tmp_path / "run")
    prepare_run(run, recipe_for())
    with pytest.raises(DatasetError, match=r"validation images are too few \(32 are needed\); give a fixed strength"):
        train(run, few, Silent())
    assert checkpoint_folders(run.checkpoints) == []
