"""How patient a download is, and whether the disk has room for it."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from synthoma.fetching.failure import FetchError

ZENODO_API = "https://zenodo.org/api/records"
_SPARE = 64 << 20  # bytes that stay free on the disk
_LONGEST_WAIT = 120.0  # seconds

Progress = Callable[[str, int, int], None]  # what, done, in all (0: not known); kB of a file, files of an archive


def free_bytes(folder: Path) -> int:
    """Free space of the disk on which `folder` lies, or will lie."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def in_words(size: float) -> str:
    """Bytes as '12 kB', '3.4 MB', '5.6 GB'."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 1e3:,.0f} kB"


def require_space(folder: Path, needed: int, free: Callable[[Path], int]) -> None:
    """Raises `FetchError` where the disk of `folder` has not `needed` bytes and a little to spare."""
    left = free(folder)
    if needed + _SPARE > left:
        raise FetchError(
            f"{folder} has {in_words(left)} free, and {in_words(needed)} are needed. Make room, or choose another --out."
        )


@dataclass(frozen=True)
class Conditions:
    """How patient a download is, and what it asks about the machine.

    attempts: tries in a row that may bring nothing. timeout: seconds to connect, and between two pieces.
    zenodo_api: where records of Zenodo are described.
    """

    attempts: int = 6
    timeout: tuple[float, float] = (15.0, 60.0)
    sleep: Callable[[float], None] = time.sleep
    free: Callable[[Path], int] = free_bytes
    progress: Progress = lambda what, done, total: None
    zenodo_api: str = ZENODO_API

    def wait(self, failures: int, asked: float | None = None) -> None:
        """Wait before the next try: as long as the server asks, else 1, 2, 4, ... seconds; never over two minutes."""
        self.sleep(min(2.0 ** (failures - 1) if asked is None else asked, _LONGEST_WAIT))
