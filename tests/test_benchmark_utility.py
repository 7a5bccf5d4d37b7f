"""The utility benchmark: what it trains, poses and leaves out is what its page says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthoma.recipe import load_recipe
from utility_fixture import textures

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", ["skin9", "pap_smear", "nodules3d"])
def test_recipes_are_valid_and_conditional(name: str) -> None:
    recipe = load_recipe(str(SCRIPTS / "utility_recipes" / f"{name}.yaml"))
    assert recipe.model.conditions == ["class"]
    assert recipe.training.init_from is None


def test_the_recipe_for_skin_has_the_networks_of_the_shipped_one() -> None:
    assert load_recipe(str(SCRIPTS / "utility_recipes" / "skin9.yaml")).model == load_recipe("skin-cgan").model


def test_posing_images_are_of_other_patients_and_as_many_of_each_class(script: Any) -> None:
    train = textures(90, 1, classes=3)
    uneven = train.take(np.flatnonzero((train.labels < 2) | (np.arange(90) < 50)).astype(np.int64))
    real, posing = script("utility").halves(uneven, 0)
    assert not set(real.groups) & set(posing.groups)
    of_real, of_posing = (np.bincount(side.labels, minlength=3) for side in (real, posing))
    assert (of_posing >= of_real).all()
    assert (of_real >= 6).all()


def test_cubes_are_labelled_by_their_rating_and_others_left_out(script: Any, tmp_path: Path) -> None:
    ratings = np.array([1, 2, 3, 4, 5, 3])
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 2), dtype=np.uint8)
    parts = {"images": images, "ratings": np.stack([np.full(6, 9), ratings], axis=1), "ids": np.array(list("abcdef"))}
    arrays = {f"train_{part}": of[:4] for part, of in parts.items()} | {
        f"val_{part}": of[4:] for part, of in parts.items()
    }
    np.savez(tmp_path / "all.npz", rating_names=np.array(["texture", "malignancy"]), **arrays)
    nodules = script("utility_nodules")
    for name, ids, labels in (("nodules3d", "abde", [0, 0, 1, 1]), ("nodules3d_rating3", "abcdef", [0, 0, 0, 1, 1, 0])):
        nodules.write_archive(tmp_path / "all.npz", tmp_path / f"{name}.npz", *nodules.RATINGS[name])
        with np.load(tmp_path / f"{name}.npz") as kept:
            assert "".join(kept["train_ids"]) == ids
            assert kept["train_labels"].ravel().tolist() == labels
            np.testing.assert_array_equal(kept["train_images"], images[["abcdef".index(one) for one in ids]])


def test_the_result_keeps_verdicts_and_no_single_fits(script: Any) -> None:
    figure = {"kind": "estimate", "value": 0.1, "low": 0.0, "high": 0.2, "per_seed": [0.1]}
    module = script("utility")
    scores = dict.fromkeys((*module.KEPT_SCORES, "accuracy"), figure)
    of_class = {"auc": figure, "recall": figure, "sensitivity": figure, "change": {"auc": figure, "recall": figure}}
    arm = {"name": "synthetic", "scores": scores, "change": scores, "classes": {"a": of_class}, "fits": [{}]}
    told = {"arms": [arm], "budget": {"gflop_forward": 0.1, "seconds_a_fit": {"mean": 5.0, "most": 9.0}}}
    one = module.shortened(told)["arms"][0]
    assert "fits" not in one
    assert set(one["change"]) == set(module.KEPT_SCORES)
    assert one["classes"]["a"] == {"auc": figure, "recall": figure, "change": {"auc": figure}}
    with pytest.raises(SystemExit, match="GFLOP"):
        module.shortened({**told, "budget": {**told["budget"], "gflop_forward": 1.5}})
