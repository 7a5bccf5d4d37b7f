"""`slides` and `tiles`: whole slides, looked at and cut."""

from pathlib import Path
from typing import Annotated

import typer

from synthoma.cli.console import ConsoleObserver, console, print_json
from synthoma.cli.cutting import Shard, folding_table, parse_shard, pieces_table
from synthoma.cli.options import Annotations, Groups, Json, Mpp, Set, Workers
from synthoma.recipe import load_recipe

RECIPE = "lung-histology-pggan"


def register(app: typer.Typer) -> None:
    app.command()(slides)
    app.command()(tiles)


def slides(
    data: Annotated[Path, typer.Argument(help="Folder with whole slides, or one of them.")],
    annotations: Annotations = None,
    recipe: Annotated[str, typer.Option(help="Recipe whose section `slides` says how they would be cut.")] = RECIPE,
    mpp: Mpp = None,
    settings: Set = None,
    groups: Groups = None,
    as_json: Json = False,
) -> None:
    """What there is: size, resolution, tissue, annotations and places for tiles of each slide. Nothing is written.

    Example: `synthoma slides wsi --annotations annotations --set slides.mpp=1`
    """
    from synthoma.preparation.slides.detect import require_slides

    require_slides()
    from synthoma.preparation.slides.inspect import inspect_slides

    resolved = load_recipe(recipe, _with_mpp(settings, mpp))
    found = inspect_slides(data, resolved, annotations, groups)
    if as_json:
        print_json([row._asdict() for row in found])
        return
    table = folding_table("slide", "pixels", "µm/px", "tissue", "tiles", "annotations")
    for row in found:
        table.add_row(
            row.name,
            f"{row.width}x{row.height}" if row.width else "-",
            "-" if row.mpp is None else f"{row.mpp:.3f}",
            "-" if row.tissue is None else f"{row.tissue:.0%}",
            "-" if row.places is None else str(row.places),
            ", ".join(f"{name} {n}" for name, n in row.annotations.items()),
            style="bold" if row.problem or not row.places else None,
        )
    console.print(table)
    for row in found:
        for remark in [*([row.problem] if row.problem else []), *row.warnings]:
            console.print(f"{row.name}: {remark}", markup=False, soft_wrap=True)


def tiles(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe or a YAML file; its section `slides` counts.")],
    data: Annotated[Path, typer.Option(help="Folder with whole slides.")],
    out: Annotated[Path, typer.Option(help="Where the tiles go; slides that are done are not cut again.")],
    annotations: Annotations = None,
    shard: Shard = "1/1",
    mpp: Mpp = None,
    settings: Set = None,
    groups: Groups = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Cut whole slides into tiles, which `synthoma prepare` and `synthoma run` take as --data.

    Example: `synthoma tiles lung-histology-pggan --data wsi --annotations annotations --out tiles`
    """
    from synthoma.preparation.raw import cut_tiles
    from synthoma.preparation.slides.detect import require_slides

    require_slides()
    from synthoma.preparation.slides.summary import slide_rows

    resolved = load_recipe(recipe, _with_mpp(settings, mpp))
    part = parse_shard(shard)
    with ConsoleObserver(quiet=as_json) as observer:
        result = cut_tiles(
            resolved, data, out, observer, annotations=annotations, groups=groups, workers=workers, shard=part
        )
    rows = slide_rows(result)
    if as_json:
        print_json({"tiles": str(out), "slides": [row._asdict() for row in rows]})
        return
    console.print(pieces_table("slide", "tiles", ((row.name, row) for row in rows)))
    console.print(f"Look at the overlays in {out / 'private' / 'slides'}.", soft_wrap=True)


def _with_mpp(settings: list[str] | None, mpp: float | None) -> list[str]:
    return [*(settings or []), *([f"slides.given_mpp={mpp}"] if mpp is not None else [])]
