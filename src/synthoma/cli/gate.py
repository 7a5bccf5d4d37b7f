"""`gate`: may the model of a run be released?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from synthoma.cli.console import console, print_json
from synthoma.cli.options import Json

if TYPE_CHECKING:
    from synthoma.evaluation.gate import Decision

NOT_RELEASED = 3  # exit code
_COLOURS = {"passed": "green", "failed": "red", "not demonstrated": "yellow"}


def register(app: typer.Typer) -> None:
    app.command()(gate)


def gate(
    run: Annotated[Path, typer.Argument(help="A run folder that was evaluated, audited and studied.")],
    override: Annotated[
        str | None,
        typer.Option(
            help="Release it against the gate; the reason goes into gate.json, release.json and the model card."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether a model may be released, rule by rule, from the run's privacy, fidelity and utility results.

    Exit code 0 for release, 3 for none. Less data never pass more easily: what is missing, withheld or too uncertain is
    not demonstrated.

    Example: `synthoma gate runs/skin`
    """
    from synthoma.evaluation.gate import decide
    from synthoma.report import model_card
    from synthoma.report.words import without_people
    from synthoma.run import Run, write_atomically
    from synthoma.training.start import read_recipe

    if override is not None and without_people(override) != override:
        raise typer.BadParameter("the reason names a path or a patient's pseudonym; say it without.")
    opened = Run(run)
    recipe = read_recipe(opened)
    with opened.locked():
        decision = decide(opened, recipe.gate, override)
        write_atomically(opened.model / "README.md", model_card(opened))
    if as_json:
        print_json(decision.to_json())
    else:
        _print(decision)
    if not decision.released:
        raise typer.Exit(NOT_RELEASED)


def _print(decision: "Decision") -> None:
    table = Table(title="The gate", title_justify="left")
    for column in ("rule", "verdict", "why"):
        table.add_column(column)
    for ruling in decision.rulings:
        colour = _COLOURS[ruling.verdict]
        table.add_row(escape(ruling.title), f"[{colour}]{ruling.verdict}[/]", escape(ruling.why))
    console.print(table)
    verdict = "[green]Release[/]" if decision.verdict == "release" else "[red]No release[/]"
    console.print(f"{verdict} of model {decision.model['model_hash']}.", soft_wrap=True)
    if decision.override is not None:
        console.print(f"Released against the gate: {escape(decision.override.reason)}", soft_wrap=True)
