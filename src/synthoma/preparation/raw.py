"""From raw files of any kind to a dataset: whole slides are cut into tiles first, CT volumes into cubes or slices."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from synthoma.formats.cuts import SETTINGS as CUTS
from synthoma.formats.tiles import SETTINGS as TILES
from synthoma.preparation.ct.detect import holds_ct, require_ct
from synthoma.preparation.prepare import PreparationResult, prepare
from synthoma.preparation.slides.detect import holds_slides, require_slides
from synthoma.preparation.slides.summary import describe_tiles, keep_slides
from synthoma.recipe import Recipe
from synthoma.sources import keep_terms, open_source

if TYPE_CHECKING:
    from synthoma.preparation.ct.cut import CutResult
    from synthoma.preparation.slides.tiles import TilesResult


class Observer(Protocol):
    """What a face shows while raw files become a dataset."""

    def say(self, message: str) -> None:
        """A line for the user."""
        ...

    def warn(self, message: str) -> None:
        """A line that the user should not miss."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """How many of all files were seen; 0 of 0 where a stage only begins."""
        ...


def prepare_dataset(
    recipe: Recipe,
    data: Path,
    out: Path,
    observer: Observer,
    *,
    groups: Path | None = None,
    workers: int | None = None,
    annotations: Path | None = None,
    marks: Path | None = None,
) -> PreparationResult:
    """Read raw files into a dataset folder, and say what happened to them.

    Whole slides are cut into tiles beside it first (`out`-tiles), CT volumes into cubes or slices (`out`-cuts).
    """
    if holds_slides(data, recipe, annotations):
        tiles = out.with_name(f"{out.name}-tiles")
        cut_tiles(recipe, data, tiles, observer, annotations=annotations, groups=groups, workers=workers)
        data, groups = tiles, None
    elif marks is not None or holds_ct(data, recipe):
        cuts = out.with_name(f"{out.name}-cuts")
        cut_ct(recipe, data, cuts, observer, marks=marks, groups=groups, workers=workers)
        data, groups = cuts, None
    source = open_source(data, recipe.source, groups)
    result = prepare(
        source, recipe, out, workers=workers, progress=lambda done, total: observer.progress("Preparing", done, total)
    )
    if (data / TILES).is_file():
        keep_slides(data, out)
    _tell(observer, result.notes, result.warnings)
    return result


def cut_tiles(
    recipe: Recipe,
    data: Path,
    out: Path,
    observer: Observer,
    *,
    annotations: Path | None = None,
    groups: Path | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> "TilesResult":
    """Cut whole slides into a folder of tiles, and say what came of them; slides that are done are left alone."""
    require_slides()
    from synthoma.preparation.slides.tiles import cut_slides, find_slides

    slides = find_slides(data, recipe, annotations, groups)
    result = cut_slides(
        slides,
        recipe,
        out,
        workers=workers or len(os.sched_getaffinity(0)),
        shard=shard,
        progress=lambda done, total: observer.progress("Cutting slides", done, total),
    )
    keep_terms(data, out)
    _tell(observer, *describe_tiles(result, slides.patients))
    return result


def cut_ct(
    recipe: Recipe,
    data: Path,
    out: Path,
    observer: Observer,
    *,
    marks: Path | None = None,
    groups: Path | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (0, 1),
    key_file: Path | None = None,
) -> "CutResult":
    """Cut CT volumes into a folder of cubes or slices, and say what came of them; volumes that are done are left alone.

    key_file: of the pseudonyms' key; None for the one in the user's own configuration.
    """
    require_ct()
    from synthoma.preparation.ct.cut import cut_volumes
    from synthoma.preparation.ct.find import find_volumes
    from synthoma.preparation.ct.summary import describe_cuts

    volumes = find_volumes(
        data,
        recipe,
        marks,
        groups,
        key_file=key_file,
        progress=lambda done, total: observer.progress("Looking into files", done, total),
    )
    result = cut_volumes(
        volumes,
        recipe,
        out,
        workers=workers or len(os.sched_getaffinity(0)),
        shard=shard,
        progress=lambda done, total: observer.progress("Cutting volumes", done, total),
    )
    _tell(observer, *describe_cuts(result))
    return result


def sections_that_matter(recipe: Recipe, data: Path, annotations: Path | None = None) -> list[str]:
    """Sections of the recipe on which a dataset made of `data` depends: how slides or volumes are cut concerns these only."""
    sections = ["source", "preparation", "data"]
    if holds_slides(data, recipe, annotations):
        sections.append("slides")
    elif (data / CUTS).is_file() or holds_ct(data, recipe):
        sections.append("ct")
    return sections


def _tell(observer: Observer, notes: Iterable[str], warnings: Iterable[str]) -> None:
    for note in notes:
        observer.say(note)
    for warning in warnings:
        observer.warn(warning)
