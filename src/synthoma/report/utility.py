"""The utility study as a forest plot: what each arm changes against real images alone, with a verdict for each question."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from synthoma.evaluation.utility.forest import ForestRow, forest_rows
from synthoma.report import words
from synthoma.report.charts import forest_strip, nice_ticks, tick_text

SCORES = {
    "auc": "AUC",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ece": "Calibration error",
}


@dataclass(frozen=True)
class ForestLine:
    """A row of the plot; `change` is empty where it is withheld. style: of the verdict."""

    title: str
    change: str
    strip: Markup | None
    verdict: str
    style: str
    why: str


@dataclass(frozen=True)
class Forest:
    """A plot with one axis. scale: (per cent from the left, tick)."""

    title: str
    note: str
    lines: list[ForestLine]
    scale: list[tuple[float, str]]


@dataclass(frozen=True)
class Confusion:
    """Rows: (class, number of images, share taken for each class). columns: classes."""

    title: str
    columns: list[str]
    rows: list[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class AgreementView:
    """rows: (class, synthetic, real test images), each with its interval; confusions: synthetic, then real."""

    sentence: str
    rows: list[tuple[str, str, str]]
    confusions: list[Confusion]


@dataclass(frozen=True)
class UtilityView:
    """forests: over all classes, then one a class, minorities first; columns, scores: (arm, cells) of the scores;
    agreement: None in results of earlier versions."""

    withheld: str | None
    sentence: str
    forests: list[Forest]
    columns: list[str]
    scores: list[tuple[str, list[str]]]
    notes: list[str]
    protocol: str
    agreement: AgreementView | None


def utility_view(result: Mapping[str, Any] | None) -> UtilityView | None:
    """None where no study was made."""
    if result is None:
        return None
    settings = result["protocol"]["settings"]
    margin = float(settings["margin"])
    notes = [f"{words.spoken(name)}: {reason}." for name, reason in (result.get("withheld_classes") or {}).items()]
    parts = []
    if not result.get("withheld"):
        parts.append(_forest(result, None, margin, "Change of AUC, all classes", ""))
        minority = list(result.get("minority", []))
        judged = dict.fromkeys([*minority, *_judged(result)])
        for name in judged:
            note = "a minority class" if name in minority else ""
            parts.append(_forest(result, name, margin, f"Change of AUC, {words.spoken(name)} against the rest", note))
    return UtilityView(
        result.get("withheld"),
        _sentence(result),
        [one for one in parts if one.lines],
        list(SCORES.values()),
        [] if result.get("withheld") else [(str(arm["title"]), _cells(arm)) for arm in result["arms"]],
        notes,
        str(result["protocol"]["hash"]),
        _agreement(result),
    )


def _sentence(result: Mapping[str, Any]) -> str:
    """What was trained and tested, in one split or in folds."""
    network = result["protocol"]["classifier"].get("network", "the same in every arm")
    folds = result["protocol"].get("folds")
    tested = result["counts"]["real" if folds else "test"]
    people = words.plural(tested["groups"], "patient or group", "patients or groups")
    if not folds:
        return (
            f"One classifier ({network}) with the same number of updates in each arm, {words.plural(len(result['seeds']), 'seed')}; "
            f"tested on {words.plural(tested['images'], 'real image')} of {people} whom neither it nor the generator was trained on."
        )
    times = words.plural(folds["repetitions"], "time")
    kept = "".join(
        f" Of the training images of class {words.spoken(name)} {words.fixed(100 * share, 0)} % were kept, an imbalance made on purpose."
        for name, share in folds["kept"].items()
    )
    return (
        f"In {folds['folds']} folds, drawn {times}: in each a generator was trained anew by the recipe of this run, and "
        f"classifiers ({network}) with the same number of updates in each arm. Tested on {words.plural(tested['images'], 'real image')} "
        f"of {people}, each in the fold whose generator and classifiers were not trained on it. The generator of this run itself was "
        f"not tested.{kept}"
    )


def _agreement(result: Mapping[str, Any]) -> AgreementView | None:
    found = result.get("agreement")
    if not found:
        return None
    pairs = {"mean of the classes": found["all"], **found["classes"]}
    rows = [(words.spoken(name), _cell(pair["synthetic"]), _cell(pair["real"])) for name, pair in pairs.items()]
    titles = {"synthetic": "Synthetic images", "real": "Real test images, the ceiling"}
    confusions = [
        Confusion(
            title,
            [words.spoken(name) for name in result["classes"]],
            [
                (words.spoken(name), f"{count}", [words.fixed(share, 2) for share in shares or []])
                for name, count, shares in zip(
                    result["classes"],
                    found["confusion"][which]["images"],
                    found["confusion"][which]["shares"],
                    strict=True,
                )
            ],
        )
        for which, title in titles.items()
    ]
    sentence = (
        "Classifiers that were trained on real images only are asked which class a synthetic image shows. The share that they take for "
        "the class that was asked for stands beside the share of real test images that they get right, which is all that can be expected. "
        "It does not see a lack of diversity."
    )
    return AgreementView(sentence, rows, confusions)


def _judged(result: Mapping[str, Any]) -> list[str]:
    """Classes that have figures of their own."""
    withheld = result.get("withheld_classes") or {}
    return [name for name in result["classes"] if name not in withheld]


def _forest(result: Mapping[str, Any], part: str | None, margin: float, title: str, note: str) -> Forest:
    rows = forest_rows(result, part)
    ends = [abs(end) for row in rows for end in (row.low, row.high) if end is not None]
    most = max([2 * margin, *ends]) * 1.05
    axis = (-most, most)
    ticks = nice_ticks(*axis, most=5)
    scale = [(3 + 94 * (tick + most) / (2 * most), tick_text(tick, ticks)) for tick in ticks]
    return Forest(title, note, [_line(row, axis, margin) for row in rows], scale)


def _line(row: ForestRow, axis: tuple[float, float], margin: float) -> ForestLine:
    style = {"helps": "passed", "no effect within the margin": "neutral", "harms": "failed"}.get(
        row.verdict, "not-demonstrated"
    )
    if row.difference is None or row.low is None or row.high is None:
        return ForestLine(row.title, "", None, row.verdict, style, row.why)
    change = f"{_signed(row.difference)} ({_signed(row.low)} to {_signed(row.high)})"
    strip = forest_strip((row.low, row.difference, row.high), axis, margin, f"{row.title}: {change}")
    return ForestLine(row.title, change, strip, row.verdict, style, row.why)


def _cells(arm: Mapping[str, Any]) -> list[str]:
    """Scores of an arm, each with its interval."""
    if arm.get("kind") == "withheld":
        return [f"withheld: {arm['reason']}", *[""] * (len(SCORES) - 1)]
    return [_cell(arm["scores"][name]) for name in SCORES]


def _cell(score: Mapping[str, Any]) -> str:
    """A figure with its interval, or why there is none."""
    if score["kind"] == "withheld":
        return f"withheld: {score['reason']}"
    return f"{words.fixed(score['value'], 3)} ({words.fixed(score['low'], 3)} – {words.fixed(score['high'], 3)})"


def _signed(value: float) -> str:
    text = words.fixed(value, 3)
    return text if text.startswith(words.MINUS) else f"+{text}"
