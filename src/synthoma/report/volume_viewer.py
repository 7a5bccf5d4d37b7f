"""Volumes that the reader of a page leafs through: a sprite sheet of each, drawn by a short script of the page's own.

A sprite holds a volume's axial slices as a PNG, without loss; templates/viewer.js puts the slices of all three planes
together from it. The page's content policy allows this script by its hash, and no other. Without scripts, and on
paper, the middle slices show.
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from synthoma.pictures import picture, png_bytes
from synthoma.preparation.resize import resize
from synthoma.report import words
from synthoma.report.facts import Facts, shown_pixels
from synthoma.report.images import Tile, data_uri, tile

MOST_VOLUMES = 8
LONGEST_SIDE = 64  # voxels: larger volumes are reduced for the page
LARGEST = 1_500_000  # bytes that the volumes may add to a page; fewer are shown where they would add more
PLANES = ("Axial", "Coronal", "Sagittal")  # across z, y and x


@dataclass(frozen=True)
class ViewedVolume:
    """The sheet of axial slices, the middle slices in three planes, and a name (the class, or nothing)."""

    sprite: Tile
    still: Tile
    name: str

    @property
    def weight(self) -> int:
        """Bytes that it adds to the page."""
        return len(self.sprite.uri) + len(self.still.uri)


@dataclass(frozen=True)
class Viewer:
    """What the template draws. rows: (title, volumes); size: (z, y, x) as shown; columns: slices in a row of a sprite."""

    rows: list[tuple[str, list[ViewedVolume]]]
    size: tuple[int, ...]
    columns: int
    note: str
    script: Markup
    script_hash: str
    planes: tuple[str, ...] = PLANES


@dataclass(frozen=True)
class _Set:
    """Volumes uint8 [n, c, z, y, x] of one kind, and the class of each in words."""

    kind: str
    title: str
    volumes: NDArray[np.uint8]
    names: list[str]


def volume_viewer(facts: Facts, *, real: bool) -> Viewer | None:
    """A viewer of synthetic volumes, with `real` (for the private page only) beside real training ones.

    None for pictures, and where there is nothing to show. Classes take turns, the first volumes of each: not chosen by eye.
    """
    if facts.size is None or len(facts.size) != 3:
        return None
    sets = _sets(facts, real)
    if not sets:
        return None
    # Column by column, so that as many real as synthetic ones are left out where they would make the page too large.
    encoded: list[list[ViewedVolume]] = [[] for _ in sets]
    weight = 0
    for place in range(max(len(one.volumes) for one in sets)):
        column = [_viewed(one, place) if place < len(one.volumes) else None for one in sets]
        weight += sum(found.weight for found in column if found)
        if place and weight > LARGEST:
            break
        for row, found in zip(encoded, column, strict=True):
            row += [found] if found else []
    size = shown_size(tuple(facts.size))
    script, script_hash = _script()
    rows = [(one.title, row) for one, row in zip(sets, encoded, strict=True)]
    return Viewer(rows, size, sprite_columns(size[0]), _note(facts, size), script, script_hash)


def shown_size(size: tuple[int, ...]) -> tuple[int, ...]:
    """The size (z, y, x) at which volumes are put on a page: all axes reduced alike, to `LONGEST_SIDE` at most."""
    longest = max(size)
    if longest <= LONGEST_SIDE:
        return size
    return tuple(max(1, round(length * LONGEST_SIDE / longest)) for length in size)


def sprite_columns(depth: int) -> int:
    """Slices in a row of a sprite, so that it is about square in slices."""
    return int(np.ceil(np.sqrt(depth)))


def sprite_sheet(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Axial slices of [c, z, y, x] side by side: [c, rows * y, columns * x], z rising along the rows; the rest is black."""
    channels, depth, height, width = volume.shape
    columns = sprite_columns(depth)
    rows = -(-depth // columns)
    slices = np.zeros((channels, rows * columns, height, width), dtype=np.uint8)
    slices[:, :depth] = volume
    grid = slices.reshape(channels, rows, columns, height, width).swapaxes(2, 3)
    return grid.reshape(channels, rows * height, columns * width)


def by_turns(labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Places of the first images of each class, the classes taking turns: at most `most`."""
    rank = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(np.count_nonzero(labels == label))
    return np.lexsort((labels, rank))[:most]


def _sets(facts: Facts, real: bool) -> list[_Set]:
    made = facts.synthetic
    dataset = facts.dataset if real else None
    train = dataset.rows("train") if dataset is not None else np.empty(0, dtype=np.int64)
    has_made = made is not None and len(made.images) > 0
    most = MOST_VOLUMES // 2 if has_made and len(train) else MOST_VOLUMES
    sets = []
    if dataset is not None and len(train):
        rows = train[by_turns(dataset.labels[train], most)]
        volumes = shown_pixels(dataset.images[rows], facts.window)
        sets.append(_Set("real", "Real training volumes", volumes, _names(dataset.classes, dataset.labels[rows])))
    if made is not None and has_made:
        rows = by_turns(made.labels, most)
        sets.append(_Set("synthetic", "Synthetic volumes", made.images[rows], _names(facts.classes, made.labels[rows])))
    return sets


def _names(classes: list[str], labels: NDArray[np.int64]) -> list[str]:
    return [words.spoken(classes[label]) if 0 <= label < len(classes) else "" for label in labels]


def _viewed(one: _Set, place: int) -> ViewedVolume:
    volume, name = one.volumes[place], one.names[place]
    size = shown_size(volume.shape[1:])
    reduced = resize(np.moveaxis(volume, 0, -1), size, "stretch")
    volume = np.moveaxis(reduced, -1, 0).astype(np.uint8)
    alt = f"{one.kind} volume" + (f", {name}" if name else "")
    sheet = picture(sprite_sheet(volume))
    sprite = Tile(data_uri(png_bytes(sheet), "png"), alt, sheet.width, sheet.height)
    return ViewedVolume(sprite, tile(volume, f"{alt}, middle slices"), name)


def _note(facts: Facts, size: tuple[int, ...]) -> str:
    first = "The first of each class in turn" if facts.classes else "The first ones"
    parts = [f"{first}, not chosen by eye.", window_words(facts)]
    if tuple(facts.size or ()) != size:
        whole, shown = (" × ".join(map(str, own)) for own in (facts.size or (), size))
        parts.append(f"Reduced from {whole} to {shown} voxels for this page.")
    return " ".join(part for part in parts if part)


def window_words(facts: Facts) -> str:
    """Which values are drawn black and white; nothing for 8-bit pictures, which are drawn as they are.

    A page has 8 bits, so one window only is offered: a narrower one of the same pixels would show steps that the volumes
    do not have.
    """
    if facts.window is None:
        return ""
    low, high = facts.window
    unit = " HU" if facts.unit == "hu" else ""
    step = f"a grey level is {words.number((high - low) / 255, 2)}{unit}"
    return f"Drawn from {words.fixed(low, 0)}{unit} (black) to {words.fixed(high, 0)}{unit} (white); {step}."


@cache
def _script() -> tuple[Markup, str]:
    """The script as it stands between its tags, and its source expression for the page's content security policy."""
    text = files("synthoma.report").joinpath("templates", "viewer.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return Markup(text), f"sha256-{base64.b64encode(digest).decode()}"  # noqa: S704
