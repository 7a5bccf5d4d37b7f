"""Canaries: shown as often as the recipe says, drawn by content, and refused where they make no sense."""

from pathlib import Path

import pytest
import torch

from make_dataset import make_dataset
from synthoma.errors import DatasetError, RecipeError
from synthoma.recipe import load_recipe
from synthoma.training.batches import BatchStream
from synthoma.training.canaries import canary_rows
from synthoma.training.images import RealImages


def test_canaries_are_shown_that_much_more_often(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "set")
    recipe = load_recipe("chest-ct-dcgan", ["training.canaries=2", "training.canary_repeats=40"])
    rows = canary_rows(dataset, recipe)
    assert len(rows) == 2
    train = dataset.rows("train").tolist()
    places = torch.tensor([train.index(row) for row in rows])
    reals = RealImages(dataset, torch.device("cpu"), recipe.model)
    stream = BatchStream(reals, recipe, None, canaries=places)
    steps = torch.arange(4000)
    drawn = stream._places("reals", steps, torch.zeros_like(steps))
    share = float(torch.isin(drawn, places).double().mean())
    expected = 80 / (reals.count + 78)
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 4000) ** 0.5)
    assert len(canary_rows(dataset, load_recipe("chest-ct-dcgan"))) == 0


def test_canaries_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="balanced draws would undo"):
        load_recipe("skin-cgan", ["training.canaries=2", "training.balanced=true"])
    dataset = make_dataset(tmp_path / "set")
    with pytest.raises(DatasetError, match="cannot be chosen"):
        canary_rows(dataset, load_recipe("chest-ct-dcgan", ["training.canaries=100000"]))
