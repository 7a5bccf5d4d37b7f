"""`compare`: runs side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from synthoma.cli.console import console, error_console, print_json
from synthoma.cli.options import Json

if TYPE_CHECKING:
    from synthoma.experiments import Comparison

RUNS_IN_A_TABLE = 3  # more would leave columns of a few letters


def register(app: typer.Typer) -> None:
    app.command()(compare)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of evaluated runs.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for comparison.html, comparison.png and comparison.json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put runs side by side that were trained on the same data and measured under one protocol.

    Example: `synthoma compare runs/skin-r3 runs/skin-wgan-gp --out comparison`
    """
    from synthoma.experiments import compare_runs, write_comparison
    from synthoma.experiments.comparison_words import notes

    comparison = compare_runs(runs)
    files = write_comparison(comparison, out) if out is not None else None
    if as_json:
        print_json(comparison.to_json())
        return
    _print_tables(comparison)
    for line in notes(comparison):
        error_console.print(f"[yellow]Note:[/] {escape(line)}", soft_wrap=True)
    if files is not None:
        console.print(f"Comparison: {files.page}", soft_wrap=True, markup=False)


def _print_tables(comparison: "Comparison") -> None:
    """What the runs are and cost, then their metrics in each feature space, a few runs a table."""
    from synthoma.experiments.comparison_words import cost_table, metric_cells, sentences

    names = [entry.name for entry in comparison.entries]
    titled = [("What the runs are, and what they cost", cost_table(comparison))]
    for space in comparison.spaces:
        titled.append(
            (f"Space: {comparison.entries[0].fidelity['spaces'][space]['title']}", metric_cells(comparison, space))
        )
    tables = -(-len(names) // RUNS_IN_A_TABLE)
    columns = -(-len(names) // tables)
    for title, rows in titled:
        for start in range(0, len(names), columns):
            part = slice(start, start + columns)
            table = Table("", *map(escape, names[part]), title=escape(title), title_justify="left")
            for term, cells in rows:
                table.add_row(escape(term), *map(escape, cells[part]))
            console.print(table)
    for line in sentences(comparison):
        console.print(escape(line), soft_wrap=True)
    console.print(f"Protocol {comparison.protocol}: compare only with numbers of the same protocol.", soft_wrap=True)
