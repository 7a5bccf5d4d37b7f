"""Curves of a training over real images seen. What a run did not note has no chart, or says why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

from synthoma.report import words
from synthoma.report.charts import STYLES, Series, line_chart, thinned
from synthoma.report.facts import Facts

X_UNIT = "thousands of real images seen"
Rows = Sequence[Mapping[str, Any]]
Range = tuple[float | None, float | None]
# What the adversarial part of a loss is measured in; penalties are added to it.
LOSS_UNITS = {
    "non-saturating": "binary cross-entropy, nats",
    "least-squares": "squared error of the scores",
    "hinge": "hinge loss of the scores",
    "wasserstein": "mean difference of the scores",
    "relativistic": "logistic loss of score differences, nats",
}
MOST_LINES = 4  # classes with a line of their own
WIDE = 50  # largest over smallest value from which an axis is logarithmic


@dataclass(frozen=True)
class Chart:
    """A figure: title, a line below it, legend (style, words), the drawing, or why there is none."""

    title: str
    note: str
    legend: list[tuple[str, str]]
    drawing: Markup | None
    missing: str | None = None


def charts(facts: Facts) -> list[Chart]:
    """Losses, scores, validation KID and speed; then whatever else the run noted."""
    ticks = facts.ticks
    if not ticks:
        return []
    always = [_losses(facts), _scores(facts), _validation(facts), _speed(ticks)]
    noted = [_penalty(ticks), _gradients(ticks), _ahead(facts), _strength(ticks), _growth(ticks)]
    watched = [_diversity(facts.validations), _nearest(facts.validations)]
    return [*always, *(chart for chart in (*noted, *watched) if chart is not None)]


def scores_are_probabilities(facts: Facts) -> bool:
    """Whether D(real) and D(fake) are within 0 and 1; runs that do not say are older, and their only loss had them so."""
    return str((facts.training or {}).get("scores", "probability")) == "probability"


def points(rows: Rows, key: str) -> list[tuple[float, float]]:
    """(thousand images seen, value) of the rows that have the key."""
    return [(row["images_seen"] / 1000, float(row[key])) for row in rows if row.get(key) is not None]


def _losses(facts: Facts) -> Chart:
    loss = str((facts.recipe.get("training") or {}).get("loss", "non-saturating"))
    named = [("loss_discriminator", "Discriminator"), ("loss_generator", "Generator")]
    lowest = min((value for key, _ in named for _, value in points(facts.ticks, key)), default=0.0)
    # Losses of scores without a scale may be negative; the others begin at zero.
    y_range = (0.0 if lowest >= 0 else None, None)
    return _lines(facts.ticks, "Losses", LOSS_UNITS.get(loss, "loss"), named, y_range)


def _scores(facts: Facts) -> Chart:
    named = [("d_real", "D(real)"), ("d_fake", "D(fake)")]
    if scores_are_probabilities(facts):
        title = "How real the discriminator finds them"
        return _lines(facts.ticks, title, "mean probability of being real", named, (0.0, 1.0))
    note = "Scores of this loss have no scale and no zero: only the distance of the two says something."
    return _lines(facts.ticks, "Scores of the discriminator", "mean score", named, (None, None), note)


def _validation(facts: Facts) -> Chart:
    title = "Validation KID"
    rows = [row for row in facts.validations if row.get("kid") is not None]
    if not rows:
        return Chart(title, "", [], None, "Not measured: it takes at least 16 validation images and one checkpoint.")
    # Thinning would blur what chose the checkpoint; there are few validations, so all are drawn.
    series = Series("KID", points(rows, "kid"), "accent", [float(row.get("kid_se") or 0.0) for row in rows])
    best: Mapping[str, Any] | None = (facts.training or {}).get("best")
    mark = (best["images_seen"] / 1000, "chosen") if best else None
    note = f"Against {words.count(rows[-1].get('count', 0))} validation images in the random convolutional space; it chooses the checkpoint, it is not the result."
    drawing, legend = kid_chart([series], X_UNIT, title, mark)
    return Chart(title, note, [*legend, ("band", "± its standard error")], drawing)


def kid_chart(
    series: Sequence[Series],
    x_unit: str,
    label: str,
    mark: tuple[float, str] | None = None,
    x_words: str = "thousand images",
) -> tuple[Markup, list[tuple[str, str]]]:
    """Drawing and legend of one or more validation KIDs with their standard errors."""
    ends = [
        (kid, kid - error) for line in series for (_, kid), error in zip(line.points, line.band, strict=True)
    ]  # fmt: skip
    # A distance has a natural zero; the unbiased estimate of a small one may fall below it.
    above = all(low >= 0 for _, low in ends)
    # Early values may be thousands of times the late ones, which a linear axis would press into a line.
    wide = all(low > 0 for _, low in ends) and max(kid for kid, _ in ends) > WIDE * min(kid for kid, _ in ends)
    drawing = line_chart(
        series,
        unit="KID, logarithmic" if wide else "KID",
        x_unit=x_unit,
        label=label,
        y_range=(0.0 if above else None, None),
        mark=mark,
        logarithmic=wide,
        x_words=x_words,
    )
    return drawing, [(line.style, line.name) for line in series]


def _speed(ticks: Rows) -> Chart:
    return _lines(ticks, "Speed", "images per second", [("images_per_second", "images/s")], (0.0, None))


def _penalty(ticks: Rows) -> Chart | None:
    named = [("penalty", "Discriminator's gradient"), ("path_length", "Generator's path length")]
    return _noted(ticks, "Penalty", "mean over a tick", named, (0.0, None))


def _gradients(ticks: Rows) -> Chart | None:
    named = [("gradient_discriminator", "Discriminator"), ("gradient_generator", "Generator")]
    values = [value for key, _ in named for _, value in points(ticks, key)]
    # A norm that runs away by powers of ten would press all others into a line.
    wide = bool(values) and min(values) > 0 and max(values) > WIDE * min(values)
    unit = "L2 norm at the tick" + (", logarithmic" if wide else "")
    return _noted(ticks, "Gradients of the weights", unit, named, (0.0, None), logarithmic=wide)


def _ahead(facts: Facts) -> Chart | None:
    """Useful where scores have no scale; probabilities say it already."""
    if scores_are_probabilities(facts):
        return None
    note = "1: every real image scores above the synthetic one beside it; 0: the discriminator cannot tell them apart."
    return _noted(facts.ticks, "Real ahead of synthetic", "mean sign", [("ahead", "sign")], (-1.0, 1.0), note)


def _strength(ticks: Rows) -> Chart | None:
    note = "Probability of each operation on real and synthetic images alike, before the discriminator sees them."
    return _noted(ticks, "Augmentation", "probability", [("strength", "strength")], (0.0, 1.0), note)


def _growth(ticks: Rows) -> Chart | None:
    """The level as a line that climbs while the next one is faded in."""
    shown = [
        {**row, "grown": row["level"] - (1.0 - float(row["fade"] if row.get("fade") is not None else 1.0))}
        for row in ticks
        if row.get("level") is not None
    ]
    note = "Level 0 is the coarsest grid and each level doubles it; a slope is a level that is being faded in."
    return _noted(shown, "Growth", "level", [("grown", "level")], (0.0, None), note, thin=False)


def _diversity(validations: Rows) -> Chart | None:
    """A line for each of a few classes; of many the lowest, the median and the highest."""
    rows = [row for row in validations if row.get("diversity")]
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row["diversity"]))
    note = "1: synthetic images differ from each other as much as real ones do; near 0: they are all alike (collapse)."
    flat: list[dict[str, Any]]
    if len(names) <= MOST_LINES:
        flat = [{"images_seen": row["images_seen"], **row["diversity"]} for row in rows]
        named = [(name, "All images" if name == "all" else words.spoken(name)) for name in names]
    else:
        last = {name: value for name, value in rows[-1]["diversity"].items() if value is not None}
        least = min(last, key=lambda name: last[name])
        note += f" Lowest at the end: {words.spoken(least)} ({words.number(last[least], 2)})."
        flat = [{"images_seen": row["images_seen"], **_spread(row["diversity"].values())} for row in rows]
        named = [("low", "lowest class"), ("middle", "median class"), ("high", "highest class")]
    return _noted(flat, "Diversity", "ratio to real images", named, (0.0, None), note)


def _spread(values: Any) -> dict[str, float]:
    known = [float(value) for value in values if value is not None]
    return {"low": min(known), "middle": median(known), "high": max(known)} if known else {}


def _nearest(validations: Rows) -> Chart | None:
    flat = [{"images_seen": row["images_seen"], **row["nearest"]} for row in validations if row.get("nearest")]
    note = (
        "How near synthetic images come to training images, against how near held-out real ones do. Rank 0.5: as near as "
        "these; towards 1: nearer. The share counts those that are nearer than nearly all held-out images."
    )
    named = [("auc", "rank (AUC)"), ("share_closer", "share nearer")]
    return _noted(flat, "Nearness to training images", "0 to 1", named, (0.0, 1.0), note)


def _noted(
    rows: Rows,
    title: str,
    unit: str,
    named: Sequence[tuple[str, str]],
    y_range: Range,
    note: str = "",
    thin: bool = True,
    logarithmic: bool = False,
) -> Chart | None:
    """A chart of what was noted; None where nothing was."""
    chart = _lines(rows, title, unit, named, y_range, note, thin, logarithmic)
    return chart if chart.drawing is not None else None


def _lines(
    rows: Rows,
    title: str,
    unit: str,
    named: Sequence[tuple[str, str]],
    y_range: Range,
    note: str = "",
    thin: bool = True,
    logarithmic: bool = False,
) -> Chart:
    """One line for each (key, name) that has values."""
    found = [(name, points(rows, key), style) for (key, name), style in zip(named, STYLES, strict=False)]
    series = [Series(name, thinned(own) if thin else own, style) for name, own, style in found if own]
    if not series:
        return Chart(title, "", [], None, "No values were noted.")
    drawing = line_chart(series, unit=unit, x_unit=X_UNIT, label=title, y_range=y_range, logarithmic=logarithmic)
    return Chart(title, note, [(line.style, line.name) for line in series], drawing)
