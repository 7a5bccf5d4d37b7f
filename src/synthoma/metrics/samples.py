"""What an estimate is made from: the metrics that are known, samples of feature vectors, and a plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_matrix
from synthoma.metrics.estimate import Direction
from synthoma.metrics.fd_infinity import fd_infinity, least_images
from synthoma.metrics.resampling import number_groups
from synthoma.metrics.vendi import vendi_score

MAX_IMAGES = 2000  # a side: more are subsampled by whole groups, which bounds time and memory of kernel matrices
HALF_SAMPLES = (
    20  # at most, for the interval of what is costly: its width is then known to 16 %, and Student's t widens it
)
FEW_HALF_SAMPLES = 12  # where a value takes several decompositions: known to 21 %
LEAST_GROUPS = 4  # half of them are two, the fewest that KID can tell apart
INCEPTION_SCORE_CAVEAT = (
    "The Inception Score compares nothing with real images, and its classes are those of photographs. It is given for "
    "comparison with older papers only."
)
VENDI_CAVEAT = (
    "The number of images that differ, as it were. Real images have the floor's value: below it the generator repeats "
    "itself, and above it its images are more scattered than real ones, which noise does too."
)
FD_INFINITY_CAVEAT = (
    "Extrapolated from all images and from their halves, on both sides alike; near zero it may be negative."
)


@dataclass(frozen=True)
class Metric:
    """What is known of a metric: which way is better, images it needs a side, the range of its values.

    half_samples: at most so many for its interval, where a value is costly; None: as many as the plan has.
    """

    name: str
    direction: Direction
    least: int
    low: float
    high: float
    half_samples: int | None = None
    caveat: str | None = None


@dataclass(frozen=True)
class Statistic:
    """A metric that is a function of the rows that enter it.

    of: (x [n, d]) -> number for a one-sample statistic, (x [n, d], y [m, d]) -> number otherwise, x the synthetic images.
    needs: dimension d -> images that it takes on each side; None: `metric.least`.
    """

    metric: Metric
    of: Callable[..., float]
    one_sample: bool = False
    needs: Callable[[int], int] | None = None


_INFINITE = float("inf")
STATISTICS = {
    statistic.metric.name: statistic
    for statistic in (
        Statistic(
            Metric("fd_infinity", "lower", 100, -_INFINITE, _INFINITE, FEW_HALF_SAMPLES, FD_INFINITY_CAVEAT),
            fd_infinity,
            needs=least_images,
        ),
        Statistic(
            Metric("vendi", "higher", 50, 1.0, _INFINITE, FEW_HALF_SAMPLES, VENDI_CAVEAT), vendi_score, one_sample=True
        ),
    )
}

METRICS = {
    metric.name: metric
    for metric in (
        Metric("kid", "lower", 16, -_INFINITE, _INFINITE),
        Metric("fd", "lower", 50, 0.0, _INFINITE, HALF_SAMPLES),
        STATISTICS["fd_infinity"].metric,
        Metric("precision", "higher", 50, 0.0, 1.0, HALF_SAMPLES),
        Metric("recall", "higher", 50, 0.0, 1.0, HALF_SAMPLES),
        Metric("density", "higher", 50, 0.0, _INFINITE, HALF_SAMPLES),
        Metric("coverage", "higher", 50, 0.0, 1.0, HALF_SAMPLES),
        STATISTICS["vendi"].metric,
        Metric("inception_score", "higher", 50, 1.0, _INFINITE, caveat=INCEPTION_SCORE_CAVEAT),
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


def known_metrics(metrics: Sequence[str], statistics: Mapping[str, Statistic] | None) -> dict[str, Statistic | Metric]:
    """What is known of each metric that is asked for."""
    known: dict[str, Statistic | Metric] = {**METRICS, **STATISTICS, **(statistics or {})}
    unknown = set(metrics) - set(known)
    if unknown:
        raise EvaluationError(f"unknown metric {sorted(unknown)}; known: {', '.join(known)}.")
    return known


def least_images_of(known: Statistic | Metric, dimension: int) -> int:
    """Images that a metric needs on each side."""
    if isinstance(known, Metric):
        return known.least
    return known.metric.least if known.needs is None else known.needs(dimension)


def why_withheld(known: Statistic | Metric, synthetic: Sample, test: Sample, train: Sample, matched: int) -> str | None:
    """Why this metric cannot be estimated, or None."""
    dimension = synthetic.features.shape[1]
    least = least_images_of(known, dimension)
    features = f" for {dimension} features" if isinstance(known, Statistic) and known.needs else ""
    for side, sample in (("synthetic", synthetic), ("test", test)):
        if len(sample) < least:
            return f"{len(sample)} {side} images; this metric needs at least {least} on each side{features}"
    if matched < least:
        return f"{len(train)} training images; a floor of this metric needs at least {2 * least}{features}"
    if test.group_count < LEAST_GROUPS:
        return f"the test images come from {test.group_count} patients or groups; an interval needs {LEAST_GROUPS}"
    scored = isinstance(known, Metric) and known.name == "inception_score"
    if scored and (synthetic.probabilities is None or test.probabilities is None):
        return "this feature space has no class probabilities"
    return None
