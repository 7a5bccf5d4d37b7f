"""One mark or slice that was looked at, and the writer that puts those that are taken on disk as they come."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.cuts import MASK_BY, MASKS, PIXELS, PLACE, CutsShard, PixelsWriter
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.shapes import Volume

# Beyond the volume is air; where the unit is not known, the volume's lowest value.
AIR = -1000.0

AttributeValue = float | str | None


@dataclass(frozen=True, eq=False)
class Piece:
    """A cube or slice. reason: why it is not taken, else "". pixels [*spatial], and mask of 0 and 1 or None.

    index: (z, y, x) of its centre in the volume in LPS order, None where it is not known.
    """

    mark: str
    index: tuple[float, float, float] | None
    label: str | None
    reason: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    pixels: NDArray[np.generic] | None = None
    mask: NDArray[np.uint8] | None = None
    mask_by: str = "none"


class PieceWriter:
    """Appends pieces to the files of a shard; in memory stays only the table."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stored = folder, 0
        self._lines: list[dict[str, Any]] = []
        self._pixels: PixelsWriter | None = None
        self._masks: PixelsWriter | None = None

    def append(self, piece: Piece) -> None:
        """All pieces that are taken have to be of one shape and type."""
        z, y, x = piece.index or (None, None, None)
        row = None
        if not piece.reason:
            if piece.pixels is None:
                raise ValueError("a piece that is taken needs pixels")
            row = self._store(piece.pixels, piece.mask)
        line = {"row": row, "label": piece.label, "reason": piece.reason, "mark": piece.mark}
        own = {name: _plain(value) for name, value in piece.attributes.items() if name not in line}
        self._lines.append({**line, "index_z": z, "index_y": y, "index_x": x, **own, MASK_BY: piece.mask_by})

    def _store(self, pixels: NDArray[np.generic], mask: NDArray[np.uint8] | None) -> int:
        if self._pixels is None:
            self._pixels = PixelsWriter(self.folder / PIXELS, pixels.shape, pixels.dtype)
        self._pixels.append(pixels[None])
        if mask is not None and self._masks is None:
            self._masks = PixelsWriter(self.folder / MASKS, pixels.shape)
            for _ in range(self.stored):
                self._masks.append(np.zeros((1, *pixels.shape), np.uint8))
        if self._masks is not None:
            self._masks.append(np.zeros((1, *pixels.shape), np.uint8) if mask is None else mask[None])
        self.stored += 1
        return self.stored - 1

    @property
    def facts(self) -> dict[str, Any]:
        """Counts for volume.json."""
        taken = [line for line in self._lines if line["row"] is not None]
        rejected = Counter(line["reason"].partition(" (")[0] for line in self._lines if line["row"] is None)
        return {
            "taken": len(taken),
            "stored": self.stored,
            "places": len(self._lines),
            "classes": dict(sorted(Counter(line["label"] or "" for line in taken).items())),
            "masks": dict(sorted(Counter(line[MASK_BY] for line in taken).items())),
            "rejected": dict(sorted(rejected.items())),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pixels is None and kind is None:
            # A volume without a piece is a whole shard too.
            self._pixels = PixelsWriter(self.folder / PIXELS, (1, 1), np.int16)
        for writer in (self._pixels, self._masks):
            if writer is not None:
                writer.__exit__(kind, error, trace)
        if kind is None:
            CutsShard.write_table(self.folder, self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        names = dict.fromkeys([*PLACE, MASK_BY, *(name for line in self._lines for name in line)])
        columns = {name: [line.get(name) for line in self._lines] for name in names}
        for name, values in columns.items():
            # A column of tables may be a number here and a text there.
            if any(isinstance(value, str) for value in values):
                columns[name] = [None if value is None else str(value) for value in values]
        return columns


def stored_values(values: NDArray[np.floating[Any]], like: Volume) -> NDArray[np.generic]:
    """Interpolated values in the type that is stored: int16 where the volume is, else float32."""
    if like.unit == "hu" or like.array.dtype == np.int16:
        return np.clip(np.rint(values), -32768, 32767).astype(np.int16)
    return values.astype(np.float32)


def value_outside(volume: Volume) -> float:
    """What is beyond the border of a volume."""
    return AIR if volume.unit == "hu" else float(np.min(volume.array))


def index_in(geometry: Geometry, center: tuple[float, float, float]) -> tuple[float, float, float]:
    """(z, y, x) of a place (x, y, z) in mm."""
    z, y, x = (float(value) for value in geometry.index(center))
    return z, y, x


def _plain(value: Any) -> AttributeValue:
    """Numbers of numpy as those of Python; what is no number is missing."""
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    return number if np.isfinite(number) else None
