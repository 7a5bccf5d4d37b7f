"""Beginning from another run or model, with layers of the discriminator that stay as they are."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from family_fixture import small_family
from make_dataset import Silent, make_dataset
from synthoma.dataset import Dataset
from synthoma.errors import RecipeError
from synthoma.recipe import Recipe
from synthoma.run import Run, file_sha256
from synthoma.training import loop, prepare_run, train
from synthoma.training.checkpoint import checkpoint_folders

SIZE = (8, 8)


def recipe_for(family: str = "r3", *, model: Any = None, **training: Any) -> Recipe:
    return small_family(family, SIZE, 1, model=model, **{"kimg": 0.16, "sample_kimg": 1, "tick_kimg": 1, **training})


def run_with(folder: Path, dataset: Dataset, recipe: Recipe) -> Run:
    run = Run(folder)
    prepare_run(run, recipe)
    train(run, dataset, Silent())
    return run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "d", count=60, size=SIZE, channels=1)


@pytest.fixture(scope="module")
def first(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_with(tmp_path_factory.mktemp("first") / "run", dataset, recipe_for())


def weights(run: Run, name: str) -> dict[str, torch.Tensor]:
    return load_file(checkpoint_folders(run.checkpoints)[-1] / f"{name}.safetensors")


@pytest.fixture
def beginning(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, torch.Tensor]]:
    """The weights that a training begins with, by network."""
    kept: dict[str, dict[str, torch.Tensor]] = {}
    plain = loop.iterate

    def iterate(session: loop.Session, stopped: Any) -> None:
        networks = {
            "generator": session.family.generator,
            "discriminator": session.family.discriminator,
            "average": session.state.average,
        }
        for name, network in networks.items():
            kept[name] = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
        plain(session, stopped)

    monkeypatch.setattr(loop, "iterate", iterate)
    return kept


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in one if name in other and torch.equal(one[name], other[name])]


def test_both_networks_of_a_run_are_taken(
    first: Run, dataset: Dataset, tmp_path: Path, beginning: dict[str, dict[str, torch.Tensor]]
) -> None:
    run_with(tmp_path / "run", dataset, recipe_for(init_from=str(first.path), seed=5))
    for mine, theirs in (("generator", "average"), ("average", "average"), ("discriminator", "discriminator")):
        assert same(beginning[mine], weights(first, theirs)) == list(beginning[mine])


def test_what_depends_on_the_conditions_stays_as_drawn(
    first: Run, dataset: Dataset, tmp_path: Path, beginning: dict[str, dict[str, torch.Tensor]]
) -> None:
    conditional = {"conditions": ["class"]}
    run_with(tmp_path / "drawn", dataset, recipe_for(model=conditional))
    drawn = {name: dict(tensors) for name, tensors in beginning.items()}
    run_with(tmp_path / "run", dataset, recipe_for(model=conditional, init_from=str(first.path)))
    for network, theirs in (("generator", "average"), ("discriminator", "discriminator")):
        taken = set(same(beginning[network], weights(first, theirs)))
        others = set(beginning[network]) - taken
        assert taken
        assert others <= set(same(beginning[network], drawn[network]))
        shapes = {name: tensor.shape for name, tensor in weights(first, theirs).items()}
        assert all(name not in shapes or shapes[name] != beginning[network][name].shape for name in others)
    assert set(beginning["discriminator"]) - set(weights(first, "discriminator")), (
        "conditions have weights of their own"
    )


@pytest.mark.parametrize("family", ["r3", "dcgan"])
def test_frozen_blocks_do_not_move_a_bit_also_after_a_resume(family: str, dataset: Dataset, tmp_path: Path) -> None:
    model = {"spectral_norm": False}
    begun = run_with(tmp_path / "first", dataset, recipe_for(family, model=model))
    recipe = recipe_for(family, model=model, init_from=str(begun.path), freeze=1, kimg=0.32, checkpoint_kimg=0.16)
    run = run_with(tmp_path / "run", dataset, recipe)
    theirs, mine = weights(begun, "discriminator"), weights(run, "discriminator")
    frozen = [name for name in mine if name.startswith("blocks.0.")]
    assert frozen
    assert set(frozen) <= set(same(mine, theirs))
    moved = [name for name in mine if name.startswith("blocks.1.") and name not in same(mine, theirs)]
    assert moved
    # Killed after the first checkpoint, and without what it began from, which is not needed any more.
    killed = Run(tmp_path / "killed")
    shutil.copytree(run.path, killed.path)
    shutil.rmtree(checkpoint_folders(killed.checkpoints)[-1])
    shutil.move(begun.path, tmp_path / "elsewhere")
    train(killed, dataset, Silent())
    files = [
        sorted(file_sha256(file) for file in checkpoint_folders(r.checkpoints)[-1].glob("*.safetensors"))
        for r in (run, killed)
    ]
    assert files[0] == files[1]


def test_a_model_gives_its_generator_only(
    first: Run, dataset: Dataset, tmp_path: Path, beginning: dict[str, dict[str, torch.Tensor]]
) -> None:
    run_with(tmp_path / "run", dataset, recipe_for(init_from=str(first.model), seed=5))
    released = load_file(first.model / "generator.safetensors")
    assert same(beginning["generator"], released) == list(beginning["generator"])
    assert not set(same(beginning["discriminator"], weights(first, "discriminator"))) & {
        name for name in beginning["discriminator"] if beginning["discriminator"][name].std() > 0
    }


def refused(dataset: Dataset, folder: Path, words: str, recipe: Recipe) -> None:
    run = Run(folder)
    prepare_run(run, recipe)
    with pytest.raises(RecipeError, match=words):
        train(run, dataset, Silent())
    assert checkpoint_folders(run.checkpoints) == []


def test_what_cannot_be_begun_from_is_refused_in_words(first: Run, dataset: Dataset, tmp_path: Path) -> None:
    refused(dataset, tmp_path / "a", "neither a run with checkpoints nor a model", recipe_for(init_from="/nowhere"))
    refused(dataset, tmp_path / "b", "no discriminator", recipe_for(init_from=str(first.model), freeze=1))
    refused(dataset, tmp_path / "c", "blocks are to stay", recipe_for(init_from=str(first.path), freeze=99))
    refused(dataset, tmp_path / "d", r"weights fit.*family", recipe_for("dcgan", init_from=str(first.path)))
    wider = {"generator_widths": [32, 32, 16], "discriminator_widths": [16, 32, 32]}
    refused(dataset, tmp_path / "e", r"weights fit.*widths", recipe_for(model=wider, init_from=str(first.path)))


def test_freeze_without_a_beginning_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="freeze needs init_from"):
        recipe_for(freeze=2)


def test_the_command_line_takes_a_beginning(first: Run, dataset: Dataset, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from synthoma.cli.app import app

    own = tmp_path / "recipe.yaml"
    own.write_text(recipe_for().to_yaml())
    arguments = ["train", str(own), "--dataset", str(dataset.path), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*arguments, "--init-from", str(first.path), "--set", "training.freeze=1"])
    assert result.exit_code == 0, result.output
    mine, theirs = weights(Run(tmp_path / "run"), "discriminator"), weights(first, "discriminator")
    assert any(name.startswith("blocks.0.") for name in same(mine, theirs))
