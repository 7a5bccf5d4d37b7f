"""How the training went: curves, budget, what was released."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from synthoma.report import words
from synthoma.report.charts import Series, line_chart, thinned
from synthoma.report.facts import Facts

X_UNIT = "thousands of real images seen"


@dataclass(frozen=True)
class Chart:
    """A figure: title, a line below it, legend (style, words), the drawing, or why there is none."""

    title: str
    note: str
    legend: list[tuple[str, str]]
    drawing: Markup | None
    missing: str | None = None


def charts(facts: Facts) -> list[Chart]:
    """Losses, discriminator outputs, validation KID and speed over images seen."""
    ticks = facts.ticks
    if not ticks:
        return []
    return [
        _pair(
            ticks,
            "Losses",
            "binary cross-entropy, nats",
            ("loss_discriminator", "Discriminator"),
            ("loss_generator", "Generator"),
        ),
        _pair(
            ticks,
            "How real the discriminator finds them",
            "mean output, 0 to 1",
            ("d_real", "D(real)"),
            ("d_fake", "D(fake)"),
            (0.0, 1.0),
        ),
        _validation(facts),
        _speed(ticks),
    ]


def budget(facts: Facts) -> list[tuple[str, str]]:
    """What the run cost and on what: (term, words)."""
    training = facts.training
    if training is None:
        return []
    seen, seconds = training["images_seen"], training["seconds"]
    train = _train_images(facts)
    result = [
        ("State", "finished" if training.get("finished") else "not finished"),
        (
            "Real images seen",
            words.count(seen) + (f" ({words.number(seen / train)} times the training set)" if train else ""),
        ),
        ("Updates of the generator", words.count(training["iteration"])),
        ("Time", words.duration(seconds)),
        ("Mean speed", f"{words.number(seen / seconds)} images/s" if seconds > 0 else "not measured"),
        ("Device", str(training.get("device", "unknown"))),
        ("Precision", f"{training.get('precision', 'unknown')}: {training.get('precision_reason', 'no reason noted')}"),
    ]
    for part, n in training.get("parameters", {}).items():
        result.append((f"Parameters, {part}", words.count(n)))
    memory = [row["memory_mib"] for row in facts.ticks if row.get("memory_mib") is not None]
    if memory:
        result.append(("Peak memory", f"{words.count(max(memory))} MiB"))
    waits = [row["data_wait_share"] for row in facts.ticks if row.get("data_wait_share") is not None]
    if waits:
        result.append(("Waiting for data", f"{words.share(sum(waits) / len(waits))} of the time"))
    result.append(("Released weights", released(facts)))
    return result


def released(facts: Facts) -> str:
    """Which state of the generator is in model/, and why that one."""
    training = facts.training or {}
    chosen = training.get("released") or training.get("best")
    if facts.model is None:
        return "none yet"
    seen = facts.model.get("images_seen", (chosen or {}).get("images_seen"))
    why = (chosen or {}).get("why", "last average")
    at = f"the average at {words.count(seen)} images" if seen is not None else "the average"
    return f"{at}: {why}"


def _train_images(facts: Facts) -> int:
    counts = (
        facts.dataset.info["counts"]
        if facts.dataset is not None
        else (facts.model or {}).get("dataset", {}).get("counts", {})
    )
    return sum(counts.get("train", {}).values())


def _points(rows: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(row["images_seen"] / 1000, float(row[key])) for row in rows if row.get(key) is not None]


def _pair(
    ticks: list[dict[str, Any]],
    title: str,
    unit: str,
    first: tuple[str, str],
    second: tuple[str, str],
    y_range: tuple[float | None, float | None] = (0.0, None),
) -> Chart:
    series = [
        Series(name, thinned(_points(ticks, key)), style)
        for (key, name), style in ((first, "accent"), (second, "second"))
        if _points(ticks, key)
    ]
    if not series:
        return Chart(title, "", [], None, "No values were noted.")
    drawing = line_chart(series, unit=unit, x_unit=X_UNIT, label=title, y_range=y_range)
    return Chart(title, "", [(line.style, line.name) for line in series], drawing)


def _validation(facts: Facts) -> Chart:
    title = "Validation KID"
    rows = facts.validations
    if not rows:
        return Chart(title, "", [], None, "Not measured: it takes at least 16 validation images and one checkpoint.")
    points = _points(rows, "kid")
    # Thinning would blur what chose the checkpoint; there are few validations, so all are drawn.
    series = Series("KID", points, "accent", [float(row["kid_se"]) for row in rows])
    best: Mapping[str, Any] | None = (facts.training or {}).get("best")
    mark = (best["images_seen"] / 1000, "chosen") if best else None
    note = f"Against {words.count(rows[-1]['count'])} validation images in the random convolutional space; it chooses the checkpoint, it is not the result."
    # A distance has a natural zero; the unbiased estimate of a small one may fall below it.
    above = all(kid - error >= 0 for (_, kid), error in zip(points, series.band, strict=True))
    y_range = (0.0 if above else None, None)
    # Early values may be thousands of times the late ones, which a linear axis would press into a line.
    wide = all(kid - error > 0 for (_, kid), error in zip(points, series.band, strict=True)) and (
        max(kid for _, kid in points) > 50 * min(kid for _, kid in points)
    )
    unit = "KID, logarithmic" if wide else "KID"
    drawing = line_chart([series], unit=unit, x_unit=X_UNIT, label=title, y_range=y_range, mark=mark, logarithmic=wide)
    return Chart(title, note, [("accent", "KID"), ("band", "± its standard error")], drawing)


def _speed(ticks: list[dict[str, Any]]) -> Chart:
    title = "Speed"
    points = _points(ticks, "images_per_second")
    if not points:
        return Chart(title, "", [], None, "No values were noted.")
    series = Series("images/s", thinned(points), "accent")
    return Chart(
        title, "", [], line_chart([series], unit="images per second", x_unit=X_UNIT, label=title, y_range=(0.0, None))
    )
