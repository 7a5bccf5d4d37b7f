"""What came of whole slides, as a pathologist looks at it: a table and overlays. Private: it shows slides and names files."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthoma.dataset import Dataset
from synthoma.report import words
from synthoma.report.images import LARGEST_OVERVIEW, Captioned, file_tile
from synthoma.run import read_json

# Longer tables are for a spreadsheet: private/slides.csv beside the tiles has all.
MOST_SLIDES = 200


@dataclass(frozen=True)
class SlideLine:
    """A line of the table. empty: there is no tile of this slide, and `note` says why; else what was rejected."""

    name: str
    patient: str
    tiles: str
    classes: list[str]
    note: str
    empty: bool


@dataclass(frozen=True)
class SlidesView:
    """The slides of a dataset. totals: of all of them, one for each class; left_out: lines that are not shown."""

    summary: str
    classes: list[str]
    lines: list[SlideLine]
    totals: list[str]
    left_out: int
    overlays: list[Captioned]


def slides_view(dataset: Dataset | None) -> SlidesView | None:
    """The slides that a dataset was cut from; None where it was not, or the dataset is not at hand."""
    file = dataset.path / "private" / "slides.json" if dataset is not None else None
    if file is None or not file.is_file():
        return None
    slides: list[dict[str, Any]] = read_json(file)["slides"]
    classes = sorted({name for slide in slides for name in slide["classes"]})
    totals = Counter[str]()
    rejected = Counter[str]()
    for slide in slides:
        totals.update(slide["classes"])
        rejected.update(slide["rejected"])
    empty = sum(not slide["tiles"] for slide in slides)
    patients = len({slide["patient"] or slide["key"] for slide in slides})
    told = [
        f"{words.plural(totals.total(), 'tile')} of {words.plural(len(slides), 'slide')} and {words.plural(patients, 'patient')}."
    ]
    told += [f"Not taken: {_counts(rejected)}."] if rejected else []
    told += [f"{words.plural(empty, 'slide')} gave no tile."] if empty else []
    return SlidesView(
        " ".join(told),
        [words.spoken(name) if name else "without a class" for name in classes],
        [_line(slide, classes) for slide in slides[:MOST_SLIDES]],
        [words.count(totals[name]) for name in classes],
        max(0, len(slides) - MOST_SLIDES),
        [one for slide in slides if (one := _overlay(file.parent / "slides", slide)) is not None],
    )


def _line(slide: dict[str, Any], classes: list[str]) -> SlideLine:
    return SlideLine(
        str(slide["file"]),
        str(slide["patient"]),
        words.count(slide["tiles"]),
        [words.count(slide["classes"].get(name, 0)) for name in classes],
        str(slide["problem"]) or _counts(Counter(slide["rejected"])),
        not slide["tiles"],
    )


def _counts(rejected: Counter[str]) -> str:
    return ", ".join(f"{reason} {words.count(n)}" for reason, n in rejected.most_common())


def _overlay(folder: Path, slide: dict[str, Any]) -> Captioned | None:
    path = folder / str(slide["overlay"] or "")
    if not slide["overlay"] or not path.is_file():
        return None
    picture = file_tile(path, "slide with tissue, annotations and tiles", LARGEST_OVERVIEW)
    return Captioned(picture, str(slide["file"]), words.plural(slide["tiles"], "tile"))
