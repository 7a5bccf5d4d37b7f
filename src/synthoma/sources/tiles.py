"""Tiles that were cut from whole slides: a folder of shards, read as one set. The patient of a slide is that of its tiles."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import DataError
from synthoma.formats.tiles import SETTINGS, Shard, private_info, shards
from synthoma.recipe import SourceSection
from synthoma.records import Origin, Pixels, Record, pseudonym, record_key
from synthoma.sources.source import ListedSource

DESCRIPTION = "tiles: a folder that `synthoma tiles` made from whole slides"
# Columns of a shard's table that say where a tile is; all further ones are scores, and become attributes.
PLACE = ("x", "y", "row", "label", "reason")


def recognises(path: Path, section: SourceSection) -> bool:
    """A folder with tiles.json."""
    return path.is_dir() and (path / SETTINGS).is_file()


@dataclass
class TilesSource(ListedSource):
    """Tiles of all shards. Scores of the tiles are attributes, so that `preparation.where` can choose by them."""

    folder: Path
    walks: bool = False
    parallel: bool = False
    _shards: dict[str, Shard] = field(default_factory=dict)
    _open: tuple[str, NDArray[np.uint8]] | None = None

    @classmethod
    def open(cls, path: Path, section: SourceSection, groups: Path | None) -> "TilesSource":
        if groups or section.groups:
            raise DataError(
                f"{path}: a groups file names slides; give it where they are cut (synthoma tiles --groups)."
            )
        return cls(path)

    @property
    def root(self) -> Path:
        return self.folder

    def _list(self) -> list[Record]:
        found = shards(self.folder)
        self._shards = {shard.key: shard for shard in found}
        records = [record for shard in found for record in self._records_of(shard)]
        empty = sum(shard.info["taken"] == 0 for shard in found)
        self.notes.append(f"{len(records)} tiles of {len(found) - empty} slides, {found[0].info['tile']} pixels a side at "
                          f"{found[0].info['mpp']:g} µm a pixel." if found else "No slide was cut.")  # fmt: skip
        if empty:
            self.warnings.append(f"{empty} of {len(found)} slides gave no tile.")
        return records

    def _records_of(self, shard: Shard) -> list[Record]:
        private = private_info(self.folder, shard.key)
        # Without a patient all tiles of the slide still have to stay together.
        owner = private["group"] or shard.key
        table = shard.table()
        scores = [name for name in table if name not in PLACE]
        spacing = (shard.info["mpp"] / 1000,) * 2
        return [
            Record(
                key=record_key(f"{shard.key}/{table['x'][i]:g},{table['y'][i]:g}"),
                label=table["label"][i],
                group=pseudonym(owner),
                origin=Origin(Path(private["file"]), f"{shard.key}[{row}]", owner),
                attributes={name: float(table[name][i]) for name in scores},
                unit="rgb8",
                spacing=spacing,
            )
            for i, row in enumerate(table["row"])
            if row is not None
        ]

    def read(self, record: Record, max_pixels: int) -> Pixels:
        key, row = record.origin.inside.removesuffix("]").split("[")
        if self._open is None or self._open[0] != key:
            self._open = key, self._shards[key].pixels()
        return Pixels(np.array(self._open[1][int(row)]), "rgb8", record.spacing)
