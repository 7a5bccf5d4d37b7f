"""Volumes of all kinds below a folder: DICOM series by content, NIfTI, MetaImage and NRRD by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from synthoma.errors import VolumeError
from synthoma.formats.files import relative_place, walk_files
from synthoma.formats.volumes.dicom import list_dicom, read_dicom
from synthoma.formats.volumes.files import is_file_name, list_file, read_file
from synthoma.formats.volumes.headers import VolumeFileError
from synthoma.formats.volumes.shapes import LeftOut, Listing, OnGap, Volume, VolumeFile

_DICOM_SUFFIXES = (".dcm", ".ima")
# Voxels of a MetaImage or NRRD; whoever reads its header reads them.
_VOXEL_SUFFIXES = (".raw", ".zraw")
_PREAMBLE = 128
_LOOKED_INTO = 32


def list_volumes(
    path: Path,
    *,
    unit: Literal["auto", "hu"] = "auto",
    burned_in: Literal["refuse", "allow"] = "refuse",
    progress: Callable[[int, int], None] | None = None,
) -> Listing:
    """All volumes of a file or a folder of any nesting, from their headers; masks are volumes too.

    DICOM series come first, then files by their place. unit: of files that do not say it, as in `list_file`.
    burned_in: of DICOM, as in `list_dicom`. progress: called with (DICOM files looked into, all).
    A file of a folder that cannot be used is in `left_out`.

    Raises `VolumeError` for a path that is not there, and for one file that cannot be used; `DataError` for a folder
    that cannot be listed; `MissingExtraError` for what is not installed.
    """
    path = Path(path)
    if path.is_file() and is_file_name(path.name):
        return Listing((list_file(path, unit),))
    if path.is_file():
        return list_dicom(path, burned_in, progress)
    if not path.is_dir():
        raise VolumeError(f"{path} does not exist; name a folder with CT volumes, or a file.")
    files = walk_files(path)
    named = [file for file in files if is_file_name(file.name)]
    # The reader of DICOM looks into all files, so it is asked only where there are some that may be its own.
    others = len(files) - len(named) - sum(file.name.lower().endswith(_VOXEL_SUFFIXES) for file in files)
    series = list_dicom(path, burned_in, progress) if others else Listing(())
    volumes, left_out = _list_files(path, named, unit)
    return Listing((*series.volumes, *volumes), (*series.left_out, *left_out))


def read_volume(volume: VolumeFile, on_gap: OnGap = "error") -> Volume:
    """The voxels of a listed volume. on_gap: of DICOM series, as in `read_dicom`; files have no slices that could miss.

    Raises `VolumeError` for what cannot be read, or has a problem that is not to be mended.
    """
    return read_dicom(volume, on_gap) if volume.kind == "dicom" else read_file(volume)


def is_volume_name(name: str) -> bool:
    """Whether a file is named like a volume, or like a slice of one: .nii, .nii.gz, .mhd, .mha, .nrrd, .nhdr, .dcm, .ima."""
    return is_file_name(name) or name.lower().endswith(_DICOM_SUFFIXES)


def holds_volumes(path: Path) -> bool:
    """Whether a file is a volume or slice, or a folder holds one: by names, or by the mark of DICOM in the first files.

    Cheap: at most 32 files are opened. Hidden files and folders are left out. False where there is nothing to be read.
    """
    path = Path(path)
    if path.is_file():
        return is_volume_name(path.name) or _is_marked_dicom(path)
    unnamed: list[Path] = []
    for root, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        seen = sorted(name for name in names if not name.startswith("."))
        if any(is_volume_name(name) for name in seen):
            return True
        unnamed += [Path(root) / name for name in seen[: _LOOKED_INTO - len(unnamed)]]
    return any(_is_marked_dicom(file) for file in unnamed)


def _list_files(root: Path, files: list[Path], unit: Literal["auto", "hu"]) -> tuple[list[VolumeFile], list[LeftOut]]:
    volumes: list[VolumeFile] = []
    left_out: list[LeftOut] = []
    for file in sorted(files, key=lambda file: relative_place(file, root)):
        try:
            volumes.append(list_file(file, unit))
        except VolumeFileError as error:
            left_out.append(LeftOut("unusable file", error.reason, file))
    return volumes, left_out


def _is_marked_dicom(path: Path) -> bool:
    """Whether the letters DICM follow the preamble (PS3.10 7.1)."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False
