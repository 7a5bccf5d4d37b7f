"""From feature vectors of synthetic, test and training images to estimates with interval, floor and yardstick.

The reference is the test set. The floor takes training subsamples in the place of the synthetic images. Metrics whose
value depends on the number of images (all but KID) take as many synthetic images as the floor takes training images,
averaged over several draws; else a large synthetic set would look better than real images do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_matrix
from synthoma.metrics.estimate import Direction, Estimate, Floor, Withheld, Yardstick
from synthoma.metrics.inception_score import inception_score
from synthoma.metrics.pair import Pair
from synthoma.metrics.prdc import NEIGHBOURS
from synthoma.metrics.resampling import draw_rows, half_samples, interval, number_groups, permutation

MAX_IMAGES = 4000  # a side: more are subsampled by whole groups, which bounds the memory of kernel matrices
LEAST_GROUPS = 4  # half of them are two, the fewest that KID can tell apart
INCEPTION_SCORE_CAVEAT = (
    "The Inception Score compares nothing with real images, and its classes are those of photographs. It is given for "
    "comparison with older papers only."
)


@dataclass(frozen=True)
class Metric:
    """What is known of a metric: which way is better, images it needs a side, the range of its values."""

    name: str
    direction: Direction
    least: int
    low: float
    high: float


METRICS = {
    metric.name: metric
    for metric in (
        Metric("kid", "lower", 16, -float("inf"), float("inf")),
        Metric("fd", "lower", 50, 0.0, float("inf")),
        Metric("precision", "higher", 50, 0.0, 1.0),
        Metric("recall", "higher", 50, 0.0, 1.0),
        Metric("density", "higher", 50, 0.0, float("inf")),
        Metric("coverage", "higher", 50, 0.0, 1.0),
        Metric("inception_score", "higher", 50, 1.0, float("inf")),
    )
}


@dataclass(frozen=True)
class Sample:
    """Images as a metric sees them: features [n, d], groups numbered from 0 [n], class probabilities [n, c] or None."""

    features: Tensor
    groups: Tensor
    probabilities: Tensor | None = None

    @classmethod
    def of(
        cls, features: Matrix, groups: Sequence[object] | None = None, probabilities: Matrix | None = None
    ) -> "Sample":
        """A sample from arrays; without `groups` each image is its own."""
        matrix = as_matrix(features, "features")
        numbers = torch.arange(len(matrix)) if groups is None else number_groups(groups)
        if len(numbers) != len(matrix):
            raise EvaluationError(f"{len(matrix)} feature vectors but {len(numbers)} groups.")
        return cls(matrix, numbers, None if probabilities is None else as_matrix(probabilities, "probabilities"))

    def __len__(self) -> int:
        return len(self.features)

    @property
    def group_count(self) -> int:
        return len(torch.unique(self.groups))

    def take(self, rows: Tensor) -> "Sample":
        """The sample of some rows, its groups numbered anew."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return Sample(self.features[rows], number_groups(self.groups[rows]), probabilities)


@dataclass(frozen=True)
class Plan:
    """How estimates are made: half-samples for an interval, training draws for a floor, seed, protocol hash."""

    subsamples: int = 100
    floors: int = 5
    seed: int = 0
    protocol: str = "unspecified"


@dataclass(frozen=True)
class Degraded:
    """Degraded training images, and what was done to them."""

    sample: Sample
    what: str


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
) -> dict[str, Estimate | Withheld]:
    """Several metrics at once, which share the products of features; the same numbers as one by one."""
    plan = plan or Plan()
    unknown = set(metrics) - set(METRICS)
    if unknown:
        raise EvaluationError(f"unknown metric {sorted(unknown)}; known: {', '.join(METRICS)}.")
    synthetic, test = _bounded(synthetic, plan, "synthetic"), _bounded(test, plan, "test")
    matched = min(len(synthetic), len(test), len(train) // 2)
    reasons = {name: _reason(METRICS[name], synthetic, test, train, matched) for name in metrics}
    due = [name for name in metrics if reasons[name] is None]
    result: dict[str, Estimate | Withheld] = {name: Withheld(reason) for name, reason in reasons.items() if reason}
    if due:
        rows = [draw_rows(train.groups, matched, plan.seed, "floor", step) for step in range(plan.floors)]
        result |= _Estimator(synthetic, test, [train.take(chosen) for chosen in rows], plan, degraded).estimates(due)
    return {name: result[name] for name in metrics}


class _Estimator:
    """The sets of one comparison, cut so that all sides that are compared have the same number of images."""

    def __init__(
        self, synthetic: Sample, test: Sample, floors: Sequence[Sample], plan: Plan, degraded: Degraded | None
    ) -> None:
        self.synthetic, self.test, self.floors, self.plan, self.degraded = synthetic, test, floors, plan, degraded
        self.matched = len(floors[0])
        self.floor_groups = min(floor.group_count for floor in floors)
        # Draws of `matched` synthetic images, taken in turn from one random order, use as many of them as there are.
        order = permutation(len(synthetic), plan.seed, "synthetic", 0)
        steps = torch.arange(self.matched)
        self.draws = [order[(steps + draw * self.matched) % len(order)] for draw in range(plan.floors)]
        self.halves = half_samples(test.group_count, plan.subsamples, plan.seed, "test")

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
        two_sample = [name for name in due if name != "inception_score"]
        if two_sample:
            result |= self._against_test(two_sample)
        if "inception_score" in due:
            result["inception_score"] = self._inception_score()
        return result

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
        floors = [self._measure(names, self._pair(floor), None, share) for floor in self.floors]
        yardsticks = self._yardsticks(names)
        result: dict[str, Estimate | Withheld] = {}
        for name in names:
            # Each floor draw has its own centre; what is pooled is the spread of half-samples around it.
            spread = [v - fmean(floor.replicates[name]) for floor in floors for v in floor.replicates[name]]
            value = fmean(floor.values[name] for floor in floors)
            groups = min(self.floor_groups, self.test.group_count)
            floor = Floor(value, *_clip(METRICS[name], *interval(value, spread, groups)), draws=len(floors))
            used = len(self.synthetic) if name == "kid" else self.matched
            result[name] = self._build(
                name, ours.values[name], ours.replicates[name], used, floor, yardsticks.get(name)
            )
        return result

    def _inception_score(self) -> Estimate:
        """One-sample: real test images, as many as synthetic ones, give the floor."""
        real = self.test.take(draw_rows(self.test.groups, self.matched, self.plan.seed, "inception score", 0))
        ours = self._scores(self.synthetic, self.draws)
        theirs = self._scores(real, [torch.arange(len(real))])
        value = theirs.values["inception_score"]
        limits = interval(value, theirs.replicates["inception_score"], real.group_count)
        floor = Floor(value, *_clip(METRICS["inception_score"], *limits))
        name = "inception_score"
        return self._build(name, ours.values[name], ours.replicates[name], self.matched, floor, None)

    def _scores(self, sample: Sample, draws: Sequence[Tensor]) -> _Measured:
        probabilities = sample.probabilities
        if probabilities is None:
            raise EvaluationError("the Inception Score needs class probabilities, which this feature space has not.")
        values = fmean(inception_score(probabilities[rows]) for rows in draws)
        halves = self._halves_of(sample.groups, draws, self.plan.subsamples, "score")
        replicates = [inception_score(probabilities[rows]) for rows in halves]
        return _Measured({"inception_score": values}, {"inception_score": replicates})

    def _pair(self, left: Sample) -> Pair:
        return Pair(left.features, self.test.features, left.groups, self.test.groups)

    def _measure(self, names: Sequence[str], pair: Pair, draws: Sequence[Tensor] | None, repetitions: int) -> _Measured:
        """Values and half-sample replicates of x against the test set; `draws`: rows of x that enter biased metrics."""
        draws = [torch.arange(len(pair.x))] if draws is None else draws
        values: dict[str, float] = {}
        replicates: dict[str, list[float]] = {name: [] for name in names}
        halves = self.halves[:repetitions]
        if "kid" in names:
            chosen = half_samples(int(pair.groups_x.max()) + 1, len(halves), self.plan.seed, "left")
            values["kid"] = float(pair.kid())
            replicates["kid"] = pair.kid(chosen, halves).tolist()
        others = [name for name in names if name != "kid"]
        whole = [_by_rows(others, pair, rows, None) for rows in draws] if others else []
        values |= {name: fmean(one[name] for one in whole) for name in others}
        lefts = self._halves_of(pair.groups_x, draws, len(halves), "left") if others else []
        for rows, half in zip(lefts, halves, strict=False):
            one = _by_rows(others, pair, rows, half[pair.groups_y].nonzero().squeeze(1))
            for name in others:
                replicates[name].append(one[name])
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
        sample = self.degraded.sample
        sample = sample.take(draw_rows(sample.groups, self.matched, self.plan.seed, "yardstick", 0))
        due = [name for name in names if len(sample) >= METRICS[name].least and sample.group_count >= 2]
        if not due:
            return {}
        pair = self._pair(sample)
        values = {"kid": float(pair.kid())} if "kid" in due else {}
        values |= _by_rows([name for name in due if name != "kid"], pair, torch.arange(len(sample)), None)
        return {name: Yardstick(values[name], self.degraded.what) for name in due}

    def _build(
        self, name: str, value: float, replicates: list[float], used: int, floor: Floor, yardstick: Yardstick | None
    ) -> Estimate:
        metric = METRICS[name]
        groups = self.test.group_count
        spread_groups = used if name == "inception_score" else min(groups, used)
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
            caveat=INCEPTION_SCORE_CAVEAT if name == "inception_score" else None,
        )


def _by_rows(names: Sequence[str], pair: Pair, rows_x: Tensor, rows_y: Tensor | None) -> dict[str, float]:
    """Metrics whose value depends on which rows enter."""
    values: dict[str, float] = {}
    if "fd" in names:
        values["fd"] = pair.fd(rows_x, rows_y)
    if set(names) - {"fd"}:
        values |= pair.prdc(rows_x, rows_y)._asdict()
    return {name: values[name] for name in names}


def _reason(metric: Metric, synthetic: Sample, test: Sample, train: Sample, matched: int) -> str | None:
    """Why this metric cannot be estimated, or None."""
    for side, sample in (("synthetic", synthetic), ("test", test)):
        if len(sample) < metric.least:
            return f"{len(sample)} {side} images; this metric needs at least {metric.least} on each side"
    if matched < metric.least:
        return f"{len(train)} training images; a floor of this metric needs at least {2 * metric.least}"
    if test.group_count < LEAST_GROUPS:
        return f"the test images come from {test.group_count} patients or groups; an interval needs {LEAST_GROUPS}"
    if metric.name == "inception_score" and (synthetic.probabilities is None or test.probabilities is None):
        return "this feature space has no class probabilities"
    return None


def _bounded(sample: Sample, plan: Plan, purpose: str) -> Sample:
    """At most `MAX_IMAGES` of a sample, by whole groups."""
    if len(sample) <= MAX_IMAGES:
        return sample
    return sample.take(draw_rows(sample.groups, MAX_IMAGES, plan.seed, f"bounded/{purpose}", 0))


def _clip(metric: Metric, low: float, high: float) -> tuple[float, float]:
    """An interval within the range of the metric's values."""
    return max(low, metric.low), min(high, metric.high)
