"""Recipes: strict, helpful, and stable in their hashes."""

from pathlib import Path

import pytest
import yaml

from synthoma.errors import RecipeError
from synthoma.recipe import apply_settings, load_recipe, shipped_recipes, validate_recipe


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_shipped_recipes_load_and_survive_a_round_trip(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert validate_recipe(yaml.safe_load(recipe.to_yaml()), name) == recipe


def test_the_promised_recipes_are_shipped() -> None:
    assert {"skin-cgan", "chest-ct-dcgan", "chest-xray-dcgan", "demo"} <= set(shipped_recipes())


def test_settings_change_one_key_and_read_numbers_as_such() -> None:
    recipe = load_recipe("skin-cgan", ["training.kimg=3", "training.learning_rate=1e-4", "preparation.size=[32, 48]"])
    assert (recipe.training.kimg, recipe.training.learning_rate, recipe.preparation.size) == (3, 1e-4, [32, 48])
    assert recipe.training.batch == load_recipe("skin-cgan").training.batch


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.kimgs=3", "did you mean 'kimg'"),
        ("trainin.kimg=3", "did you mean 'training'"),
        ("training.kimg=-1", "training.kimg"),
        ("training.kimg", "expected key=value"),
        ("training.kimg.x=1", "holds a value"),
        ("preparation.size=2", "at least 4"),
        ("model.range=[0, 1]", "do not agree"),
        ("preparation.fractions=[0.5, 0.5, 0.5]", "add up to 1"),
        ("training.real_labels=[1.0, 0.5]", "smoothed labels"),
    ],
)
def test_wrong_settings_are_explained(setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("skin-cgan", [setting])


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'skin-cgan'"):
        load_recipe("skin-cgam")


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    with pytest.raises(RecipeError, match="is no recipe"):
        load_recipe(tmp_path / "list.yaml")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(tmp_path / "broken.yaml")


def test_hash_of_a_part_changes_only_with_that_part() -> None:
    one, two = load_recipe("demo"), load_recipe("demo", ["training.kimg=61"])
    assert one.part_hash("preparation") == two.part_hash("preparation")
    assert one.part_hash("training") != two.part_hash("training")


def test_settings_leave_the_original_alone() -> None:
    values = {"name": "x", "training": {"kimg": 1}}
    apply_settings(values, ["training.kimg=2"])
    assert values["training"]["kimg"] == 1
