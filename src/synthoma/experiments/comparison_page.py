"""A comparison as files: a self-contained page, one picture, and JSON. Holds no real pixel and no path."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

import synthoma
from synthoma.errors import EvaluationError
from synthoma.experiments.comparison import Comparison, Entry
from synthoma.experiments.comparison_words import cost_table, kid_line, kid_scale, notes, sentences, what_differs
from synthoma.pictures import beside, write_png
from synthoma.report import metrics
from synthoma.report.charts import STYLES, Series
from synthoma.report.curves import X_UNIT, Chart, kid_chart
from synthoma.report.images import LARGEST_OVERVIEW, Captioned, file_tile
from synthoma.report.page import render
from synthoma.run import write_atomically, write_json

PAGE, PICTURE, NUMBERS = "comparison.html", "comparison.png", "comparison.json"
COLUMNS = 3  # grids side by side in the picture


@dataclasses.dataclass(frozen=True)
class Files:
    """What `write_comparison` left. picture: None where no run has a grid of samples."""

    page: Path
    numbers: Path
    picture: Path | None


def write_comparison(comparison: Comparison, folder: Path) -> Files:
    """Write comparison.html, .png and .json into `folder`; `EvaluationError` where it holds something else."""
    _check(folder)
    grids = [(entry, entry.grid) for entry in comparison.entries if entry.grid is not None]
    picture = folder / PICTURE if grids else None
    if picture is not None:
        write_png(_picture(comparison, [(entry, grid) for entry, grid in grids if grid is not None]), picture)
    write_json(folder / NUMBERS, comparison.to_json())
    write_atomically(folder / PAGE, render("comparison.html.j2", _parts(comparison)))
    return Files(folder / PAGE, folder / NUMBERS, picture)


def _check(folder: Path) -> None:
    """A new or empty folder, or one with an earlier comparison."""
    if folder.exists() and not folder.is_dir():
        raise EvaluationError(f"{folder} is a file; --out takes a folder.")
    if folder.exists() and any(folder.iterdir()) and not (folder / NUMBERS).is_file():
        raise EvaluationError(f"{folder} is not empty and holds no {NUMBERS}; give a new folder for the comparison.")


def _picture(comparison: Comparison, grids: Sequence[tuple[Entry, Path]]) -> Image.Image:
    """The grids of samples side by side, each under its run, family and KID."""
    shown = []
    for entry, file in grids:
        with Image.open(file) as image:
            shown.append((entry.name, f"{entry.family}, {kid_line(comparison, entry)}", image.convert("RGB")))
    return beside(shown, min(COLUMNS, len(shown)))


def _parts(comparison: Comparison) -> dict[str, Any]:
    first = comparison.entries[0]
    views = {view.name: view for view in metrics.space_views(first.fidelity)}
    spaces = [
        {
            "view": views[name],
            "table": metrics.runs_table(name, {e.name: e.results(name) for e in comparison.entries}),
            "scale": [(e.name, kid_scale(e, name)) for e in comparison.entries if kid_scale(e, name)],
        }
        for name in comparison.spaces
    ]
    return {
        "names": [entry.name for entry in comparison.entries],
        "synthoma_version": synthoma.__version__,
        "sentences": sentences(comparison),
        "notes": notes(comparison),
        "cost": cost_table(comparison),
        "spaces": spaces,
        "grids": [_captioned(comparison, entry) for entry in comparison.entries],
        "volumes": len(first.facts.size or ()) == 3,
        "charts": _charts(comparison),
        "differences": what_differs(comparison),
        "hashes": [
            ("Evaluation protocol", comparison.protocol),
            ("Data: pixels, labels and split", comparison.data["content"]),
            ("Data: frozen split", comparison.data["cohort"]),
            *((f"Model of {entry.name}", str(entry.model["model_hash"])) for entry in comparison.entries),
        ],
        "glossary": _glossary(first.fidelity),
    }


def _captioned(comparison: Comparison, entry: Entry) -> Captioned | tuple[str, str]:
    """A run's grid of samples, or (its name, why there is none)."""
    if entry.grid is None:
        return entry.name, "No grid of samples was drawn in this run."
    seen = int(entry.grid.stem)
    tile = file_tile(entry.grid, f"grid of synthetic images of {entry.name}", LARGEST_OVERVIEW)
    return Captioned(tile, entry.name, f"{kid_line(comparison, entry)}; at {seen / 1000:g} thousand images")


def _charts(comparison: Comparison) -> list[Chart]:
    """The validation KID of all runs over images and over time, where it was measured in the same way."""
    title = "Validation KID over images"
    counts = {int((e.facts.recipe.get("evaluation") or {}).get("validation_count", 0)) for e in comparison.entries}
    if len(counts) > 1:
        missing = "The runs differ in evaluation.validation_count: their curves are not put side by side."
        return [Chart(title, "", [], None, missing)]
    entries = [(e, [row for row in e.facts.validations if row.get("kid") is not None]) for e in comparison.entries]
    known = [(entry, rows) for entry, rows in entries if rows]
    if not known:
        return [Chart(title, "", [], None, "No run measured it: it takes at least 16 validation images.")]
    if len(known) > len(STYLES):
        return [Chart(title, "", [], None, f"More than {len(STYLES)} runs: their curves could not be told apart.")]
    note = "In the random convolutional space, against the validation images: it chooses the checkpoint, it is not the result. Bands: its standard error."
    over_images = _kid_curves(
        title, known, note, lambda row, entry: row["images_seen"] / 1000, X_UNIT, "thousand images"
    )
    longest = max(float(entry.training["seconds"]) for entry, _ in known)
    unit, seconds = ("hours", 3600.0) if longest > 7200 else ("minutes", 60.0) if longest > 120 else ("seconds", 1.0)
    over_time = _kid_curves(
        "Validation KID over time",
        known,
        "Time compares on one machine only." if len({e.machine for e, _ in known}) > 1 else "",
        lambda row, entry: _clock(entry, row["images_seen"]) / seconds,
        f"{unit} of training",
        unit,
    )
    return [over_images, over_time]


def _kid_curves(
    title: str,
    known: Sequence[tuple[Entry, Sequence[Mapping[str, Any]]]],
    note: str,
    x: Callable[[Mapping[str, Any], Entry], float],
    x_unit: str,
    x_words: str,
) -> Chart:
    series = [
        Series(
            entry.name,
            [(x(row, entry), float(row["kid"])) for row in rows],
            style,
            [float(row.get("kid_se") or 0.0) for row in rows],
        )
        for (entry, rows), style in zip(known, STYLES, strict=False)
    ]
    drawing, legend = kid_chart(series, x_unit, title, x_words=x_words)
    return Chart(title, note, legend, drawing)


def _clock(entry: Entry, images_seen: int) -> float:
    """Seconds of training at a number of images: those of the last tick before, or by the mean speed without one."""
    before = [row["seconds"] for row in entry.facts.ticks if row["images_seen"] <= images_seen and "seconds" in row]
    share = images_seen / max(float(entry.training["images_seen"]), 1.0)
    return float(before[-1]) if before else share * float(entry.training["seconds"])


def _glossary(fidelity: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The terms that a comparison uses."""
    return [(term, line) for term, line in metrics.glossary(fidelity) if term not in ("D(real), D(fake)",)]
