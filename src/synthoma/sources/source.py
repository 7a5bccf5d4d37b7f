"""What every reader offers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from synthoma.formats.files import walk_files
from synthoma.formats.images import is_image_name, read_image
from synthoma.records import Pixels, Record


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


@dataclass(kw_only=True)
class ListedSource(ABC):
    """What the readers share: notes and warnings that come up on the way, and a list of records that is made once."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _records: list[Record] | None = None

    def records(self) -> list[Record]:
        """All images, listed when they are first asked for."""
        if self._records is None:
            self._records = self._list()
        return self._records

    @abstractmethod
    def _list(self) -> list[Record]:
        """Find out what there is; adds to notes and warnings."""


def read_picture(record: Record, max_pixels: int) -> Pixels:
    """Pixels of a record that is a picture file."""
    image = read_image(record.origin.path, max_pixels)
    if image.array.dtype.itemsize == 2:
        return Pixels(image.array, "grey16", record.spacing)
    return Pixels(image.array, "rgb8" if image.colour else "grey8", record.spacing)


def image_files(root: Path) -> list[Path]:
    """Files below `root` that are named like pictures."""
    return [path for path in walk_files(root) if is_image_name(path.name)]
