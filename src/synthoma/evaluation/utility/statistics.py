"""Intervals over patients and seeds, paired differences, the smallest detectable effect, and the verdict.

Two things make a figure uncertain: which patients are in the test set, and the chance in a fit (initial weights, order
of images). The first shows in bootstrap resamples of whole patients, drawn once and used for all arms; the second in
seeds, which all arms share. As with errors that are clustered in two ways (Cameron, Gelbach and Miller 2011, "Robust
inference with multiway clustering"), variances add up, less the part that both hold:

    SE^2 = A + max(B - C, 0)
    A    variance over resamples of the mean over k seeds, times g / (g - 1) for g patients
    B    variance over seeds / k: what chance in training does, and how it happens to fall on these patients
    C    the second part of B alone, from how far a seed's deviation from the mean spreads over resamples

(a bootstrap of g patients spreads too little by g / (g - 1)). Intervals and tests are Student's, with the degrees of
freedom of Welch and Satterthwaite. A paired difference is taken resample by resample and seed by seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from synthoma.draws import Draws
from synthoma.errors import EvaluationError
from synthoma.metrics.estimate import Withheld
from synthoma.metrics.resampling import CONFIDENCE, number_groups

POWER = 0.8
# Resamples in which a class is missing say nothing; more than this share of them, and there are too few patients.
MOST_INVALID = 0.05
Floats = NDArray[np.float64]
Verdict = Literal["helps", "no effect within the margin", "harms", "underpowered"]


@dataclass(frozen=True)
class Figure:
    """A score of an arm, or a difference of two, with its 95 % interval.

    standard_error, freedom: of the interval; p: two-sided, that the value is 0 (differences only); detectable: the
    smallest effect that a test at 5 % finds with a power of 80 %; per_seed: the value of each seed.
    """

    value: float
    low: float
    high: float
    standard_error: float
    freedom: float
    per_seed: Sequence[float]
    p: float | None = None
    detectable: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in utility.json."""
        result = {"value": self.value, "low": self.low, "high": self.high, "per_seed": list(self.per_seed)}
        if self.p is not None:
            result |= {"p": self.p, "smallest_detectable": self.detectable}
        return {"kind": "estimate", **{name: _rounded(value) for name, value in result.items()}}


def bootstrap_weights(groups: NDArray[np.str_], count: int, seed: int) -> Floats:
    """How often each image counts in `count` resamples of whole groups, with replacement: [count, n]."""
    numbers = number_groups(groups)
    total = int(numbers.max()) + 1
    drawn = Draws(seed, "utility bootstrap").integers(0, torch.arange(count), total, (total,))
    times = torch.zeros(count, total, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
    return np.asarray(times[:, numbers].numpy())


def figure(
    values: Floats, resampled: Floats, groups: int, bounds: tuple[float, float] = (0.0, 1.0)
) -> Figure | Withheld:
    """A score with its interval: values [seeds], resampled [resamples, seeds], of a score within `bounds`.

    A score at one of its bounds in all resamples and seeds (every image right) has the exact binomial interval of as
    many patients: the resamples, all alike, would claim that it is known for certain.
    """
    spread = _spread(values, resampled, groups)
    if isinstance(spread, Withheld):
        return spread
    error, freedom = spread
    value = float(values.mean())
    half = _quantile(0.5 + CONFIDENCE / 2, freedom) * error
    low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    if error == 0 and value in bounds:
        away = (bounds[1] - bounds[0]) * _exact_half(groups)
        low, high = max(value - away, bounds[0]), min(value + away, bounds[1])
    return Figure(value, low, high, error, freedom, values.tolist())


def difference(arm: tuple[Floats, Floats], real: tuple[Floats, Floats], groups: int) -> Figure | Withheld:
    """An arm's score minus that of the real arm, each as (values [seeds], resampled [resamples, seeds]), paired."""
    values, resampled = arm[0] - real[0], arm[1] - real[1]
    spread = _spread(values, resampled, groups)
    if isinstance(spread, Withheld):
        return spread
    error, freedom = spread
    value = float(values.mean())
    if error == 0 and abs(value) < 1e-12:
        return Withheld("both arms score alike in every resample and seed: this test set cannot tell them apart")
    if (
        error == 0
    ):  # all patients right in one arm, all wrong in the other: intervals as in `figure`, the sign test for p
        away = _exact_half(groups)
        return Figure(value, value - away, value + away, 0.0, freedom, values.tolist(), 2 * 0.5**groups, away)
    half = _quantile(0.5 + CONFIDENCE / 2, freedom) * error
    p = float(2 * stats.t.sf(abs(value) / error, freedom))
    detectable = half + _quantile(POWER, freedom) * error
    return Figure(value, value - half, value + half, error, freedom, values.tolist(), p, detectable)


def judge(change: Figure | Withheld, margin: float, detectable: float) -> tuple[Verdict, str]:
    """The one verdict on a change of AUC, and why.

    Whatever lies within the margin as a whole is no effect, even where it differs from 0. A study too weak to see a change
    of `detectable` still tells a harm that is beyond the margin, and a gain that is beyond `detectable`, by its whole
    interval. Smaller gains it does not tell: what a weak study finds is mostly found too large.
    """
    if isinstance(change, Withheld):
        return "underpowered", change.reason
    if len(change.per_seed) < 2:
        return "underpowered", "one seed: what chance in training does is not known"
    if change.high < -margin:
        return "harms", f"the whole interval is below −{margin:g}"
    if change.low > detectable:
        return "helps", f"the whole interval is above {detectable:g}"
    if change.detectable is None or change.detectable > detectable:
        seen = math.nan if change.detectable is None else change.detectable
        return "underpowered", f"the smallest detectable change is {seen:.3f}, more than {detectable:g}"
    if change.low > -margin and change.high < margin:
        return "no effect within the margin", f"the whole interval is between −{margin:g} and {margin:g}"
    if change.low > 0:
        return "helps", "the whole interval is above 0"
    if change.high < 0:
        return "harms", "the whole interval is below 0"
    return "underpowered", f"the interval holds 0, and changes of more than {margin:g}"


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for their number (Holm 1979)."""
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda key: p[key])):
        largest = max(largest, min(1.0, p[name] * (len(p) - rank)))
        adjusted[name] = largest
    return adjusted


def _spread(values: Floats, resampled: Floats, groups: int) -> tuple[float, float] | Withheld:
    """Standard error of the mean over seeds and its degrees of freedom."""
    if groups < 2:
        raise EvaluationError("an interval needs at least two patients or groups.")
    if not np.isfinite(values).all():
        return Withheld("the validation images have too few of a class to choose an operating point")
    means = resampled.mean(axis=1)
    valid = np.isfinite(means)
    if 1 - valid.mean() > MOST_INVALID:
        return Withheld("too few patients or groups: resamples of them often miss a class")
    correction, seeds = groups / (groups - 1), len(values)
    of_patients = float(means[valid].var(ddof=1)) * correction
    of_seeds = both = 0.0
    if seeds > 1:
        of_seeds = float(values.var(ddof=1)) / seeds
        deviations = resampled[valid] - means[valid, None]
        both = float(deviations.var(axis=0, ddof=1).sum()) / (seeds - 1) / seeds * correction
    total = of_patients + max(of_seeds - both, 0.0)
    if total < 1e-24:
        return 0.0, float(groups - 1)
    # Satterthwaite for a sum of variances, of which C is known far better than the other two. Where B and C are close the
    # rule gives absurdly few; with this least number 95.7 to 99 % of intervals covered the truth (3 seeds, 30 or 60
    # patients, with and without a difference, 300 simulated studies each), and half of a width was 2.4 to 2.8 spreads.
    parts = of_patients**2 / (groups - 1) + of_seeds**2 / max(seeds - 1, 1)
    least = groups - 1 if seeds == 1 else min(groups - 1, 2 * (seeds - 1))
    return math.sqrt(total), max(total**2 / parts, least)


def _exact_half(groups: int) -> float:
    """How far a share of 1 may be from the truth: Clopper and Pearson's interval for `groups` of `groups`."""
    return float(1 - ((1 - CONFIDENCE) / 2) ** (1 / groups))


def _quantile(probability: float, freedom: float) -> float:
    return float(stats.t.ppf(probability, freedom))


def _rounded(value: Any) -> Any:
    """Six significant digits: what lies beyond differs between machines."""
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
