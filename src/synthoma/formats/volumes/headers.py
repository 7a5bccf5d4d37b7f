"""What the header of a volume file says, and how far that can be believed before any voxel is read."""

import math
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from synthoma.errors import VolumeError
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.shapes import VolumeKind

Encoding = Literal["raw", "gzip", "zlib"]
GZIP_MAGIC = b"\x1f\x8b"
MAX_BYTES = 4 << 30
# Deflate packs at most 1,032 : 1 (zlib.net/zlib_tech.html).
_MOST_PACKED = 1100
# Bytes after the voxels that some programs leave; more of them means that the header is wrong.
PADDING = 4096
MM_OF = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "cm": 10.0, "m": 1e3}
_PLAUSIBLE_MM = (0.1, 20.0)
UNKNOWN_SPACING = "does not say how far apart its voxels are"
UNKNOWN_ORIENTATION = "does not say how its axes lie in the body; they are taken as left, back and head"
UNKNOWN_ORIGIN = "does not say where its first voxel lies; it is taken as the origin of the world"


class BadVolume(Exception):
    """A file that is no usable volume. The message is what follows the file's name, and holds no name itself."""


class VolumeFileError(VolumeError):
    """A volume file that cannot be used. `reason` is what follows the file's name, so that it may be kept in a dataset."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}.")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["VolumeFileError"], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


@dataclass(frozen=True, slots=True)
class Grid:
    """What a header says of places, and what is doubtful about it. geometry: None where it says no spacing."""

    geometry: Geometry | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileHeader:
    """Where the voxels of a volume lie, and how they are stored.

    size: (z, y, x); x runs fastest. data: the file with the voxels, packed from byte `start` on. skip: bytes after
    unpacking before the first voxel. A value is slope * stored + intercept.
    """

    kind: VolumeKind
    size: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    grid: Grid
    data: Path
    start: int = 0
    skip: int = 0
    encoding: Encoding = "raw"
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def voxels(self) -> int:
        """How many voxels there are."""
        return math.prod(self.size)

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels, unpacked."""
        return self.voxels * self.dtype.itemsize

    @property
    def kept_bytes(self) -> int:
        """The most that the voxels take when they are read: as int16, or else as float32."""
        return self.voxels * (2 if self.is_small else 4)

    @property
    def is_plain(self) -> bool:
        """Whether values are stored as they are."""
        return self.slope == 1 and self.intercept == 0

    @property
    def is_small(self) -> bool:
        """Whether int16 holds all values that there can be."""
        return self.is_plain and np.can_cast(self.dtype, np.int16)


def file_bytes(path: Path) -> int:
    """Size of a file. Raises `BadVolume` for what is no plain file: reading a pipe would wait for ever."""
    try:
        status = path.stat()
    except OSError as error:
        raise BadVolume(f"cannot be read: {error.strerror or 'unknown error'}") from error
    if not stat.S_ISREG(status.st_mode):
        raise BadVolume("is no plain file")
    return status.st_size


def check_length(header: FileHeader) -> tuple[str, ...]:
    """Hold what the header claims against the size of the file with the voxels; returns warnings.

    Raises `BadVolume` for more than the file can hold, and for volumes of more than 4 GiB.
    """
    stored = file_bytes(header.data) - header.start
    claimed = header.skip + header.voxel_bytes
    said = f"says {header.size[2]} x {header.size[1]} x {header.size[0]} voxels of {header.dtype.itemsize} bytes"
    if max(header.voxel_bytes, header.kept_bytes) > MAX_BYTES:
        raise BadVolume(f"{said}; volumes of more than {MAX_BYTES >> 30} GiB are not read, cut it into parts")
    if header.encoding != "raw":
        if claimed > _MOST_PACKED * max(stored, 0):
            raise BadVolume(
                f"{said}, which its {max(stored, 0):,} packed bytes cannot hold; it is damaged or truncated"
            )
        return ()
    if claimed > stored:
        raise BadVolume(
            f"{said}, {claimed:,} bytes in all, but there are {max(stored, 0):,}; it is damaged or truncated"
        )
    return surplus_warnings(stored - claimed)


def surplus_warnings(surplus: int) -> tuple[str, ...]:
    """Warnings about bytes after the voxels. Raises `BadVolume` for more than padding."""
    if surplus > PADDING:
        raise BadVolume("holds more voxels than its header says; one of both is wrong")
    return ("has bytes after its voxels, which were not read",) if surplus else ()


def checked_size(counts: Sequence[int]) -> tuple[int, int, int]:
    """(z, y, x) of voxels counted along x, y and z. Raises `BadVolume`."""
    if len(counts) != 3:
        raise BadVolume(f"has {len(counts)} axes; a volume has three")
    x, y, z = (int(count) for count in counts)
    if min(x, y, z) < 1:
        raise BadVolume(f"says {x} x {y} x {z} voxels, which is no volume; its header is damaged")
    return z, y, x


def checked_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The type of stored values, if it is one number of at most 8 bytes. Raises `BadVolume`."""
    if dtype.fields is not None:
        raise BadVolume("holds colours; a volume has one number a voxel")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise BadVolume(f"holds values of type {dtype.name}, which are not read; save it as int16 or float32")
    return dtype


def placed(size: tuple[int, int, int], steps_xyz: ArrayLike, origin: ArrayLike) -> Geometry:
    """Geometry from the steps along x, y and z (rows, LPS, mm). Raises `BadVolume` for what is no regular grid."""
    try:
        with np.errstate(all="ignore"):
            return Geometry.from_steps(size, np.asarray(steps_xyz, dtype=np.float64)[::-1], origin)
    except ValueError as error:
        raise BadVolume(f"has a geometry that is none: {error}") from error


def spacing_problem(geometry: Geometry | None) -> str | None:
    """A sentence if voxels are smaller or larger than those of any CT, else None."""
    low, high = _PLAUSIBLE_MM
    if geometry is None or all(low <= length <= high for length in geometry.spacing):
        return None
    shown = " x ".join(f"{length:.4g}" for length in geometry.spacing[::-1])
    return f"its voxels are said to be {shown} mm, and those of a CT are {low:g} to {high:g} mm; its header is wrong"


def data_beside(header: Path, name: str) -> Path:
    """The file with the voxels that a header names. Raises `BadVolume` for lists, and for places outside its folder.

    A link within the folder is followed, as everywhere: it was made by whoever owns the folder, not by the header.
    """
    place = PurePosixPath(name)
    if not name.isprintable() or not place.name:
        raise BadVolume("names no file with its voxels")
    if name.split()[0].upper() == "LIST" or "%" in name:
        raise BadVolume("has its voxels in a list of files; save it with one file of voxels")
    if place.is_absolute() or ".." in place.parts or "\\" in name:
        raise BadVolume("has its voxels outside its own folder; put both files into one folder")
    found = header.parent / place
    try:
        is_there = found.is_file()
    except OSError:  # a name that is too long
        is_there = False
    if not is_there:
        raise BadVolume("names a file with its voxels that is not there; put both files into one folder")
    return found
