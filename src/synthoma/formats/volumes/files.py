"""Volumes that are one file, or a header with a file of voxels: NIfTI, MetaImage and NRRD.

Such files do not say what their numbers are. They are Hounsfield units only where somebody who knows says so.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.volumes import headers
from synthoma.formats.volumes.headers import BadVolume, FileHeader, VolumeFileError
from synthoma.formats.volumes.nifti_headers import read_nifti_header
from synthoma.formats.volumes.shapes import Volume, VolumeFile, VolumeUnit
from synthoma.formats.volumes.text_headers import read_metaimage_header, read_nrrd_header

_PARSERS: dict[str, Callable[[Path], FileHeader]] = {
    ".nii.gz": read_nifti_header,
    ".nii": read_nifti_header,
    ".mhd": read_metaimage_header,
    ".mha": read_metaimage_header,
    ".nrrd": read_nrrd_header,
    ".nhdr": read_nrrd_header,
}
SUFFIXES = tuple(_PARSERS)
_BLOCK = 8 << 20
_AIR_HU = -1024
_INT16 = np.iinfo(np.int16)
# Whole numbers above this have no float32 of their own.
_FLOAT32_WHOLE = 1 << 24
# Air around a patient and bone within: hardly any other volume has both.
_LIKE_HU = (-900.0, 200.0)
_NO_LUNG = -200


def list_file(path: Path, unit: Literal["auto", "hu"] = "auto") -> VolumeFile:
    """What the header of a volume file says; no voxel is read, but the file's size is held against it.

    unit: "hu" declares that the values are Hounsfield units; "auto" leaves them unknown. `series` is the file's name
    without suffix: in LUNA16 that is the UID of the series, elsewhere what tables of marks call the file.

    Raises `VolumeError` for a file that is no volume of three axes with one number a voxel, or is not whole;
    `MissingExtraError` for NIfTI without nibabel.
    """
    path = Path(path)
    header, warnings = _header(path)
    geometry = header.grid.geometry
    return VolumeFile(
        kind=header.kind,
        path=path,
        slices=(),
        geometry=geometry,
        unit="hu" if unit == "hu" else "unknown",
        series=stem(path),
        problem=headers.spacing_problem(geometry),
        warnings=warnings,
    )


def read_file(volume: VolumeFile) -> Volume:
    """The voxels of a file that `list_file` has listed, [z, y, x] in the file's own order.

    HU: rounded to int16; below -1024, as some files have outside of the field of view, they become -1024, as in DICOM.
    Unknown unit: int16 where the file has integers of at most 16 bits that this holds, else float32.

    Raises `VolumeError` for a listed problem, a damaged file, values that are not finite or do not fit.
    """
    if volume.problem is not None:
        raise VolumeFileError(volume.path, f"cannot be used: {volume.problem}")
    header, warnings = _header(volume.path)
    try:
        array, found = _read_voxels(header, volume.unit)
    except BadVolume as problem:
        raise VolumeFileError(volume.path, str(problem)) from problem
    except (OSError, EOFError, zlib.error) as error:
        raise VolumeFileError(volume.path, "is damaged or truncated: its voxels cannot be read") from error
    return Volume(array, header.grid.geometry, volume.unit, (*warnings, *found))


def stem(path: Path) -> str:
    """The file's name without the suffix of its kind."""
    suffix = _suffix(path) or path.suffix
    return path.name[: len(path.name) - len(suffix)]


def is_file_name(name: str) -> bool:
    """Whether a file is named like NIfTI, MetaImage or NRRD."""
    return _suffix(Path(name)) is not None


def _suffix(path: Path) -> str | None:
    lower = path.name.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)


def _header(path: Path) -> tuple[FileHeader, tuple[str, ...]]:
    suffix = _suffix(path)
    if suffix is None:
        raise VolumeFileError(path, f"is not named like a volume; the names are {', '.join(SUFFIXES)}")
    try:
        header = _PARSERS[suffix](path)
        return header, (*header.grid.warnings, *headers.check_length(header))
    except BadVolume as problem:
        raise VolumeFileError(path, str(problem)) from problem


def _read_voxels(header: FileHeader, unit: VolumeUnit) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Block by block, so that beside the result little memory is taken. Returns warnings too."""
    array = np.empty(header.size, dtype=np.int16 if unit == "hu" or header.is_small else np.float32)
    seen = _Seen()
    with _voxel_stream(header) as stream:
        for place, stored in _blocks(stream, header):
            values = stored if header.is_plain else _scaled(stored, header)
            seen.add(values)
            array[place] = _in_hu(values) if unit == "hu" else _in_own(values, array.dtype)
        warnings = headers.surplus_warnings(len(_upto(stream, headers.PADDING + 1)))
    return array, (*warnings, *seen.warnings(unit, array.dtype))


@dataclass
class _Seen:
    """Range of the values so far."""

    low: float = np.inf
    high: float = -np.inf

    def add(self, values: NDArray[np.generic]) -> None:
        """Raises `BadVolume` for values that are not finite."""
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):  # a NaN anywhere is the minimum
            raise BadVolume("has values that are no numbers (NaN or infinite); replace them, for instance by -1024")
        self.low, self.high = min(self.low, low), max(self.high, high)

    def warnings(self, unit: VolumeUnit, dtype: np.dtype[np.generic]) -> tuple[str, ...]:
        found = []
        if unit == "hu":
            if self.low < _AIR_HU:
                found.append(f"has values below {_AIR_HU} HU, as outside of the field of view; they became {_AIR_HU}")
            if self.low > _NO_LUNG:
                found.append(f"has no value below {_NO_LUNG}, which is not like a chest in Hounsfield units")
        elif self.low <= _LIKE_HU[0] and self.high >= _LIKE_HU[1]:
            found.append("looks like Hounsfield units, but does not say so; declare it with --set ct.unit=hu")
        if dtype == np.float32 and max(-self.low, self.high) > _FLOAT32_WHOLE:
            found.append("has values beyond 16,777,216, which are kept to 7 digits")
        return tuple(found)


def _scaled(stored: NDArray[np.generic], header: FileHeader) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found by who looks at the values
        values: NDArray[np.float64] = stored.astype(np.float64) * header.slope + header.intercept
    return values


def _in_hu(values: NDArray[np.generic]) -> NDArray[np.int16]:
    if values.dtype == np.int16:
        return np.maximum(values, _AIR_HU).astype(np.int16, copy=False)
    whole = np.rint(values) if values.dtype.kind == "f" else values
    low, high = float(whole.min()), float(whole.max())
    if low < _INT16.min or high > _INT16.max:
        raise BadVolume(f"has values from {low:g} to {high:g}, which are no Hounsfield units")
    return np.maximum(whole.astype(np.int16), np.int16(_AIR_HU))


def _in_own(values: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    with np.errstate(over="ignore"):
        own = values.astype(dtype, copy=False)
    if own.dtype.kind == "f" and not np.isfinite(own).all():
        raise BadVolume("has values that float32 does not hold; rescale it")
    return own


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Inflated:
    """A zlib or gzip stream, unpacked no further than is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._engine = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end. Raises `EOFError` where the stream is cut off."""
        while not self._engine.eof:
            packed = self._engine.unconsumed_tail or self._file.read(1 << 16)
            part = self._engine.decompress(packed, size)
            if part:
                return part
            if not packed:
                raise EOFError("the packed stream is cut off")
        return b""


@contextmanager
def _voxel_stream(header: FileHeader) -> Iterator[_Stream]:
    with header.data.open("rb") as file:
        file.seek(header.start)
        if header.encoding == "gzip":
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream
        else:
            yield _Inflated(file) if header.encoding == "zlib" else file


def _blocks(stream: _Stream, header: FileHeader) -> Iterator[tuple[slice, NDArray[np.generic]]]:
    """Slices of the array in turn, and their stored values in this machine's byte order."""
    left = header.skip
    while left:
        left -= len(_exactly(stream, min(left, _BLOCK)))
    planes, rows, columns = header.size
    plane_bytes = rows * columns * header.dtype.itemsize
    step = max(1, _BLOCK // plane_bytes)
    for first in range(0, planes, step):
        count = min(step, planes - first)
        stored = np.frombuffer(_exactly(stream, count * plane_bytes), dtype=header.dtype)
        native = stored.astype(header.dtype.newbyteorder("="), copy=False)
        yield slice(first, first + count), native.reshape(count, rows, columns)


def _exactly(stream: _Stream, size: int) -> bytes:
    found = _upto(stream, size)
    if len(found) < size:
        raise EOFError("the file ends before its voxels do")
    return found


def _upto(stream: _Stream, size: int) -> bytes:
    """`size` bytes, or fewer at the end; the end is looked for, where the sum of a packed stream is checked."""
    first = stream.read(size)
    if len(first) == size:
        return first
    parts = [first]
    missing = size - len(first)
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
