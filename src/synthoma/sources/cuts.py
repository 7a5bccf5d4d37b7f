"""Cubes and slices that were cut out of CT volumes: a folder of shards, read as one set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import DataError
from synthoma.formats.cuts import MASK_BY, PLACE, SETTINGS, CutsShard, cuts_shards
from synthoma.recipe import SourceSection
from synthoma.records import Origin, Pixels, Record, Unit, pseudonym, record_key
from synthoma.sources.source import ListedSource

DESCRIPTION = "cuts: a folder that `synthoma cut` made from CT volumes"


def recognises(path: Path, section: SourceSection) -> bool:
    """A folder with cuts.json."""
    return path.is_dir() and (path / SETTINGS).is_file()


@dataclass
class CutsSource(ListedSource):
    """Cubes or slices of all shards; all of a patient are one group. Pixels [*spatial, 1] stay in HU.

    Where a record came from is its shard: the names of files are known to nobody but the owner of the key.
    """

    folder: Path
    walks: bool = False
    parallel: bool = False
    _shards: dict[str, CutsShard] = field(default_factory=dict)
    _open: tuple[str, NDArray[Any], NDArray[np.uint8] | None, list[str]] | None = None

    @classmethod
    def open(cls, path: Path, section: SourceSection, groups: Path | None) -> "CutsSource":
        if groups or section.groups:
            raise DataError(f"{path}: a groups file names volumes; give it where they are cut (synthoma cut --groups).")
        return cls(path)

    @property
    def root(self) -> Path:
        return self.folder

    def _list(self) -> list[Record]:
        found = cuts_shards(self.folder)
        self._shards = {shard.key: shard for shard in found}
        records = [record for shard in found for record in self._records_of(shard)]
        if not found:
            self.notes.append("No volume was cut.")
            return records
        empty = sum(shard.info["taken"] == 0 for shard in found)
        self.notes.append(f"{len(records)} {found[0].info['cut']} of {len(found) - empty} volumes.")
        if empty:
            self.warnings.append(f"{empty} of {len(found)} volumes gave none of the {found[0].info['cut']}.")
        if unknown := sum(shard.info["unit"] == "unknown" and shard.info["taken"] > 0 for shard in found):
            self.warnings.append(
                f"{unknown} of {len(found)} volumes do not say their unit; if it is Hounsfield units: --set ct.unit=hu."
            )
        return records

    def _records_of(self, shard: CutsShard) -> list[Record]:
        table = shard.table()
        attributes = [name for name in table if name not in PLACE]
        facts = shard.info["volume"]["facts"]
        unit: Unit = shard.info["unit"]
        spacing = shard.info["spacing"]
        owner = str(shard.info["group"])
        return [
            Record(
                key=record_key(f"{shard.key}/{row}"),
                label=table["label"][i],
                group=pseudonym(owner),
                origin=Origin(shard.path, f"{shard.key}[{row}]", owner),
                attributes={**facts, **{name: table[name][i] for name in attributes}},
                unit=unit,
                spacing=None if spacing is None else tuple(spacing),
            )
            for i, row in enumerate(table["row"])
            if row is not None
        ]

    def read(self, record: Record, max_pixels: int) -> Pixels:
        self.records()
        key, place = record.origin.inside.removesuffix("]").split("[")
        if self._open is None or self._open[0] != key:
            self._open = self._opened(key)
        _, pixels, masks, mask_by = self._open
        row = int(place)
        mask = None if masks is None or mask_by[row] == "none" else np.array(masks[row])[..., None]
        return Pixels(np.array(pixels[row])[..., None], record.unit, record.spacing, mask)

    def _opened(self, key: str) -> tuple[str, NDArray[Any], NDArray[np.uint8] | None, list[str]]:
        shard = self._shards[key]
        table = shard.table()
        mask_by = {row: by for row, by in zip(table["row"], table[MASK_BY], strict=True) if row is not None}
        return key, shard.pixels(), shard.masks(), [str(mask_by[row]) for row in range(shard.info["stored"])]
