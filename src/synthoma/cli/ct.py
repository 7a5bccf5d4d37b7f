"""`volumes` and `cut`: CT volumes, looked at and cut into cubes or slices."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.cutting import Shard, folding_table, parse_shard, pieces_table
from synthoma.cli.options import Groups, Json, Marks, Set, Workers
from synthoma.recipe import load_recipe

RECIPE = "lung-nodule-wgan-gp"

Key = Annotated[
    Path | None,
    typer.Option(
        "--key", help="File with the key of the pseudonyms; else $SYNTHOMA_KEY_FILE, ~/.config/synthoma/pseudonym.key."
    ),
]
OnGap = Annotated[
    Literal["error", "skip", "resample"] | None,
    typer.Option("--on-gap", help="Volumes with missing slices, uneven spacing or tilt; as ct.on_gap of the recipe."),
]


def register(app: typer.Typer) -> None:
    app.command()(volumes)
    app.command()(cut)


def volumes(
    data: Annotated[
        Path, typer.Argument(help="Folder with CT volumes (DICOM, NIfTI, MetaImage, NRRD), or one of them.")
    ],
    marks: Marks = None,
    recipe: Annotated[str, typer.Option(help="Recipe whose section `ct` says how they would be cut.")] = RECIPE,
    lungs: Annotated[
        bool, typer.Option("--lungs", help="Read the voxels too, and say how large the lungs are.")
    ] = False,
    names: Annotated[
        bool,
        typer.Option(
            "--names", help="Show which file each pseudonym stands for. Not for logs: names may be those of patients."
        ),
    ] = False,
    settings: Set = None,
    groups: Groups = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """What there is: size, spacing, orientation, unit and marks of each volume, and what is wrong. Nothing is written.

    Example: `synthoma volumes lidc --marks lidc-xml`
    """
    from synthoma.preparation.ct.detect import require_ct

    require_ct()
    from synthoma.preparation.ct import inspect

    found = inspect.inspect_volumes(data, load_recipe(recipe, settings or ()), marks, groups, key_file=key, lungs=lungs)
    if as_json:
        document = inspect.as_json(found)
        if names:
            document["files"] = {row.key: str(file) for row, file in zip(found.rows, found.files, strict=True)}
        print_json(document)
        return
    table = folding_table("volume", "patient", "size", "spacing mm", "plane", "unit", "marks", "problem")
    for row in found.rows:
        told = [f"{name} {n}" for name, n in row.marks.items()] + [f"({why}: {n})" for why, n in row.refused.items()]
        table.add_row(
            row.key,
            row.patient,
            "-" if row.size is None else " x ".join(map(str, row.size)),
            "-" if row.spacing is None else " x ".join(f"{own:.4g}" for own in row.spacing),
            row.orientation,
            row.unit if row.lungs is None else f"{row.unit}, lungs {row.lungs:.1f} l",
            ", ".join(told),
            row.problem,
            style="bold" if row.problem else None,
        )
    console.print(table)
    for what, count in sorted(found.left_out.items()):
        console.print(f"Left out: {what} ({count}).", markup=False, soft_wrap=True)
    for row in found.rows:
        for remark in row.warnings:
            console.print(f"{row.key}: {remark}", markup=False, soft_wrap=True)
    for remark in [*found.notes, *found.warnings]:
        console.print(remark, markup=False, soft_wrap=True)
    if names:
        _print_names({row.key: file for row, file in zip(found.rows, found.files, strict=True)})


def cut(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe or a YAML file; its section `ct` counts.")],
    data: Annotated[Path, typer.Option(help="Folder with CT volumes.")],
    out: Annotated[Path, typer.Option(help="Where the cuts go; volumes that are done are not cut again.")],
    marks: Marks = None,
    on_gap: OnGap = None,
    shard: Shard = "1/1",
    settings: Set = None,
    groups: Groups = None,
    workers: Workers = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Cut CT volumes into cubes around marks, or axial slices, which `synthoma prepare` and `synthoma run` take as --data.

    Example: `synthoma cut lung-nodule-wgan-gp --data lidc --marks lidc-xml --out cuts`
    """
    from synthoma.preparation.ct.detect import require_ct

    require_ct()
    from synthoma.preparation.ct.summary import cut_rows, describe_cuts
    from synthoma.preparation.raw import cut_ct

    wanted = [*(settings or []), *([f"ct.on_gap={on_gap}"] if on_gap is not None else [])]
    resolved, part = load_recipe(recipe, wanted), parse_shard(shard)
    with ConsoleObserver(quiet=as_json) as observer:
        result = cut_ct(
            resolved, data, out, observer, marks=marks, groups=groups, workers=workers, shard=part, key_file=key
        )
    rows = cut_rows(result)
    if as_json:
        notes, warnings = describe_cuts(result)
        print_json({"cuts": str(out), "volumes": [row._asdict() for row in rows], "notes": notes, "warnings": warnings})
        return
    console.print(pieces_table("volume", result.cut, ((row.key, row) for row in rows)))


def _print_names(files: dict[str, Path]) -> None:
    table = Table(box=None)
    table.add_column("volume", no_wrap=True)
    table.add_column("file", overflow="fold")
    for key, file in files.items():
        table.add_row(key, str(file))
    console.print(table)
