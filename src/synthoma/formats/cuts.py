"""Cubes and slices of CT volumes, on disk: a shard a volume (`formats/shards.py`).

    CUTS/cuts.json                  schema, settings that all shards have in common, fingerprint of the pseudonyms' key
    CUTS/<volume key>/pixels.npy    int16 HU [n, z, y, x] (cubes) or [n, y, x] (slices); own numbers where the unit is unknown
    CUTS/<volume key>/masks.npy     uint8 of the same shape, 0 and 1; only where there are masks
    CUTS/<volume key>/cuts.parquet  a row a mark or slice: where, label, reason where not taken, attributes
    CUTS/<volume key>/volume.json   what is known of the volume, without any name
Keys are pseudonyms by a key that lies elsewhere (`preparation/ct/pseudonyms.py`); no file name, patient, UID or date is
in any of these files. Places are told relative to the volume: voxels from its lowest, foremost, rightmost one.
"""

from pathlib import Path

from synthoma.errors import DataError
from synthoma.formats import shards as shard_files
from synthoma.formats.shards import MASKS, PIXELS, Layout, PixelsWriter
from synthoma.run import read_json

SCHEMA_VERSION = 1
SETTINGS, INFO, TABLE = "cuts.json", "volume.json", "cuts.parquet"
# Columns of a shard's table that say where a cut is and what became of it; all others are attributes.
PLACE = ("row", "label", "reason", "mark", "index_z", "index_y", "index_x")
# Whose mask it is, a column too: "readers" (consensus), "segmenter", "box", or "none" where there is no mask.
MASK_BY = "mask_by"

__all__ = [
    "INFO",
    "MASKS",
    "MASK_BY",
    "PIXELS",
    "PLACE",
    "SCHEMA_VERSION",
    "SETTINGS",
    "TABLE",
    "CutsShard",
    "PixelsWriter",
    "cuts_shards",
]


class CutsShard(shard_files.Shard):
    """The cubes or slices of one volume. info: volume.json."""

    layout = Layout("cuts", "volume", SETTINGS, INFO, TABLE, SCHEMA_VERSION)


def cuts_shards(folder: Path) -> list[CutsShard]:
    """All shards of a folder of cuts, by key.

    Raises `DataError` for a folder that is none, of another version, or with shards that were cut in another way.
    """
    found = CutsShard.all_below(folder)
    settings = read_json(folder / SETTINGS).get("settings")
    if others := sum(shard.info["settings"] != settings for shard in found):
        raise DataError(
            f"{folder}: {others} of {len(found)} volumes were cut with other settings than the rest; cut them again into this "
            "folder, or all into a new one."
        )
    return found
