"""What one watches while a network learns: the same latents, drawn again and again."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from synthoma.conditions import Conditions
from synthoma.draws import StepDraws
from synthoma.pictures import grid, to_uint8, write_gif, write_png
from synthoma.recipe import Recipe
from synthoma.training.averaging import Sampler

COLUMNS = 8
LONGEST_GIF = 60  # frames; more are thinned out evenly


def write_samples(
    folder: Path,
    images_seen: int,
    sampler: Sampler,
    recipe: Recipe,
    conditions: Conditions,
    device: torch.device,
    channels: int,
) -> None:
    """`folder/<images seen>.png`: a row a class with the same latents in each, or eight rows without classes.

    Attributes are drawn as those of released images are. channels: of the image; a mask's channel is not shown.
    """
    classes = list(conditions.classes)
    rows = len(classes) or COLUMNS
    index = torch.arange(COLUMNS if classes else rows * COLUMNS, device=device)
    labels = None
    if classes:
        index = index.repeat(rows)
        labels = np.repeat(np.arange(rows), COLUMNS)
    codes = None
    if conditions.width:
        codes = torch.as_tensor(conditions.draw(0, torch.arange(len(index)), labels)[2]).to(device)
    draws = StepDraws(0, 0, index)
    with torch.no_grad():
        images = torch.cat(
            [
                sampler(draws.part(start, stop), "grid", None if codes is None else codes[start:stop])
                for start, stop in _parts(len(index))
            ]
        )
    low, high = recipe.model.range
    pixels = to_uint8(images[:, :channels].cpu().numpy(), low, high)
    folder.mkdir(parents=True, exist_ok=True)
    write_png(grid(pixels, COLUMNS, row_labels=classes or None), folder / f"{images_seen:09d}.png")


def _parts(count: int, batch: int = 64) -> list[tuple[int, int]]:
    return [(start, min(start + batch, count)) for start in range(0, count, batch)]


def write_progress(folder: Path) -> None:
    """`progress.gif` of all grids in the folder."""
    files = sorted(folder.glob("[0-9]*.png"))
    if len(files) > LONGEST_GIF:
        files = [files[i] for i in np.linspace(0, len(files) - 1, LONGEST_GIF).round().astype(int)]
    if files:
        write_gif([Image.open(file).convert("RGB") for file in files], folder / "progress.gif", seconds=0.25)


def remove_later(folder: Path, images_seen: int) -> None:
    """Remove grids that were drawn after the checkpoint that is resumed from."""
    for file in folder.glob("[0-9]*.png"):
        if int(file.stem) > images_seen:
            file.unlink()
