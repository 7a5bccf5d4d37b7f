"""What came of the slides, as a table and in a few sentences."""

import csv
import io
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from synthoma.formats.tiles import PRIVATE
from synthoma.preparation.slides.places import NO_TISSUE, OUTSIDE
from synthoma.run import read_json, write_atomically, write_json

if TYPE_CHECKING:
    from synthoma.preparation.slides.tiles import TilesResult

_NAMED = 8
# Overlays of slides with and without tiles that go along with a dataset; all of them stay beside the tiles.
_OVERLAYS = 6


class SlideRow(NamedTuple):
    """A slide in the table. problem: why there is nothing of it, else ""."""

    name: str
    taken: int
    classes: Mapping[str, int]
    rejected: Mapping[str, int]
    problem: str


def slide_rows(result: "TilesResult") -> list[SlideRow]:
    """All slides in the order of their names; those that failed have their reason."""
    rows = []
    for file, key in result.keys.items():
        info: Mapping[str, Any] | None = result.done.get(key)
        if info is None:
            rows.append(SlideRow(file.name, 0, {}, {}, result.failed[key]))
            continue
        # Places without tissue or annotation are most of any slide, and say nothing about it.
        rejected = {reason: n for reason, n in info["rejected"].items() if reason not in (OUTSIDE, NO_TISSUE)}
        rows.append(SlideRow(file.name, info["taken"], info["classes"], rejected, _why_none(info)))
    return rows


def _why_none(info: Mapping[str, Any]) -> str:
    if info["taken"]:
        return ""
    if info["tissue"]["blank"]:
        return f"blank slide: {info['tissue']['reason']}"
    if not info["places"]:
        return "smaller than one tile"
    most = max(info["rejected"].items(), key=lambda item: item[1], default=("nothing", 0))
    return f"{most[0]} ({most[1]} places)"


def write_slide_table(path: Path, result: "TilesResult", patients: Mapping[Path, str]) -> None:
    """A CSV with a line a slide: file, patient, tiles, why there are none, tiles by class, places that were rejected by reason.

    Beside it the same as JSON, for programs: `keep_slides` reads it.
    """
    rows = slide_rows(result)
    classes = sorted({name for row in rows for name in row.classes})
    reasons = sorted({name for row in rows for name in row.rejected})
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    named = [f"class {name}" if name else "without a class" for name in classes]
    table.writerow(["file", "patient", "tiles", "problem", *named, *(f"not taken: {name}" for name in reasons)])
    for file, row in zip(result.keys, rows, strict=True):
        counts = [*(row.classes.get(name, 0) for name in classes), *(row.rejected.get(name, 0) for name in reasons)]
        table.writerow([str(file), patients.get(file, ""), row.taken, row.problem, *counts])
    write_atomically(path, text.getvalue())
    slides = [
        {
            "file": row.name,
            "key": key,
            "patient": patients.get(file, ""),
            "tiles": row.taken,
            "problem": row.problem,
            "classes": dict(row.classes),
            "rejected": dict(row.rejected),
        }
        for (file, key), row in zip(result.keys.items(), rows, strict=True)
    ]
    write_json(path.with_suffix(".json"), {"slides": slides})


def keep_slides(tiles: Path, dataset: Path) -> None:
    """Put into `dataset`/private what a report shows of its slides: slides.json, and overlays of some of them.

    All slides without a tile come first; the others are taken evenly. Slides that were cut in several parts are put together.
    """
    tables = sorted((tiles / PRIVATE).glob("slides*.json"), key=lambda file: file.stat().st_mtime_ns)
    rows = [{**row, "overlay": None} for table in tables for row in read_json(table)["slides"]]
    # A slide may be in the table of a part and in that of the whole; the newer one is read last.
    unique = sorted({row["key"]: row for row in rows}.values(), key=lambda row: (row["tiles"] > 0, row["file"]))
    empty = [row for row in unique if not row["tiles"]]
    others = unique[len(empty) :]
    some = others[:: -(-len(others) // _OVERLAYS)] if others else []
    folder = dataset / PRIVATE / "slides"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for row in [*empty[:_OVERLAYS], *some]:
        name = f"{row['key']}-overlay.png"
        if (tiles / PRIVATE / "slides" / name).is_file():
            shutil.copyfile(tiles / PRIVATE / "slides" / name, folder / name)
            row["overlay"] = name
    write_json(dataset / PRIVATE / "slides.json", {"slides": unique})


def describe_tiles(result: "TilesResult", patients: Mapping[Path, str]) -> tuple[list[str], list[str]]:
    """Notes and warnings for the terminal."""
    rows = slide_rows(result)
    classes: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for row in rows:
        classes.update(row.classes)
        rejected.update(row.rejected)
    owners = {patients.get(file, key) for file, key in result.keys.items() if key in result.done}
    reused = f" ({result.reused} were done before)" if result.reused else ""
    named = ", ".join(f"{name or 'without a class'} {n}" for name, n in sorted(classes.items()))
    notes = [
        *result.notes,
        f"{sum(classes.values())} tiles of {len(result.done)} slides{reused} and {len(owners)} patients: {named or 'none'}.",
    ]
    if rejected:
        told = ", ".join(f"{reason} {n}" for reason, n in rejected.most_common())
        notes.append(f"Not taken: {told}.")
    warnings = list(result.warnings)
    empty = [row for row in rows if not row.taken]
    if empty:
        told = "; ".join(f"{row.name}: {row.problem}" for row in empty[:_NAMED])
        more = f"; and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
        warnings.append(f"{len(empty)} of {len(rows)} slides gave no tile: {told}{more}.")
    flagged = Counter(text for info in result.done.values() for text in info["warnings"])
    warnings += [f"{text} ({n} slides)" if n > 1 else text for text, n in flagged.most_common(_NAMED)]
    return notes, warnings
