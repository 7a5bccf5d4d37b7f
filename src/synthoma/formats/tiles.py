"""Tiles of whole slides, on disk: a shard a slide (`formats/shards.py`).

TILES/tiles.json                 schema and settings that all shards have in common
TILES/<slide key>/pixels.npy     uint8 [n, tile, tile, 3], the tiles that were taken
TILES/<slide key>/tiles.parquet  a row a place that was looked at: where, label, reason where not taken, scores
TILES/<slide key>/slide.json     what is known of the slide, without its name
TILES/private/slides/<key>.json  its file and patient; overlays and contact sheets lie beside
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.formats import shards as shard_files
from synthoma.formats.shards import PIXELS, Layout, PixelsWriter
from synthoma.run import read_json

SCHEMA_VERSION = 1
SETTINGS, INFO, TABLE, PRIVATE = "tiles.json", "slide.json", "tiles.parquet", "private"

__all__ = [
    "INFO",
    "PIXELS",
    "PRIVATE",
    "SCHEMA_VERSION",
    "SETTINGS",
    "TABLE",
    "PixelsWriter",
    "Shard",
    "private_info",
    "shards",
    "write_shard_info",
    "write_shard_table",
]


class Shard(shard_files.Shard):
    """The tiles of one slide. info: slide.json; columns of the table have a row for each place that was looked at."""

    layout = Layout("tiles", "slide", SETTINGS, INFO, TABLE, SCHEMA_VERSION)


def write_shard_table(folder: Path, columns: Mapping[str, Sequence[Any] | NDArray[np.generic]]) -> None:
    """tiles.parquet of a shard."""
    Shard.write_table(folder, columns)


def write_shard_info(folder: Path, info: Mapping[str, Any]) -> None:
    """slide.json of a shard; has to hold `key` and `stored`, the number of pixels' rows."""
    Shard.write_info(folder, info)


def shards(folder: Path) -> list[Shard]:
    """All shards of a folder of tiles, by key. Raises `DataError` for a folder that is none, or of another version."""
    return Shard.all_below(folder)


def private_info(folder: Path, key: str) -> dict[str, Any]:
    """File, patient and class folder of a slide, as they were when it was cut."""
    return dict(read_json(folder / PRIVATE / "slides" / f"{key}.json"))
