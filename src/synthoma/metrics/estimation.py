"""From feature vectors of synthetic, test and training images to estimates with interval, floor and yardstick.

The reference is the test set. The floor takes training subsamples in the place of the synthetic images. Metrics whose
value depends on the number of images (all but KID) take as many synthetic images as the floor takes training images,
averaged over several draws; else a large synthetic set would look better than real images do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.metrics.estimate import Difference, Estimate, Floor, Withheld, Yardstick
from synthoma.metrics.inception_score import inception_score
from synthoma.metrics.pair import Choice, Pair, Reference
from synthoma.metrics.prdc import NEIGHBOURS, Prdc
from synthoma.metrics.resampling import draw_rows, half_samples, interval, number_groups, permutation
from synthoma.metrics.samples import (
    HALF_SAMPLES,
    LEAST_GROUPS,
    MAX_IMAGES,
    METRICS,
    Degraded,
    Metric,
    Plan,
    Sample,
    Statistic,
    known_metrics,
    least_images_of,
    why_withheld,
)

__all__ = [
    "LEAST_GROUPS",
    "MAX_IMAGES",
    "METRICS",
    "Degraded",
    "Plan",
    "Sample",
    "Statistic",
    "estimate",
    "estimate_all",
    "point_values",
]


@dataclass(frozen=True)
class _Measured:
    """Values of some metrics with their half-sample replicates."""

    values: dict[str, float]
    replicates: dict[str, list[float]]


def estimate(
    metric: str,
    synthetic: Sample,
    test: Sample,
    train: Sample,
    plan: Plan | None = None,
    degraded: Degraded | None = None,
) -> Estimate | Withheld:
    """One metric of `METRICS` for synthetic images against the test set, with its floor from the training set."""
    return estimate_all((metric,), synthetic, test, train, plan, degraded)[metric]


def estimate_all(
    metrics: Sequence[str],
    synthetic: Sample,
    test: Sample,
    train: Sample,
    plan: Plan | None = None,
    degraded: Degraded | None = None,
    statistics: Mapping[str, Statistic] | None = None,
) -> dict[str, Estimate | Withheld]:
    """Several metrics at once, which share the products of features; the same numbers as one by one.

    statistics: further metrics by name, for samples whose rows are not features of a network (histograms, measures).
    """
    plan, known = plan or Plan(), known_metrics(metrics, statistics)
    synthetic, test = _bounded(synthetic, plan, "synthetic"), _bounded(test, plan, "test")
    matched = min(len(synthetic), len(test), len(train) // 2)
    reasons = {name: why_withheld(known[name], synthetic, test, train, matched) for name in metrics}
    due = [name for name in metrics if reasons[name] is None]
    result: dict[str, Estimate | Withheld] = {name: Withheld(reason) for name, reason in reasons.items() if reason}
    if due:
        rows = [draw_rows(train.groups, matched, plan.seed, "floor", step) for step in range(plan.floors)]
        floors = [train.take(chosen) for chosen in rows]
        result |= _Estimator(synthetic, test, floors, plan, degraded, known).estimates(due)
    return {name: result[name] for name in metrics}


def point_values(
    metrics: Sequence[str],
    synthetic: Sample,
    test: Sample,
    train: Sample,
    plan: Plan | None = None,
    statistics: Mapping[str, Statistic] | None = None,
) -> dict[str, float]:
    """The values alone that `estimate_all` would give, without those that it would withhold for their numbers of images.

    For what is measured many times, such as one model's images of several generation seeds: cheaper by the half-samples.
    """
    plan, known = plan or Plan(), known_metrics(metrics, statistics)
    synthetic, test = _bounded(synthetic, plan, "synthetic"), _bounded(test, plan, "test")
    matched = min(len(synthetic), len(test), len(train) // 2)
    due = [name for name in metrics if why_withheld(known[name], synthetic, test, train, matched) is None]
    if not due:
        return {}
    stand_in = synthetic.take(torch.arange(matched))  # floors decide nothing but the number of images
    values = _Estimator(synthetic, test, [stand_in] * plan.floors, plan, None, known).values(due)
    return {name: values[name] for name in due}


class _Estimator:
    """The sets of one comparison, cut so that all sides that are compared have the same number of images."""

    def __init__(
        self,
        synthetic: Sample,
        test: Sample,
        floors: Sequence[Sample],
        plan: Plan,
        degraded: Degraded | None,
        known: Mapping[str, Statistic | Metric],
    ) -> None:
        self.synthetic, self.test, self.floors, self.plan, self.degraded = synthetic, test, floors, plan, degraded
        self.known = known
        self.matched = len(floors[0])
        self.floor_groups = min(floor.group_count for floor in floors)
        # Draws of `matched` synthetic images, taken in turn from one random order, use as many of them as there are.
        order = permutation(len(synthetic), plan.seed, "synthetic", 0)
        steps = torch.arange(self.matched)
        draws = plan.floors if self.matched < len(order) else 1  # they would all be the same images
        self.draws = [order[(steps + draw * self.matched) % len(order)] for draw in range(draws)]
        self.reference = Reference(test.features, test.groups)
        self.halves = half_samples(test.group_count, plan.subsamples, plan.seed, "test")
        # A half-sample of the test set serves the synthetic images and one floor draw; so does what is known of it.
        self.choices = [self._choice(half) for half in self.halves[:HALF_SAMPLES]]

    def estimates(self, names: Sequence[str]) -> dict[str, Estimate | Withheld]:
        """The named metrics, none of which is withheld for its numbers of images."""
        result: dict[str, Estimate | Withheld] = {}
        if self.floor_groups < LEAST_GROUPS:
            reason = f"a training subsample of {self.matched} images has fewer than {LEAST_GROUPS} groups: no floor"
            return {name: Withheld(reason) for name in names}
        if self._smallest_half() < 2 * NEIGHBOURS:
            reason = "groups differ so much in size that half of them can hold too few images for an interval"
            result |= {name: Withheld(reason) for name in names if name != "kid"}
        due = [name for name in names if name not in result]
        two_sample = [name for name in due if not self._is_one_sample(name)]
        if two_sample:
            result |= self._against_test(two_sample)
        return result | {name: self._one_sample(name) for name in due if self._is_one_sample(name)}

    def values(self, names: Sequence[str]) -> dict[str, float]:
        """The values alone."""
        result: dict[str, float] = {}
        two_sample = [name for name in names if not self._is_one_sample(name)]
        if two_sample:
            result |= self._measure(two_sample, self._pair(self.synthetic), self.draws, 0).values
        for name in names:
            if self._is_one_sample(name):
                result[name] = fmean(self._score(name, self.synthetic, rows) for rows in self.draws)
        return result

    def _is_one_sample(self, name: str) -> bool:
        known = self.known[name]
        return known.one_sample if isinstance(known, Statistic) else name == "inception_score"

    def _metric(self, name: str) -> Metric:
        known = self.known[name]
        return known.metric if isinstance(known, Statistic) else known

    def _smallest_half(self) -> int:
        """Fewest images that a half-sample of test or floor groups holds."""
        smallest = len(self.test)
        for sample in (self.test, *self.floors):
            halves = half_samples(sample.group_count, self.plan.subsamples, self.plan.seed, "test")
            smallest = min(smallest, int((halves.double() @ torch.bincount(sample.groups).double()).min()))
        return smallest

    def _against_test(self, names: Sequence[str]) -> dict[str, Estimate | Withheld]:
        pair = self._pair(self.synthetic)
        ours = self._measure(names, pair, self.draws, self.plan.subsamples)
        share = -(-self.plan.subsamples // len(self.floors))
        floors = [
            self._measure(names, self._pair(floor), None, share, (number, len(self.floors)))
            for number, floor in enumerate(self.floors)
        ]
        yardsticks = self._yardsticks(names)
        result: dict[str, Estimate | Withheld] = {}
        for name in names:
            # Each floor draw has its own centre; what is pooled is the spread of half-samples around it.
            spread = [v - fmean(floor.replicates[name]) for floor in floors for v in floor.replicates[name]]
            value = fmean(floor.values[name] for floor in floors)
            groups = min(self.floor_groups, self.test.group_count)
            if self._metric(name).half_samples is not None:  # few: the centres that were taken off count
                free = len(spread) - len(floors)
                spread = [v * ((len(spread) - 1) / free) ** 0.5 for v in spread]
                groups = min(groups, free + 1)
            less = self._less_floor(name, ours, floors, value, groups)
            floor = Floor(value, *_clip(self._metric(name), *interval(value, spread, groups)), draws=len(floors))
            used = len(self.synthetic) if name == "kid" else self.matched
            result[name] = self._build(
                name, ours.values[name], ours.replicates[name], used, floor, yardsticks.get(name), less
            )
        return result

    def _less_floor(
        self, name: str, ours: _Measured, floors: Sequence[_Measured], floor: float, groups: int
    ) -> Difference | None:
        """The value less the floor. Each replicate of a floor draw has its half of the test set in common with one of the
        synthetic images, so that what these test patients are like cancels. None for KID (see `kid_above_floor`)."""
        if self._metric(name).half_samples is None:
            return None
        pairs = iter(ours.replicates[name])
        spread: list[float] = []
        for one in floors:
            apart = [value - real for real, value in zip(one.replicates[name], pairs, strict=False)]
            spread += [value - fmean(apart) for value in apart] if apart else []
        free = len(spread) - len(floors)
        if free < 1:
            return None
        widened = [value * ((len(spread) - 1) / free) ** 0.5 for value in spread]
        value = ours.values[name] - floor
        return Difference(value, *interval(value, widened, min(groups, free + 1)))

    def _one_sample(self, name: str) -> Estimate:
        """One-sample: real test images, as many as synthetic ones, give the floor."""
        real = self.test.take(draw_rows(self.test.groups, self.matched, self.plan.seed, "inception score", 0))
        value, replicates = self._scores(name, self.synthetic, self.draws)
        on_real, spread = self._scores(name, real, [torch.arange(len(real))])
        groups = self._degrees(name, real.group_count, spread)
        floor = Floor(on_real, *_clip(self._metric(name), *interval(on_real, spread, groups)))
        yardstick = None
        if self.degraded is not None and self._fits(name, self.degraded.sample):
            sample = self._degraded_sample(self.degraded)
            yardstick = Yardstick(self._score(name, sample, torch.arange(len(sample))), self.degraded.what)
        return self._build(name, value, replicates, self.matched, floor, yardstick)

    def _scores(self, name: str, sample: Sample, draws: Sequence[Tensor]) -> tuple[float, list[float]]:
        value = fmean(self._score(name, sample, rows) for rows in draws)
        halves = self._halves_of(sample.groups, draws, self._repetitions(name, self.plan.subsamples), "score")
        return value, [self._score(name, sample, rows) for rows in halves]

    def _score(self, name: str, sample: Sample, rows: Tensor) -> float:
        known = self.known[name]
        if isinstance(known, Statistic):
            return known.of(sample.features[rows])
        if sample.probabilities is None:
            raise EvaluationError("the Inception Score needs class probabilities, which this feature space has not.")
        return inception_score(sample.probabilities[rows])

    def _repetitions(self, name: str, planned: int, sets: int = 1) -> int:
        """Half-samples of one of `sets` sets for this metric's interval."""
        most = self._metric(name).half_samples
        return planned if most is None else min(planned, max(2, -(-most // sets)))

    def _degrees(self, name: str, groups: int, replicates: Sequence[float]) -> int:
        """What counts as number of groups in Student's t, where a few half-samples tell the spread."""
        return groups if self._metric(name).half_samples is None else min(groups, len(replicates))

    def _pair(self, left: Sample) -> Pair:
        return Pair(left.features, self.reference, left.groups)

    def _half(self, step: int) -> Choice:
        """A half-sample of the test set, kept where several sets are compared with it."""
        return self.choices[step] if step < len(self.choices) else self._choice(self.halves[step])

    def _choice(self, half: Tensor) -> Choice:
        """The test images of the chosen groups, Boolean [groups]."""
        return Choice(self.reference, half[self.test.groups].nonzero().squeeze(1))

    def _measure(
        self,
        names: Sequence[str],
        pair: Pair,
        draws: Sequence[Tensor] | None,
        repetitions: int,
        place: tuple[int, int] = (0, 1),
    ) -> _Measured:
        """Values and half-sample replicates of x against the test set.

        draws: rows of x that enter biased metrics. place: this x is number (from 0) of so many sets whose replicates are put
        together; each takes its own half-samples of the test set.
        """
        number, sets = place
        draws = [pair.left.all.rows] if draws is None else draws
        values: dict[str, float] = {}
        replicates: dict[str, list[float]] = {name: [] for name in names}
        halves = self.halves[:repetitions]
        if "kid" in names:
            values["kid"] = float(pair.kid())
            if len(halves):
                chosen = half_samples(len(pair.left.sizes), len(halves), self.plan.seed, "left")
                replicates["kid"] = pair.kid(chosen, halves).tolist()
        others = [name for name in names if name != "kid"]
        whole = [self._by_rows(others, pair, rows, None) for rows in draws] if others else []
        values |= {name: fmean(one[name] for one in whole) for name in others}
        lefts = self._halves_of(pair.left.groups, draws, len(halves), "left") if others and len(halves) else []
        for step, rows in enumerate(lefts):
            due: dict[int, list[str]] = {}
            for name in others:
                if step < (own := self._repetitions(name, len(halves), sets)):
                    due.setdefault((number * own + step) % len(self.halves), []).append(name)
            for half, some in due.items():
                for name, value in self._by_rows(some, pair, rows, self._half(half)).items():
                    replicates[name].append(value)
        return _Measured(values, replicates)

    def _halves_of(self, groups: Tensor, draws: Sequence[Tensor], repetitions: int, purpose: str) -> list[Tensor]:
        """Rows of half-samples of each draw in turn."""
        result: list[Tensor] = []
        numbers = [number_groups(groups[rows]) for rows in draws]
        each = -(-repetitions // len(draws))
        halves = [
            half_samples(int(own.max()) + 1, each, self.plan.seed, f"{purpose}/{draw}")
            for draw, own in enumerate(numbers)
        ]
        for step in range(repetitions):
            draw = step % len(draws)
            result.append(draws[draw][halves[draw][step // len(draws)][numbers[draw]]])
        return result

    def _yardsticks(self, names: Sequence[str]) -> dict[str, Yardstick]:
        """The same metrics for degraded training images, where there are enough of them."""
        if self.degraded is None:
            return {}
        sample = self._degraded_sample(self.degraded)
        due = [name for name in names if self._fits(name, sample) and sample.group_count >= 2]
        if not due:
            return {}
        pair = self._pair(sample)
        values = {"kid": float(pair.kid())} if "kid" in due else {}
        values |= self._by_rows([name for name in due if name != "kid"], pair, pair.left.all.rows, None)
        return {name: Yardstick(values[name], self.degraded.what) for name in due}

    def _degraded_sample(self, degraded: Degraded) -> Sample:
        rows = draw_rows(degraded.sample.groups, self.matched, self.plan.seed, "yardstick", 0)
        return degraded.sample.take(rows)

    def _fits(self, name: str, sample: Sample) -> bool:
        return len(sample) >= least_images_of(self.known[name], sample.features.shape[1])

    def _by_rows(self, names: Sequence[str], pair: Pair, rows: Tensor, test: Choice | None) -> dict[str, float]:
        """Two-sample metrics whose value depends on which rows of x enter; test: a half-sample of the test set, or all."""
        left = pair.left.all if len(rows) == len(pair.x) else Choice(pair.left, rows)
        right = self.reference.all if test is None else test
        values: dict[str, float] = {}
        if {"fd", "fd_infinity"} & set(names):
            values["fd"] = pair.fd(left, right)
        if "fd_infinity" in names:
            values["fd_infinity"] = pair.fd_infinity(left, right, values["fd"])
        for name in names:
            known = self.known[name]
            if isinstance(known, Statistic) and name not in values:
                values[name] = known.of(pair.x[left.rows], pair.y[right.rows])
        if set(Prdc._fields) & set(names):
            values |= pair.prdc(left, right)._asdict()
        return {name: values[name] for name in names}

    def _build(
        self,
        name: str,
        value: float,
        replicates: list[float],
        used: int,
        floor: Floor,
        yardstick: Yardstick | None,
        less_floor: Difference | None = None,
    ) -> Estimate:
        metric = self._metric(name)
        groups = self.test.group_count
        spread_groups = self._degrees(name, used if self._is_one_sample(name) else min(groups, used), replicates)
        return Estimate(
            metric=name,
            value=value,
            **dict(zip(("low", "high"), _clip(metric, *interval(value, replicates, spread_groups)), strict=True)),
            n={"synthetic": used, "reference": len(self.test)},
            groups=groups,
            floor=floor,
            direction=metric.direction,
            protocol=self.plan.protocol,
            yardstick=yardstick,
            caveat=metric.caveat,
            less_floor=less_floor,
        )


def _bounded(sample: Sample, plan: Plan, purpose: str) -> Sample:
    """At most `MAX_IMAGES` of a sample, by whole groups."""
    if len(sample) <= MAX_IMAGES:
        return sample
    return sample.take(draw_rows(sample.groups, MAX_IMAGES, plan.seed, f"bounded/{purpose}", 0))


def _clip(metric: Metric, low: float, high: float) -> tuple[float, float]:
    """An interval within the range of the metric's values."""
    return max(low, metric.low), min(high, metric.high)
