"""Arrays (.npy) and archives of them (.npz), without pickle; sizes of archives are checked before anything is unpacked.

The layout is that of MedMNIST: `{train,val,test}_{images,labels}`, and where present `_masks`, `_ids`, `_ratings`.
"""

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from synthoma.errors import DataError

# Deflate packs zeros about 1,030 : 1; an empty mask comes near that, so only a large member that does is refused.
_BOMB_RATIO = 900
_BOMB_BYTES = 1 << 30
DEFAULT_MAX_BYTES = 64 << 30
_LARGEST_HEADER = 1 << 16


class Member(NamedTuple):
    """Shape and type of an array, as its header says."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def list_arrays(path: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> dict[str, Member]:
    """Name -> shape and type of the arrays of an .npz; only headers are read.

    Raises `DataError` where the file is no archive, where a member is no plain array (objects need pickle, which is
    never used), where header and stored size disagree, or where unpacking would take more than `max_bytes`.
    """
    members: dict[str, Member] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy") or entry.flag_bits & 1:
                    raise DataError(f"{path}: '{entry.filename}' is no array; an .npz holds .npy members only.")
                members[entry.filename.removesuffix(".npy")] = _header(path, archive, entry)
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no readable .npz archive; it may be truncated.") from error
    if total > max_bytes:
        raise DataError(
            f"{path} would unpack to {total / 2**30:.1f} GiB, more than the limit of {max_bytes / 2**30:.0f} GiB."
        )
    return members


def read_array(path: Path, name: str) -> NDArray[np.generic]:
    """One array of an archive that `list_arrays` has checked."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            array: NDArray[np.generic] = npy.read_array(member, allow_pickle=False)
            return array
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, KeyError) as error:
        raise DataError(f"{path}: '{name}' is damaged and cannot be unpacked.") from error


def read_npy(path: Path) -> NDArray[np.generic]:
    """The array of an .npy file. Raises `DataError` for what is none, or needs pickle."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is no readable .npy file of numbers; it may be truncated.") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an archive of arrays; save a single array with numpy.save.")
    return array


def encode_npy(array: NDArray[np.generic]) -> bytes:
    """The bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _header(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    if entry.file_size > _BOMB_BYTES and entry.file_size > _BOMB_RATIO * max(entry.compress_size, 1):
        raise DataError(f"{path}: '{entry.filename}' unpacks to over {_BOMB_RATIO} times its size; it is not read.")
    try:
        with archive.open(entry) as member:
            version = npy.read_magic(member)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read_header(member, max_header_size=_LARGEST_HEADER)
            start = member.tell()
    except ValueError as error:
        raise DataError(f"{path}: '{entry.filename}' has a damaged header.") from error
    if dtype.hasobject:
        raise DataError(
            f"{path}: '{entry.filename}' holds Python objects, which are never unpickled; save plain arrays."
        )
    if start + math.prod(shape) * dtype.itemsize != entry.file_size:
        raise DataError(f"{path}: '{entry.filename}' says shape {shape}, which does not fit its size.")
    return Member(tuple(int(n) for n in shape), dtype)


def parse_axes(axes: str, ndim: int, where: str) -> str:
    """Check an order of axes such as 'nyxc': n, y, x once each, z and c at most once."""
    if len(axes) != ndim or len(set(axes)) != len(axes) or not set("nyx") <= set(axes) <= set("nzyxc"):
        raise DataError(
            f"{where} has {ndim} axes, and source.axes is '{axes}'; give one letter an axis: n (image), z, y, x and "
            "c (channel), such as 'nyx', 'nyxc' or 'nzyx'."
        )
    return axes


def guess_axes(shape: tuple[int, ...], where: str) -> str:
    """Order of axes by shape, where the recipe does not say: a last axis of 1, 3 or 4 is channels."""
    channels = shape[-1] in (1, 3, 4)
    guesses = {3: "nyx", 4: "nyxc" if channels else "nzyx", 5: "nzyxc"}
    if len(shape) not in guesses or (len(shape) == 5 and not channels):
        raise DataError(f"{where} has shape {shape}, which is no stack of images or volumes; set source.axes.")
    return guesses[len(shape)]


def to_standard_order(array: NDArray[np.generic], axes: str) -> NDArray[np.generic]:
    """One image, axes as in `axes` without its n, -> [*spatial, c] with spatial order (y, x) or (z, y, x)."""
    own = axes.replace("n", "")
    if "c" not in own:
        array, own = array[..., None], own + "c"
    wanted = [axis for axis in "zyxc" if axis in own]
    return array.transpose([own.index(axis) for axis in wanted])
