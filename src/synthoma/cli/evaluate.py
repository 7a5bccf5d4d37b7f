"""`evaluate` and `report`: evidence."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.options import Groups, Json


def register(app: typer.Typer) -> None:
    app.command()(evaluate)
    app.command()(report)


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="A run folder; or give --real and --synthetic.")] = None,
    real: Annotated[Path | None, typer.Option(help="Image tree or dataset of real images.")] = None,
    synthetic: Annotated[Path | None, typer.Option(help="Image tree of synthetic images.")] = None,
    groups: Groups = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights of a known feature extractor, or the name of fetched ones: inception. May be repeated."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how far synthetic images are from real ones, each number with its interval and its floor.

    Example: `synthoma evaluate --real real/ --synthetic images/ --json`, or `synthoma evaluate runs/skin`
    """
    from synthoma.evaluation.fidelity import evaluate_folders
    from synthoma.recipe import EvaluationSection
    from synthoma.workflow import evaluate_run

    if (run is None) == (real is None or synthetic is None):
        raise typer.BadParameter("give either the folder of a run, or both --real and --synthetic.")
    with ConsoleObserver(quiet=as_json) as observer:
        if real is None or synthetic is None:
            assert run is not None
            if groups:
                raise typer.BadParameter("--groups goes with --real; a run has its groups already.")
            result = evaluate_run(run, observer, weights or [])
        else:
            result = evaluate_folders(
                real,
                synthetic,
                EvaluationSection(),
                weights=weights or [],
                groups=groups,
                progress=lambda done, total: observer.progress("Evaluating", done, total),
            )
            for warning in result["warnings"]:
                observer.warn(warning)
    if as_json:
        print_json(result)
    else:
        _print_table(result)


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Print report.html to report.pdf too; takes Chromium, Chrome or Edge.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write report.html (no real image in it) and private/report.html from the run's files.

    Example: `synthoma report runs/skin --pdf`
    """
    from synthoma.report.pdf import write_pdf
    from synthoma.workflow import report_run

    public, private = report_run(run)
    printed = write_pdf(public, public.with_suffix(".pdf")) if pdf else None
    if as_json:
        print_json({"report": str(public), "private": str(private), **({"pdf": str(printed)} if printed else {})})
        return
    console.print(f"Report: {public}\nWith real images, for your eyes only: {private}", soft_wrap=True)
    if printed is not None:
        console.print(f"PDF: {printed}", soft_wrap=True)


def _print_table(result: dict[str, Any]) -> None:
    """Value, interval and floor of each metric over all classes."""
    for space in result["spaces"].values():
        table = Table(title=space["title"], title_justify="left")
        for column in ("metric", "value", "95 % interval", "floor (real against real)", "better"):
            table.add_column(column)
        for name, value in space["all"].items():
            if value["kind"] == "withheld":
                table.add_row(name, "withheld", value["reason"], "", "")
                continue
            floor = value["floor"]
            table.add_row(
                name,
                f"{value['value']:.4g}",
                f"{value['low']:.4g} to {value['high']:.4g}",
                f"{floor['value']:.4g} ({floor['low']:.4g} to {floor['high']:.4g})",
                value["direction"],
            )
        console.print(table)
    console.print(
        f"Protocol {result['protocol']['hash']}: compare only with numbers of the same protocol.", soft_wrap=True
    )
