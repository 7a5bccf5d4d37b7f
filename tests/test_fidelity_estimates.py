"""Estimates of the further metrics: intervals, floors, the permutation test, and what is withheld."""

import numpy as np
import pytest
import torch
from scipy import stats

from synthoma.metrics.estimate import Estimate, Withheld
from synthoma.metrics.estimation import METRICS, Degraded, Plan, Sample, Statistic, estimate, estimate_all, point_values
from synthoma.metrics.kid import kid
from synthoma.metrics.permutation import PermutationTest, kid_above_floor, permutation_test
from synthoma.metrics.samples import Metric
from synthoma.metrics.texture import texture_distance
from synthoma.metrics.vendi import vendi_score

DIMENSION = 12
SCALE = 1 / np.sqrt(np.arange(1, DIMENSION + 1) ** 0.5)
PLAN = Plan(subsamples=40, floors=2)


def gauss(rng: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    return rng.standard_normal((n, DIMENSION)) * SCALE + shift


def grouped(rng: np.random.Generator, n: int, size: int, shift: float = 0.0) -> Sample:
    """70 % of the variance is shared within a group of `size` images."""
    groups = np.arange(n) // size
    centres = rng.standard_normal((groups.max() + 1, DIMENSION)) * SCALE * np.sqrt(0.7)
    own = rng.standard_normal((n, DIMENSION)) * SCALE * np.sqrt(0.3)
    return Sample.of(centres[groups] + own + shift, groups.tolist())


def ungrouped(rng: np.random.Generator, n: int, shift: float = 0.0) -> Sample:
    return Sample.of(gauss(rng, n, shift))


def test_values_alone_are_those_of_the_estimates() -> None:
    rng = np.random.default_rng(0)
    samples = ungrouped(rng, 260), ungrouped(rng, 130), ungrouped(rng, 400)
    names = tuple(name for name in METRICS if name != "inception_score")
    estimates = estimate_all(names, *samples, PLAN)
    values = point_values(names, *samples, PLAN)
    assert set(values) == set(names)
    for name, value in values.items():
        found = estimates[name]
        assert isinstance(found, Estimate)
        assert value == pytest.approx(found.value, rel=1e-9)
    few = point_values(names, ungrouped(rng, 20), samples[1], samples[2], PLAN)
    assert set(few) == {"kid"}


def test_fd_infinity_is_lower_than_fd_and_withheld_where_features_outnumber_images() -> None:
    rng = np.random.default_rng(0)
    samples = ungrouped(rng, 150), ungrouped(rng, 150), ungrouped(rng, 400)
    found = estimate_all(("fd", "fd_infinity"), *samples, PLAN)
    plain, limit = found["fd"], found["fd_infinity"]
    assert isinstance(plain, Estimate)
    assert isinstance(limit, Estimate)
    assert abs(limit.value) < plain.value / 3
    assert limit.low <= 0 <= limit.high
    assert limit.floor.low <= 0 <= limit.floor.high
    wide = [Sample.of(np.random.default_rng(seed).standard_normal((150, 60))) for seed in range(3)]
    withheld = estimate("fd_infinity", *wide, PLAN)
    assert withheld == Withheld("150 synthetic images; this metric needs at least 180 on each side for 60 features")


def test_one_sample_metrics_have_a_yardstick_too() -> None:
    rng = np.random.default_rng(0)
    same = Sample.of(np.repeat(gauss(rng, 2), 60, axis=0))
    degraded = Degraded(same, "two images, again and again")
    found = estimate("vendi", ungrouped(rng, 120), ungrouped(rng, 120), ungrouped(rng, 300), PLAN, degraded)
    assert isinstance(found, Estimate)
    assert found.yardstick is not None
    assert found.yardstick.value <= 2 < found.floor.low


def test_vendi_stands_beside_the_value_of_real_images() -> None:
    rng = np.random.default_rng(0)
    test, train = ungrouped(rng, 120), ungrouped(rng, 300)
    for kinds, relation in ((500, "like"), (3, "fewer")):
        made = gauss(rng, 500)[np.arange(500) % kinds]
        found = estimate("vendi", Sample.of(made), test, train, PLAN)
        assert isinstance(found, Estimate)
        assert found.n == {"synthetic": 120, "reference": 120}
        assert found.floor.value == pytest.approx(vendi_score(test.features), rel=1e-9)
        if relation == "like":
            assert found.floor.low <= found.value <= found.floor.high
        else:
            assert found.high < found.floor.low


def test_floors_and_yardsticks_of_further_statistics() -> None:
    rng = np.random.default_rng(0)
    statistic = {"texture": Statistic(Metric("texture", "lower", 50, 0.0, float("inf")), texture_distance)}
    test, train = grouped(rng, 120, 4), grouped(rng, 400, 4)
    same = estimate_all(("texture",), grouped(rng, 120, 4), test, train, PLAN, None, statistic)["texture"]
    far = estimate_all(("texture",), ungrouped(rng, 300, 0.8), test, train, PLAN, None, statistic)["texture"]
    assert isinstance(same, Estimate)
    assert isinstance(far, Estimate)
    assert same.low <= same.floor.high
    assert far.low > far.floor.high
    assert far.groups == 30


def test_permutation_differences_are_those_of_kid() -> None:
    rng = np.random.default_rng(0)
    made, train, test = ungrouped(rng, 40, 0.2), ungrouped(rng, 30), ungrouped(rng, 50)
    found = permutation_test(made, train, test, seed=3, permutations=99)
    assert isinstance(found, PermutationTest)
    expected = kid(made.features, test.features) - kid(train.features, test.features)
    assert found.difference == pytest.approx(expected, rel=1e-9)
    assert found.units == {"synthetic": 40, "training": 30}
    assert found.p * 100 == pytest.approx(round(found.p * 100))


def test_permutation_counts_patients_and_not_images() -> None:
    rng = np.random.default_rng(0)
    train = grouped(rng, 120, 6)
    found = permutation_test(ungrouped(rng, 80), train, grouped(rng, 60, 6))
    assert isinstance(found, PermutationTest)
    assert found.units == {"synthetic": 80, "training": 20}
    few = permutation_test(ungrouped(rng, 80), grouped(rng, 24, 6), grouped(rng, 60, 6))
    assert isinstance(few, Withheld)
    assert "4 training patients" in few.reason


def test_permutation_finds_a_shift_and_not_a_generator_that_is_better_than_the_floor() -> None:
    rng = np.random.default_rng(0)
    train, test = ungrouped(rng, 150), ungrouped(rng, 100)
    p = [permutation_test(ungrouped(rng, 150, shift), train, test).p for shift in (0.0, 0.3, 0.8)]  # type: ignore[union-attr]
    assert p[0] > 0.05
    assert p[2] == 0.001
    assert p[1] <= p[0]
    assert permutation_test(train, ungrouped(rng, 150, 0.8), test).p > 0.99  # type: ignore[union-attr]


def test_difference_from_the_floor_has_an_interval_around_it() -> None:
    rng = np.random.default_rng(0)
    test, train = grouped(rng, 120, 4), grouped(rng, 300, 4)
    for shift in (0.0, 0.8):
        made = ungrouped(rng, 300, shift)
        found = kid_above_floor(made, test, train, PLAN, estimate("kid", made, test, train, PLAN))
        assert isinstance(found, Estimate)
        assert found.floor.low < 0 == found.floor.value < found.floor.high
        assert (found.low > 0) == (shift > 0)
    withheld = Withheld("no floor")
    assert kid_above_floor(made, test, train, PLAN, withheld) is withheld


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 5])
def test_permutation_p_is_uniform_under_the_null(size: int) -> None:
    """Held-out real patients pose as synthetic; Kolmogorov and Smirnov at 0.01 over 200 repetitions."""
    p = []
    for repetition in range(200):
        rng = np.random.default_rng(repetition)
        made, train, test = grouped(rng, 40 * size, size), grouped(rng, 50 * size, size), grouped(rng, 30 * size, size)
        found = permutation_test(made, train, test, seed=repetition, permutations=199)
        assert isinstance(found, PermutationTest)
        p.append(found.p - np.random.default_rng(repetition).uniform() / 200)  # p takes 200 values; spread each one out
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 3 <= sum(value <= 0.05 for value in p) <= 20  # ten are expected


def unequal(rng: np.random.Generator, patients: int) -> Sample:
    """Patients of one or of nine images, as many of either; those of nine lie elsewhere."""
    sizes = rng.choice([1, 9], patients)
    groups = np.repeat(np.arange(patients), sizes)
    features = rng.standard_normal((len(groups), 6)) + 0.7 * rng.standard_normal((patients, 6))[groups]
    features[:, 0] += 3.0 * (sizes[groups] == 9)
    return Sample.of(features, groups)


def test_permutation_takes_patients_in_proportion_to_their_images() -> None:
    rng = np.random.default_rng(0)
    train, test = unequal(rng, 800), unequal(rng, 60)
    found = permutation_test(unequal(rng, 40), train, test, permutations=1)
    assert isinstance(found, PermutationTest)
    sizes = torch.bincount(train.groups)
    large, small = int((sizes == 9).sum()), int((sizes == 1).sum())
    expected = large + small / 9  # all of the large ones, every ninth of the others
    assert found.units["training"] == pytest.approx(expected, abs=4 * (small * 8 / 81) ** 0.5)


@pytest.mark.slow
def test_permutation_p_is_uniform_where_patients_of_many_images_are_of_another_kind() -> None:
    """Single images pose as synthetic, as a generator makes them: where a patient of nine counts nine times as much."""
    everyone = unequal(np.random.default_rng(10_000), 4000)
    p = []
    for repetition in range(200):
        rng = np.random.default_rng(repetition)
        rows = torch.from_numpy(rng.choice(len(everyone), 60, replace=False))
        made = Sample.of(everyone.features[rows])
        found = permutation_test(made, unequal(rng, 80), unequal(rng, 40), seed=repetition, permutations=199)
        assert isinstance(found, PermutationTest)
        p.append(found.p - rng.uniform() / 200)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 3 <= sum(value <= 0.05 for value in p) <= 20


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_interval_of_the_difference_from_the_floor_covers_the_truth(shift: float) -> None:
    """60 repetitions with patients of four images; the truth is 0, or that of 3,000 images a side."""
    rng = np.random.default_rng(10_000)
    big = [ungrouped(rng, 3000, s).features for s in (shift, 0.0, 0.0)]
    truth = kid(big[0], big[2]) - kid(big[1], big[2]) if shift else 0.0
    hits, widths, values = 0, [], []
    for repetition in range(60):
        rng = np.random.default_rng(repetition)
        made, test, train = ungrouped(rng, 200, shift), grouped(rng, 120, 4), grouped(rng, 240, 4)
        plan = Plan(subsamples=40, floors=2, seed=repetition)
        found = kid_above_floor(made, test, train, plan, estimate("kid", made, test, train, plan))
        assert isinstance(found, Estimate)
        hits += found.low <= truth <= found.high
        widths.append(found.high - found.low)
        values.append(found.value)
    assert hits >= 54
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / 60**0.5 + 0.05 * truth)
    assert np.mean(widths) < 4 * 2 * 1.96 * np.std(values)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fd_infinity", "vendi", "texture"])
@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_intervals_cover_the_mean_at_this_number_of_images(name: str, shift: float) -> None:
    """60 repetitions at equality and at a shift; widths within four times what a perfect interval would have."""
    statistic = {"texture": Statistic(Metric("texture", "lower", 50, 0.0, float("inf")), texture_distance)}
    results = []
    for repetition in range(60):
        rng = np.random.default_rng(repetition)
        samples = ungrouped(rng, 200, shift), ungrouped(rng, 110), ungrouped(rng, 240)
        plan = Plan(subsamples=40, floors=2, seed=repetition)
        found = estimate_all((name,), *samples, plan, None, statistic)[name]
        assert isinstance(found, Estimate)
        results.append(found)
    values = np.array([found.value for found in results])
    truth = values.mean()
    assert sum(found.low <= truth <= found.high for found in results) >= 54
    assert np.mean([found.high - found.low for found in results]) < 4 * 2 * 1.96 * values.std()
    floors = np.mean([found.floor.value for found in results])
    assert sum(found.floor.low <= floors <= found.floor.high for found in results) >= 54


def test_choices_of_a_statistic_are_whole_groups() -> None:
    """A statistic that counts its rows: every half-sample of 10 groups of 12 images has 60, and the interval no width."""
    counted: list[int] = []

    def count(x: torch.Tensor, y: torch.Tensor) -> float:
        counted.append(len(y))
        return 0.0

    rng = np.random.default_rng(0)
    statistic = {"count": Statistic(Metric("count", "lower", 50, 0.0, 1.0), count)}
    samples = ungrouped(rng, 100), grouped(rng, 120, 12), grouped(rng, 240, 12)
    found = estimate_all(("count",), *samples, Plan(subsamples=10, floors=2), None, statistic)["count"]
    assert isinstance(found, Estimate)
    assert (found.low, found.high) == (0.0, 0.0)
    assert set(counted) == {60, 120}


def clusters(draw: np.random.Generator, patients: int, modes: int, grouped: bool) -> Sample:
    """One to three images of each patient, about one of the first `modes` of four places."""
    groups = np.repeat(np.arange(patients), draw.integers(1, 4, patients))
    places = (np.eye(4, 12) * 4)[draw.integers(0, modes, patients)]
    own, each = draw.standard_normal((patients, 12)), draw.standard_normal((len(groups), 12))
    features = (places + 0.7 * own)[groups] + 0.7 * each
    return Sample.of(features.astype(np.float32), groups.astype(str).tolist() if grouped else None)


@pytest.mark.slow
@pytest.mark.parametrize("modes", [4, 3], ids=["all modes", "one mode lost"])
def test_coverage_less_its_floor_holds_the_truth_and_is_narrower_than_both_intervals(modes: int) -> None:
    found = []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        test, train = (clusters(draw, patients, 4, grouped=True) for patients in (60, 130))
        made = clusters(draw, 400, modes, grouped=False)
        coverage = estimate("coverage", made, test, train, Plan(100, 5, seed, "protocol"))
        assert isinstance(coverage, Estimate)
        found.append(coverage)
    less = [one.less_floor for one in found if one.less_floor is not None]
    truth = 0.0 if modes == 4 else np.mean([one.value for one in less])
    assert len(less) == 60
    assert sum(one.low <= truth <= one.high for one in less) >= 57
    both = np.mean([one.high - one.low + one.floor.high - one.floor.low for one in found])
    assert np.mean([one.high - one.low for one in less]) < 0.85 * both
    if modes == 3:
        assert sum(one.high < 0 for one in less) >= 20
