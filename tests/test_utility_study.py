"""The utility study on drawn textures, where it is known what the synthetic images are worth."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from make_dataset import make_dataset
from synthoma.draws import StepDraws
from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset
from synthoma.evaluation.utility import (
    Fold,
    Sides,
    UtilitySettings,
    assign_folds,
    forest_rows,
    iterate_folds,
    study_folds,
    study_utility,
)
from synthoma.evaluation.utility.arms import Pool, class_weights, plan_arms
from synthoma.evaluation.utility.augment import augment_batch, turn_and_shift
from synthoma.evaluation.utility.opening import make_protocol
from synthoma.evaluation.utility.train import batch_rows, fit_classifier, predict
from synthoma.metrics.estimate import Withheld
from utility_fixture import NAMES, sides, textures, with_labels

pytest.importorskip("monai", reason="the extra utility is not installed")

QUICK = UtilitySettings(ratios=(1.0,), seeds=2, updates=2, batch=8, check_every=2, bootstraps=100)
ONCE = replace(QUICK, seeds=1)
LEARNING = replace(QUICK, updates=60, batch=16, check_every=6, learning_rate=3e-3, bootstraps=300)


def verdicts(result: dict) -> dict[str, str]:
    return {row.arm: row.verdict for row in forest_rows(result)}


def test_a_study_tells_everything_that_it_rests_on(tmp_path: Path) -> None:
    result = study_utility(sides(), textures(24, 4), QUICK, selected=textures(12, 5))
    json.dumps(result, allow_nan=False)
    arms = {arm["name"]: arm for arm in result["arms"]}
    assert list(arms) == [
        "real",
        "real+augmentation",
        "real+weights",
        "synthetic",
        "real+synthetic@1",
        "real+selected",
    ]
    assert {fit["updates"] for arm in result["arms"] for fit in arm["fits"]} == {QUICK.updates}
    assert [fit["seed"] for fit in arms["real"]["fits"]] == result["seeds"] == [0, 1]
    assert arms["real+synthetic@1"]["images"] == {"fine": 24, "coarse": 24}
    assert arms["real+selected"]["images"] == {"fine": 18, "coarse": 18}
    assert result["counts"]["test"] == {"images": 40, "groups": 20, "classes": {"fine": 20, "coarse": 20}}
    for arm in result["arms"]:
        for told in arm["scores"].values():
            assert told["low"] <= told["value"] <= told["high"]
        assert set(arm["classes"]) == set(NAMES)
        assert ("verdict" in arm) == (arm["name"] != "real")
    assert 0 < result["budget"]["gflop_forward"] < 1
    assert result["budget"]["fits"] == 12
    assert result["protocol"]["hash"]


def test_the_same_study_gives_the_same_figures() -> None:
    def without_times(result: dict) -> str:
        for arm in result["arms"]:
            for fit in arm["fits"]:
                del fit["seconds"]
        del result["budget"]["seconds_a_fit"]
        return json.dumps(result)

    first = study_utility(sides(), textures(24, 4), ONCE)
    torch.manual_seed(99)  # what a caller did to torch's generator does not matter
    state = torch.get_rng_state()
    assert without_times(study_utility(sides(), textures(24, 4), ONCE)) == without_times(first)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_protocol_follows_the_real_images_and_the_settings() -> None:
    first = make_protocol(sides(), QUICK, {})["hash"]
    assert make_protocol(sides(), replace(QUICK, ratios=(4.0,)), {})["hash"] == first
    assert make_protocol(sides(), replace(QUICK, updates=5), {})["hash"] != first
    assert make_protocol(sides(held=42), QUICK, {})["hash"] != first


@pytest.mark.slow
def test_wrong_labels_harm() -> None:
    settings = replace(LEARNING, seeds=3, ratios=(3.0,))
    real = Sides(textures(48, 1, 10), textures(40, 2, 10), textures(160, 3, 10))
    made = textures(200, 4, 10)
    shuffled = with_labels(made, np.random.default_rng(0).permutation(made.labels))
    result = study_utility(real, shuffled, settings)
    assert result["arms"][0]["scores"]["auc"]["value"] > 0.95
    assert verdicts(result)["synthetic"] == "harms"
    assert 0.3 < result["arms"][3]["scores"]["auc"]["value"] < 0.6
    # Always the other class: what is learnt is the opposite, with real images among them too.
    opposite = study_utility(real, with_labels(made, 1 - made.labels), settings)
    assert verdicts(opposite)["real+synthetic@3"] == "harms"


@pytest.mark.slow
def test_copies_of_the_training_images_are_never_said_to_help_or_harm() -> None:
    real = sides(train=32, held=80, noise=20)
    copies = ImageSet(real.train.images, real.train.labels, real.train.classes, real.train.groups, "copies")
    result = study_utility(real, copies, replace(LEARNING, updates=24, seeds=3))
    assert verdicts(result)["real+synthetic@1"] in ("no effect within the margin", "underpowered")


@pytest.mark.slow
def test_more_of_the_same_helps_a_tiny_set() -> None:
    settings = UtilitySettings(ratios=(16.0,), seeds=3, updates=100, batch=16, check_every=10, bootstraps=500)
    real = Sides(textures(12, 1, 45), textures(40, 2, 45), textures(200, 3, 45))
    result = study_utility(real, textures(200, 4, 45), settings)
    change = {row.arm: row for row in forest_rows(result)}["real+synthetic@16"]
    assert change.low is not None
    assert change.low > 0.1
    assert change.verdict == "helps"


def test_a_ratio_that_cannot_be_had_is_withheld_and_not_made_smaller() -> None:
    real = sides()
    made = textures(24, 4)
    few = made.take(np.flatnonzero((made.labels == 0) | (np.arange(24) < 8)).astype(np.int64))
    arms = {arm.name: arm for arm in plan_arms(real.train, few, None, (0.5, 1.0), 0)}
    withheld = arms["real+synthetic@1"].pool
    assert isinstance(withheld, Withheld)
    assert "class coarse needs 12 synthetic images" in withheld.reason
    both = [plan_arms(real.train, made, None, (0.5, 1.0), 0)[place].pool for place in (4, 5)]
    assert all(isinstance(pool, Pool) for pool in both)
    half, whole = ({image.tobytes() for image in pool.images} for pool in both if isinstance(pool, Pool))
    assert half < whole  # a lower ratio's images are among those of a higher one


def test_classes_that_are_too_rare_are_withheld_and_the_others_judged() -> None:
    real = Sides(*(textures(n, seed, classes=3) for n, seed in ((36, 1), (36, 2), (60, 3))))
    rare = np.flatnonzero((real.test.labels < 2) | (np.cumsum(real.test.labels == 2) <= 4)).astype(np.int64)
    result = study_utility(Sides(real.train, real.validation, real.test.take(rare)), textures(36, 4, classes=3), ONCE)
    assert list(result["withheld_classes"]) == ["third"]
    assert "4 test images of 2 patients" in result["withheld_classes"]["third"]
    assert set(result["arms"][0]["classes"]) == set(NAMES)
    told = study_utility(
        Sides(real.train, real.validation, real.test.take(rare)),
        textures(36, 4, classes=3),
        replace(QUICK, positive="third"),
    )
    assert "4 test images" in told["withheld"]
    assert "arms" not in told


def test_minority_classes_are_named_and_told_apart() -> None:
    train = textures(48, 1)
    few = train.take(np.flatnonzero((train.labels == 0) | (np.cumsum(train.labels) <= 6)).astype(np.int64))
    real = sides()
    result = study_utility(
        Sides(few, real.validation, real.test),
        textures(60, 4),
        replace(QUICK, positive="coarse", operating_point="specificity"),
    )
    assert result["minority"] == ["coarse"]
    arm = next(arm for arm in result["arms"] if arm["name"] == "real+synthetic@1")
    assert arm["images"] == {"fine": 48, "coarse": 12}
    assert arm["scores"]["sensitivity"] == arm["classes"]["coarse"]["sensitivity"]
    assert {"change", "verdict"} <= set(arm["classes"]["coarse"])
    weights = class_weights(few.labels, 2)
    assert weights.tolist() == pytest.approx([30 / 48, 30 / 12])


@pytest.mark.parametrize(("size", "updates"), [((16, 16), 30), ((8, 8, 8), 60)])
def test_the_classifier_learns_in_two_and_three_dimensions(size: tuple[int, ...], updates: int) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = random.integers(60, 120, (40, 1, *size)).astype(np.uint8)
    images[labels == 1, :, : size[0] // 2] += 60
    pool, held = (Pool(images[part], labels[part], (0, 255)) for part in (slice(0, 28), slice(28, 40)))
    fitted = fit_classifier(pool, held, 2, replace(LEARNING, updates=updates), seed=0)
    assert (predict(fitted.network, held).argmax(axis=1) == held.labels).all()
    assert fitted.best_update in range(6, updates + 1, 6)
    assert fitted.validation_loss < 0.3
    quick = [predict(fit_classifier(pool, held, 2, QUICK, seed).network, held) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(quick[0], quick[1])
    assert (quick[0] != quick[2]).any()


def test_batches_show_every_image_before_any_comes_again() -> None:
    rows = np.concatenate([batch_rows(10, step, 4, seed=3) for step in range(5)])
    assert sorted(rows[:10]) == sorted(rows[10:]) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()


def test_classical_augmentation_moves_images_and_keeps_their_range() -> None:
    image = torch.full((1, 1, 17, 17), -1.0)
    image[0, 0, 8, 12] = 1.0
    same = turn_and_shift(image, torch.zeros(1), torch.zeros(1, 2))
    assert torch.allclose(same, image, atol=1e-5)
    # A quarter turn moves the point from the right to below or above; a shift of 1/17 by one pixel along its axis.
    turned = turn_and_shift(image, torch.tensor([torch.pi / 2]), torch.zeros(1, 2))
    assert float(turned[0, 0, 12, 8].maximum(turned[0, 0, 4, 8])) == pytest.approx(1, abs=1e-4)
    shifted = turn_and_shift(image, torch.zeros(1), torch.tensor([[1 / 17, 0.0]]))
    assert float(shifted[0, 0, 9, 12]) == pytest.approx(1, abs=1e-4)
    draw = StepDraws(0, 3, torch.arange(6))
    many = torch.linspace(-1, 1, 6 * 2 * 8 * 8 * 8).reshape(6, 2, 8, 8, 8)
    out = augment_batch(many, draw, "mirror")
    assert out.shape == many.shape
    assert float(out.abs().max()) <= 1
    assert torch.equal(out, augment_batch(many, draw, "mirror"))
    part = augment_batch(many[2:4], draw.part(2, 4), "mirror")
    assert torch.allclose(part, out[2:4], atol=1e-6)


def test_folds_keep_patients_together_and_classes_even() -> None:
    images = textures(60, 1, classes=3)
    assigned = assign_folds(images, folds=5, repetitions=2, seed=0)
    assert assigned.shape == (2, 60)
    for fold_of in assigned:
        for group in np.unique(images.groups):
            assert len(np.unique(fold_of[images.groups == group])) == 1
        for label in range(3):
            assert (np.bincount(fold_of[images.labels == label], minlength=5) == 4).all()
    assert (assigned[0] != assigned[1]).any()
    # Neither the order of the images nor the names of the patients matter.
    order = np.random.default_rng(0).permutation(60)
    moved = images.take(order)
    renamed = ImageSet(
        moved.images, moved.labels, moved.classes, np.array([f"x{hash(g) % 10**9}" for g in moved.groups]), "other"
    )
    np.testing.assert_array_equal(assign_folds(renamed, 5, 2, 0), assigned[:, order])
    tested = np.zeros((2, 60), dtype=int)
    for fold in iterate_folds(assigned):
        rows = np.concatenate([fold.train, fold.validation, fold.test])
        assert sorted(rows) == list(range(60))
        tested[fold.repetition, fold.test] += 1
    assert (tested == 1).all()
    with pytest.raises(EvaluationError, match="40 folds need"):
        assign_folds(images, 40, 1, 0)


def test_the_generator_of_a_fold_sees_its_training_rows_only() -> None:
    images = textures(36, 1)
    asked: list[tuple[set[str], int]] = []

    def make_synthetic(fold: Fold, seed: int) -> ImageSet:
        asked.append((set(images.groups[fold.train]), seed))
        return textures(36, 10 + len(asked))

    result = study_folds(images, make_synthetic, QUICK, folds=3)
    json.dumps(result, allow_nan=False)
    assert [seed for _, seed in asked] == [0, 0, 0, 1, 1, 1]
    everybody = set(images.groups)
    for seed in (0, 1):
        left_out = [everybody - seen for seen, of in asked if of == seed]
        assert set.union(*left_out) == everybody
    real = result["arms"][0]
    assert len(real["fits"]) == 6
    assert len(real["scores"]["auc"]["per_seed"]) == 2
    # Images of a repetition's generators are shown to the classifiers of that repetition only.
    assert result["agreement"]["confusion"]["synthetic"]["images"] == [6 * 18, 6 * 18]
    assert len(result["agreement"]["all"]["synthetic"]["per_seed"]) == 2
    assert {row.arm for row in forest_rows(result)} >= {"synthetic", "real+synthetic@1"}


def test_volumes_and_datasets_of_the_project_go_through(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", count=160, classes=2, size=(8, 8, 8), channels=1)
    real = Sides(*(image_set_from_dataset(dataset, split) for split in ("train", "val", "test")))
    made = real.train.take(np.arange(len(real.train)))
    names = np.array([f"S{i}" for i in range(len(made))])
    synthetic = ImageSet(made.images, made.labels, made.classes, names, "made")
    result = study_utility(real, synthetic, replace(ONCE, least_groups=3))
    assert {row.verdict for row in forest_rows(result)} == {"underpowered"}
    assert all("one seed" in row.why or "alike" in row.why for row in forest_rows(result))
