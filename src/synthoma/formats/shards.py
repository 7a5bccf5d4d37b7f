"""A shard: what was cut out of one file, on disk. A folder of shards is what a run trains on, read as one source.

    FOLDER/<settings>          schema and settings that all shards have in common
    FOLDER/<key>/pixels.npy    [n, *shape], what was taken
    FOLDER/<key>/masks.npy     uint8 [n, *spatial], where there are masks
    FOLDER/<key>/<table>       a row a place that was looked at: where, label, reason where not taken, attributes
    FOLDER/<key>/<info>        what is known of the file, without its name
Shards do not know of each other, so that a thousand machines can make one each. `formats/tiles.py` and `formats/cuts.py`
say how these files are called for slides and volumes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from synthoma.errors import DataError
from synthoma.run import read_json, write_json

PIXELS, MASKS = "pixels.npy", "masks.npy"


@dataclass(frozen=True)
class Layout:
    """How the files of a kind of shard are called. pieces: "tiles", source: "slide", as messages call them."""

    pieces: str
    source: str
    settings: str
    info: str
    table: str
    schema: int


class PixelsWriter:
    """Appends images [k, *shape] to an .npy file whose length is not known before; memory does not grow with it."""

    def __init__(self, path: Path, shape: Sequence[int], dtype: DTypeLike = np.uint8) -> None:
        self.shape, self.dtype, self.count = tuple(shape), np.dtype(dtype).newbyteorder("<"), 0
        self._file = path.open("wb")
        self._header()
        self._start = self._file.tell()

    def _header(self) -> None:
        # numpy leaves room for the first axis to grow, so the header keeps its length.
        described = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, described)

    def append(self, images: NDArray[np.generic]) -> None:
        if images.dtype != self.dtype or images.shape[1:] != self.shape:
            raise ValueError(
                f"images of {self.dtype} and shape {self.shape} are expected, not {images.dtype} {images.shape[1:]}"
            )
        self._file.write(np.ascontiguousarray(images, dtype=self.dtype).data)
        self.count += len(images)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._header()
                if self._file.tell() != self._start:
                    raise RuntimeError("the header of an .npy file changed its length")


@dataclass(frozen=True)
class Shard:
    """What was cut out of one file. info: has `key` and `stored`, the number of pixels' rows."""

    path: Path
    info: Mapping[str, Any]
    layout: ClassVar[Layout]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises `DataError` where files are missing or do not fit each other."""
        layout = cls.layout
        missing = [name for name in (layout.info, layout.table, PIXELS) if not (path / name).is_file()]
        if missing:
            raise DataError(
                f"{path} is no whole shard of {layout.pieces}: {', '.join(missing)} missing. "
                f"Remove it and cut the {layout.source} again."
            )
        shard = cls(path, read_json(path / layout.info))
        if len(shard.pixels()) != shard.info["stored"]:
            raise DataError(
                f"{path}: {PIXELS} and {layout.info} disagree. Remove the folder and cut the {layout.source} again."
            )
        return shard

    @property
    def key(self) -> str:
        """Key of the file that it was cut from."""
        return str(self.info["key"])

    def pixels(self) -> NDArray[Any]:
        """Memory-mapped [n, *shape]."""
        return self._mapped(PIXELS)

    def masks(self) -> NDArray[np.uint8] | None:
        """Memory-mapped uint8 [n, *spatial] of 0 and 1; None where the shard has none."""
        return self._mapped(MASKS) if (self.path / MASKS).is_file() else None

    def _mapped(self, name: str) -> NDArray[Any]:
        try:
            mapped: NDArray[Any] = np.load(self.path / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path / name} cannot be read: {error}. Remove the folder and cut the {self.layout.source} again."
            ) from error
        return mapped

    def table(self) -> dict[str, list[Any]]:
        """Column -> values, of all places, taken (`row` is their place in the pixels) and rejected (`row` is None)."""
        file = self.path / self.layout.table
        try:
            return dict(pq.read_table(file).to_pydict())
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{file} cannot be read: {error}. Remove the folder and cut the {self.layout.source} again."
            ) from error

    @classmethod
    def write_table(cls, folder: Path, columns: Mapping[str, Sequence[Any] | NDArray[np.generic]]) -> None:
        """The table of a shard that is being made."""
        pq.write_table(
            pa.table({name: pa.array(values) for name, values in columns.items()}), folder / cls.layout.table
        )

    @classmethod
    def write_info(cls, folder: Path, info: Mapping[str, Any]) -> None:
        """What is known of the file; has to hold `key` and `stored`."""
        write_json(folder / cls.layout.info, dict(info))

    @classmethod
    def all_below(cls, folder: Path) -> list[Self]:
        """All shards of a folder, by key. Raises `DataError` for a folder that has none, or those of another version."""
        layout = cls.layout
        settings = folder / layout.settings
        if not settings.is_file():
            raise DataError(f"{folder} holds no {layout.pieces}: {layout.settings} is missing.")
        version = read_json(settings).get("schema")
        if version != layout.schema:
            raise DataError(
                f"{folder} has {layout.pieces} of schema {version}, this version reads {layout.schema}. "
                f"Cut the {layout.source}s again."
            )
        # Hidden folders are what a kill left half written, or already replaced.
        return [cls.open(path.parent) for path in sorted(folder.glob(f"[!.]*/{layout.info}"))]
