"""The bake-off's rows as a table in Markdown, and the picture of synthetic images side by side."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from bakeoff_contestants import CONTESTANTS
from synthoma.model import Model
from synthoma.pictures import contact_sheet, write_png

Row = dict[str, Any]


def describe(row: Row) -> str:
    """One run in a line."""
    words = f"{row['set']:15s} {row['contestant']:18s} seed {row['seed']}"
    if "rate" in row:
        words += f" rate x{row['rate']:g}"
    words += f" {row['images']:7d} images {row['updates_generator']:5d} updates {row['seconds']:6.2f} s"
    if "failed" in row:
        return f"{words} failed: {row['failed']}"
    if "kid" in row:
        kid = row["kid"]
        return f"{words} KID {kid['value']:.4f} [{kid['low']:.4f}, {kid['high']:.4f}]"
    return f"{words} validation KID {row['validation']['kid']:.4f}"


def table(results: dict[str, Any]) -> str:
    """A table for each set, the best mean KID first. Rows of different protocols are never put together."""
    rows = results["rows"]
    parts = []
    for images in dict.fromkeys(row["set"] for row in rows):
        mine = [row for row in rows if row["set"] == images]
        if len({row["protocol"] for row in mine if "kid" in row}) > 1:
            raise SystemExit(f"{images}: the rows have different protocols; numbers of them do not compare.")
        parts.append("\n".join([_heading(images, mine), "", *_lines(mine)]))
    return "\n\n".join(parts)


def _heading(images: str, rows: Sequence[Row]) -> str:
    kid = next(row["kid"] for row in rows if "kid" in row)
    floor, counts = kid["floor"], next(row["counts"] for row in rows if "counts" in row)
    return (
        f"`{images}`: {counts['train']} training images; {kid['n']['synthetic']} synthetic against {counts['test']} test images of "
        f"{kid['groups']} groups. Floor {_number(floor['value'])} [{_number(floor['low'])}, {_number(floor['high'])}], "
        f"yardstick {_number(kid['yardstick']['value'])} ({kid['yardstick']['what'].split(',')[0]})."
    )


def _lines(rows: Sequence[Row]) -> list[str]:
    head = "| family | KID, mean of seeds | each seed, with its interval | recall | images | updates D / G | seconds |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    found = [(name, [row for row in rows if row["contestant"] == name]) for name in CONTESTANTS]
    for name, own in sorted((pair for pair in found if pair[1]), key=lambda pair: _mean_kid(pair[1])):
        good = [row for row in own if "kid" in row]
        each = "; ".join(
            f"{_number(r['kid']['value'])} [{_number(r['kid']['low'])}, {_number(r['kid']['high'])}]" for r in good
        )
        failed = f"; {len(own) - len(good)} failed" if len(good) < len(own) else ""
        updates = f"{_average(own, 'updates_discriminator')} / {_average(own, 'updates_generator')}"
        recall = f"{mean(row['recall']['value'] for row in good):.2f}" if good else "-"
        lines.append(
            f"| {name} | {_number(_mean_kid(own))} | {each}{failed} | {recall} | {_average(own, 'images')} | {updates} | "
            f"{mean(row['seconds'] for row in own):.0f} |"
        )
    return lines


def _mean_kid(rows: Iterable[Row]) -> float:
    values = [row["kid"]["value"] for row in rows if "kid" in row]
    return mean(values) if values else float("inf")


def _average(rows: Sequence[Row], key: str) -> str:
    return f"{mean(row[key] for row in rows):,.0f}"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def draw_picture(work: Path, images: str, out: Path, count: int = 11) -> None:
    """Synthetic images only, of every contestant's first seed: the same numbers of one stream, none chosen."""
    sections = []
    for name in CONTESTANTS:
        folder = work / f"{images}-{name.replace(' + ', '-')}-0" / "run" / "model"
        made = Model.load(folder).generate(count, seed=0)
        sections.append((name, made.images))
    write_png(contact_sheet(sections, count, scale=2), out)
