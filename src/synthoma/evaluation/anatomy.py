"""Nodules of synthetic and real cubes: sizes, shapes and densities, all measured by one declared segmenter.

Real masks exist and synthetic ones do not, or are the generator's own; so both sides are segmented alike, and the
segmenter's own error on the real masks stands beside the distances. Distances are those of Kolmogorov and Smirnov.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.evaluation.checks import check_sets, class_names, withheld_reason
from synthoma.evaluation.imagesets import ImageSet
from synthoma.metrics.estimate import Estimate, Withheld
from synthoma.metrics.estimation import Plan, Sample, Statistic, estimate_all
from synthoma.metrics.resampling import draw_rows, number_groups
from synthoma.metrics.samples import Metric
from synthoma.recipe import EvaluationSection, content_hash

VERSION = 1  # raised when the sampling or the list of measures changes
MOST_CUBES = 200  # a set: a cube of 51 voxels a side takes the segmenter about 0.2 s
LEAST_NODULES = 30
# Those that need Hounsfield units are left out where the unit is unknown, and lengths are called *_voxels without spacing.
MEASURES = (
    "diameter_mm",
    "volume_mm3",
    "sphericity",
    "margin_roughness",
    "mean_hu",
    "solid_fraction",
    "diameter_voxels",
    "volume_voxels",
)
TEXTURES = ("solid", "part_solid", "ground_glass")
_QUANTILES = np.linspace(0, 1, 41)

Spacing = tuple[float, float, float]
Unit = Literal["hu", "unknown"]


@dataclasses.dataclass(frozen=True)
class Nodules:
    """What was measured of a set. values: measure -> a number for each nodule that was found [k]; rows [k]: its image;
    textures: name of each [k], empty where the unit is unknown; looked: how many images were segmented."""

    values: Mapping[str, NDArray[np.float64]]
    rows: NDArray[np.int64]
    textures: list[str]
    looked: NDArray[np.int64]


def measure_nodules(cubes: ImageSet, spacing: Spacing | None, unit: Unit, seed: int = 0) -> Nodules:
    """Segment and measure the nodules in cubes [n, 1, z, y, x], of at most `MOST_CUBES` of them, by whole groups.

    spacing: mm (z, y, x) of all cubes, None where unknown; unit: "hu", or "unknown" for numbers that grow with density.
    Cubes in which no nodule is found have no measures; their share is told.
    """
    from synthoma.measure.nodule import measure_nodule
    from synthoma.measure.segment import segment_nodule

    _check_cubes(cubes, unit)
    numbers = number_groups(cubes.groups)
    rows = draw_rows(numbers, MOST_CUBES, seed, "nodules", 0).numpy().astype(np.int64)
    found: list[dict[str, float | str | None]] = []
    kept = []
    for row in rows.tolist():
        cube = np.asarray(cubes.images[row, 0], dtype=np.float32)
        mask = segment_nodule(cube, spacing, unit)
        if mask.any():
            found.append(measure_nodule(cube, mask, spacing, unit).to_attributes())
            kept.append(row)
    names = [name for name in MEASURES if _applies(name, spacing, unit)]
    values = {name: np.array([one[name] for one in found], dtype=np.float64) for name in names}
    textures = [str(one["texture"]) for one in found if one.get("texture") is not None]
    return Nodules(values, np.array(kept, dtype=np.int64), textures, rows)


def evaluate_anatomy(
    synthetic: ImageSet,
    test: ImageSet,
    train: ImageSet,
    section: EvaluationSection,
    *,
    spacing: Spacing | None,
    unit: Unit,
    masks: NDArray[np.uint8] | None = None,
) -> dict[str, Any]:
    """KS distances of nodule measures between synthetic and test cubes, with floors, by class, as JSON-able values.

    masks [len(test), 1, z, y, x]: given masks of the test cubes, on which the segmenter's own error is measured. `spacing`
    and `unit` as in `measure_nodules`. A measure is withheld where fewer than 30 nodules are found on a side.
    """
    from synthoma.measure.segment import SEGMENTER

    check_sets(synthetic, test, train)
    settings = {"version": VERSION, "segmenter": SEGMENTER, "most": MOST_CUBES, "spacing": spacing, "unit": unit}
    numbers = {"synthetic": len(synthetic), "test": len(test), "train": len(train)}
    sampled = [section.subsamples, section.floors, section.seed, numbers]
    protocol = content_hash([settings, test.content, train.content, sampled])
    written: dict[str, Any] = {
        "title": "nodules, measured by one segmenter on real and synthetic cubes",
        "segmenter": SEGMENTER,
        "protocol": protocol,
        "segmenter_error": _segmenter_error(test, masks, spacing, unit),
    }
    reason = withheld_reason(test, train)
    if reason:
        return {**written, "reason": reason, "all": {}, "classes": {}}
    sets = {"synthetic": synthetic, "test": test, "train": train}
    nodules = {name: measure_nodules(images, spacing, unit, section.seed) for name, images in sets.items()}
    plan = Plan(section.subsamples, section.floors, section.seed, protocol)
    parts = [_Part(sets, nodules, plan, name) for name in [None, *class_names(synthetic, test)]]
    return {
        **written,
        "found": {name: {"images": len(one.looked), "nodules": len(one.rows)} for name, one in nodules.items()},
        "all": parts[0].distances(),
        "classes": {str(part.name): part.distances() for part in parts[1:]},
        "quantiles": {"all": parts[0].quantiles(), "classes": {str(part.name): part.quantiles() for part in parts[1:]}},
        "textures": {"all": parts[0].textures(), "classes": {str(part.name): part.textures() for part in parts[1:]}},
    }


def ks_distance(x: Tensor, y: Tensor) -> float:
    """Largest difference between the distribution functions of x [n, 1] and y [m, 1] (Smirnov 1939), in [0, 1]."""
    return float(stats.ks_2samp(x[:, 0].numpy(), y[:, 0].numpy(), method="asymp").statistic)


class _Part:
    """The nodules of one class, or of all."""

    def __init__(
        self, sets: Mapping[str, ImageSet], nodules: Mapping[str, Nodules], plan: Plan, name: str | None
    ) -> None:
        self.sets, self.nodules, self.plan, self.name = sets, nodules, plan, name
        self.chosen = {which: self._of_class(which) for which in sets}
        self.measures = list(nodules["test"].values)

    def distances(self) -> dict[str, Any]:
        """Measure -> KS distance with interval and floor, or why there is none."""
        result: dict[str, Estimate | Withheld] = {}
        for measure in self.measures:
            statistic = Statistic(Metric(f"ks_{measure}", "lower", LEAST_NODULES, 0.0, 1.0), ks_distance)
            made, test, train = (self._sample(which, measure) for which in ("synthetic", "test", "train"))
            result |= estimate_all((measure,), made, test, train, self.plan, None, {measure: statistic})
        return {measure: value.to_json() for measure, value in result.items()}

    def quantiles(self) -> dict[str, dict[str, list[float]]]:
        """Measure -> 41 quantiles (0 to 100 %) of synthetic and test nodules, for the picture."""
        return {
            measure: {
                which: np.quantile(values, _QUANTILES).tolist()
                for which in ("synthetic", "test")
                if len(values := self._values(which, measure))
            }
            for measure in self.measures
        }

    def textures(self) -> dict[str, dict[str, float]]:
        """Shares of solid, part-solid and ground-glass nodules of synthetic and test cubes; empty for unknown units."""
        result = {}
        for which in ("synthetic", "test"):
            named = self.nodules[which].textures
            if named and self.chosen[which].any():
                own = [name for name, chosen in zip(named, self.chosen[which], strict=True) if chosen]
                result[which] = {name: own.count(name) / len(own) for name in TEXTURES}
        return result

    def _of_class(self, which: str) -> NDArray[np.bool_]:
        rows, images = self.nodules[which].rows, self.sets[which]
        if self.name is None:
            return np.ones(len(rows), dtype=np.bool_)
        return np.isin(rows, images.rows_of(self.name))

    def _values(self, which: str, measure: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self.nodules[which].values[measure][self.chosen[which]]
        return values

    def _sample(self, which: str, measure: str) -> Sample:
        rows = self.nodules[which].rows[self.chosen[which]]
        groups = None if which == "synthetic" else self.sets[which].groups[rows].tolist()
        return Sample.of(self._values(which, measure)[:, None], groups)


def _segmenter_error(
    test: ImageSet, masks: NDArray[np.uint8] | None, spacing: Spacing | None, unit: Unit
) -> dict[str, Any]:
    """Error of the segmenter on the given masks, or why it is not known."""
    from synthoma.measure.nodule import segmenter_error

    if masks is None:
        return Withheld("the real cubes come without masks: the segmenter's error on them is not known").to_json()
    if len(masks) != len(test):
        raise EvaluationError(f"{len(masks)} masks for {len(test)} test cubes do not fit.")
    given = [row for row in range(len(test)) if masks[row].any()]
    if not given:
        return Withheld("all masks of the test cubes are empty").to_json()
    cubes: Sequence[Any] = [np.asarray(test.images[row, 0], dtype=np.float32) for row in given]
    error = segmenter_error(cubes, [masks[row, 0] for row in given], [spacing] * len(given), unit)
    return {"kind": "segmenter error", **dataclasses.asdict(error)}


def _applies(measure: str, spacing: Spacing | None, unit: Unit) -> bool:
    """Whether a measure exists for cubes of this spacing and unit."""
    if measure.endswith(("_mm", "_mm3")):
        return spacing is not None
    if measure.endswith("_voxels"):
        return spacing is None
    return unit == "hu" or measure not in ("mean_hu", "solid_fraction")


def _check_cubes(cubes: ImageSet, unit: Unit) -> None:
    if cubes.images.ndim != 5 or cubes.images.shape[1] != 1:
        raise EvaluationError(f"nodules are measured in cubes [n, 1, z, y, x], not in images {cubes.images.shape}.")
    if unit not in ("hu", "unknown"):
        raise EvaluationError(f"'{unit}' is no unit that nodules are measured in; expected 'hu' or 'unknown'.")
