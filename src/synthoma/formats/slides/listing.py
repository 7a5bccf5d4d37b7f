"""Which files of a folder are slides, by their names."""

from pathlib import Path

from synthoma.errors import SlideError
from synthoma.formats.files import walk_files

# Formats of OpenSlide that are one file, or one named file with a folder beside it (.mrxs, .vms, .vmu). DICOM slides are
# folders of many files and are not listed.
SUFFIXES = frozenset({".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu"})


def is_slide_name(name: str) -> bool:
    """Whether a file name ends like that of a slide."""
    return Path(name).suffix.lower() in SUFFIXES


def slide_files(folder: Path | str) -> list[Path]:
    """Files below `folder` that are named like slides, sorted by place; links are followed, never round in a circle.

    A path that is a file is listed as it is, whatever its name. Raises `SlideError` where there is nothing at all, and
    `DataError` where a folder cannot be listed.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise SlideError(f"{folder} does not exist; name a folder with slides.")
    return [path for path in walk_files(folder) if is_slide_name(path.name)]
