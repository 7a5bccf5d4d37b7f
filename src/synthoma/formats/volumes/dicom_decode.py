"""Compressed pixels of DICOM, by way of pydicom and the decoders that it knows (extra: ct)."""

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import VolumeError
from synthoma.formats.volumes.dicom_headers import MAX_SIDE, PixelFormat, quiet, require_pydicom

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder

RLE = "1.2.840.10008.1.2.5"
# Decoders in the order of preference: gdcm comes only where nothing else reads the syntax (JPEG lossless).
_PLUGINS = ("pylibjpeg", "pyjpegls", "pydicom", "gdcm")
_PACKAGES = {"gdcm": "python-gdcm", "pylibjpeg": "pylibjpeg pylibjpeg-openjpeg", "pyjpegls": "pyjpegls"}
# Start of frame of all kinds of JPEG and JPEG-LS: 0xC4, 0xC8 and 0xCC are other segments.
_FRAME_MARKERS = frozenset({0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})

# How the JPEG library within gdcm begins when it warns of damaged data and goes on.
_JPEG_TROUBLE = (b"Corrupt JPEG", b"Premature end of JPEG", b"Invalid SOS", b"Inconsistent progression")
_ONE_AT_A_TIME = Lock()


def decoded(path: Path, encoded: bytes, pixels: PixelFormat) -> NDArray[np.integer[Any]]:
    """Values [row, column] of a compressed slice. encoded: its element PixelData, which is checked before memory is taken.

    Raises `ValueError` for damaged pixels, `VolumeError` where no decoder is installed.
    """
    decoder = find_decoder(pixels.syntax)
    pydicom = require_pydicom()
    _check_frame(encoded, pixels)
    # One decoder and no other after it: gdcm ends the whole process on some files that others merely refuse.
    plugin = next(name for name in _PLUGINS if name in decoder.available_plugins)
    try:
        with quiet(), _strict_gdcm(plugin == "gdcm"):
            dataset = pydicom.dcmread(path)
            array, _ = decoder.as_array(dataset, raw=True, decoding_plugin=plugin)
    except Exception as error:  # pydicom and decoders let any type out on damaged bytes
        raise ValueError("has damaged compressed pixels") from error
    if array.shape != (pixels.rows, pixels.columns) or array.dtype.kind not in "iu":
        raise ValueError("has compressed pixels of another size than its header says")
    values: NDArray[np.integer[Any]] = array.astype(stored_dtype(pixels), copy=False)
    return values


def stored_dtype(pixels: PixelFormat) -> np.dtype[Any]:
    """The type of stored values, in the machine's order of bytes."""
    return np.dtype(f"{'i' if pixels.signed else 'u'}{pixels.bits_allocated // 8}")


def find_decoder(syntax: str) -> "Decoder":
    """pydicom's decoder. Raises `VolumeError` where there is none, naming the transfer syntax and what to install."""
    require_pydicom()
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    try:
        decoder = get_decoder(UID(syntax))
    except NotImplementedError as error:
        raise VolumeError(f"its transfer syntax ({UID(syntax).name}) is not supported; convert it first") from error
    if not any(name in _PLUGINS for name in decoder.available_plugins):
        listed = [line.split(" ")[0] for line in decoder.missing_dependencies]
        wanted = " ".join(dict.fromkeys(_PACKAGES.get(name, name) for name in listed)) or "python-gdcm"
        raise VolumeError(
            f"its transfer syntax, {UID(syntax).name}, needs a decoder that is not installed: "
            f"pip install {wanted} (all of them: pip install 'synthoma[ct]')"
        )
    return decoder


@contextmanager
def _strict_gdcm(used: bool) -> Iterator[None]:
    """Raises `ValueError` where gdcm's JPEG library complains of damaged data and goes on, as it does with wrong pixels.

    It writes to the process's standard error, past Python; what others write there meanwhile is passed on.
    """
    if not used:
        yield
        return
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    with _ONE_AT_A_TIME, tempfile.TemporaryFile() as told:
        kept = os.dup(2)
        try:
            os.dup2(told.fileno(), 2)
            try:
                yield
            finally:
                os.dup2(kept, 2)
            told.seek(0)
            lines = told.readlines()
            if any(line.startswith(_JPEG_TROUBLE) for line in lines):
                raise ValueError("the decoder found damaged data")
            os.write(kept, b"".join(lines))
        finally:
            os.close(kept)


def _check_frame(encoded: bytes, pixels: PixelFormat) -> None:
    """Raises `ValueError` where a JPEG of any kind claims a larger picture than the header: decoders would allocate it."""
    if pixels.syntax == RLE:  # its size follows from the header
        return
    found = _jpeg_2000_size(encoded) or _jpeg_size(encoded)
    if found is not None and (max(found) > MAX_SIDE or found != (pixels.rows, pixels.columns)):
        raise ValueError("has compressed pixels of another size than its header says")


def _jpeg_2000_size(encoded: bytes) -> tuple[int, int] | None:
    at = encoded.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(encoded) < at + 24:
        return None
    width, height, left, top = struct.unpack(">4I", encoded[at + 8 : at + 24])
    return height - top, width - left


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Rows and columns of the first frame: segments are walked from the start of the image."""
    at = encoded.find(b"\xff\xd8\xff", 0, 4096) + 2
    while 2 <= at < len(encoded) - 9 and encoded[at] == 0xFF:
        marker, length = encoded[at + 1], struct.unpack(">H", encoded[at + 2 : at + 4])[0]
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack(">HH", encoded[at + 5 : at + 9])
            return rows, columns
        at += 2 + length
    return None
