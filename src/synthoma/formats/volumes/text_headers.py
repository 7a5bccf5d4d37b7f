"""Headers of MetaImage (.mhd, .mha) and NRRD (.nrrd, .nhdr) files: plain text, read without other packages.

MetaImage: itk.org/Wiki/ITK/MetaIO/Documentation. NRRD: teem.sourceforge.net/nrrd/format.html. Both store x fastest.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from synthoma.formats.volumes import headers
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.headers import BadVolume, Encoding, FileHeader, Grid

T = TypeVar("T", int, float)

_LONGEST_HEADER = 1 << 20
_ELEMENT_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NRRD_TYPES = {
    name: code
    for code, names in {
        "i1": ("signed char", "int8", "int8_t"),
        "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
        "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
        "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
        "i4": ("int", "signed int", "int32", "int32_t"),
        "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
        "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
        "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
        "f4": ("float",),
        "f8": ("double",),
    }.items()
    for name in names
}
# Signs that turn a world of NRRD into LPS.
_NRRD_SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}
_NRRD_ENCODINGS: Mapping[str, Encoding] = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}


def read_metaimage_header(path: Path) -> FileHeader:
    """The header of a MetaImage. Raises `BadVolume`."""
    head = _head(path)
    last = re.search(rb"^[ \t]*ElementDataFile[ \t]*=[ \t]*([^\r\n]*)(?:\r?\n|\r|\Z)", head, re.MULTILINE)
    if last is None:
        raise BadVolume("is no MetaImage: its header does not end with ElementDataFile")
    fields: dict[str, str] = {}
    for line in _text(head[: last.start()]).splitlines():
        key, equals, value = line.partition("=")
        if equals:
            fields[key.strip().casefold()] = value.strip()
    _refuse_metaimage(fields)
    kind = fields.get("elementtype", "")
    if kind not in _ELEMENT_TYPES:
        raise BadVolume("holds values of a type that is not read; save it as MET_SHORT or MET_FLOAT")
    msb = _is_true(fields, "binarydatabyteordermsb", "elementbyteordermsb")
    dtype = headers.checked_dtype(np.dtype(_ELEMENT_TYPES[kind]).newbyteorder(">" if msb else "<"))
    size = headers.checked_size(_integers(fields.get("dimsize", ""), "DimSize"))
    name = _text(last[1]).strip()
    local = name.upper() == "LOCAL"
    packed = _is_true(fields, "compresseddata")
    data = path if local else headers.data_beside(path, name)
    start = last.end() if local else 0
    skip = _integers(fields.get("headersize", "0"), "HeaderSize")
    if len(skip) != 1 or skip[0] < -1 or (packed and skip[0] != 0):
        raise BadVolume("has a HeaderSize that is not read; its header is damaged")
    if skip[0] == -1:
        start = max(start, headers.file_bytes(data) - math.prod(size) * dtype.itemsize)
    else:
        start += skip[0]
    grid = _metaimage_grid(fields, size)
    return FileHeader("metaimage", size, dtype, grid, data, start, encoding="zlib" if packed else "raw")


def _refuse_metaimage(fields: Mapping[str, str]) -> None:
    axes = _integers(fields.get("ndims", ""), "NDims")
    if axes != [3]:
        raise BadVolume(
            f"has {axes[0]} axes; a volume has three" if len(axes) == 1 else "does not say how many axes it has"
        )
    if _integers(fields.get("elementnumberofchannels", "1"), "ElementNumberOfChannels") != [1]:
        raise BadVolume("holds colours, or several values a voxel; a volume has one number a voxel")
    if not _is_true(fields, "binarydata", default=True):
        raise BadVolume("holds its voxels as text, which is not read; save it as binary data")
    slope = _numbers(fields.get("elementtointensityfunctionslope", "1"), "ElementToIntensityFunctionSlope")
    offset = _numbers(fields.get("elementtointensityfunctionoffset", "0"), "ElementToIntensityFunctionOffset")
    if slope != [1] or offset != [0]:
        raise BadVolume("has an intensity function, which readers take differently; apply it and save it without")


def _metaimage_grid(fields: Mapping[str, str], size: tuple[int, int, int]) -> Grid:
    warnings: list[str] = []
    lengths = _first(fields, "elementspacing", "elementsize")
    if lengths is None:
        return Grid(None, (headers.UNKNOWN_SPACING,))
    unit = fields.get("distanceunits", "mm").casefold()
    if unit not in headers.MM_OF:
        warnings.append("does not say its unit of length; millimetres are taken")
    to_mm = headers.MM_OF.get(unit, 1.0)
    spacing = np.array(_numbers(lengths, "ElementSpacing", 3))
    if not ((spacing > 0) & np.isfinite(spacing)).all():
        raise BadVolume("says voxel sizes that are not above 0; its header is damaged")
    matrix = _first(fields, "transformmatrix", "rotation", "orientation")
    origin = _first(fields, "offset", "origin", "position")
    if matrix is None:
        warnings.append(headers.UNKNOWN_ORIENTATION)
    if origin is None:
        warnings.append(headers.UNKNOWN_ORIGIN)
    directions = np.array(_numbers(matrix or "1 0 0 0 1 0 0 0 1", "TransformMatrix", 9)).reshape(3, 3)
    # MetaIO's matrix holds unit vectors; ITK refuses others, and their length would say a second spacing.
    if not np.allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-3):
        raise BadVolume("has directions of axes that are no unit vectors; its header is damaged")
    place = np.array(_numbers(origin or "0 0 0", "Offset", 3)) * to_mm
    return Grid(headers.placed(size, directions * (spacing * to_mm)[:, None], place), tuple(warnings))


def read_nrrd_header(path: Path) -> FileHeader:
    """The header of an NRRD file. Raises `BadVolume`."""
    head = _head(path)
    if not re.match(rb"NRRD000[1-5]\r?\n", head):
        raise BadVolume("is no NRRD file, or its header is damaged")
    end = re.search(rb"\n\r?\n", head)
    fields = _nrrd_fields(_text(head[: end.start()] if end else head))
    if "type" not in fields or fields["type"].casefold() not in _NRRD_TYPES:
        raise BadVolume("holds values of a type that is not read; save it as int16 or float")
    endian = fields.get("endian", "").casefold()
    dtype = np.dtype(_NRRD_TYPES[fields["type"].casefold()]).newbyteorder(">" if endian == "big" else "<")
    if dtype.itemsize > 1 and endian not in ("little", "big"):
        raise BadVolume("does not say the order of its bytes (endian); its header is damaged")
    size = headers.checked_size(_nrrd_counts(fields))
    encoding = _NRRD_ENCODINGS.get(fields.get("encoding", "").casefold())
    if encoding is None:
        raise BadVolume("holds its voxels in an encoding that is not read; save it as raw or gzip")
    name = fields.get("data file", fields.get("datafile"))
    if name is None and end is None:
        raise BadVolume("ends within its header; it is truncated")
    data = path if name is None else headers.data_beside(path, name)
    start = end.end() if name is None and end is not None else 0
    skip = _skip(fields)
    if skip == -1:
        if encoding != "raw":
            raise BadVolume("has a byte skip of -1 for packed voxels; its header is damaged")
        start = max(start, headers.file_bytes(data) - math.prod(size) * dtype.itemsize)
    grid = _nrrd_grid(fields, size)
    return FileHeader("nrrd", size, dtype, grid, data, start, max(skip, 0), encoding)


def _nrrd_fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        # key:=value is anybody's own; field: value is the format's.
        name, colon, value = line.partition(": ")
        if colon and not line.startswith("#") and ":=" not in name:
            fields[name.strip().casefold()] = value.strip()
    return fields


def _nrrd_counts(fields: Mapping[str, str]) -> list[int]:
    counts = _integers(fields.get("sizes", ""), "sizes")
    if _integers(fields.get("dimension", ""), "dimension") != [len(counts)]:
        raise BadVolume("has sizes for another number of axes than it says; its header is damaged")
    kinds = fields.get("kinds", "").casefold().split()
    if len(counts) > 3:
        raise BadVolume(
            f"has {len(counts)} axes of {' x '.join(map(str, counts))}: several volumes, or several values a voxel"
        )
    if any(kind not in ("domain", "space", "???", "none") for kind in kinds):
        raise BadVolume("has an axis that is none of space; a volume has three, and one number a voxel")
    return counts


def _skip(fields: Mapping[str, str]) -> int:
    if _integers(fields.get("line skip", fields.get("lineskip", "0")), "line skip") != [0]:
        raise BadVolume("skips lines before its voxels, which is not read; save it without line skip")
    skip = _integers(fields.get("byte skip", fields.get("byteskip", "0")), "byte skip")
    if len(skip) != 1 or not -1 <= skip[0] <= headers.MAX_BYTES:
        raise BadVolume("has a byte skip that is none; its header is damaged")
    return skip[0]


def _nrrd_grid(fields: Mapping[str, str], size: tuple[int, int, int]) -> Grid:
    warnings: list[str] = []
    given = fields.get("space directions")
    if given is None:
        return _nrrd_grid_by_spacings(fields, size)
    steps = np.array([_vector(found) for found in _vectors(given, 3)])
    units = re.findall(r'"([^"]*)"', fields.get("space units", '"mm"'))
    if len(set(units)) != 1 or units[0].casefold() not in headers.MM_OF:
        warnings.append("does not say its unit of length; millimetres are taken")
        to_mm = 1.0
    else:
        to_mm = headers.MM_OF[units[0].casefold()]
    signs = _NRRD_SPACES.get(fields.get("space", "").casefold())
    if signs is None:
        warnings.append(headers.UNKNOWN_ORIENTATION)
    place = fields.get("space origin")
    if place is None:
        warnings.append(headers.UNKNOWN_ORIGIN)
    origin = np.zeros(3) if place is None else np.array(_vector(_vectors(place, 1)[0]))
    lps = np.array(signs or (1.0, 1.0, 1.0)) * to_mm
    return Grid(headers.placed(size, steps * lps, origin * lps), tuple(warnings))


def _nrrd_grid_by_spacings(fields: Mapping[str, str], size: tuple[int, int, int]) -> Grid:
    if "spacings" not in fields:
        return Grid(None, (headers.UNKNOWN_SPACING,))
    x, y, z = _numbers(fields["spacings"], "spacings", 3)
    units = re.findall(r'"([^"]*)"', fields.get("units", '"mm"'))
    to_mm = headers.MM_OF.get(units[0].casefold()) if len(set(units)) == 1 else None
    if to_mm is None:
        return Grid(None, (headers.UNKNOWN_SPACING,))
    try:
        return Grid(Geometry(size, (z * to_mm, y * to_mm, x * to_mm)), (headers.UNKNOWN_ORIENTATION,))
    except ValueError as error:
        raise BadVolume(f"has a geometry that is none: {error}") from error


def _vectors(text: str, count: int) -> list[str]:
    found = re.findall(r"\(([^()]*)\)", text)
    if len(found) != count or re.sub(r"\([^()]*\)", "", text).strip():
        raise BadVolume("has directions or an origin that cannot be read; its header is damaged")
    return found


def _vector(text: str) -> list[float]:
    return _numbers(text.replace(",", " "), "vector", 3)


def _head(path: Path) -> bytes:
    headers.file_bytes(path)
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_HEADER)
    except OSError as error:
        raise BadVolume(f"cannot be read: {error.strerror or 'unknown error'}") from error


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def _first(fields: Mapping[str, str], *names: str) -> str | None:
    return next((fields[name] for name in names if name in fields), None)


def _is_true(fields: Mapping[str, str], *names: str, default: bool = False) -> bool:
    """As MetaIO reads it: by the first letter."""
    value = _first(fields, *names)
    return default if value is None else value[:1].upper() in ("T", "1", "Y")


def _integers(text: str, what: str, count: int | None = None) -> list[int]:
    return _parsed(text, int, what, count)


def _numbers(text: str, what: str, count: int | None = None) -> list[float]:
    return _parsed(text, float, what, count)


def _parsed(text: str, kind: Callable[[str], T], what: str, count: int | None) -> list[T]:
    try:
        values: Sequence[T] = [kind(word) for word in text.split()]
    except (ValueError, OverflowError) as error:
        raise BadVolume(f"has a value of {what} that is no number; its header is damaged") from error
    if not values or (count is not None and len(values) != count):
        raise BadVolume(f"has {len(values)} values of {what}; its header is damaged")
    return list(values)
