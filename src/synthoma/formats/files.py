"""Files below a folder, and what they are called whatever the file system."""

import os
import unicodedata
from pathlib import Path

from synthoma.errors import DataError

# Marks of byte order, the zeros of UTF-16, and space: what may stand before the first character of a text.
_BEFORE = b"\xef\xbb\xbf\xff\xfe\0 \t\r\n"
# Folders that file managers and archivers leave behind.
_LITTER = frozenset({"__MACOSX"})


def normal_name(name: str) -> str:
    """A name in Unicode's composed form: file systems store 'ä' in two ways, and one class must stay one."""
    return unicodedata.normalize("NFC", name)


def relative_place(path: Path, root: Path) -> str:
    """Place of a file below `root` with forward slashes, in composed Unicode; the whole path where it lies elsewhere."""
    place = path.relative_to(root) if path.is_relative_to(root) else path
    return normal_name(place.as_posix())


def walk_files(root: Path) -> list[Path]:
    """All files below a folder without hidden ones, sorted by place. Links are followed, but never round in a circle.

    Raises `DataError` for a folder that cannot be listed, and for a name that is no text: it could not be written down.
    """
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
            _check_name(entry)
            if _is_folder(entry):
                visit(Path(entry.path))
            else:
                files.append(Path(entry.path))

    visit(root)
    return files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: whoever reads it says so
        return False


def _check_name(entry: os.DirEntry[str]) -> None:
    try:
        entry.name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(entry.path).decode(errors="backslashreplace")
        raise DataError(f"the name of {shown} is not written in UTF-8; rename the file.") from error


def first_character(head: bytes) -> bytes:
    """The byte with which a text begins, in UTF-8 or UTF-16; b"" where its head is empty or space."""
    return head.lstrip(_BEFORE)[:1]


def file_identity(file: Path) -> list[str | int | None]:
    """What tells whether a file was changed, without reading gigabytes of it: name, size and time of change."""
    try:
        status = file.stat()
    except OSError:
        # A link that leads nowhere, say: whoever reads it says so, and it costs itself only.
        return [file.name, None, None]
    return [file.name, status.st_size, status.st_mtime_ns]
