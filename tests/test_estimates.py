"""Intervals cover the truth, floors are where they should be, and no number comes without them."""

import json
from math import comb

import numpy as np
import pytest
import torch

from synthoma.errors import EvaluationError
from synthoma.metrics.estimate import Estimate, Floor, Withheld, Yardstick
from synthoma.metrics.estimation import METRICS, Degraded, Plan, Sample, estimate, estimate_all
from synthoma.metrics.resampling import draw_rows, half_samples, interval, number_groups

DIMENSION = 16
SCALE = 1 / np.sqrt(np.arange(1, DIMENSION + 1) ** 0.5)
PLAN = Plan(subsamples=40, floors=2)


def gauss(rng: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    return rng.standard_normal((n, DIMENSION)) * SCALE + shift


def grouped(rng: np.random.Generator, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The same distribution, but 70 % of the variance is shared within a group of `size` images."""
    groups = np.arange(n) // size
    centres = rng.standard_normal((groups.max() + 1, DIMENSION)) * SCALE * np.sqrt(0.7)
    return centres[groups] + rng.standard_normal((n, DIMENSION)) * SCALE * np.sqrt(0.3), groups


def true_kid(shift: float) -> float:
    """Closed form for x ~ N(shift, S), y ~ N(0, S): E (x.y/d + 1)^3 through the moments of x.y, with S diagonal.

    For independent u ~ N(a, S) and v ~ N(b, S): given v, u.v ~ N(a.v, v'Sv), so moments follow from those of v.
    """
    s = SCALE**2

    def mean_kernel(a: np.ndarray, b: np.ndarray) -> float:
        # Given v, m = a.v and q = v'Sv; E t = E m, E t^2 = E (m^2 + q), E t^3 = E (m^3 + 3 m q).
        first, variance = a @ b, (a * a) @ s
        square = first**2 + variance
        quadratic = s @ (s + b * b)
        cube = first**3 + 3 * first * variance
        cross = first * quadratic + 2 * (a * s * s) @ b  # E m q, with Cov(a.v, v'Sv) = 2 sum a S S b
        t = (1.0, first, square + quadratic, cube + 3 * cross)
        return sum(comb(3, power) * t[power] / DIMENSION**power for power in range(4))

    moved, still = np.full(DIMENSION, shift), np.zeros(DIMENSION)
    return mean_kernel(moved, moved) + mean_kernel(still, still) - 2 * mean_kernel(moved, still)


def test_closed_form_of_the_shift_agrees_with_a_large_sample() -> None:
    from synthoma.metrics.kid import kid

    rng = np.random.default_rng(0)
    values = [kid(gauss(rng, 1000, 0.3), gauss(rng, 1000)) for _ in range(9)]
    assert np.mean(values) == pytest.approx(true_kid(0.3), abs=4 * np.std(values) / 3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_interval_of_kid_covers_the_truth_in_90_of_100_repetitions(shift: float, size: int) -> None:
    """Single images and groups of six; the width stays within four times what a perfect interval would have."""
    truth, hits, values, widths = true_kid(shift), 0, [], []
    for repetition in range(100):
        rng = np.random.default_rng(repetition)
        test, train = grouped(rng, 120, size), grouped(rng, 240, size)
        plan = Plan(subsamples=40, floors=2, seed=repetition)
        result = estimate("kid", Sample.of(gauss(rng, 200, shift)), Sample.of(*test), Sample.of(*train), plan)
        assert isinstance(result, Estimate)
        hits += result.low <= truth <= result.high
        values.append(result.value)
        widths.append(result.high - result.low)
    assert hits >= 90
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / 10)  # unbiased, also with groups
    assert np.mean(widths) < 4 * 2 * 1.96 * np.std(values)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fd", "precision", "coverage"])
def test_intervals_of_biased_metrics_cover_their_mean_at_this_number_of_images(name: str) -> None:
    results = []
    for repetition in range(60):
        rng = np.random.default_rng(repetition)
        samples = (Sample.of(gauss(rng, n, s)) for n, s in ((200, 0.3), (100, 0.0), (200, 0.0)))
        results.append(estimate(name, *samples, Plan(subsamples=40, floors=2, seed=repetition)))
    assert all(isinstance(result, Estimate) for result in results)
    truth = np.mean([result.value for result in results])
    assert sum(result.low <= truth <= result.high for result in results) >= 54


def test_half_samples_hold_half_and_differ() -> None:
    for count in (8, 9):
        chosen = half_samples(count, 50, seed=0, purpose="test")
        assert set(chosen.sum(dim=1).tolist()) == ({4} if count == 8 else {4, 5})
        assert len(torch.unique(chosen, dim=0)) > 20
        assert torch.equal(chosen, half_samples(count, 50, seed=0, purpose="test"))


def test_half_samples_of_a_mean_have_its_standard_error() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(100)
    chosen = half_samples(100, 400, 0, "mean").numpy()
    low, high = interval(values.mean(), [values[half].mean() for half in chosen], groups=100)
    assert (high - low) / 2 == pytest.approx(1.98 * values.std(ddof=1) / 10, rel=0.12)


def test_floor_draws_take_whole_groups() -> None:
    groups = number_groups(np.repeat(np.arange(30), 4))
    rows = draw_rows(groups, 40, seed=0, purpose="floor", step=0)
    assert len(rows) == 40
    assert set(torch.bincount(groups[rows], minlength=30).tolist()) == {0, 4}


def test_equal_distributions_lie_at_the_floor_and_shifted_ones_beyond_it() -> None:
    rng = np.random.default_rng(0)
    test, train = Sample.of(gauss(rng, 150)), Sample.of(gauss(rng, 600))
    same = estimate_all(tuple(METRICS), Sample.of(gauss(rng, 1000)), test, train, PLAN)
    moved = estimate_all(tuple(METRICS), Sample.of(gauss(rng, 1000, 0.8)), test, train, PLAN)
    for name in ("kid", "fd", "precision", "recall", "density", "coverage"):
        value, far = same[name], moved[name]
        assert isinstance(value, Estimate)
        assert isinstance(far, Estimate)
        # 1,000 synthetic images do not look better than 150 real ones do: metrics are taken at the floor's n.
        assert value.floor.low <= value.value <= value.floor.high
        assert far.value > far.floor.high if far.direction == "lower" else far.value < far.floor.low
    assert same["fd"].n == {"synthetic": 150, "reference": 150}  # type: ignore[union-attr]
    assert same["kid"].n == {"synthetic": 1000, "reference": 150}  # type: ignore[union-attr]


def test_one_by_one_gives_the_same_numbers_as_all_at_once() -> None:
    rng = np.random.default_rng(0)
    samples = [Sample.of(gauss(rng, n)) for n in (120, 100, 300)]
    together = estimate_all(tuple(METRICS), *samples, PLAN)
    assert estimate("recall", *samples, PLAN) == together["recall"]
    assert estimate("fd", *samples, PLAN) == together["fd"]


def test_few_images_few_groups_and_missing_classes_are_withheld_with_the_reason() -> None:
    rng = np.random.default_rng(0)
    many, few = Sample.of(gauss(rng, 400)), Sample.of(gauss(rng, 40))
    results = estimate_all(tuple(METRICS), many, few, many, PLAN)
    assert isinstance(results["kid"], Estimate)
    assert results["fd"] == Withheld("40 test images; this metric needs at least 50 on each side")
    three = Sample.of(gauss(rng, 90), np.arange(90) % 3)
    assert "3 patients or groups" in estimate("kid", many, three, many, PLAN).reason  # type: ignore[union-attr]
    assert "no class probabilities" in estimate("inception_score", many, many, many, PLAN).reason  # type: ignore[union-attr]
    assert "synthetic" in estimate("kid", Sample.of(np.zeros((0, DIMENSION))), many, many, PLAN).reason  # type: ignore[union-attr]
    two_patients = Sample.of(gauss(rng, 400), np.arange(400) % 2)
    assert "no floor" in estimate("kid", many, many, two_patients, PLAN).reason  # type: ignore[union-attr]


def test_inception_score_has_the_real_images_as_floor_and_its_caveat() -> None:
    rng = np.random.default_rng(0)
    x = gauss(rng, 300)
    sure, unsure = rng.dirichlet(np.full(5, 0.1), 300), rng.dirichlet(np.full(5, 5.0), 300)
    result = estimate("inception_score", Sample.of(x, None, unsure), Sample.of(x, None, sure), Sample.of(x), PLAN)
    assert isinstance(result, Estimate)
    assert result.value < 1.3 < 2 < result.floor.value
    assert "nothing with real images" in str(result.to_json()["caveat"])


def test_yardstick_is_the_metric_of_degraded_training_images() -> None:
    rng = np.random.default_rng(0)
    synthetic, test, train = (Sample.of(gauss(rng, n)) for n in (200, 100, 300))
    degraded = Degraded(Sample.of(gauss(rng, 100, 0.5)), "shifted by 0.5")
    result = estimate("kid", synthetic, test, train, PLAN, degraded)
    assert isinstance(result, Estimate)
    assert result.yardstick is not None
    assert result.yardstick.what == "shifted by 0.5"
    assert result.yardstick.value > 3 * result.floor.high


def test_an_estimate_cannot_be_built_without_interval_floor_and_protocol() -> None:
    good = {
        "metric": "kid",
        "value": 0.1,
        "low": 0.0,
        "high": 0.2,
        "n": {"synthetic": 10, "reference": 10},
        "groups": 5,
        "floor": Floor(0.0, -0.1, 0.1),
        "direction": "lower",
        "protocol": "abc",
    }
    written = Estimate(**good, yardstick=Yardstick(1.0, "blurred")).to_json()
    assert json.loads(json.dumps(written, allow_nan=False))["yardstick"] == {"value": 1.0, "what": "blurred"}
    for key in ("low", "high", "floor", "groups", "direction", "protocol"):
        with pytest.raises(TypeError):
            Estimate(**{name: value for name, value in good.items() if name != key})
    bad = ({"low": 0.15}, {"high": float("nan")}, {"floor": None}, {"groups": 0}, {"protocol": ""}, {"direction": "up"})
    for change in bad:
        with pytest.raises(EvaluationError):
            Estimate(**{**good, **change})
    with pytest.raises(EvaluationError):
        Withheld("")
