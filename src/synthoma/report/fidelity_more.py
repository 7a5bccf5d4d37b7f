"""What fidelity is beside feature metrics: appearance, anatomy, subgroups, the detector, seeds and the permutation test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synthoma.report import words
from synthoma.report.charts import Series, line_chart
from synthoma.report.curves import Chart
from synthoma.report.evidence import Evidence
from synthoma.report.facts import Facts
from synthoma.report.metrics import ClassTable, SpaceView, metric_label, runs_table, space_views

UNITS = {
    "diameter_mm": "mm",
    "volume_mm3": "mm³",
    "mean_hu": "HU",
    "diameter_voxels": "voxels",
    "volume_voxels": "voxels",
}
EXPLAINED = {
    "spectrum": ("Power spectrum", "Mean difference of log power by frequency, in decibels: too smooth, or too noisy?"),
    "texture": ("Texture", "Distance of simple texture statistics, in standard deviations of real images."),
    "hu_histogram": ("HU histogram", "Earth mover's distance of the histograms, in Hounsfield units."),
    "ms_ssim": (
        "MS-SSIM",
        "How alike two images of one class are, of different patients: above the floor is repetition.",
    ),
    "fd_infinity": (
        "FD-infinity",
        "The Fréchet distance extrapolated to endless images, so that their number drops out.",
    ),
    "vendi": ("Vendi score", "The effective number of different images, beside that of real ones."),
}


@dataclass(frozen=True)
class Shares:
    """A table of shares: columns, and (name, cells)."""

    columns: list[str]
    rows: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Anatomy:
    """Measures of nodules: distances (as a space), the segmenter's own error, quantile curves, shares of textures."""

    space: SpaceView
    reason: str | None
    found: str
    error: list[tuple[str, str]]
    charts: list[Chart]
    textures: Shares | None


@dataclass(frozen=True)
class Subgroups:
    """Coverage by columns of the records: (column, groups by metrics); reason: why there are none."""

    title: str
    protocol: str
    reason: str | None
    tables: list[tuple[str, ClassTable]]


@dataclass(frozen=True)
class Detector:
    """How well a small classifier tells the model's images from real ones, as a space of one metric."""

    space: SpaceView
    false_alarms: str


@dataclass(frozen=True)
class MoreFidelity:
    """Parts are None where their file, or their part of it, is not there. notes: lines by feature space."""

    appearance: SpaceView | None = None
    spectra: Chart | None = None
    anatomy: Anatomy | None = None
    subgroups: Subgroups | None = None
    detector: Detector | None = None
    notes: dict[str, list[str]] = field(default_factory=dict)


def more_fidelity(facts: Facts, evidence: Evidence) -> MoreFidelity:
    """All further parts that there are results of."""
    fidelity = facts.fidelity or {}
    appearance = fidelity.get("appearance")
    return MoreFidelity(
        appearance=None if appearance is None else _as_space("appearance", appearance),
        spectra=None if appearance is None else _spectra(appearance),
        anatomy=None if evidence.anatomy is None else _anatomy(evidence.anatomy),
        subgroups=None if evidence.subgroups is None else _subgroups(evidence.subgroups),
        detector=None if evidence.detector is None else _detector(evidence.detector),
        notes={name: _notes(name, space) for name, space in fidelity.get("spaces", {}).items()},
    )


def glossary(facts: Facts) -> list[tuple[str, str]]:
    """(term, one line) of the further metrics that the page shows."""
    fidelity = facts.fidelity or {}
    parts = [*fidelity.get("spaces", {}).values(), fidelity.get("appearance") or {}]
    shown = {metric for part in parts for metric in part.get("all", {})}
    return [EXPLAINED[metric] for metric in EXPLAINED if metric in shown]


def _as_space(name: str, part: Mapping[str, Any]) -> SpaceView:
    """A part in the form of a feature space, told as one."""
    return space_views({"spaces": {name: part}, "protocol": {"hash": part["protocol"]}})[0]


def _notes(name: str, space: Mapping[str, Any]) -> list[str]:
    """KID less floor with its permutation test, and the spread over generation seeds."""
    lines = []
    above = (space.get("above_floor") or {}).get("all") or {}
    less, test = above.get("kid_above_floor", {}), above.get("permutation", {})
    if less.get("kind") == "estimate":
        low, high = words.number(less["low"]), words.number(less["high"])
        lines.append(
            f"KID less floor: {words.number(less['value'])} (95 % interval {low} to {high}; 0 is where real images are)."
        )
    if test.get("kind") == "permutation":
        units = test["units"]
        lines.append(
            f"Permutation test over patients, whether synthetic images are farther than training images: p = "
            f"{words.number(test['p'], 2)} ({words.count(test['permutations'])} permutations, "
            f"{words.plural(units['synthetic'], 'synthetic image')} and {words.plural(units['training'], 'training patient or group', 'training patients or groups')})."
        )
    elif test.get("kind") == "withheld":
        lines.append(f"Permutation test withheld: {test['reason']}.")
    seeds = (space.get("seeds") or {}).get("all") or {}
    told = [
        f"{metric_label(metric, name)} {words.number(one['mean'])} ± {words.number(one['sd'], 2)}"
        for metric, one in seeds.items()
    ]
    if told:
        count = len(next(iter(seeds.values()))["values"])
        lines.append(f"Over {count} generation seeds, mean ± standard deviation: {', '.join(told)}.")
    return lines


def _spectra(appearance: Mapping[str, Any]) -> Chart | None:
    """Mean log power by frequency of synthetic and real test images."""
    curves = (appearance.get("spectra") or {}).get("all") or {}
    if set(curves) != {"synthetic", "test"}:
        return None
    names = {"test": ("Real test images", "second"), "synthetic": ("Synthetic images", "accent")}
    series = [
        Series(names[which][0], [((i + 0.5) / len(curve), y) for i, y in enumerate(curve)], names[which][1])
        for which in names
        if (curve := curves[which])
    ]
    drawing = line_chart(
        series,
        unit="dB",
        x_unit="frequency, as a share of the highest",
        label="Power spectra",
        x_words="of the highest frequency",
    )
    return Chart("Power spectra", "", [(line.style, line.name) for line in series], drawing)


def _anatomy(anatomy: Mapping[str, Any]) -> Anatomy:
    counts = anatomy.get("found") or {}
    found = ", ".join(
        f"{words.count(one['nodules'])} in {words.count(one['images'])} {which} cubes" for which, one in counts.items()
    )
    error = anatomy["segmenter_error"]
    told = (
        [("Error of the segmenter", str(error["reason"]))]
        if error.get("kind") == "withheld"
        else [(words.spoken(key), _plain(value)) for key, value in error.items() if key != "kind"]
    )
    quantiles = (anatomy.get("quantiles") or {}).get("all") or {}
    charts = [_quantiles(measure, curves) for measure, curves in quantiles.items() if len(curves) == 2]
    textures = (anatomy.get("textures") or {}).get("all") or {}
    return Anatomy(
        _as_space("anatomy", anatomy),
        anatomy.get("reason"),
        f"Nodules found: {found}." if found else "",
        told,
        charts,
        _textures(textures) if len(textures) == 2 else None,
    )


def _quantiles(measure: str, curves: Mapping[str, list[float]]) -> Chart:
    """The measure below which a given share of the nodules lies: apart where the curves are apart."""
    names = {"test": ("Real test cubes", "second"), "synthetic": ("Synthetic cubes", "accent")}
    series = [
        Series(name, [(100 * i / (len(curves[which]) - 1), y) for i, y in enumerate(curves[which])], style)
        for which, (name, style) in names.items()
    ]
    label, unit = metric_label(measure, "anatomy"), UNITS.get(measure, "")
    drawing = line_chart(
        series,
        unit=unit,
        x_unit="% of the nodules lie below",
        label=f"{label} of real and synthetic nodules",
        x_words="% of the nodules",
    )
    return Chart(label, "", [(line.style, line.name) for line in series], drawing)


def _textures(textures: Mapping[str, Mapping[str, float]]) -> Shares:
    columns = list(textures["test"])
    names = {"test": "Real test cubes", "synthetic": "Synthetic cubes"}
    rows = [(name, [words.share(textures[which].get(c, 0.0)) for c in columns]) for which, name in names.items()]
    return Shares([words.spoken(c) for c in columns], rows)


def _subgroups(result: Mapping[str, Any]) -> Subgroups:
    tables = [
        (
            words.spoken(column),
            runs_table(
                "subgroups",
                {words.without_people(words.spoken(name)): one for name, one in groups.items()},
            ),
        )
        for column, groups in result["columns"].items()
    ]
    return Subgroups(str(result.get("title", "")), str(result.get("protocol", "")), result.get("reason"), tables)


def _detector(result: Mapping[str, Any]) -> Detector:
    auc = result["auc"]
    part = {
        "title": "Detector: logistic regression on random convolutional features",
        "protocol": str(auc.get("protocol", "unknown")),
        "all": {"detector_auc": auc},
    }
    return Detector(_as_space("detector", part), words.share(float(result["false_alarms"])))


def _plain(value: object) -> str:
    if isinstance(value, int):
        return words.count(value)
    return words.number(value) if isinstance(value, float) else str(value)
