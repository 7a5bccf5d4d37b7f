"""`audit`: do synthetic images give away who was in the training set?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.options import Json

if TYPE_CHECKING:
    from synthoma.evaluation.privacy.audit import Audit

COPIES_FOUND = 3  # exit code


def register(app: typer.Typer) -> None:
    app.command()(audit)


def audit(
    run: Annotated[
        Path | None, typer.Argument(help="A run folder; or give --train, --holdout and --synthetic.")
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Real images that the generator was trained on.")] = None,
    holdout: Annotated[Path | None, typer.Option(help="Real images of other patients, which it never saw.")] = None,
    synthetic: Annotated[Path | None, typer.Option(help="Synthetic images.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="For folders: where privacy.json goes, and the most similar pairs (into private/)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look for copies of training images among synthetic ones, and measure what these give away, each figure with its control.

    Exit code 3 when copies are found, 0 when none is. A run gets evaluation/privacy.json and private/pairs.json; of folders the
    same is written to --out, with a picture of the pairs.

    Example: `synthoma audit runs/skin`, or `synthoma audit --train real/ --holdout others/ --synthetic images/ --json`
    """
    folders = (train, holdout, synthetic)
    if (run is None) == (None in folders) or (run is not None and any(folders)):
        raise typer.BadParameter("give either the folder of a run, or all of --train, --holdout and --synthetic.")
    if run is not None and out is not None:
        raise typer.BadParameter("--out goes with folders; the audit of a run is written into the run.")
    with ConsoleObserver(quiet=as_json) as observer:
        result = _of_run(run, observer) if run is not None else _of_folders(folders, out, observer)
        for warning in result.warnings:
            observer.warn(warning)
    if as_json:
        print_json(result.to_json())
    else:
        _print_tables(result.to_json())
    if result.copies.found:
        raise typer.Exit(COPIES_FOUND)


def _of_folders(folders: tuple[Path | None, ...], out: Path | None, observer: ConsoleObserver) -> "Audit":
    from synthoma.evaluation.privacy.trees import audit_folders

    train, holdout, synthetic = (folder for folder in folders if folder is not None)
    return audit_folders(train, holdout, synthetic, out=out, progress=observer.progress)


def _of_run(path: Path, observer: ConsoleObserver) -> "Audit":
    from synthoma.evaluation.privacy.runs import audit_run
    from synthoma.model import Model
    from synthoma.run import Run
    from synthoma.training.start import read_recipe
    from synthoma.workflow import run_dataset, synthetic_set

    run = Run(path)
    recipe = read_recipe(run)
    with run.locked():
        dataset = run_dataset(run)
        section = recipe.evaluation
        return audit_run(
            run,
            recipe,
            dataset,
            lambda: synthetic_set(Model.load(run.model), dataset, section.count, section.seed),
            say=observer.say,
            progress=observer.progress,
        )


def _print_tables(result: dict[str, Any]) -> None:
    """Copies with their bound, then every figure beside its control."""
    copies = result["copies"]
    rate, thresholds = copies["rate"], copies["thresholds"]
    console.print(
        f"Copies: {copies['found']} of {copies['n']} synthetic images ({rate['value']:.2%}, 95 % interval {rate['low']:.2%} to "
        f"{rate['high']:.2%}; at most {rate['upper_95']:.2%}). Of held-out real images {copies['control']['found']} of "
        f"{copies['control']['n']} would be called copies.",
        soft_wrap=True,
    )
    recall = ", ".join(f"{kind} {share:.0%}" for kind, share in copies["recall"].items())
    console.print(
        f"A copy is a pair of similarity {thresholds['similarity']:.3f} or more, or one that leads that of any other patient by "
        f"{thresholds['lead']:.3f} or more; of copies made on purpose are found: {recall}.",
        soft_wrap=True,
    )
    table = Table(title="What else they give away", title_justify="left")
    for column in ("figure", "value", "95 % interval", "control (95 %)"):
        table.add_column(column)
    rows = {
        "authenticity (held-out images as control)": result["authenticity"],
        "C_T, below 0: too close (held-out images)": result["c_t"],
        **{f"membership AUC by {name} (members only)": value for name, value in result["membership"].items()},
    }
    for name, value in rows.items():
        if value["kind"] == "withheld":
            table.add_row(name, "withheld", escape(value["reason"]), "")
            continue
        key = "auc" if value["kind"] == "attack" else "value"
        control = value["control"]
        table.add_row(
            name,
            f"{value[key]:.3f}",
            f"{value['low']:.3f} to {value['high']:.3f}",
            f"{control[key]:.3f} ({control['low']:.3f} to {control['high']:.3f})",
        )
    console.print(table)
    console.print(
        f"Protocol {result['protocol']['hash']}: compare only with numbers of the same protocol.", soft_wrap=True
    )
