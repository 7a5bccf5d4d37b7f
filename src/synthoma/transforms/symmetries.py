"""The exact symmetries of image grids in two and three dimensions: flips and quarter turns, without interpolation.

A symmetry permutes the spatial axes and then reverses some. Which of them leave the images of a data set as likely as
they were is a question of anatomy, not of mathematics: a slide or a dermoscopic picture has no upright position, a chest
has one.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from synthoma.errors import RecipeError, nearest_name_hint

NAMES = ("none", "mirror", "dihedral", "cube")


class Symmetry(NamedTuple):
    """Axis a of the result is axis `axes[a]` of the source, read backwards where `flips[a]`."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]


def symmetry_group(name: str, dim: int, size: Sequence[int]) -> list[Symmetry]:
    """The elements of a named group that fit a grid of `size`, the identity first.

    none      the identity
    mirror    and the flip of the last axis, which is left to right in axial slices and in volumes (z, y, x)
    dihedral  the 8 symmetries of the square, in 3D those of the plane (y, x) with z left as it is, for volumes whose
              slices are thicker than their pixels or which know above from below
    cube      the 48 symmetries of the cube, mirror images included; volumes only

    Elements that exchange axes of different length are left out, which leaves a smaller group: 4 of the 8 for a
    picture that is not square. Raises `RecipeError` for an unknown name, or for a cube in 2D.
    """
    if name not in NAMES:
        raise RecipeError(
            f"training.symmetries: there is no '{name}'{nearest_name_hint(name, NAMES)}; known: {', '.join(NAMES)}."
        )
    if dim not in (2, 3) or len(size) != dim:
        raise ValueError(f"expected a size of 2 or 3 axes for dim {dim}, got {tuple(size)}")
    if name == "cube" and dim == 2:
        raise RecipeError(
            "training.symmetries: cube is for volumes, and these images have two axes; use dihedral (8 positions)."
        )
    # Axes that may be flipped, and those of them that may be exchanged.
    flippable = {"none": (), "mirror": (dim - 1,), "dihedral": (dim - 2, dim - 1), "cube": (0, 1, 2)}[name]
    exchangeable = flippable if name in ("dihedral", "cube") else ()
    orders = [
        axes
        for axes in itertools.permutations(range(dim))
        if all(axes[a] == a or (a in exchangeable and size[axes[a]] == size[a]) for a in range(dim))
    ]
    reversals = [
        flips
        for flips in itertools.product((False, True), repeat=dim)
        if all(a in flippable or not flips[a] for a in range(dim))
    ]
    return [Symmetry(axes, flips) for axes in orders for flips in reversals]


def apply(x: Tensor, elements: Tensor, group: Sequence[Symmetry]) -> Tensor:
    """Images [n, c, *size], each turned by the element of `group` with its number in `elements` (int64 [n]).

    Exact, differentiable, and in the memory format of `x`. The size may be any that the group's exchanges of axes
    keep. Raises `ValueError` where they do not.
    """
    size = x.shape[2:]
    places = [torch.arange(length, device=x.device).expand(len(x), length) for length in size]
    return pick(x, source_offsets(places, elements, group))


def source_offsets(places: Sequence[Tensor], elements: Tensor, group: Sequence[Symmetry]) -> list[Tensor]:
    """Where in the source each place of the turned images comes from, an axis at a time: int64 [n, length] for each.

    places: for each axis of the turned images, int64 [n, length], the coordinate that is wanted (plain counting turns
    and does nothing else). The offset of a pixel in the flattened source is the sum of those of its coordinates.
    """
    size = tuple(axis.shape[1] for axis in places)
    strides, flips = _tables(tuple(group), size, elements.device)
    strides, flips = strides[elements], flips[elements]
    return [
        torch.where(flips[:, a, None], size[a] - 1 - coordinate, coordinate) * strides[:, a, None]
        for a, coordinate in enumerate(places)
    ]


def pick(x: Tensor, offsets: Sequence[Tensor]) -> Tensor:
    """Gather pixels: result[i, :, p, q, ...] is x[i] at the flat offset `offsets[0][i, p] + offsets[1][i, q] + ...`.

    x: [n, c, *size]; the result has its shape and its memory format. Adds up in the backward pass where a pixel was
    taken more than once.
    """
    n, channels, *size = x.shape
    dim = len(size)
    index = functools.reduce(
        torch.add,
        (axis.reshape(n, *[-1 if a == b else 1 for b in range(dim)]) for a, axis in enumerate(offsets)),
    ).flatten(1)
    if x.is_contiguous():
        return x.flatten(2).gather(2, index[:, None].expand(n, channels, -1)).reshape(x.shape)
    # Channels last: a pixel is a row, and whole rows are copied.
    rows = x.movedim(1, -1).reshape(-1, channels)
    rows = rows.index_select(0, (index + torch.arange(n, device=x.device)[:, None] * index.shape[1]).flatten())
    return rows.reshape(n, *size, channels).movedim(-1, 1)


@functools.lru_cache(maxsize=64)
def _tables(group: tuple[Symmetry, ...], size: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """For each element and axis of the result: the stride of the source axis in pixels (int64), and whether it is flipped."""
    if any(size[source] != size[a] for axes, _ in group for a, source in enumerate(axes)):
        raise ValueError(f"this group exchanges axes of different length in images of {'x'.join(map(str, size))}.")
    strides = [1] * len(size)
    for a in reversed(range(len(size) - 1)):
        strides[a] = strides[a + 1] * size[a + 1]
    of_elements = torch.tensor([[strides[source] for source in axes] for axes, _ in group], device=device)
    return of_elements, torch.tensor([flips for _, flips in group], device=device)
