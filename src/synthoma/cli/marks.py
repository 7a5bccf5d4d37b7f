"""`marks`: what radiologists marked, before anything is done with it."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from synthoma.cli.console import console, print_json
from synthoma.cli.options import Json

_NAMED = 20


def register(app: typer.Typer) -> None:
    app.command()(marks)


def marks(
    path: Annotated[Path, typer.Argument(help="A file of marks on CT, or a folder with such.")],
    as_json: Json = False,
) -> None:
    """What marks there are: LIDC XML, LUNA16 tables, Lung-PET-CT-Dx boxes, or a table (series, x, y, z in mm, ...).

    Recognised by content. Nothing is written, and nobody is named. Example: `synthoma marks LIDC-XML-only`
    """
    from synthoma.formats.marks import read_marks

    found = read_marks(path)
    nodules = [nodule for reading in found.readings for nodule in reading.nodules]
    facts = {
        "files": dict(found.files),
        "series read": len(found.readings),
        "nodules of 3 mm or more, by reader": dict(sorted(Counter(f"reader {one.reader}" for one in nodules).items())),
        "contours": sum(len(nodule.contours) for nodule in nodules),
        "smaller nodules": sum(len(reading.small_nodules) for reading in found.readings),
        "non-nodules": sum(len(reading.non_nodules) for reading in found.readings),
        "positions in mm": dict(Counter(point.label or "no label" for point in found.points)),
        "boxes on slices": dict(Counter(box.label for box in found.boxes)),
        "left out": len(found.skipped),
    }
    if as_json:
        print_json(facts | {"skipped": [{"place": one.place, "reason": one.reason} for one in found.skipped]})
        return
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        told = ", ".join(f"{key} {n:,}" for key, n in value.items()) if isinstance(value, dict) else f"{value:,}"
        if value:
            table.add_row(name, told)
    console.print(table)
    for one in found.skipped[:_NAMED]:
        console.print(f"Left out: {one.place} {one.reason}.", markup=False, soft_wrap=True)
    if len(found.skipped) > _NAMED:
        console.print(f"... and {len(found.skipped) - _NAMED} more; --json lists all.")
