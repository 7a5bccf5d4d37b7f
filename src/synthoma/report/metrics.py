"""The measured metrics as tables: value, interval, floor and yardstick together, or the reason why there is none."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from synthoma.report import words
from synthoma.report.charts import Strip, interval_strip

# The one space whose Fréchet distance is the FID of the literature (networks/features: same weights, same resize).
FID_SPACES = ("inception_v3_fid",)


@dataclass(frozen=True)
class Meaning:
    """What a metric is called and what it says, in one line."""

    label: str
    explained: str
    axis: tuple[float | None, float | None]


MEANINGS = {
    "kid": Meaning(
        "KID",
        "Kernel distance between synthetic and real images in a feature space; unbiased, so it may fall slightly below "
        "zero. Lower is better.",
        (None, None),
    ),
    "fd": Meaning(
        "FD",
        "Fréchet distance: the same question, answered by means and covariances. It depends on the number of images. "
        "Lower is better.",
        (0.0, None),
    ),
    "precision": Meaning(
        "Precision", "Share of synthetic images that lie where real images lie. Higher is better.", (0.0, 1.0)
    ),
    "recall": Meaning(
        "Recall",
        "Share of real images that lie where synthetic images lie: does the model miss kinds? Higher is better.",
        (0.0, 1.0),
    ),
    "density": Meaning(
        "Density",
        "Like precision, but counts how many real neighbourhoods hold a synthetic image; may exceed 1. Higher is better.",
        (0.0, None),
    ),
    "coverage": Meaning(
        "Coverage", "Share of real images with a synthetic image close by. Higher is better.", (0.0, 1.0)
    ),
    "inception_score": Meaning(
        "Inception Score",
        "How sure and how varied a photograph classifier is. It compares nothing with real images. Higher is better.",
        (1.0, None),
    ),
}

# What further metrics are called; `fidelity_more` explains those that a page shows.
LABELS = {
    "fd_infinity": "FD-infinity",
    "vendi": "Vendi score",
    "spectrum": "Power spectrum, dB",
    "texture": "Texture, SD",
    "hu_histogram": "HU histogram, HU",
    "ms_ssim": "MS-SSIM",
    "diameter_mm": "Diameter",
    "volume_mm3": "Volume",
    "mean_hu": "Mean density",
    "diameter_voxels": "Diameter",
    "volume_voxels": "Volume",
    "detector_auc": "AUC of the detector",
}


@dataclass(frozen=True)
class Cell:
    """One metric of one set of images. `reason` is filled where the metric is withheld, the rest is empty then."""

    reason: str | None
    value: str = ""
    interval: str = ""
    floor: str = ""
    floor_interval: str = ""
    strip: Markup | None = None
    images: str = ""
    groups: str = ""
    yardstick: str | None = None
    caveat: str | None = None
    footnote: str = ""


@dataclass(frozen=True)
class MetricRow:
    label: str
    direction: str
    cell: Cell


@dataclass(frozen=True)
class ClassTable:
    """Classes (or runs) by metrics. `columns`: (label, direction); `rows`: (class, cells); `footnotes`: (mark, reason)."""

    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[Cell]]]
    footnotes: list[tuple[str, str]]
    left_out: list[tuple[str, str]]


@dataclass(frozen=True)
class SpaceView:
    """One feature space: the table over all images and the table by class (None without classes)."""

    name: str
    title: str
    dimension: str
    protocol: str
    yardstick: str | None
    rows: list[MetricRow]
    withheld: list[tuple[str, str]]
    by_class: ClassTable | None


def space_views(fidelity: Mapping[str, Any]) -> list[SpaceView]:
    """All spaces of fidelity.json, in its order."""
    return [_space(name, space, fidelity) for name, space in fidelity["spaces"].items()]


def metric_label(metric: str, space: str) -> str:
    """A metric's name; the Fréchet distance is called FID in the standard Inception space only."""
    if metric == "fd" and space in FID_SPACES:
        return "FID"
    if metric in MEANINGS:
        return MEANINGS[metric].label
    spoken = words.spoken(metric)
    return LABELS.get(metric, spoken[:1].upper() + spoken[1:])


def glossary(fidelity: Mapping[str, Any] | None, probabilities: bool = True) -> list[tuple[str, str]]:
    """(term, one line) for each metric, and for the words that the tables use. probabilities: as what D scores."""
    terms = [(meaning.label, meaning.explained) for meaning in MEANINGS.values()]
    if fidelity and any(name in FID_SPACES for name in fidelity["spaces"]):
        terms.append(
            ("FID", "The Fréchet distance in the space of the standard Inception network, as in the literature.")
        )
    return [
        *terms,
        ("Interval", "95 % interval from repeated half-samples of whole patients or groups."),
        ("Floor", "The same metric between real images of different groups: the best that a generator can reach."),
        (
            "Yardstick",
            "The same metric for real images after a declared blur or noise: a sense of what a large value means.",
        ),
        (
            "Feature space",
            "The numbers that stand for an image when two images are compared. Values from different spaces do not compare.",
        ),
        ("Protocol", "Hash of everything a number depends on. Only numbers under one protocol compare."),
        (
            "D(real), D(fake)",
            "How real the discriminator takes real and synthetic images to be, "
            + ("from 0 to 1" if probabilities else "as scores without a scale")
            + ", mean over a tick.",
        ),
        ("EMA", "The averaged generator, which is the one that is sampled, measured and released."),
    ]


def _space(name: str, space: Mapping[str, Any], fidelity: Mapping[str, Any]) -> SpaceView:
    axes = {metric: _axis(metric, space) for metric in space["all"]}
    rows, withheld = [], []
    for metric, result in space["all"].items():
        label = metric_label(metric, name)
        cell = _cell(metric, label, result, axes[metric])
        if cell.reason:
            withheld.append((label, cell.reason))
        else:
            rows.append(MetricRow(label, result["direction"], cell))
    estimates = _estimates(space)
    hashes = sorted({str(e["protocol"]) for e in estimates}) or [str(fidelity["protocol"]["hash"])]
    what = next((str(e["yardstick"]["what"]) for e in estimates if e.get("yardstick")), None)
    return SpaceView(
        name=name,
        title=str(space.get("title") or name),
        dimension=str(space.get("dimension", "unknown")),
        protocol=", ".join(hashes),
        yardstick=what,
        rows=rows,
        withheld=_together(withheld),
        by_class=_class_table(name, space, axes) if space.get("classes") else None,
    )


def runs_table(name: str, results: Mapping[str, Mapping[str, Any]]) -> ClassTable:
    """Runs by metrics in one feature space, all metrics on common axes: {run: {metric: result over all images}}.

    Axes leave the yardstick out: it is far from all runs as a rule, and would press them together.
    """
    bare = {
        run: {metric: {**result, "yardstick": None} for metric, result in each.items()} for run, each in results.items()
    }
    metrics = list(dict.fromkeys(metric for each in bare.values() for metric in each))
    axes = {metric: _axis(metric, {"all": {}, "classes": bare}) for metric in metrics}
    return _table(name, metrics, bare, axes, str)


def _class_table(name: str, space: Mapping[str, Any], axes: Mapping[str, tuple[float, float]]) -> ClassTable:
    return _table(name, list(space["all"]), space["classes"], axes, words.spoken)


def _table(
    name: str,
    metrics: Sequence[str],
    classes: Mapping[str, Mapping[str, Any]],
    axes: Mapping[str, tuple[float, float]],
    spoken: Callable[[str], str],
) -> ClassTable:
    """Metrics of several sets of images; one that is withheld in all of them has no column."""
    shown = [m for m in metrics if any(results[m]["kind"] == "estimate" for results in classes.values())]
    left_out = []
    for metric in metrics:
        if metric not in shown:
            reasons = _summed(str(results[metric]["reason"]) for results in classes.values())
            left_out.append((metric_label(metric, name), " / ".join(reasons)))
    marks: dict[str, str] = {}
    reasons_of: dict[str, list[str]] = {}
    rows = []
    for label, results in classes.items():
        cells = []
        for metric in shown:
            result = results[metric]
            mark = ""
            if result["kind"] != "estimate":
                mark = marks.setdefault(_without_number(result["reason"])[1], _mark(len(marks)))
                reasons_of.setdefault(mark, []).append(str(result["reason"]))
            cells.append(_cell(metric, f"{metric_label(metric, name)}, {spoken(label)}", result, axes[metric], mark))
        rows.append((spoken(label), cells))
    columns = [(metric_label(m, name), _direction(m, classes.values())) for m in shown]
    footnotes = [(mark, _summed(reasons)[0]) for mark, reasons in reasons_of.items()]
    return ClassTable(columns, rows, footnotes, _together(left_out))


def _mark(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else f"a{place}"


def _direction(metric: str, results: Iterable[Mapping[str, Any]]) -> str:
    return next(str(r[metric]["direction"]) for r in results if r[metric]["kind"] == "estimate")


def _together(withheld: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Metrics that are withheld for the same reason in one line: (labels, reason)."""
    by_reason: dict[str, list[str]] = {}
    for label, reason in withheld:
        by_reason.setdefault(reason, []).append(label)
    return [(", ".join(labels), reason) for reason, labels in by_reason.items()]


def _estimates(space: Mapping[str, Any], metric: str | None = None) -> list[Mapping[str, Any]]:
    sets = [space["all"], *(space.get("classes") or {}).values()]
    return [
        result
        for results in sets
        for name, result in results.items()
        if result["kind"] == "estimate" and metric in (None, name)
    ]


def _axis(metric: str, space: Mapping[str, Any]) -> tuple[float, float]:
    """One axis for a metric in all sets of a space, so that strips compare by eye."""
    values = [
        float(end)
        for e in _estimates(space, metric)
        for end in (e["low"], e["high"], e["floor"]["low"], e["floor"]["high"], (e.get("yardstick") or e)["value"])
    ]
    if not values:
        return (0.0, 1.0)
    fixed = MEANINGS[metric].axis if metric in MEANINGS else (None, None)
    low = min(0.0, *values) if fixed[0] is None else fixed[0]
    high = max(values) if fixed[1] is None else fixed[1]
    if metric == "density":
        high = max(high, 1.2)
    return (low, high if high > low else low + 1.0)


def _cell(metric: str, label: str, result: Mapping[str, Any], axis: tuple[float, float], mark: str = "") -> Cell:
    if result["kind"] != "estimate":
        return Cell(reason=str(result["reason"]), footnote=mark)
    value, low, high, floor = (result[key] for key in ("value", "low", "high", "floor"))
    places = decimals(metric, result)
    yardstick = result.get("yardstick")
    shown, interval = words.fixed(value, places), f"{words.fixed(low, places)} – {words.fixed(high, places)}"
    floor_shown = words.fixed(floor["value"], places)
    floor_interval = f"{words.fixed(floor['low'], places)} – {words.fixed(floor['high'], places)}"
    strip = Strip(
        (low, value, high),
        (floor["low"], floor["value"], floor["high"]),
        axis,
        yardstick["value"] if yardstick else None,
        f"{label}: {shown}, interval {interval}; floor {floor_shown}, interval {floor_interval}"
        + (f"; yardstick {words.number(yardstick['value'])}" if yardstick else ""),
    )
    return Cell(
        reason=None,
        value=shown,
        interval=interval,
        floor=floor_shown,
        floor_interval=floor_interval,
        strip=interval_strip(strip),
        images=f"{words.count(result['n']['synthetic'])} / {words.count(result['n']['reference'])}",
        groups=words.count(result["groups"]),
        yardstick=yardstick_words(result),
        caveat=result.get("caveat"),
    )


def decimals(metric: str, result: Mapping[str, Any]) -> int:
    """Decimals of a value, its interval and its floor, so that the three compare by eye."""
    if metric in ("precision", "recall", "density", "coverage", "inception_score", "ms_ssim", "detector_auc"):
        return 2
    floor = result["floor"]
    needed = max(words.decimals_of(result["low"], result["high"]), words.decimals_of(floor["low"], floor["high"]))
    return min(4 if metric == "kid" else 2, needed)


def yardstick_words(result: Mapping[str, Any]) -> str | None:
    """How far the value is from its floor on the scale of its yardstick; None without one.

    No share is given where the floor's own interval holds the yardstick: it would be a ratio of noise.
    """
    yardstick, floor = result.get("yardstick"), result["floor"]
    if not yardstick:
        return None
    shown = words.number(yardstick["value"])
    if floor["low"] <= yardstick["value"] <= floor["high"]:
        return f"yardstick {shown}, within the floor's interval"
    sign = 1 if result["direction"] == "lower" else -1
    span = sign * (yardstick["value"] - floor["value"])
    if span <= 0:
        return f"yardstick {shown}, no worse than the floor"
    way = sign * (result["value"] - floor["value"]) / span
    if way < 0:
        return f"no worse than the floor; yardstick {shown}"
    if way > 1:
        return f"{words.number(way, 2)} times as far from the floor as the yardstick ({shown})"
    return f"{words.share(way)} of the way from the floor to the yardstick ({shown})"


def _without_number(reason: str) -> tuple[int | None, str]:
    """The number that a reason begins with, and the rest of it."""
    begins = re.match(r"(\d+) ", reason)
    return (int(begins[1]), reason[begins.end() :]) if begins else (None, reason)


def _summed(reasons: Iterable[str]) -> list[str]:
    """Reasons that differ only in the number they begin with as one: `4 to 9 test images; ...`."""
    numbers: dict[str, list[int]] = {}
    for number, rest in map(_without_number, reasons):
        numbers.setdefault(rest, []).extend([] if number is None else [number])
    return [f"{_span(found)}{rest}" for rest, found in numbers.items()]


def _span(numbers: list[int]) -> str:
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return f"{low} " if low == high else f"{low} to {high} "
