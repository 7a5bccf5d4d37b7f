"""What came of the slides, as a table and in a few sentences."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from synthoma.preparation.slides.places import NO_TISSUE, OUTSIDE
from synthoma.run import write_atomically

if TYPE_CHECKING:
    from synthoma.preparation.slides.tiles import TilesResult

_NAMED = 8


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
    """A CSV with a line a slide: file, patient, tiles, why there are none, tiles by class, places that were rejected by reason."""
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
