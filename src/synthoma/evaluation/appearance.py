"""What images look like, measured without a network: power spectrum, texture, Hounsfield units, likeness within a class.

Each image is described once; distances between sets are functions of descriptions, so they get intervals, floors and
the yardstick as feature metrics do.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.protocol import Protocol
from synthoma.evaluation.spaces import over_seeds
from synthoma.metrics import msssim, spectrum, texture
from synthoma.metrics.estimate import Estimate, Floor, Withheld
from synthoma.metrics.estimation import Degraded, Plan, Sample, Statistic, estimate_all, point_values
from synthoma.metrics.histogram_distance import BINS as HISTOGRAM_BINS
from synthoma.metrics.histogram_distance import histogram_distance, histograms
from synthoma.metrics.resampling import draw_rows, half_samples, interval, number_groups
from synthoma.metrics.samples import HALF_SAMPLES, Metric
from synthoma.networks.features.extractor import unit_batches
from synthoma.recipe import EvaluationSection, content_hash

VERSION = 1  # raised when a description changes
MOST_IMAGES = 2000  # a set: more are subsampled by whole groups
MOST_PAIRS = {2: 300, 3: 100}  # of a class, for MS-SSIM, by number of dimensions
LEAST_GROUPS_OF_PAIRS = 10  # half of them still make pairs
LEAST_IMAGES = 50
UNITS = {"spectrum": "dB", "texture": "standard deviations of real images", "hu_histogram": "HU"}
TITLE = "appearance (no network: spectra, texture, pairs of images)"
_VALUES_IN_BATCH = 64 * 3 * 64 * 64
MS_SSIM_CAVEAT = (
    "How alike two images of one class are. Real images of different patients have the floor's value: above it the generator "
    "repeats itself; below it its images are more scattered than real ones."
)

Result = Estimate | Withheld


class Appearance:
    """The descriptions of all sets of one evaluation, and the estimates of each class from them.

    `blurred` are the degraded training images of the yardstick, `what` says what was done to them.
    """

    def __init__(
        self,
        sets: Mapping[str, ImageSet],
        protocol: Protocol,
        section: EvaluationSection,
        what: str,
    ) -> None:
        reference = sets["test"]
        self.range, self.what, self.seed = reference.range, what, section.seed
        self.names = ["spectrum", "texture", *(["hu_histogram"] if holds_hounsfield_units(reference) else [])]
        common = {key: value for key, value in protocol.fields.items() if key != "spaces"}
        settings = [VERSION, MOST_IMAGES, MOST_PAIRS[2], MOST_PAIRS[3], spectrum.BINS, texture.LEVELS, HISTOGRAM_BINS]
        self.protocol = content_hash({**common, "appearance": settings})
        self.plan = Plan(section.subsamples, section.floors, section.seed, self.protocol)
        self.statistics = _statistics(self.range)
        self.sets = {name: self._bounded(images, name) for name, images in sets.items()}
        self._found: dict[tuple[str, str], _Pairs] = {}
        self._replicas: dict[str, dict[str, Tensor]] = {}
        self.described = {name: self._describe(images) for name, images in self.sets.items()}

    def estimates(self, part: str | None) -> dict[str, Result]:
        """All distances over all images, or those of one class (None: all)."""
        result: dict[str, Result] = {}
        for name in self.names:
            samples = {which: self._sample(which, name, part) for which in self.sets}
            three = samples["synthetic"], samples["test"], samples["train"]
            degraded = Degraded(samples["blurred"], self.what)
            result |= estimate_all((name,), *three, self.plan, degraded, self.statistics)
        return result | {"ms_ssim": self._likeness(part)}

    def seeds(self, replicas: Sequence[ImageSet], part: str | None, first: Mapping[str, Result]) -> dict[str, Any]:
        """Distance -> values, mean and standard deviation over generation seeds, the evaluated set's own first."""
        values = {name: [result.value] for name, result in first.items() if isinstance(result, Estimate)}
        values.pop("ms_ssim", None)  # a number of the set's own pairs, which cost much
        real = [{name: self._sample(which, name, part) for name in values} for which in ("test", "train")]
        for made in replicas:
            described, rows = self._described_once(made), _rows(made, part)
            for name in values:
                three = Sample.of(described[name][rows]), real[0][name], real[1][name]
                values[name] += point_values((name,), *three, self.plan, self.statistics).values()
        return over_seeds(values, 1 + len(replicas))

    def _described_once(self, made: ImageSet) -> dict[str, Tensor]:
        if made.content not in self._replicas:
            self._replicas[made.content] = self._describe(made)
        return self._replicas[made.content]

    def spectra(self, part: str | None = None) -> dict[str, list[float]]:
        """Mean log power (dB) by radius of synthetic and test images, for the picture; radius 1 is the last bin's end."""
        means = {
            which: self.described[which]["spectrum"][_rows(self.sets[which], part)] for which in ("synthetic", "test")
        }
        return {which: values.mean(dim=0).tolist() for which, values in means.items() if len(values)}

    def _bounded(self, images: ImageSet, name: str) -> ImageSet:
        if len(images) <= MOST_IMAGES:
            return images
        rows = draw_rows(number_groups(images.groups), MOST_IMAGES, self.seed, f"appearance/{name}", 0)
        return images.take(rows.numpy().astype(np.int64))

    def _describe(self, images: ImageSet) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {name: [torch.zeros(0, 1, dtype=torch.float64)] for name in self.names}
        batch = max(1, _VALUES_IN_BATCH // int(np.prod(images.shape)))
        for block in unit_batches(images.images, self.range, batch):
            parts["spectrum"].append(spectrum.radial_spectra(block))
            parts["texture"].append(texture.texture_features(block))
            if "hu_histogram" in parts:
                parts["hu_histogram"].append(histograms(block, (0.0, 1.0)))
        return {name: torch.cat(blocks[1:] or blocks) for name, blocks in parts.items()}

    def _sample(self, which: str, name: str, part: str | None) -> Sample:
        images, rows = self.sets[which], _rows(self.sets[which], part)
        groups = None if which == "synthetic" else images.groups[rows].tolist()
        return Sample.of(self.described[which][name][rows], groups)

    def _likeness(self, part: str | None) -> Result:
        """MS-SSIM between images of one class and different patients; the test images' own value is the floor."""
        synthetic, test = self.sets["synthetic"], self.sets["test"]
        if msssim.scales(test.shape[1:]) == 0:
            return Withheld(f"images of {min(test.shape[1:])} pixels a side are too small for MS-SSIM")
        for name, images in (("synthetic", synthetic), ("test", test)):
            if len(_rows(images, part)) < LEAST_IMAGES:
                count = len(_rows(images, part))
                return Withheld(f"{count} {name} images; this metric needs at least {LEAST_IMAGES} on each side")
        groups = len(np.unique(test.groups[_rows(test, part)]))
        if groups < LEAST_GROUPS_OF_PAIRS:
            return Withheld(
                f"the test images come from {groups} patients or groups; pairs need {LEAST_GROUPS_OF_PAIRS}"
            )
        sides = [self._pairs(which, part) for which in ("synthetic", "test")]
        ours, reals = (side.with_interval(self.plan) for side in sides)
        if ours is None or reals is None:
            return Withheld("too few pairs of images of one class come from different patients or groups")
        return Estimate(
            metric="ms_ssim",
            value=ours[0],
            low=max(ours[1], 0.0),
            high=min(ours[2], 1.0),
            n={"synthetic": sides[0].images, "reference": sides[1].images},
            groups=groups,
            floor=Floor(reals[0], max(reals[1], 0.0), min(reals[2], 1.0)),
            direction="lower",
            protocol=self.protocol,
            caveat=MS_SSIM_CAVEAT,
        )

    def _pairs(self, which: str, part: str | None) -> "_Pairs":
        """Pairs within one class, or within each; those of a class are compared once."""
        images = self.sets[which]
        if which == "synthetic":  # each is a group of its own
            images = dataclasses.replace(images, groups=np.arange(len(images)).astype(np.str_))
        classes = [name for name in images.classes if len(images.rows_of(name))]
        if part is None and classes:
            return _Pairs.together([self._pairs(which, name) for name in classes])
        if part is None:
            return _Pairs.of(images, None, self.range, self.seed)
        if (which, part) not in self._found:
            self._found[which, part] = _Pairs.of(images, part, self.range, self.seed)
        return self._found[which, part]


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """values [p]: MS-SSIM of each pair; groups [p, 2]: numbers of its images' groups; images: how many are in pairs."""

    values: Tensor
    groups: Tensor
    images: int

    @classmethod
    def together(cls, parts: Sequence["_Pairs"]) -> "_Pairs":
        """The pairs of several classes of one set."""
        values, groups = (torch.cat([getattr(part, name) for part in parts]) for name in ("values", "groups"))
        return cls(values, groups, sum(part.images for part in parts))

    @classmethod
    def of(cls, images: ImageSet, part: str | None, value_range: tuple[float, float], seed: int) -> "_Pairs":
        numbers, own = number_groups(images.groups), torch.from_numpy(_rows(images, part))
        rows = own[msssim.pairs_between_groups(numbers[own], MOST_PAIRS[images.images.ndim - 2], seed)]
        values = [torch.zeros(0, dtype=torch.float64)]
        # An empty tensor is split into one empty block.
        blocks = rows.split(max(1, _VALUES_IN_BATCH // int(np.prod(images.shape)))) if len(rows) else ()
        for block in blocks:
            first, second = (_units(images.images[side.numpy()], value_range) for side in block.unbind(1))
            values.append(msssim.ms_ssim(first, second))
        return cls(torch.cat(values), numbers[rows], int(torch.unique(rows).numel()))

    def with_interval(self, plan: Plan) -> tuple[float, float, float] | None:
        """Mean, and limits from half-samples of groups: pairs whose groups are both in the half.

        These are a quarter of the pairs, so the interval is up to 1.7 times wider than it had to be, never narrower.
        """
        numbers = number_groups(self.groups.flatten()).reshape(-1, 2)
        count = 0 if len(self.values) == 0 else int(numbers.max()) + 1
        if count < LEAST_GROUPS_OF_PAIRS:
            return None
        halves = half_samples(count, plan.subsamples, plan.seed, "pairs")
        inside = halves[:, numbers].all(dim=2).double()
        if bool((inside.sum(dim=1) == 0).any()):
            return None
        replicates = inside @ self.values / inside.sum(dim=1)
        value = fmean(self.values.tolist())
        return (value, *interval(value, replicates, count))


def holds_hounsfield_units(images: ImageSet) -> bool:
    """Whether values are Hounsfield units: datasets hold these, and only these, as int16 (DESIGN, Dataset)."""
    return images.images.dtype == np.int16


def _statistics(value_range: tuple[float, float]) -> Mapping[str, Statistic]:
    infinite = float("inf")
    width = (value_range[1] - value_range[0]) / HISTOGRAM_BINS

    def hounsfield_distance(x: Tensor, y: Tensor) -> float:
        return histogram_distance(x, y, width)

    return {
        "spectrum": Statistic(Metric("spectrum", "lower", LEAST_IMAGES, 0.0, infinite), spectrum.spectrum_distance),
        "texture": Statistic(
            Metric("texture", "lower", LEAST_IMAGES, 0.0, infinite, HALF_SAMPLES), texture.texture_distance
        ),
        "hu_histogram": Statistic(Metric("hu_histogram", "lower", LEAST_IMAGES, 0.0, infinite), hounsfield_distance),
    }


def _units(images: NDArray[np.generic], value_range: tuple[float, float]) -> Tensor:
    return torch.cat(list(unit_batches(images, value_range, max(1, len(images)))))


def _rows(images: ImageSet, part: str | None) -> NDArray[np.int64]:
    return np.arange(len(images), dtype=np.int64) if part is None else images.rows_of(part)


def appearance_json(
    appearance: Appearance, results: Mapping[str, Mapping[str, Result]], replicas: Sequence[ImageSet] = ()
) -> dict[str, Any]:
    """As it stands in fidelity.json: the form of a feature space, with what the pictures need.

    results: "" for all images, and names of classes; replicas: sets of other generation seeds.
    """
    names = [name for name in results if name]

    def plain(part: Mapping[str, Result]) -> dict[str, Any]:
        return {metric: value.to_json() for metric, value in part.items()}

    written: dict[str, Any] = {
        "title": TITLE,
        "protocol": appearance.protocol,
        "units": {name: UNITS[name] for name in appearance.names},
        "all": plain(results[""]),
        "classes": {name: plain(results[name]) for name in names},
        "spectra": {"all": appearance.spectra(), "classes": {name: appearance.spectra(name) for name in names}},
    }
    if replicas:
        written["seeds"] = {
            "all": appearance.seeds(replicas, None, results[""]),
            "classes": {name: appearance.seeds(replicas, name, results[name]) for name in names},
        }
    return written
