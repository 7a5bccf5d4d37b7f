"""Attacks, authenticity and C_T: right on known cases, and never without their control."""

import numpy as np
import pytest
from scipy import stats

from synthoma.errors import EvaluationError
from synthoma.evaluation.privacy.copies import exact_interval
from synthoma.evaluation.privacy.thresholds import tail_level
from synthoma.metrics.authenticity import Arm, Controlled, Distances, copying_score
from synthoma.metrics.estimate import Withheld
from synthoma.metrics.membership import AttackArm, AttackResult, auc, auc_limits, membership_attack, true_positive_rate


def patients(
    count: int, of_each: int, seed: int, shift: float = 0.0, between: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores that vary between patients and within."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(count), of_each)
    return shift + between * rng.normal(size=count)[groups] + rng.normal(size=len(groups)), groups


def test_auc_is_that_of_mann_and_whitney() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 40), rng.integers(1, 11, 55)
    assert auc(x, y) == pytest.approx(stats.mannwhitneyu(x, y).statistic / (40 * 55), abs=1e-12)
    assert true_positive_rate(np.arange(100, 200), np.arange(100)) == 1
    assert true_positive_rate(np.array([98.5, 99.5, 50, 10]), np.arange(100)) == pytest.approx(0.5)


def test_attack_has_its_control_and_sees_what_is_there() -> None:
    null = membership_attack(*patients(40, 5, 0), *patients(30, 5, 1), seed=0)
    leak = membership_attack(*patients(40, 5, 0, shift=3), *patients(30, 5, 1), seed=0)
    assert isinstance(null, AttackResult)
    assert isinstance(leak, AttackResult)
    for result in (null, leak):
        assert result.control.auc == pytest.approx(0.5, abs=0.02)
        assert result.control.groups == {"members": 20, "non_members": 20}
        assert result.attack.groups == {"members": 40, "non_members": 30}
    assert null.attack.low < 0.5 < null.attack.high
    assert leak.attack.low > 0.9
    assert leak.excess[1] > 0.4
    assert leak.to_json()["true_positive_rate_at_1_percent"]["value"] > 0.3


@pytest.mark.slow
def test_interval_of_the_auc_covers_the_truth_of_clustered_patients() -> None:
    """100 repetitions at 0.5, 0.69 and 0.97: at least 90 cover, and the interval is not as wide as everything."""
    for shift in (0.0, 1.0, 3.8):
        truth = stats.norm.cdf(shift / np.sqrt(2 * (1 + 1)))
        results = [
            membership_attack(*patients(20, 5, 2 * i, shift), *patients(15, 4, 2 * i + 1), seed=i) for i in range(100)
        ]
        arms = [result.attack for result in results if isinstance(result, AttackResult)]
        assert sum(arm.low <= truth <= arm.high for arm in arms) >= 90
        assert np.mean([arm.high - arm.low for arm in arms]) < 0.45


def test_limits_of_an_auc_are_skewed_near_one_and_exact_at_one() -> None:
    quantile = stats.t.ppf(0.975, 39)
    low, high = auc_limits(0.5, 0.05, 40)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - low == pytest.approx(2 * quantile * 0.05, rel=0.02)
    low, high = auc_limits(0.97, 0.02, 40)
    assert 0.97 - low > 2 * (high - 0.97)
    assert high < 1
    assert auc_limits(1.0, 0.0, 40) == (pytest.approx(0.025 ** (1 / 40)), 1.0)
    assert auc_limits(0.0, 0.0, 40) == (0.0, pytest.approx(1 - 0.025 ** (1 / 40)))


def test_small_sets_are_withheld_with_the_reason() -> None:
    few_patients = membership_attack(*patients(9, 10, 0), *patients(30, 5, 1), seed=0)
    few_images = membership_attack(*patients(40, 5, 0), *patients(12, 4, 1), seed=0)
    no_rate = membership_attack(*patients(40, 5, 0), *patients(15, 4, 1), seed=0)
    assert isinstance(few_patients, Withheld)
    assert "9 patients" in few_patients.reason
    assert isinstance(few_images, Withheld)
    assert "48 held-out images" in few_images.reason
    assert isinstance(no_rate, AttackResult)
    assert isinstance(no_rate.rate, Withheld)


def test_no_figure_without_its_control() -> None:
    arm = AttackArm(0.6, 0.5, 0.7, {"members": 5, "non_members": 5}, {"members": 5, "non_members": 5})
    with pytest.raises(EvaluationError, match="control arm, or not at all"):
        AttackResult(arm, None, Withheld("few"))  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="or not at all"):
        Controlled(Arm(0.5, 0.4, 0.6, 10, 10), None, {})  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="not finite"):
        membership_attack(np.full(60, np.nan), np.arange(60), np.zeros(60), np.arange(60), seed=0)


def features(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 8))


def test_authenticity_and_copying_tell_copies_from_new_images() -> None:
    train, held, groups = features(200, 0), features(120, 1), np.arange(200) // 2
    new = Distances(features(150, 2), held, train, np.arange(120) // 2, groups)
    copied = Distances(train[:150] + 0.05 * features(150, 3), held, train, np.arange(120) // 2, groups)
    for found in (new.authenticity(0), new.copying(0)):
        widths = found.synthetic.high - found.synthetic.value, found.control.high - found.control.value
        assert abs(found.synthetic.value - found.control.value) < np.hypot(*widths)
    assert copied.authenticity(0).synthetic.high < 0.1 < copied.authenticity(0).control.low
    assert copied.copying(0).synthetic.high < -5 < copied.copying(0).control.low


def test_authenticity_by_its_definition() -> None:
    train = np.array([[0.0], [1.0], [10.0], [11.0], [90.0], [92.0]])
    made, held = np.array([[0.4], [5.0]]), np.array([[2.5], [3.0]])
    distances = Distances(made, held, train, np.arange(2), np.arange(6))
    # 0.4 is nearer to 0 than 1 is: inauthentic. 5.0 is 4 away from 1, whose nearest other is 1 away: authentic.
    assert distances.authenticity(0).synthetic.value == 0.5
    # Where 0 and 1 are of one patient, the nearest of another is 9 away from 1: both are inauthentic.
    same = Distances(made, held, train, np.arange(2), np.array([0, 0, 1, 2, 3, 4]))
    assert same.authenticity(0).synthetic.value == 0.0


def test_copying_score_of_one_cell_is_the_z_score_of_mann_and_whitney() -> None:
    rng = np.random.default_rng(0)
    held, made = rng.random(50), rng.random(40) + 0.2
    u = stats.mannwhitneyu(made, held).statistic
    assert copying_score(held, made) == pytest.approx((u - 1000) / np.sqrt(2000 * 91 / 12))


def test_tail_level_is_what_so_small_a_share_exceeds() -> None:
    """Distances to a nearest neighbour in k dimensions: P(distance < d) = d^k, so the level of p is 1 - p^(1/k)."""
    rng = np.random.default_rng(0)
    for dimension in (3, 6):
        levels = [tail_level(1 - rng.random(2000) ** (1 / dimension), 1e-5) for _ in range(100)]
        missed = [1e-5 ** (1 / dimension), np.median(1 - np.array(levels))]
        assert missed[1] == pytest.approx(missed[0], rel=0.35)
        assert max(levels) < 1
    bounded = 0.8 * rng.random(2000)  # no pair is more alike than 0.8
    assert bounded.max() <= tail_level(bounded, 1e-5) < 0.85
    assert tail_level(np.full(40, 0.5), 1e-3) == pytest.approx(0.5)


def test_interval_of_a_rate_is_exact() -> None:
    assert exact_interval(0, 100) == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))
    assert exact_interval(100, 100) == (pytest.approx(0.025 ** (1 / 100)), 1.0)
    reference = stats.binomtest(7, 50).proportion_ci(method="exact")
    assert exact_interval(7, 50) == pytest.approx((reference.low, reference.high))
