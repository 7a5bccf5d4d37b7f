"""What every reader offers, and the walk over a folder that several of them share."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from synthoma.errors import DataError
from synthoma.formats.images import is_image_name, read_image
from synthoma.records import Pixels, Record

# Folders that file managers and archivers leave behind.
_LITTER = frozenset({"__MACOSX"})


class Source(Protocol):
    """One set of raw data. Small and picklable: worker processes get a copy.

    root: places of images (`Origin.path`) are told relative to this folder.
    walks: whether the reader takes whatever lies below `root`, so that nothing may be written there.
    parallel: whether `read` gains from worker processes (decoding does, cutting a piece of an array does not).
    """

    @property
    def root(self) -> Path: ...

    @property
    def walks(self) -> bool: ...

    @property
    def parallel(self) -> bool: ...

    @property
    def notes(self) -> Sequence[str]:
        """What the reader decided, in plain words: pooled folders, ignored files."""
        ...

    @property
    def warnings(self) -> Sequence[str]: ...

    def records(self) -> Sequence[Record]:
        """All images that there are, in an order that does not depend on the file system; no pixels are read."""
        ...

    def read(self, record: Record, max_pixels: int) -> Pixels:
        """Pixels [*spatial, c] of one record. Raises `ImageFileError` where they cannot be read."""
        ...


def read_picture(record: Record, max_pixels: int) -> Pixels:
    """Pixels of a record that is a picture file."""
    image = read_image(record.origin.path, max_pixels)
    if image.array.dtype.itemsize == 2:
        return Pixels(image.array, "grey16", record.spacing)
    return Pixels(image.array, "rgb8" if image.colour else "grey8", record.spacing)


def normal_name(name: str) -> str:
    """A name in Unicode's composed form: file systems store 'ä' in two ways, and one class must stay one."""
    return unicodedata.normalize("NFC", name)


def relative_place(path: Path, root: Path) -> str:
    """Place of a file below `root` with forward slashes, in composed Unicode; the whole path where it lies elsewhere."""
    place = path.relative_to(root) if path.is_relative_to(root) else path
    return normal_name(place.as_posix())


def walk_files(root: Path) -> list[Path]:
    """All files below a folder without hidden ones, sorted by place. Links are followed, but never round in a circle."""
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()

    def visit(folder: Path) -> None:
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: normal_name(entry.name))
        except OSError as error:
            raise DataError(f"{folder} cannot be listed: {error.strerror}.") from error
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _LITTER:
                continue
            if entry.is_dir():
                visit(Path(entry.path))
            else:
                files.append(Path(entry.path))

    visit(root)
    return files


def image_files(root: Path) -> list[Path]:
    """Files below `root` that are named like pictures."""
    return [path for path in walk_files(root) if is_image_name(path.name)]
