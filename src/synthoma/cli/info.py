"""`recipes` and `doctor`: what there is, and whether this machine is fit for it."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from synthoma.cli.console import console, print_json
from synthoma.cli.options import Json, Set
from synthoma.recipe import load_recipe, shipped_recipes

# What an extra brings, by the names under which it is imported.
EXTRAS = {
    "slides": ["openslide", "shapely", "defusedxml"],
    "ct": ["pydicom", "SimpleITK", "nibabel", "defusedxml"],
    "fetch": ["pooch", "idc_index"],
    "denoise": ["skimage"],
    "utility": ["monai"],
    "reference": ["torch_fidelity", "torchvision"],
    "track": ["tensorboard"],
}


def register(app: typer.Typer) -> None:
    app.command()(recipes)
    app.command()(doctor)


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe with all its keys.")] = None,
    settings: Set = None,
    as_json: Json = False,
) -> None:
    """List the shipped recipes, or show one with every default written out.

    Example: `synthoma recipes skin-cgan > my.yaml`
    """
    if name is not None:
        recipe = load_recipe(name, settings or [])
        if as_json:
            print_json(recipe.model_dump(mode="json"))
        else:
            print(recipe.to_yaml(), end="")
        return
    shipped = [load_recipe(each) for each in shipped_recipes()]
    if as_json:
        print_json([{"name": each.name, "title": each.title, "description": each.description} for each in shipped])
        return
    table = Table("recipe", "what it makes", "size", "kimg")
    for each in shipped:
        table.add_row(
            each.name,
            f"{each.title}\n[dim]{each.description}[/]",
            str(each.preparation.size),
            f"{each.training.kimg:g}",
        )
    console.print(table)


def doctor(as_json: Json = False) -> None:
    """Look at this machine: versions, processor, memory, disk, GPU, extras, and what is missing.

    Example: `synthoma doctor`
    """
    from synthoma.run import environment
    from synthoma.training.precision import bf16_supported, choose_device

    found: dict[str, Any] = environment()
    device = choose_device("auto")
    found["device"] = str(device)
    found["bf16"] = bf16_supported(device)
    found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    found["free_disk_gib"] = round(shutil.disk_usage(Path.cwd()).free / 2**30, 1)
    found["extras"] = {extra: all(importlib.util.find_spec(name) for name in names) for extra, names in EXTRAS.items()}
    advice = []
    if device.type == "cpu":
        advice.append("No GPU is found: training works, 64x64 pictures at hundreds of images a second at best.")
    if found["memory_gib"] < 4:
        advice.append("Less than 4 GiB of memory: choose small networks and batches.")
    if found["free_disk_gib"] < 5:
        advice.append("Less than 5 GiB of free disk: a run of the shipped recipes takes 0.3 to 1 GiB.")
    advice += [
        f"Extra '{extra}' is not installed: pip install 'synthoma[{extra}]'"
        for extra, there in found["extras"].items()
        if not there
    ]
    found["advice"] = advice
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        if key != "advice":
            console.print(f"{key:>16}: {value}", markup=False)
    for line in advice:
        console.print(f"- {line}", markup=False)
