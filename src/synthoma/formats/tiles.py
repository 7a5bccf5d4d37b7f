"""A shard: the tiles of one slide, on disk. A folder of shards is what a run trains on, read as one source.

    TILES/tiles.json                 schema and settings that all shards have in common
    TILES/<slide key>/pixels.npy     uint8 [n, tile, tile, 3], the tiles that were taken
    TILES/<slide key>/tiles.parquet  a row a place that was looked at: where, label, reason where not taken, scores
    TILES/<slide key>/slide.json     what is known of the slide, without its name
    TILES/private/slides/<key>.json  its file and patient; overlays and contact sheets lie beside
Shards do not know of each other, so that a thousand machines can make one each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from synthoma.errors import DataError
from synthoma.run import read_json, write_json

SCHEMA_VERSION = 1
SETTINGS, INFO, TABLE, PIXELS, PRIVATE = "tiles.json", "slide.json", "tiles.parquet", "pixels.npy", "private"


class PixelsWriter:
    """Appends images uint8 [k, *shape] to an .npy file whose length is not known before; memory does not grow with it."""

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        self.shape, self.count = tuple(shape), 0
        self._file = path.open("wb")
        self._header()
        self._start = self._file.tell()

    def _header(self) -> None:
        # numpy leaves room for the first axis to grow, so the header keeps its length.
        described = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self._file, described)

    def append(self, images: NDArray[np.uint8]) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise ValueError(
                f"images of uint8 and shape {self.shape} are expected, not {images.dtype} {images.shape[1:]}"
            )
        self._file.write(np.ascontiguousarray(images).data)
        self.count += len(images)

    def __enter__(self) -> "PixelsWriter":
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
    """The tiles of one slide. info: slide.json; columns of the table have a row for each place that was looked at."""

    path: Path
    info: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Shard":
        """Raises `DataError` where files are missing or do not fit each other."""
        missing = [name for name in (INFO, TABLE, PIXELS) if not (path / name).is_file()]
        if missing:
            raise DataError(
                f"{path} is no whole shard of tiles: {', '.join(missing)} missing. Remove it and cut the slide again."
            )
        shard = cls(path, read_json(path / INFO))
        if len(shard.pixels()) != shard.info["stored"]:
            raise DataError(f"{path}: {PIXELS} and {INFO} disagree. Remove the folder and cut the slide again.")
        return shard

    @property
    def key(self) -> str:
        """Key of the slide."""
        return str(self.info["key"])

    def pixels(self) -> NDArray[np.uint8]:
        """Memory-mapped uint8 [n, tile, tile, 3]."""
        try:
            mapped: NDArray[np.uint8] = np.load(self.path / PIXELS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path / PIXELS} cannot be read: {error}. Remove the folder and cut the slide again."
            ) from error
        return mapped

    def table(self) -> dict[str, list[Any]]:
        """Column -> values, of all places, taken (`row` is their place in the pixels) and rejected (`row` is None)."""
        try:
            return dict(pq.read_table(self.path / TABLE).to_pydict())
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{self.path / TABLE} cannot be read: {error}. Remove the folder and cut the slide again."
            ) from error


def write_shard_table(folder: Path, columns: Mapping[str, Sequence[Any] | NDArray[np.generic]]) -> None:
    """tiles.parquet of a shard."""
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), folder / TABLE)


def write_shard_info(folder: Path, info: Mapping[str, Any]) -> None:
    """slide.json of a shard; has to hold `key` and `stored`, the number of pixels' rows."""
    write_json(folder / INFO, dict(info))


def shards(folder: Path) -> list[Shard]:
    """All shards of a folder of tiles, by key. Raises `DataError` for a folder that is none, or of another version."""
    settings = folder / SETTINGS
    if not settings.is_file():
        raise DataError(f"{folder} holds no tiles: {SETTINGS} is missing.")
    version = read_json(settings).get("schema")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{folder} has tiles of schema {version}, this version reads {SCHEMA_VERSION}. Cut the slides again."
        )
    # Hidden folders are what a kill left half written, or already replaced.
    return [Shard.open(path.parent) for path in sorted(folder.glob(f"[!.]*/{INFO}"))]


def private_info(folder: Path, key: str) -> dict[str, Any]:
    """File, patient and class folder of a slide, as they were when it was cut."""
    return dict(read_json(folder / PRIVATE / "slides" / f"{key}.json"))
