"""`augment`: changed copies of volumes with their masks."""

from pathlib import Path
from typing import Annotated

import typer

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.options import Json
from synthoma.errors import RecipeError


def register(app: typer.Typer) -> None:
    app.command()(augment)


def augment(
    data: Annotated[Path, typer.Argument(help="A volume (.npy [z, y, x], .nii, .nii.gz), or a folder with such.")],
    out: Annotated[Path, typer.Option(help="A new folder for the copies.")],
    masks: Annotated[Path | None, typer.Option(help="Folder with masks of the same names, or one mask.")] = None,
    times: Annotated[int, typer.Option(min=1, max=1000, help="Copies of each volume.")] = 5,
    rotation: Annotated[float, typer.Option(min=0, max=180, help="Largest angle about each axis, degrees.")] = 15.0,
    scaling: Annotated[tuple[float, float], typer.Option(help="Lowest and highest factor.")] = (0.9, 1.1),
    elastic: Annotated[
        float | None,
        typer.Option(min=0, help="Largest displacement of a control point, mm; 0 for none. Left out: what suits."),
    ] = None,
    noise: Annotated[float, typer.Option(min=0, help="Standard deviation of noise, in the unit of the volume.")] = 0.0,
    flip: Annotated[list[str] | None, typer.Option(help="Axis (z, y or x) that may be reversed. Repeatable.")] = None,
    padding: Annotated[str, typer.Option(help="What lies outside: border, or a value such as -1000.")] = "border",
    spacing: Annotated[
        tuple[float, float, float] | None, typer.Option(help="Millimetres along z, y, x where files do not say.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other copies.")] = 0,
    as_json: Json = False,
) -> None:
    """Turn, scale and deform volumes and their masks at random, in one resampling, and keep the parameters.

    Example: `synthoma augment nodules --masks masks --out augmented --times 10 --noise 20 --padding -1000`
    """
    from synthoma.preparation.augment_volumes import augment_volumes, describe
    from synthoma.transforms.deform import DeformationRanges, Padding

    try:
        outside: Padding = "border" if padding == "border" else float(padding)
        ranges = DeformationRanges((rotation,) * 3, scaling, elastic, 7, (noise, noise), tuple(flip or ()), outside)
    except ValueError as error:
        raise RecipeError(f"synthoma augment: {error}.") from error
    observer = ConsoleObserver()
    result = augment_volumes(
        data,
        out,
        ranges,
        times=times,
        masks=masks,
        spacing=spacing,
        seed=seed,
        progress=lambda done, total: observer.progress("Augmenting", done, total),
    )
    if as_json:
        failed = {str(file): reason for file, reason in result.failed.items()}
        print_json({"volumes": result.volumes, "copies": result.copies, "failed": failed})
        return
    for line in describe(result):
        console.print(line, markup=False, soft_wrap=True)
