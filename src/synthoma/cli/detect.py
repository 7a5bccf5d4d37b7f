"""`detect`: are images of a model mixed into a folder?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.options import Json

if TYPE_CHECKING:
    from synthoma.evaluation.contamination import Scan

CONTAMINATED = 3  # exit code


def register(app: typer.Typer) -> None:
    app.command()(detect)


def detect(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder; its detector was shipped with it.")],
    folder: Annotated[Path, typer.Argument(help="Images that should be real: a folder, or a prepared dataset.")],
    level: Annotated[
        float,
        typer.Option(help="The folder counts as contaminated when real images alone would be flagged so more rarely."),
    ] = 0.01,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write file, score and flag of each image to this .csv or .parquet file; it names your files."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for a model's synthetic images in a folder, against how many real images alone would be flagged.

    Exit code 3 when they are found, 0 when not. A single flag proves nothing: one real image in twenty gets one.

    Example: `synthoma detect runs/skin/model incoming --out scores.csv`
    """
    from synthoma.evaluation.contamination import load_shipped, scan_folder

    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise typer.BadParameter(f"{out} ends neither in .csv nor in .parquet.", param_hint="--out")
    detector = load_shipped(model)
    with ConsoleObserver(quiet=as_json) as observer:
        scan = scan_folder(
            detector, folder, level, lambda done, total: observer.progress("Looking at images", done, total)
        )
        if scan.left_out:
            observer.warn(f"{scan.left_out} files were left out. The first: {scan.why_left_out}")
    if out is not None:
        _write_table(scan, out)
    if as_json:
        print_json(scan.to_json())
    else:
        _print(scan)
    if scan.found:
        raise typer.Exit(CONTAMINATED)


def _write_table(scan: "Scan", out: Path) -> None:
    """One row an image: file, score (log odds), flagged."""
    import io

    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    from synthoma.run import write_atomically

    table = pa.table({"file": scan.files, "score": scan.scores, "flagged": scan.flagged})
    buffer = io.BytesIO()
    write = pyarrow.csv.write_csv if out.suffix == ".csv" else pyarrow.parquet.write_table
    write(table, buffer)
    write_atomically(out, buffer.getvalue())


def _print(scan: "Scan") -> None:
    said = scan.verdict
    console.print(
        f"{said['flagged']:,} of {said['images']:,} images ({said['share']:.1%}, 95 % interval {said['low']:.1%} to {said['high']:.1%}) "
        f"look like those of model {scan.model_hash}; of real images {said['expected']:.1%} do. Chance of so many among real images "
        f"alone: {said['p']:.2g}.",
        soft_wrap=True,
    )
    if scan.resized:
        console.print(
            f"{scan.resized:,} images were brought to the model's size, as its training images were.", soft_wrap=True
        )
    if scan.found:
        console.print("[red]Contaminated[/]: the folder holds synthetic images of this model.", soft_wrap=True)
        return
    least = (
        "even a folder of nothing else would not have been noticed: this detector cannot tell its images from real ones"
        if scan.noticeable is None
        else f"about {scan.noticeable:.1%} of them would have been noticed (of the model's own images {scan.recall:.0%} are flagged)"
    )
    console.print(f"[green]Not found[/] at level {scan.level:g}; {least}.", soft_wrap=True)
