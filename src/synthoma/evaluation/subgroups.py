"""Whom a generator covers: the share of real test images with synthetic ones close by, for each group of patients.

Coverage and recall are means over real images (Naeem et al. 2020, eq. 6; Kynkäänniemi et al. 2019, eq. 2), so each group
of patients has its own. The neighbourhoods are those of the whole test set, so that groups compare with each other.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError
from synthoma.evaluation.checks import check_sets, withheld_reason
from synthoma.evaluation.features import cached_features
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.protocol import space_fields
from synthoma.metrics.estimate import Estimate, Floor, Withheld
from synthoma.metrics.estimation import LEAST_GROUPS, MAX_IMAGES
from synthoma.metrics.nearest import nearest, squared_distances
from synthoma.metrics.prdc import NEIGHBOURS, squared_radii
from synthoma.metrics.resampling import draw_rows, half_samples, interval, number_groups, permutation
from synthoma.networks.features import Extractor, build_extractor
from synthoma.recipe import EvaluationSection, content_hash

LEAST_PATIENTS = 10
MOST_VALUES = 12  # of a text column: one with more (names, dates) does not make groups
LEAST_IMAGES = 50
_TAIL = 0.025

Column = Sequence[float | str | None] | NDArray[np.float64]


def columns_of(dataset: Dataset, rows: NDArray[np.int64]) -> dict[str, list[Any]]:
    """Whatever the dataset tells of these rows: class, and all attributes, in numbers or texts."""
    columns: dict[str, list[Any]] = {}
    if len(dataset.classes) > 1:
        label = dataset.column("label")
        columns["class"] = [label[row] for row in rows]
    for name in dataset.attribute_names:
        values = dataset.attribute(name)
        columns[name] = [None if np.isnan(values[row]) else float(values[row]) for row in rows]
    for name in dataset.text_attribute_names:
        texts = dataset.column(f"attr.{name}")
        columns[name] = [texts[row] for row in rows]
    return columns


def subgroups(values: Column) -> dict[str, NDArray[np.bool_]]:
    """Group -> which images are in it, for one column: its texts, or quartiles of its numbers; missing ones are in none.

    A text column with more than 12 different values, and one with a single value, makes no groups.
    """
    known = [not _missing(value) for value in values]
    present = [value for value, here in zip(values, known, strict=True) if here]
    if not present:
        return {}
    if all(isinstance(value, int | float | np.number) for value in present):
        numbers = np.array([float(v) if here else np.nan for v, here in zip(values, known, strict=True)])
        return _quartiles(numbers)
    texts = np.array([str(value) if here else "" for value, here in zip(values, known, strict=True)])
    names = sorted({str(value) for value in present})
    if not 1 < len(names) <= MOST_VALUES:
        return {}
    return {name: (texts == name) & np.array(known) for name in names}


def subgroup_coverage(
    synthetic: ImageSet,
    test: ImageSet,
    train: ImageSet,
    columns: Mapping[str, Column],
    section: EvaluationSection,
    *,
    extractor: Extractor | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Coverage and recall of test images by synthetic ones for each group of each column, as JSON-able values.

    columns: name -> a value for each test image. Floors are those of training images in the place of synthetic ones.
    Groups of fewer than 10 patients are withheld. Intervals are half-samples of the group's patients; where all images,
    or none, are covered, Clopper and Pearson's for that number of patients.
    """
    check_sets(synthetic, test, train)
    for name, values in columns.items():
        if len(values) != len(test):
            raise EvaluationError(f"column '{name}' has {len(values)} values for {len(test)} test images.")
    reason = withheld_reason(test, train) or _too_few(synthetic, test, train)
    if reason:
        return {"reason": reason, "columns": {}}
    extractor = extractor or build_extractor(
        "randconv",
        train.shape[0],
        len(train.shape) - 1,
        reference=train.images,
        value_range=train.range,
        reference_key=train.content,
    )
    sets = (synthetic, test, train)
    features = [
        torch.from_numpy(cached_features(images, extractor, cache, test.range).features).double() for images in sets
    ]
    numbers = {"synthetic": len(synthetic), "test": len(test), "train": len(train)}
    sampled = [section.subsamples, section.floors, section.seed, numbers, NEIGHBOURS, LEAST_PATIENTS, MAX_IMAGES]
    protocol = content_hash([space_fields(extractor), test.content, train.content, sampled])
    matched = min(len(synthetic), len(train) // 2, len(test), MAX_IMAGES)
    covered = _Covered(features, number_groups(train.groups), matched, section)
    written: dict[str, Any] = {}
    for column, values in columns.items():
        found = subgroups(values)
        if found:
            written[column] = {
                name: {metric: covered.estimate(metric, rows, test.groups, protocol).to_json() for metric in METRICS}
                for name, rows in found.items()
            }
    return {
        "title": extractor.title,
        "protocol": protocol,
        "neighbours": NEIGHBOURS,
        "matched": matched,
        "columns": written,
    }


METRICS = ("coverage", "recall")


class _Covered:
    """Share of draws in which each test image is covered and recalled, by synthetic and by training images."""

    def __init__(self, features: Sequence[Tensor], groups: Tensor, matched: int, section: EvaluationSection) -> None:
        synthetic, test, train = features
        self.section, self.matched = section, matched
        order = permutation(len(synthetic), section.seed, "synthetic", 0)
        steps = torch.arange(matched)
        draws = [order[(steps + draw * matched) % len(order)] for draw in range(section.floors)]
        floors = [draw_rows(groups, matched, section.seed, "floor", step) for step in range(section.floors)]
        radius = nearest(test, test, NEIGHBOURS + 1)[0][:, -1] ** 2
        self.ours = torch.stack([_indicators(synthetic[rows], test, radius) for rows in draws]).mean(dim=0)
        self.reals = torch.stack([_indicators(train[rows], test, radius) for rows in floors]).mean(dim=0)

    def estimate(
        self, metric: str, rows: NDArray[np.bool_], groups: NDArray[np.str_], protocol: str
    ) -> Estimate | Withheld:
        """The mean over the chosen test images."""
        patients = len(np.unique(groups[rows]))
        if patients < LEAST_PATIENTS:
            return Withheld(f"{patients} patients or groups; a subgroup needs at least {LEAST_PATIENTS}")
        place = METRICS.index(metric)
        chosen, numbers = torch.from_numpy(np.flatnonzero(rows)), number_groups(groups[rows])
        value, low, high = self._mean(self.ours[place, chosen], numbers)
        floor = Floor(*self._mean(self.reals[place, chosen], numbers), draws=self.section.floors)
        counted = {"synthetic": self.matched, "reference": len(chosen)}
        return Estimate(metric, value, low, high, counted, patients, floor, "higher", protocol)

    def _mean(self, values: Tensor, numbers: Tensor) -> tuple[float, float, float]:
        """Mean over images with limits from half-samples of patients."""
        patients = int(numbers.max()) + 1
        value = float(values.mean())
        if value in (0.0, 1.0):  # no spread is seen, but a patient more could differ
            least = _TAIL ** (1 / patients)
            return (value, least, 1.0) if value == 1.0 else (value, 0.0, 1 - least)
        halves = half_samples(patients, self.section.subsamples, self.section.seed, "subgroup").double()
        sums = torch.zeros(patients, dtype=torch.float64).index_add_(0, numbers, values)
        sizes = torch.bincount(numbers).double()
        replicates = (halves @ sums) / (halves @ sizes)
        low, high = interval(value, replicates, patients)
        return value, min(max(low, 0.0), value), max(min(high, 1.0), value)


def _indicators(x: Tensor, test: Tensor, radius: Tensor) -> Tensor:
    """Whether each test image has one of x within its own radius, and lies within the radius of one of x: [2, m]."""
    between = squared_distances(x, test)
    covered = between.min(dim=0).values < radius
    recalled = (between < _radii(x)[:, None]).any(dim=0)
    return torch.stack((covered, recalled)).double()


def _radii(x: Tensor) -> Tensor:
    """Squared distance of each row to its k-th nearest other."""
    return squared_radii(squared_distances(x, x), NEIGHBOURS)


def _quartiles(numbers: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    known = numbers[np.isfinite(numbers)]
    limits = np.unique(np.quantile(known, (0.25, 0.5, 0.75), method="lower"))
    limits = limits[limits < known.max()]  # a limit at the largest number has nothing above it
    if len(limits) == 0:
        return {}
    place = np.searchsorted(limits, numbers, side="left")
    shown = [f"{limit:.4g}" for limit in limits]  # smallest and largest are somebody's own, and are not shown
    between = [f"above {a} to {b}" for a, b in itertools.pairwise(shown)]
    names = [f"up to {shown[0]}", *between, f"above {shown[-1]}"]
    return {name: (place == i) & np.isfinite(numbers) for i, name in enumerate(names)}


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _too_few(synthetic: ImageSet, test: ImageSet, train: ImageSet) -> str | None:
    for name, images in (("synthetic", synthetic), ("test", test)):
        if len(images) < LEAST_IMAGES:
            return f"{len(images)} {name} images; coverage needs at least {LEAST_IMAGES} on each side"
    if len(train) < 2 * LEAST_IMAGES:
        return f"{len(train)} training images; a floor of coverage needs at least {2 * LEAST_IMAGES}"
    for name, images in (("test", test), ("training", train)):
        groups = len(np.unique(images.groups))
        if groups < LEAST_GROUPS:
            return f"the {name} images come from {groups} patients or groups; an interval needs {LEAST_GROUPS}"
    return None
