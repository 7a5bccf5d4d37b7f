"""One feature space of an evaluation: the features of all sets, and the estimates of each class from them."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthoma.evaluation.features import cached_features
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.protocol import Protocol
from synthoma.metrics.estimate import Estimate, Withheld
from synthoma.metrics.estimation import Degraded, Plan, Sample, estimate_all, point_values
from synthoma.metrics.permutation import PermutationTest, kid_above_floor, permutation_test
from synthoma.networks.features import Extractor, Measured
from synthoma.recipe import EvaluationSection

Result = Estimate | Withheld


class Space:
    """A space in which the named metrics are taken; `plane` says which slices of volumes are meant, "" for whole images."""

    def __init__(
        self,
        extractor: Extractor,
        protocol: Protocol,
        section: EvaluationSection,
        what: str,
        metrics: Sequence[str],
        plane: str = "",
    ) -> None:
        self.extractor, self.what, self.metrics, self.plane = extractor, what, metrics, plane
        self.plan = Plan(section.subsamples, section.floors, section.seed, protocol.in_space(extractor))
        self.sets: dict[str, tuple[ImageSet, Measured]] = {}
        self.replicas: list[tuple[ImageSet, Measured]] = []

    def take(self, sets: Mapping[str, ImageSet], replicas: Sequence[ImageSet], cache: Path | None) -> None:
        """Features of all sets; values mean the same in all of them, what they mean in the test set.

        sets: synthetic, test, train, and blurred for the yardstick; replicas: of other generation seeds.
        """
        meaning = sets["test"].range
        for name, images in sets.items():
            self.sets[name] = images, cached_features(images, self.extractor, cache, meaning)
        self.replicas = [(made, cached_features(made, self.extractor, cache, meaning)) for made in replicas]

    def estimates(self, part: str | None) -> dict[str, Result]:
        """All metrics over all images, or those of one class."""
        samples = {name: self._sample(name, part) for name in self.sets}
        degraded = Degraded(samples["blurred"], self.what)
        return estimate_all(self.metrics, samples["synthetic"], samples["test"], samples["train"], self.plan, degraded)

    def above_floor(self, part: str | None, kid: Result) -> tuple[Result, PermutationTest | Withheld]:
        """KID less that of training images with its interval, and the permutation test over patients."""
        ours, test, train = (self._sample(name, part) for name in ("synthetic", "test", "train"))
        return kid_above_floor(ours, test, train, self.plan, kid), permutation_test(ours, train, test, self.plan.seed)

    def seeds(self, part: str | None, first: Mapping[str, Result]) -> dict[str, Any]:
        """Metric -> values, mean and standard deviation over generation seeds, the evaluated set's own first."""
        values = {name: [result.value] for name, result in first.items() if isinstance(result, Estimate)}
        test, train = self._sample("test", part), self._sample("train", part)
        for images, measured in self.replicas:
            made = _sample_of(images, measured, part, grouped=False)
            for name, value in point_values(list(values), made, test, train, self.plan).items():
                values[name].append(value)
        return over_seeds(values, 1 + len(self.replicas))

    def to_json(self, parts: Iterable[str], reason: str | None) -> dict[str, Any]:
        """As it stands in fidelity.json; `parts`: "" for all images, and names of classes; `reason`: why nothing is measured."""
        results: dict[str, dict[str, Any]] = {}
        above: dict[str, dict[str, Any]] = {}
        seeds: dict[str, dict[str, Any]] = {}
        for part in parts:
            name = part or None
            found = {m: Withheld(reason) for m in self.metrics} if reason else self.estimates(name)
            results[part] = {metric: value.to_json() for metric, value in found.items()}
            if reason is None:
                difference, test = self.above_floor(name, found["kid"])
                above[part] = {"kid_above_floor": difference.to_json(), "permutation": test.to_json()}
                if self.replicas:
                    seeds[part] = self.seeds(name, found)
        extractor, plane = self.extractor, self.plane
        written: dict[str, Any] = {
            "title": f"{extractor.title}, middle {plane} slices" if plane else extractor.title,
            "dimension": extractor.dimension,
            "licence": extractor.licence,
            "preprocessing": extractor.preprocessing,
            # "FID" is the name of this distance with one network only; a number under that name will be compared.
            "fd_name": "FID" if extractor.is_fid_inception and not plane else f"FD ({extractor.name})",
            **_split(results),
        }
        if above:
            written["above_floor"] = _split(above)
        if seeds:
            written["seeds"] = _split(seeds)
        return written

    def _sample(self, name: str, part: str | None) -> Sample:
        images, measured = self.sets[name]
        return _sample_of(images, measured, part, grouped=name != "synthetic")


def over_seeds(values: Mapping[str, Sequence[float]], count: int) -> dict[str, Any]:
    """Metric -> values, mean and standard deviation, of those that could be measured for all `count` generation seeds."""
    return {
        name: {"values": list(found), "mean": statistics.fmean(found), "sd": statistics.stdev(found)}
        for name, found in values.items()
        if len(found) == count and count > 1
    }


def _sample_of(images: ImageSet, measured: Measured, part: str | None, grouped: bool) -> Sample:
    rows = np.arange(len(images), dtype=np.int64) if part is None else images.rows_of(part)
    probabilities = None if measured.probabilities is None else measured.probabilities[rows]
    return Sample.of(measured.features[rows], images.groups[rows].tolist() if grouped else None, probabilities)


def _split(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What was found over all images, and by class."""
    return {"all": parts[""], "classes": {name: found for name, found in parts.items() if name}}
