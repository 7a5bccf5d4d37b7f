"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one key of the recipe, such as training.kimg=50. May be repeated."
    ),
]
Groups = Annotated[
    Path | None,
    typer.Option("--groups", help="CSV (file, group) that says which images must stay together in a split."),
]
Annotations = Annotated[
    Path | None,
    typer.Option("--annotations", help="Whole slides: folder (or file) with ASAP, ImageScope or QuPath annotations."),
]
Marks = Annotated[
    Path | None,
    typer.Option(
        "--marks", help="CT: file or folder with LIDC XML, LUNA16 tables, boxes, or a table (series, x, y, z)."
    ),
]
Mpp = Annotated[
    float | None,
    typer.Option("--mpp", min=0.05, max=20, help="Whole slides: microns a pixel, where files do not say."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes that read images; as many as cores by default.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for scripts.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the resolved recipe and what it would cost, and stop.")]
InitFrom = Annotated[
    Path | None,
    typer.Option(
        "--init-from", help="Run (or model) to begin from: the main remedy below 1,000 images. See training.freeze."
    ),
]
