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
    from synthoma.experiments.comparison_baseline import Check

WORSE = 3  # exit code
RUNS_IN_A_TABLE = 3  # more would leave columns of a few letters


def register(app: typer.Typer) -> None:
    app.command()(compare)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of evaluated runs.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for comparison.html, comparison.png and comparison.json.")
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="A run to check the others against, metric by metric.")] = None,
    fail_if_worse: Annotated[
        bool, typer.Option("--fail-if-worse", help="Exit code 3 when a run is shown to be worse than --baseline.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put runs side by side that were trained on the same data and measured under one protocol.

    Example: `synthoma compare runs/skin-r3 runs/skin-wgan-gp --out comparison`, or in continuous checks
    `synthoma compare runs/new --baseline runs/released --fail-if-worse`
    """
    from synthoma.experiments import compare_runs, write_comparison
    from synthoma.experiments.comparison_baseline import check_against, got_worse

    if fail_if_worse and baseline is None:
        raise typer.BadParameter("--fail-if-worse goes with --baseline RUN.")
    comparison = compare_runs(runs if baseline is None else [baseline, *runs])
    checks = [] if baseline is None else check_against(comparison, comparison.entries[0])
    files = write_comparison(comparison, out) if out is not None else None
    if as_json:
        more = {} if baseline is None else {"checks": [check.to_json() for check in checks]}
        print_json({**comparison.to_json(), **more})
    else:
        _print(comparison, checks, None if files is None else files.page)
    if fail_if_worse and got_worse(checks):
        raise typer.Exit(WORSE)


def _print(comparison: "Comparison", checks: list["Check"], page: Path | None) -> None:
    from synthoma.experiments.comparison_words import notes

    _print_tables(comparison)
    for line in notes(comparison):
        error_console.print(f"[yellow]Note:[/] {escape(line)}", soft_wrap=True)
    if checks:
        _print_checks(checks, comparison.entries[0].name)
    if page is not None:
        console.print(f"Comparison: {page}", soft_wrap=True, markup=False)


def _print_checks(checks: list["Check"], baseline: str) -> None:
    """How much worse each metric is than in the baseline, with its interval and the margin."""
    table = Table(title=escape(f"Against the baseline {baseline} (below 0: better)"), title_justify="left")
    for column in ("run", "space", "metric", "worse by (95 %)", "margin", "verdict"):
        table.add_column(column)
    for check in checks:
        told, margin = escape(check.why), ""
        if check.worsening is not None:
            told, margin = f"{check.worsening:.4g} ({check.low:.4g} to {check.high:.4g})", f"{check.margin:.4g}"
        colour = "green" if check.change == "not worse" else "red"
        table.add_row(escape(check.run), check.space, check.metric, told, margin, f"[{colour}]{check.change}[/]")
    console.print(table)


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
