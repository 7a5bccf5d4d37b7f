"""`phantom` and `prepare`: images in."""

from pathlib import Path
from typing import Annotated

import typer

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.options import Annotations, Groups, Json, Marks, Set, Workers
from synthoma.recipe import load_recipe


def register(app: typer.Typer) -> None:
    app.command()(phantom)
    app.command()(prepare)


def phantom(
    kind: Annotated[str, typer.Argument(help="skin, chest-ct, chest-xray, pap-smear, slides, or ct.")],
    folder: Annotated[Path, typer.Argument(help="A folder that is empty or does not exist.")],
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Number of pictures (900 by default), of slides (4), or of CT volumes (8)."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=16, help="Pixels a side; of slides 4096, of CT slices 192 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    volume_format: Annotated[
        str | None, typer.Option("--format", help="Of CT volumes: dicom (by default), nifti or metaimage.")
    ] = None,
) -> None:
    """Draw made-up pictures to try things with: real JPEG and PNG files in class folders, with groups.csv.

    `slides` draws whole slides that OpenSlide reads, with annotations in three formats and planted artefacts. `ct` draws
    chest CT volumes with lung nodules, and the marks of four simulated radiologists.

    Example: `synthoma phantom skin phantoms/skin --count 900`
    """
    if volume_format is not None and kind != "ct":
        raise typer.BadParameter("only CT volumes come in several formats.", param_hint="--format")
    if kind == "ct":
        from synthoma.phantoms.ct import grid_of_slices, write_ct_phantoms

        grid, spacing = grid_of_slices(192 if size is None else size)
        with ConsoleObserver() as observer:
            volumes = write_ct_phantoms(
                folder,
                volumes=8 if count is None else count,
                kind=volume_format or "dicom",
                size=grid,
                spacing=spacing,
                seed=seed,
                progress=lambda done, total: observer.progress("Drawing volumes", done, total),
            )
        console.print(str(volumes), markup=False)
        return
    if kind == "slides":
        from synthoma.phantoms.slides import write_slide_phantoms

        side = 4096 if size is None else size
        with ConsoleObserver() as observer:
            drawn = write_slide_phantoms(
                folder,
                count=4 if count is None else count,
                size=(side, side),
                seed=seed,
                progress=lambda done, total: observer.progress("Drawing slides", done, total),
            )
        console.print(str(drawn), markup=False)
        return
    from synthoma.phantoms import write_phantom

    report = write_phantom(kind, folder, count=900 if count is None else count, size=size, seed=seed)
    console.print(str(report), markup=False)


def prepare(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder or file with the raw images.")],
    out: Annotated[Path, typer.Option(help="The dataset folder.")],
    settings: Set = None,
    groups: Groups = None,
    annotations: Annotations = None,
    marks: Marks = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Raw files to a dataset: decode, resize, find duplicates, split by patient, freeze.

    Example: `synthoma prepare skin-cgan --data skin9 --out data/skin64`
    """
    from synthoma.preparation.raw import prepare_dataset

    resolved = load_recipe(recipe, settings or [])
    with ConsoleObserver(quiet=as_json) as observer:
        result = prepare_dataset(
            resolved, data, out, observer, groups=groups, workers=workers, annotations=annotations, marks=marks
        )
    if as_json:
        print_json({"dataset": str(out), **dict(result.dataset.info)})
    else:
        console.print(
            f"The dataset is in {out}: {len(result.dataset)} images. Look at {out / 'private' / 'overview.png'}",
            soft_wrap=True,
        )
