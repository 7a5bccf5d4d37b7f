"""`utility` and `select`: do synthetic images help a classifier, and which of them are worth keeping?"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.options import Json

if TYPE_CHECKING:
    from synthoma.evaluation.utility import UtilitySettings


class Point(StrEnum):
    """Where sensitivity and specificity are read off."""

    YOUDEN = "youden"
    SPECIFICITY = "specificity"


DatasetOption = Annotated[
    Path | None, typer.Option("--dataset", help="The prepared dataset; left out, the one that the run remembers.")
]
Symmetries = Annotated[
    str, typer.Option(help="Positions that the anatomy permits: none, mirror, dihedral, cube (as training.symmetries).")
]
Updates = Annotated[int, typer.Option(min=1, help="Optimiser updates of each fit, the same in every arm.")]


def register(app: typer.Typer) -> None:
    # `--ratios 0.5 1 2`: what follows the first number arrives as further arguments.
    app.command(context_settings={"allow_extra_args": True})(utility)
    app.command()(select)


def utility(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder with a model.")],
    dataset: DatasetOption = None,
    synthetic: Annotated[
        Path | None, typer.Option(help="Folder of generated images; left out, the run's model makes them.")
    ] = None,
    selected: Annotated[Path | None, typer.Option(help="Folder that `synthoma select` wrote: one more arm.")] = None,
    ratios: Annotated[
        list[float] | None,
        typer.Option(help="Synthetic images for each real one, an arm each: --ratios 0.5 1 2, which is the default."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Fits of each arm; one seed allows no verdict.")] = 3,
    folds: Annotated[
        int | None,
        typer.Option(min=3, help="For small sets: so many folds by patient; the generator is trained anew in each."),
    ] = None,
    repetitions: Annotated[
        int, typer.Option(min=1, help="With --folds: times that folds are drawn, each with generators of its own.")
    ] = 1,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=SHARE", help="With --folds: train on a share of a class only. May be repeated."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="Class of interest; left out, averages over the classes.")
    ] = None,
    point: Annotated[Point, typer.Option(help="How the threshold is chosen on validation images.")] = Point.YOUDEN,
    symmetries: Symmetries = "mirror",
    updates: Updates = 400,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Train one classifier on real, synthetic and mixed images, and test it on real patients whom nobody trained on.

    Example: `synthoma utility runs/skin --ratios 0.5 1 2 --seeds 3`, or `synthoma utility runs/nodules --folds 5`
    """
    from synthoma.evaluation.utility import UtilitySettings

    settings = UtilitySettings(
        ratios=_ratios(ratios, context.args),
        seeds=seeds,
        positive=label,
        operating_point=point.value,
        symmetries=symmetries,
        updates=updates,
        device=device,
    )
    with ConsoleObserver(quiet=as_json) as observer:
        if folds is None:
            if repetitions > 1 or keep:
                raise typer.BadParameter("--repetitions and --keep go with --folds.")
            result = _study_split(run, settings, observer, dataset, synthetic, selected)
        else:
            if dataset or synthetic or selected:
                raise typer.BadParameter(
                    "--folds trains generators of its own on the run's own dataset; leave out --dataset, --synthetic and --selected."
                )
            result = _study_folds(run, settings, observer, folds, repetitions, _shares(keep or []))
    if as_json:
        print_json(result)
    else:
        _print_study(result)


def _study_split(
    run: Path,
    settings: "UtilitySettings",
    observer: ConsoleObserver,
    dataset: Path | None,
    synthetic: Path | None,
    selected: Path | None,
) -> dict[str, Any]:
    from synthoma.dataset import Dataset
    from synthoma.evaluation.utility import study_run
    from synthoma.run import Run
    from synthoma.workflow import run_dataset

    opened = Run(run)
    with opened.locked():
        return study_run(
            opened,
            run_dataset(opened) if dataset is None else Dataset.open(dataset),
            settings,
            synthetic=synthetic,
            selected=selected,
            progress=lambda done, total: observer.progress("Training classifiers", done, total),
        )


def _study_folds(
    run: Path,
    settings: "UtilitySettings",
    observer: ConsoleObserver,
    folds: int,
    repetitions: int,
    kept: dict[str, float],
) -> dict[str, Any]:
    from synthoma.experiments.utility_folds import study_run_folds
    from synthoma.run import Run

    return study_run_folds(Run(run), settings, observer, folds=folds, repetitions=repetitions, kept=kept)


def _shares(texts: list[str]) -> dict[str, float]:
    """CLASS=SHARE of each text."""
    shares = {}
    for text in texts:
        name, _, share = text.rpartition("=")
        try:
            shares[name] = float(share)
        except ValueError:
            raise typer.BadParameter(f"--keep takes CLASS=SHARE, such as malignant=0.33, not '{text}'.") from None
    return shares


def select(
    source: Annotated[Path, typer.Argument(help="A run folder, or a folder that `synthoma generate` wrote.")],
    out: Annotated[Path, typer.Option(help="A new folder for the images that are kept.")],
    dataset: DatasetOption = None,
    count: Annotated[int, typer.Option(min=1, help="Images to make and choose from, of a run.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the images that a run makes.")] = 0,
    tail: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of real images that label and typicality would refuse.")
    ] = 0.1,
    symmetries: Symmetries = "mirror",
    updates: Updates = 400,
    as_json: Json = False,
) -> None:
    """Keep the synthetic images that show their class, look like it, and resemble no training image too much.

    Example: `synthoma select runs/skin --count 2000 --out chosen`
    """
    from synthoma.evaluation.utility import UtilitySettings
    from synthoma.synthesis.select import SelectionSettings, select_from

    settings = SelectionSettings(
        tail=tail, symmetries=symmetries, classifier=UtilitySettings(updates=updates, symmetries=symmetries)
    )
    with ConsoleObserver(quiet=as_json) as observer:
        chosen = select_from(
            source, _dataset_of(source, dataset), out, settings, count=count, seed=seed, progress=observer.progress
        )
    if as_json:
        facts = {"asked": chosen.asked, "kept": chosen.kept, "rejected": chosen.reasons, "limits": chosen.limits}
        print_json({"folder": str(out), **facts})
        return
    table = Table(title="Kept", title_justify="left")
    for column in ("class", "kept", "of"):
        table.add_column(column)
    for name, asked in chosen.asked.items():
        table.add_row(name, str(chosen.kept.get(name, 0)), str(asked))
    console.print(table)
    told = ", ".join(f"{question} {number}" for question, number in chosen.reasons.items())
    console.print(f"Refused for {told} (an image may fail twice; rejected.parquet says why).", soft_wrap=True)
    console.print(f"The images and their manifest are in {out}. Synthetic: not for diagnosis.", soft_wrap=True)


def _dataset_of(source: Path, dataset: Path | None) -> Any:
    from synthoma.dataset import Dataset
    from synthoma.run import Run
    from synthoma.workflow import run_dataset

    if dataset is not None:
        return Dataset.open(dataset)
    if (source / "manifest.parquet").is_file():
        raise typer.BadParameter("a folder of images needs --dataset, the data that its model was trained on.")
    return run_dataset(Run(source))


def _ratios(first: list[float] | None, further: list[str]) -> tuple[float, ...]:
    """All ratios; other arguments that nobody asked for are refused."""
    try:
        more = [float(text) for text in further]
    except ValueError:
        raise typer.BadParameter(f"unexpected arguments: {' '.join(further)}.") from None
    if more and not first:
        raise typer.BadParameter(f"unexpected arguments: {' '.join(further)}.")
    return (*first, *more) if first else (0.5, 1.0, 2.0)


def _print_study(result: dict[str, Any]) -> None:
    """AUC of each arm, its change against real images alone, and the verdict."""
    from synthoma.evaluation.utility import forest_rows

    if "withheld" in result:
        console.print(f"No study: {result['withheld']}.", soft_wrap=True)
        return
    changes = {row.arm: row for row in forest_rows(result)}
    table = Table(title="Tested on real patients only", title_justify="left")
    for column in ("training images", "AUC", "95 % interval", "change", "95 % interval", "verdict"):
        table.add_column(column)
    for arm in result["arms"]:
        if arm.get("kind") == "withheld":
            table.add_row(arm["title"], "withheld", arm["reason"], "", "", "")
            continue
        auc, row = arm["scores"]["auc"], changes.get(arm["name"])
        if auc["kind"] == "withheld":
            cells = ["withheld", auc["reason"]]
        else:
            cells = [f"{auc['value']:.3f}", f"{auc['low']:.3f} to {auc['high']:.3f}"]
        if row is None:
            cells += ["", "", ""]
        elif row.difference is None:
            cells += ["withheld", "", row.verdict]
        else:
            cells += [f"{row.difference:+.3f}", f"{row.low:+.3f} to {row.high:+.3f}", row.verdict]
        table.add_row(arm["title"], *cells)
    console.print(table)
    _print_agreement(result["agreement"])
    for name, reason in result["withheld_classes"].items():
        console.print(f"Class {name} is not judged: {reason}.", soft_wrap=True)
    console.print(
        f"Protocol {result['protocol']['hash']}: compare only with figures of the same protocol.", soft_wrap=True
    )


def _print_agreement(agreement: dict[str, Any]) -> None:
    """How often a classifier of real images sees the class that was asked for, beside the same for real test images."""
    table = Table(title="Taken for their class by classifiers of real images", title_justify="left")
    for column in ("class", "synthetic", "95 % interval", "real test images", "95 % interval"):
        table.add_column(column)
    for name, pair in {"all (mean of classes)": agreement["all"], **agreement["classes"]}.items():
        cells = []
        for which in ("synthetic", "real"):
            one = pair[which]
            if one["kind"] == "withheld":
                cells += ["withheld", one["reason"]]
            else:
                cells += [f"{one['value']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}"]
        table.add_row(name, *cells)
    console.print(table)
