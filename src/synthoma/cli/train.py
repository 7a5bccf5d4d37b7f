"""`demo`, `run`, `train`: whatever trains."""

from pathlib import Path
from typing import Annotated

import typer

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.options import Annotations, DryRun, Groups, InitFrom, Json, Marks, Set, Workers
from synthoma.recipe import Recipe, load_recipe


def register(app: typer.Typer) -> None:
    app.command()(demo)
    app.command()(run)
    app.command()(train)


def demo(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("demo-run"),
    data: Annotated[Path, typer.Option(help="Where the phantom pictures go.")] = Path("demo-data"),
    settings: Set = None,
) -> None:
    """Draw phantom skin lesions, train a small conditional GAN on them, and write the report. A few minutes on two cores.

    Example: `synthoma demo --out demo-run`
    """
    from synthoma.phantoms import write_phantom
    from synthoma.workflow import run_recipe

    recipe = load_recipe("demo", settings or [])
    with ConsoleObserver() as observer:
        observer.say(f"Drawing phantom skin lesions in {data}.")
        write_phantom("skin", data, count=1800, size=48)
        outcome = run_recipe(recipe, data, out, observer)
    _tell(outcome.ran, outcome.skipped, out)


def run(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe (`synthoma recipes`) or a YAML file.")],
    out: Annotated[Path, typer.Option(help="The run folder; an unfinished one is gone on with.")],
    data: Annotated[Path | None, typer.Option(help="Folder or file with the raw images.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="A prepared dataset, instead of --data.")] = None,
    settings: Set = None,
    init_from: InitFrom = None,
    groups: Groups = None,
    annotations: Annotations = None,
    marks: Marks = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Raw files to report: prepare, train, evaluate, report. Stages whose inputs did not change are skipped.

    Example: `synthoma run skin-cgan --data skin9 --out runs/skin --set training.kimg=100`
    """
    from synthoma.workflow import run_recipe

    resolved = load_recipe(recipe, with_init_from(settings, init_from))
    if dry_run:
        _dry_run(resolved, as_json)
        return
    with ConsoleObserver(quiet=as_json) as observer:
        outcome = run_recipe(
            resolved,
            data,
            out,
            observer,
            dataset=dataset,
            groups=groups,
            annotations=annotations,
            marks=marks,
            workers=workers,
        )
    if as_json:
        print_json(
            {"run": str(out), "ran": outcome.ran, "skipped": outcome.skipped, "report": str(out / "report.html")}
        )
    else:
        _tell(outcome.ran, outcome.skipped, out)


def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe or a YAML file; with --resume the folder of a run.")],
    dataset: Annotated[Path | None, typer.Option(help="A prepared dataset (`synthoma prepare`).")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that is named instead of a recipe.")
    ] = False,
    settings: Set = None,
    init_from: InitFrom = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train a recipe on a prepared dataset; leaves checkpoints, samples and the released model in the run.

    Example: `synthoma train skin-cgan --dataset data/skin64 --out runs/skin`, then `synthoma train runs/skin --resume`.
    On several GPUs: `torchrun --nproc-per-node 4 -m synthoma train runs/skin --resume`
    """
    from synthoma.workflow import resume_run, train_run

    if resume:
        if settings or dataset or out or init_from:
            raise typer.BadParameter(
                "--resume takes the folder of a run and nothing else; the run knows its recipe and dataset."
            )
        with ConsoleObserver(quiet=as_json) as observer:
            model = resume_run(Path(recipe), observer)
        folder = Path(recipe)
    else:
        resolved = load_recipe(recipe, with_init_from(settings, init_from))
        if dry_run:
            _dry_run(resolved, as_json)
            return
        if dataset is None or out is None:
            raise typer.BadParameter("--dataset and --out are needed (or --resume and the folder of a run).")
        with ConsoleObserver(quiet=as_json) as observer:
            model = train_run(resolved, dataset, out, observer)
        folder = out
    if as_json:
        print_json({"run": str(folder), "model": str(folder / "model"), "model_hash": model.hash})
    else:
        console.print(
            f"The model is in {folder / 'model'}. Images from it: synthoma generate {folder / 'model'} --count 16 --out images",
            soft_wrap=True,
        )


def with_init_from(settings: list[str] | None, init_from: Path | None) -> list[str]:
    """The settings with --init-from among them."""
    return [*(settings or []), *([f"training.init_from={init_from}"] if init_from else [])]


def _dry_run(recipe: Recipe, as_json: bool) -> None:
    """The resolved recipe and its cost."""
    from synthoma.training.cost import estimate_cost

    cost = estimate_cost(recipe)
    if as_json:
        print_json({"recipe": recipe.model_dump(mode="json"), "cost": cost.to_json()})
        return
    console.print(recipe.to_yaml(), markup=False)
    hours = cost.training_seconds / 3600
    console.print(
        f"Parameters: generator {cost.generator_parameters:,}, discriminator {cost.discriminator_parameters:,}\n"
        f"Measured on {cost.device} in {cost.precision}: {cost.images_per_second:.0f} images/s, so {recipe.training.kimg:g} kimg take "
        f"about {hours * 60:.0f} minutes\n"
        f"Memory for networks and activations: {cost.memory_mib:.0f} MiB; disk: {cost.disk_mib:.0f} MiB "
        f"({cost.checkpoint_mib:.0f} MiB a checkpoint). Nothing was written."
    )


def _tell(ran: list[str], skipped: list[str], out: Path) -> None:
    if ran:
        console.print(
            f"Done: {', '.join(ran)}" + (f" (up to date: {', '.join(skipped)})" if skipped else "") + ".",
            soft_wrap=True,
        )
    else:
        console.print("Nothing to do: all stages are up to date.", soft_wrap=True)
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True)
    console.print(f"With real images, for your eyes only: {out / 'private' / 'report.html'}", soft_wrap=True)
