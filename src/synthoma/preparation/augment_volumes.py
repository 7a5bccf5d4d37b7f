"""Augmented copies of volumes on the disk, with their masks: the stage `synthoma augment`.

Each copy is drawn by the seed, the name of its volume and its own number, so that other files beside it change nothing,
and its parameters are kept: `deform_nodule` makes it again.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.draws import StepDraws
from synthoma.errors import DataError
from synthoma.formats.arrays import encode_npy, read_npy
from synthoma.formats.nifti import encode_nifti, read_placed_nifti
from synthoma.records import record_key
from synthoma.run import write_atomically
from synthoma.transforms.deform import DeformationRanges, draw_deformation
from synthoma.transforms.nodules import deform_nodule

# The longer ending first: it is cut off a name.
SUFFIXES = (".nii.gz", ".nii", ".npy")
PARAMETERS, MASKS = "augmentation.jsonl", "masks"
_NAMED = 8


class _Volume(NamedTuple):
    """An array [z, y, x]; spacing in mm and affine where the file says them; channel: whether the file has an axis for it."""

    array: NDArray[Any]
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    channel: bool = False


@dataclass(frozen=True)
class Augmented:
    """What was written: copies of how many volumes; failed: file -> why there is none of it."""

    folder: Path
    volumes: int
    copies: int
    failed: dict[Path, str]


def augment_volumes(
    data: Path,
    out: Path,
    ranges: DeformationRanges,
    *,
    times: int,
    masks: Path | None = None,
    spacing: tuple[float, float, float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Augmented:
    """Write `times` augmented copies of each volume of `data` (a file, or a folder of .npy [z, y, x] or [1, z, y, x], .nii, .nii.gz).

    masks: a folder with masks of the same names, or a mask for a single volume; copies go to `out`/masks. spacing: mm along
    z, y, x for files that do not say it; without it their voxels count as cubes. NIfTI files keep their place in the
    world. `out`/augmentation.jsonl has the parameters of each copy. A file that cannot be read costs itself only.

    Raises `DataError` where there is no volume, `out` is not empty, or no volume can be augmented.
    """
    files = find_volumes(data)
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty; name a new or an empty folder.")
    out.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    failed: dict[Path, str] = {}
    for done, file in enumerate(files, start=1):
        try:
            volume, mask = _read(file), _mask_of(file, data, masks)
            lines += _copies(file, volume, mask, out, ranges, times, spacing, seed)
        except DataError as error:
            failed[file] = str(error)
        if progress is not None:
            progress(done, len(files))
    if len(failed) == len(files):
        told = "\n".join(f"  - {reason}" for reason in list(failed.values())[:_NAMED])
        raise DataError(f"none of {len(files)} volumes of {data} could be augmented.\n{told}")
    write_atomically(out / PARAMETERS, "".join(line + "\n" for line in lines))
    return Augmented(out, len(files) - len(failed), len(lines), failed)


def find_volumes(data: Path) -> list[Path]:
    """The volumes of a folder (not of folders in it) in the order of their names, or the one that is named."""
    if not data.exists():
        raise DataError(f"{data} does not exist.")
    files = [data] if data.is_file() else sorted(path for path in data.iterdir() if path.is_file())
    found = [path for path in files if path.name.lower().endswith(SUFFIXES)]
    if not found:
        raise DataError(f"{data} holds no volumes ({', '.join(SUFFIXES)}).")
    return found


def _copies(
    file: Path,
    volume: _Volume,
    mask: _Volume | None,
    out: Path,
    ranges: DeformationRanges,
    times: int,
    spacing: tuple[float, float, float] | None,
    seed: int,
) -> list[str]:
    """Write the copies of one volume; a line of JSON for each."""
    suffix = next(suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix))
    stem = file.name[: -len(suffix)]
    used = volume.spacing or spacing or (1.0, 1.0, 1.0)
    lines = []
    for copy in range(times):
        number = torch.tensor([_number(file.name, copy)])
        try:
            parameters = draw_deformation(ranges, StepDraws(seed, 0, number), volume.array.shape, used)
            made = deform_nodule(volume.array, None if mask is None else mask.array, parameters, used)
        except ValueError as error:
            raise DataError(f"{file}: {error}") from error
        name = f"{stem}-{copy:03d}{'.npy' if suffix == '.npy' else '.nii.gz'}"
        write_atomically(out / name, _encode(made.volume, volume, name))
        if mask is not None and made.mask is not None:
            write_atomically(out / MASKS / name, _encode(made.mask, volume, name))
        content = {"file": name, "source": file.name, "copy": copy, "spacing": list(used)}
        lines.append(json.dumps({**content, "parameters": parameters.to_json()}))
    return lines


def _number(name: str, copy: int) -> int:
    """What keys the draws of a copy: the same whatever lies beside the file."""
    return int(record_key(f"{name}/{copy}")[:14], 16)


def _read(file: Path) -> _Volume:
    if not file.name.lower().endswith(".npy"):
        values, spacing, affine = read_placed_nifti(file)
        if len(values) != 1:
            raise DataError(f"{file} holds {len(values)} channels; a volume of one is expected.")
        return _Volume(np.asarray(values[0]), spacing, affine)
    array = read_npy(file)
    # `synthoma generate` writes channels first.
    return _Volume(array[0], channel=True) if array.ndim == 4 and len(array) == 1 else _Volume(array)


def _mask_of(file: Path, data: Path, masks: Path | None) -> _Volume | None:
    if masks is None:
        return None
    path = masks if masks.is_file() and data.is_file() else masks / file.name
    if not path.is_file():
        raise DataError(f"{file} has no mask: {path} does not exist.")
    return _read(path)


def _encode(array: NDArray[Any], like: _Volume, name: str) -> bytes:
    """The bytes of a file in the format of `name`, at the place of `like`."""
    if name.endswith(".npy"):
        return encode_npy(array[None] if like.channel else array)
    # NIfTI knows no truth values, and few readers know its 64-bit integers; all that were deformed lie within 16 bits.
    narrow = (
        {"b": np.uint8, "i": np.int16, "u": np.int16} if array.dtype.kind == "b" or array.dtype.itemsize == 8 else {}
    )
    stored = array.astype(narrow.get(array.dtype.kind, array.dtype))
    return encode_nifti(stored[None], like.spacing, "augmented by Synthoma", {"augmented": name}, like.affine)


def describe(result: Augmented) -> Sequence[str]:
    """What was done and what failed, for the terminal."""
    told = [f"{result.copies} copies of {result.volumes} volumes, parameters in {result.folder / PARAMETERS}."]
    return [*told, *(f"Left out: {reason}" for reason in list(result.failed.values())[:_NAMED])]
