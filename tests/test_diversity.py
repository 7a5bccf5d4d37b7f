"""Diversity and nearness to training images, against plain loops and on sets whose answer is known."""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from synthoma.errors import EvaluationError
from synthoma.metrics.diversity import (
    LEAST_OF_CLASS,
    diversity_ratio,
    diversity_ratios,
    mean_pairwise_distance,
    memorisation,
)


def cloud(n: int, seed: int, spread: float = 1.0, d: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * spread


def test_mean_pairwise_distance_is_the_mean_over_pairs() -> None:
    x = cloud(23, 0)
    loops = [math.dist(a, b) for i, a in enumerate(x) for b in x[:i]]
    assert mean_pairwise_distance(x) == pytest.approx(np.mean(loops), rel=1e-12)


def test_sets_of_unlike_size_compare_without_bias() -> None:
    small = np.mean([mean_pairwise_distance(cloud(5, seed)) for seed in range(400)])
    assert small == pytest.approx(mean_pairwise_distance(cloud(512, 1000)), rel=0.03)


def test_many_images_are_thinned_out_evenly() -> None:
    # Two halves far apart: taking the first rows only would see one of them.
    x = np.concatenate((cloud(2000, 0), cloud(2000, 1) + 100))
    assert mean_pairwise_distance(x) == pytest.approx(100 * math.sqrt(8) / 2, rel=0.02)


def test_ratio_is_one_for_the_same_distribution_and_nought_for_one_image() -> None:
    real = cloud(300, 0)
    assert diversity_ratio(cloud(200, 1), real) == pytest.approx(1.0, abs=0.05)
    assert diversity_ratio(cloud(200, 1, spread=0.2), real) == pytest.approx(0.2, abs=0.02)
    assert diversity_ratio(np.ones((50, 8)), real) == 0.0


def test_collapse_within_classes_shows_although_the_classes_differ() -> None:
    labels = np.arange(120) % 3
    real = cloud(120, 0) + 50.0 * labels[:, None]
    synthetic = cloud(120, 1) + 50.0 * labels[:, None]
    synthetic[labels == 1] = 50.0
    ratios = diversity_ratios(synthetic, real, labels, labels, ["a", "b", "c"])
    assert list(ratios) == ["a", "b", "c"]
    assert ratios["b"] == 0.0
    assert ratios["a"] == pytest.approx(1.0, abs=0.2)
    assert ratios["c"] == pytest.approx(1.0, abs=0.2)
    assert diversity_ratios(synthetic, real)["all"] > 0.9


def test_small_classes_and_equal_reals_are_left_out() -> None:
    labels = np.array([0] * 20 + [1] * (LEAST_OF_CLASS - 1) + [2] * 20)
    real = cloud(len(labels), 0)
    real[labels == 2] = 1.0
    assert list(diversity_ratios(real, real, labels, labels, ["many", "few", "equal"])) == ["many"]


def test_a_generator_of_the_same_distribution_is_not_accused() -> None:
    shares, ranks, excess = [], [], []
    for seed in range(60):
        found = memorisation(cloud(150, 3 * seed, d=3), cloud(300, 3 * seed + 1, d=3), cloud(79, 3 * seed + 2, d=3))
        shares.append(found["share_closer"])
        ranks.append(found["auc"])
        if found["near_error"]:
            excess.append((found["near_train"] - found["near_held_out"]) / found["near_error"])
    assert len(excess) > 50
    assert found["expected"] == pytest.approx(4 / 80)
    assert np.mean(shares) == pytest.approx(4 / 80, abs=0.015)
    assert np.mean(ranks) == pytest.approx(0.5, abs=0.02)
    assert np.mean(excess) == pytest.approx(0.0, abs=0.5)
    assert np.std(excess) == pytest.approx(1.0, abs=0.3)
    # The stated error is that of independent images with one training set, to which training sets add a little.
    assert np.std(ranks) == pytest.approx(found["auc_error"], rel=0.4)


def test_copies_show_in_all_numbers() -> None:
    train, held_out = cloud(300, 0), cloud(100, 1)
    found = memorisation(train[:200] + 0.01 * cloud(200, 2), train, held_out)
    assert found["share_closer"] == 1.0
    assert found["auc"] > 0.99
    assert found["near_train"] - found["near_held_out"] > 8 * found["near_error"]


def test_a_fifth_of_copies_shows() -> None:
    train, held_out = cloud(600, 0), cloud(150, 1)
    some = np.concatenate((train[:100] + 0.01 * cloud(100, 2), cloud(400, 3)))
    found = memorisation(some, train, held_out)
    assert found["share_closer"] > 3 * found["expected"]
    assert found["near_train"] - found["near_held_out"] > 4 * found["near_error"]


@pytest.mark.parametrize("spread", [0.3, 0.0])
def test_blurred_or_equal_samples_are_near_to_all_and_not_taken_for_copies(spread: float) -> None:
    for seed in range(20):
        train, held_out = cloud(300, 3 * seed), cloud(60, 3 * seed + 1)
        found = memorisation(cloud(200, 3 * seed + 2, spread), train, held_out)
        assert found["auc"] > 0.6
        assert found["near_train"] - found["near_held_out"] <= 4 * found["near_error"]


def test_auc_is_that_of_mann_and_whitney() -> None:
    train, held_out, synthetic = cloud(60, 0), cloud(31, 1), cloud(45, 2, spread=0.8)
    synthetic[:3] = held_out[:3]
    distance = lambda x: np.linalg.norm(x[:, None] - train[None], axis=2).min(axis=1)  # noqa: E731
    statistic = mannwhitneyu(distance(held_out), distance(synthetic)).statistic
    assert memorisation(synthetic, train, held_out)["auc"] == pytest.approx(statistic / (31 * 45), abs=1e-9)


def test_few_held_out_images_state_a_larger_expectation() -> None:
    assert memorisation(cloud(50, 0), cloud(50, 1), cloud(4, 2))["expected"] == 1 / 5


def test_sets_without_images_are_refused() -> None:
    with pytest.raises(EvaluationError, match="at least 2"):
        mean_pairwise_distance(cloud(1, 0))
    with pytest.raises(EvaluationError, match="all equal"):
        diversity_ratio(cloud(9, 0), np.ones((9, 8)))
    with pytest.raises(EvaluationError, match="empty"):
        memorisation(cloud(9, 0), cloud(9, 1), np.empty((0, 8)))
