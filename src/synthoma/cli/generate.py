"""`generate`: images out."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.options import Json

if TYPE_CHECKING:
    from synthoma.synthesis import Written


class FileFormat(StrEnum):
    """How files are written; auto: pictures as png, volumes as nii.gz where nibabel is there, else as npy."""

    AUTO = "auto"
    PNG = "png"
    NIFTI = "nii.gz"
    ARRAY = "npy"


def register(app: typer.Typer) -> None:
    app.command()(generate)
    app.command()(export)


def generate(
    model: Annotated[Path, typer.Argument(help="A model folder, such as RUN/model.")],
    out: Annotated[Path, typer.Option(help="Folder for the images and manifest.parquet.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 16,
    label: Annotated[
        str | None, typer.Option("--class", help="Class of all images; left out, classes as in training.")
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Attribute of all images, such as diameter_mm=12; left out, as in training. May be repeated.",
        ),
    ] = None,
    truncation: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Below 1: nearer to the average image (style family only).")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same images.")] = 0,
    file_format: Annotated[
        FileFormat,
        typer.Option("--format", help="Volumes: nii.gz (extra: ct) or npy; slices in HU png too. Pictures: png."),
    ] = FileFormat.AUTO,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Make synthetic images and a manifest of where each one comes from.

    Example: `synthoma generate runs/skin/model --class melanoma --count 100 --seed 7 --out melanoma`
    """
    from synthoma.model import Model
    from synthoma.synthesis import write_images

    values = _attributes(attribute or [])
    loaded = Model.load(model, device)
    done = 0
    with ConsoleObserver(quiet=as_json) as observer:

        def progress(number: int) -> None:
            nonlocal done
            done += number
            observer.progress("Generating", done, count)

        written = write_images(
            loaded,
            out,
            count,
            label,
            seed,
            progress,
            file_format=file_format.value,
            attributes=values,
            truncation=truncation,
        )
    if as_json:
        print_json(
            {
                "folder": str(out),
                "count": written.count,
                "classes": written.classes,
                "model_hash": written.model_hash,
                "format": written.suffix.removeprefix("."),
                "masks": written.masks,
            }
        )
    else:
        _tell(written, default_format=file_format is FileFormat.AUTO)


def export(
    dataset: Annotated[Path, typer.Argument(help="A prepared dataset, such as RUN/dataset.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder for the images and images.csv.")],
    split: Annotated[str | None, typer.Option(help="train, val or test; left out: all.")] = None,
    file_format: Annotated[
        FileFormat, typer.Option("--format", help="Volumes and slices in HU: nii.gz or npy. Pictures: png.")
    ] = FileFormat.AUTO,
    as_json: Json = False,
) -> None:
    """The REAL images of a dataset as files, in their own unit (HU stay HU), as they were prepared. Keep them private.

    Example: `synthoma export runs/nodules/dataset --split test --out test-nodules`
    """
    from synthoma.dataset import Dataset
    from synthoma.synthesis import export_dataset

    with ConsoleObserver(quiet=as_json) as observer:
        count = export_dataset(
            Dataset.open(dataset),
            out,
            split,
            file_format.value,
            lambda done, total: observer.progress("Exporting", done, total),
        )
    if as_json:
        print_json({"folder": str(out), "count": count})
    else:
        console.print(f"{count} real images are in {out}. They are as private as the data.", soft_wrap=True)


def _tell(written: "Written", default_format: bool) -> None:
    """What lies where, and how volumes could be had in the format that most viewers read."""
    made = f"{written.count} images ({written.suffix}){' with their masks' if written.masks else ''}"
    console.print(f"{made} and manifest.parquet are in {written.folder}. Synthetic: not for diagnosis.", soft_wrap=True)
    if written.suffix == ".npy" and default_format:
        console.print(
            "With the extra ct (pip install 'synthoma[ct]') volumes are written as .nii.gz.",
            soft_wrap=True,
            markup=False,
        )


def _attributes(settings: list[str]) -> dict[str, float]:
    """`NAME=VALUE` by name, as numbers."""
    values = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            values[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(f"'{setting}' is no NAME=NUMBER.", param_hint="--attribute") from None
    return values
