"""The header of one DICOM file: an allow-list of tags, read once, with the place of the pixels in the file (extra: ct).

What is not in `dicom_values.TAGS` is never read out: neither names, dates of birth, comments nor private tags (PS3.15 annex E). Values are taken
from the raw bytes of the elements and checked here, since a damaged number must be an error and not a guess.
"""

import logging
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from synthoma.errors import MissingExtraError, VolumeError
from synthoma.formats.volumes.dicom_refusal import Refusal, refusal
from synthoma.formats.volumes.dicom_values import TAGS, facts_of, integer, number, numbers, text, texts

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_SIDE = 4096
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
UNCOMPRESSED = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})

_PIXEL_DATA = (0x7FE0, 0x0010)
_MAGIC = slice(128, 132)
_FIRST = 4096
# Nearly all headers fit into the first; a longer one is read again up to the second.
_HEADS = (1 << 17, 1 << 25)
# Compressed files are read whole; the largest slice has 64 MiB when it is not compressed.
_LARGEST_COMPRESSED = 1 << 27
_MOST_FRAGMENTS = 1 << 16
_UNDEFINED = 0xFFFFFFFF
_UID = re.compile(r"[0-9.]{1,64}")
_SHORT_VRS = frozenset({b"UL", b"CS", b"UI", b"DA", b"TM", b"LO", b"SH", b"DT"})


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the stored values of one slice are kept, and what makes Hounsfield units of them (PS3.3 C.7.6.3, C.11.1).

    at: offset in the file of the element PixelData. length: bytes of its value; None in compressed files.
    slope, intercept: None where the header does not say. padding: lowest and highest stored value that is no image.
    """

    syntax: str
    at: int
    length: int | None
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    inverted: bool
    slope: float | None
    intercept: float | None
    padding: tuple[int, int] | None

    @property
    def slice_bytes(self) -> int:
        """Bytes of one uncompressed slice."""
        return self.rows * self.columns * self.bits_allocated // 8


@dataclass(frozen=True, slots=True)
class Header:
    """One file. Private: series, patient, sop_instance_uid, taken. facts: harmless.

    position, orientation (row direction, then column direction), spacing (between rows, between columns; mm), tilt
    (degrees): as stored; None where the header does not say. taken: date and time as sortable text, "" for unknown.
    """

    series: str = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    patient: str | None = field(repr=False)
    taken: str = field(repr=False)
    acquisition: int | None
    localizer: bool
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    tilt: float
    pixels: PixelFormat
    facts: Mapping[str, float | str]


class Damaged(VolumeError):
    """A file that says it is DICOM and cannot be used; the message names no person and no path."""


def require_pydicom() -> ModuleType:
    """pydicom; raises `MissingExtraError` without it."""
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError("DICOM needs pydicom, which is not installed: pip install 'synthoma[ct]'.") from error
    return pydicom


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps warnings and log lines of pydicom back: they quote values, and those may be names."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = before


def read_header(path: Path, burned_in: str) -> Header | Refusal | None:
    """The header of a file, or why it is no CT slice, or None for what is no DICOM file at all.

    Raises `Damaged` for a DICOM file that cannot be used, or a file that cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        with path.open("rb") as file:
            head = file.read(_FIRST)
            kind = _recognise(head)
            if kind is None:
                return None
            head += file.read(_HEADS[0] - len(head))
            parsed = _parse(head, kind)
            if parsed.at is None and status.st_size > len(head):
                head += file.read(_HEADS[1] - len(head))
                parsed = _parse(head, kind)
            return _interpret(parsed, file.fileno(), status.st_size, burned_in)
    except OSError as error:
        raise Damaged(f"the file cannot be read ({error.strerror or 'unknown error'})") from error


def pixel_element(head: bytes, syntax: str) -> tuple[int, int | None] | None:
    """Length of the header of element PixelData, and of its value (None: undefined). None where `head` is no such element."""
    order = ">" if syntax == EXPLICIT_BIG else "<"
    if len(head) < 12 or struct.unpack(order + "HH", head[:4]) != _PIXEL_DATA:
        return None
    if syntax == IMPLICIT_LITTLE:
        size, length = 8, struct.unpack("<I", head[4:8])[0]
    elif head[4:6] in (b"OB", b"OW", b"UN"):
        size, length = 12, struct.unpack(order + "I", head[8:12])[0]
    else:
        return None
    return size, None if length == _UNDEFINED else length


def _recognise(head: bytes) -> str | None:
    """ "part10" for a file with the magic word, "explicit" or "implicit" for a plain data set, None for no DICOM file."""
    if head[_MAGIC] == b"DICM" and head[_MAGIC.stop : _MAGIC.stop + 2] in (b"\x02\0", b"\x08\0"):
        return "part10"
    # A data set without preamble starts with two elements of group 8 in rising order. Nothing less is believed.
    at, last, kind = 0, -1, None
    for _ in range(2):
        if len(head) < at + 8:
            return None
        group, element, length = struct.unpack("<HHI", head[at : at + 8])
        vr = head[at + 4 : at + 6]
        if vr in _SHORT_VRS:
            found, length = "explicit", struct.unpack("<H", head[at + 6 : at + 8])[0]
        else:
            found = "implicit"
        if group != 8 or not last < element <= 0x1040 or length > 1024 or length % 2 or kind not in (None, found):
            return None
        at, last, kind = at + 8 + length, element, found
    return kind


@dataclass(frozen=True, slots=True)
class _Parsed:
    """The allowed elements by name, as bytes; the transfer syntax; where PixelData is, None for nowhere in what was read."""

    raw: Mapping[str, bytes | None]
    syntax: str
    at: int | None


def _parse(head: bytes, kind: str) -> _Parsed:
    """What a file's head says. Raises `Damaged` where it cannot be read."""
    pydicom = require_pydicom()
    # From memory: an element that claims four gigabytes is then cut short, where a file would have them allocated.
    buffer = BytesIO(head)
    try:
        with quiet():
            dataset = pydicom.dcmread(
                buffer, stop_before_pixels=True, force=kind != "part10", specific_tags=list(TAGS.values())
            )
            raw = {name: _raw(dataset, tag) for name, tag in TAGS.items()}
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    except Exception as error:  # pydicom lets any type out on damaged bytes
        raise Damaged("its header cannot be read") from error
    if not syntax:
        syntax = EXPLICIT_LITTLE if kind == "explicit" else IMPLICIT_LITTLE
    if not _UID.fullmatch(syntax):
        raise Damaged("its transfer syntax is no UID")
    at = buffer.tell()
    return _Parsed(raw, syntax, at if pixel_element(head[at : at + 12], syntax) is not None else None)


def _interpret(parsed: _Parsed, file: int, size: int, burned_in: str) -> Header | Refusal:
    raw, at = parsed.raw, parsed.at
    order = ">" if parsed.syntax == EXPLICIT_BIG else "<"
    try:
        refused = refusal(raw, order, burned_in, parsed.syntax)
        if refused is not None:
            return refused
        if at is None:
            raise ValueError("it has no pixels, or ends before them")
        pixels = _pixel_format(raw, order, parsed.syntax, at, file, size)
        series, sop = text(raw["SeriesInstanceUID"]), text(raw["SOPInstanceUID"])
        if not series or not sop:
            raise ValueError("its header does not say its series and instance")
        return Header(
            series,
            sop,
            text(raw["PatientID"]) or None,
            _taken(raw),
            _acquisition(raw["AcquisitionNumber"]),
            "LOCALIZER" in texts(raw["ImageType"]),
            numbers(raw["ImagePositionPatient"], 3, "ImagePositionPatient"),
            numbers(raw["ImageOrientationPatient"], 6, "ImageOrientationPatient"),
            numbers(raw["PixelSpacing"], 2, "PixelSpacing"),
            _tilt(raw["GantryDetectorTilt"]),
            pixels,
            facts_of(raw),
        )
    except ValueError as error:
        raise Damaged(str(error)) from error


def _raw(dataset: "Dataset", tag: int) -> bytes | None:
    """Bytes of an element as the file has them; None where it is absent. Of a sequence only that it is there."""
    if tag not in dataset:
        return None
    element = dataset.get_item(tag)
    value = getattr(element, "value", None)
    if isinstance(value, bytes):
        return value
    # What pydicom has converted already: a character set, a sequence.
    return b"" if value is None else str(value).encode() if isinstance(value, str) else b"sequence"


def _pixel_format(
    raw: Mapping[str, bytes | None], order: str, syntax: str, at: int, file: int, size: int
) -> PixelFormat:
    rows, columns = integer(raw["Rows"], order), integer(raw["Columns"], order)
    allocated = integer(raw["BitsAllocated"], order)
    stored = integer(raw["BitsStored"], order, allocated)
    high = integer(raw["HighBit"], order, stored - 1)
    sign = integer(raw["PixelRepresentation"], order, 0)
    if not (1 <= rows <= MAX_SIDE and 1 <= columns <= MAX_SIDE):
        raise ValueError(f"its slices would have {rows} x {columns} pixels; at most {MAX_SIDE} a side are read")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated or sign > 1:
        raise ValueError(f"its pixels have {stored} of {allocated} bits (high bit {high}), which cannot be")
    slope = _optional(raw["RescaleSlope"], "RescaleSlope")
    if slope == 0:
        raise ValueError("its rescale slope is 0")
    found = pixel_element(os.pread(file, 12, at), syntax)
    if found is None:
        raise ValueError("it changed while it was read")
    made = PixelFormat(
        syntax,
        at,
        found[1],
        rows,
        columns,
        allocated,
        stored,
        high,
        bool(sign),
        text(raw["PhotometricInterpretation"]) == "MONOCHROME1",
        slope,
        _optional(raw["RescaleIntercept"], "RescaleIntercept"),
        _padding(raw, order, bool(sign)),
    )
    _check_extent(made, file, size, at + found[0])
    return made


def _check_extent(pixels: PixelFormat, file: int, size: int, start: int) -> None:
    """Raises `ValueError` where the pixels are cut off: by the file's end, or within compressed fragments."""
    if pixels.syntax in UNCOMPRESSED:
        if pixels.length is None or pixels.length < pixels.slice_bytes or size < start + pixels.slice_bytes:
            raise ValueError(f"its pixels are shorter than {pixels.rows} x {pixels.columns}; it may be truncated")
        return
    if pixels.length is not None:
        raise ValueError("its transfer syntax says that it is compressed, and its pixels are not")
    if size > _LARGEST_COMPRESSED:
        raise ValueError(f"it has {size >> 20} MiB, more than a compressed slice can have")
    at = start
    for _ in range(_MOST_FRAGMENTS):
        item = os.pread(file, 8, at)
        group, element, length = struct.unpack("<HHI", item) if len(item) == 8 else (0, 0, 0)
        if (group, element) == (0xFFFE, 0xE0DD):
            return
        at += 8 + length
        if (group, element) != (0xFFFE, 0xE000) or at > size:
            break
    raise ValueError("its compressed pixels are damaged or cut off")


def _padding(raw: Mapping[str, bytes | None], order: str, signed: bool) -> tuple[int, int] | None:
    value, limit = raw["PixelPaddingValue"], raw["PixelPaddingRangeLimit"]
    if not value:
        return None
    first = integer(value, order, signed=signed)
    last = integer(limit, order, signed=signed) if limit else first
    return min(first, last), max(first, last)


def _optional(raw: bytes | None, name: str) -> float | None:
    return number(raw, name) if text(raw) else None


def _acquisition(raw: bytes | None) -> int | None:
    try:
        return int(number(raw, "AcquisitionNumber"))
    except ValueError:  # it only helps to tell acquisitions apart
        return None


def _tilt(raw: bytes | None) -> float:
    try:
        return number(raw, "GantryDetectorTilt") if text(raw) else 0.0
    except ValueError:  # some scanners write words here; the positions decide
        return 0.0


def _taken(raw: Mapping[str, bytes | None]) -> str:
    for kind in ("Acquisition", "Content"):
        date, time = text(raw[f"{kind}Date"]), text(raw[f"{kind}Time"])
        if date:
            return f"{date} {time}"
    return ""
