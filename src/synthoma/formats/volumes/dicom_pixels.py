"""Stored values of a slice, and Hounsfield units of them (PS3.3 C.7.6.3 image pixel, C.11.1 modality LUT; PS3.5 8)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.volumes.dicom_decode import RLE, decoded, stored_dtype
from synthoma.formats.volumes.dicom_headers import EXPLICIT_BIG, UNCOMPRESSED, PixelFormat, pixel_element

LOWEST_HU = -1024
HIGHEST_HU = 3071
# Padding that would be tissue or bone is a mistake of the header: taking it out would punch holes into the patient.
_TISSUE_HU = (-900.0, 3000.0)
_AIR_BELOW = -200
_BYTE = 255
_MANY = 1e-3


@dataclass(slots=True)
class HuReport:
    """What was seen while slices became Hounsfield units; gives the warnings of the whole volume."""

    voxels: int = 0
    lowest: int = np.iinfo(np.int16).max
    highest: int = np.iinfo(np.int16).min
    above: int = 0
    unscaled: bool = False
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, hu: NDArray[np.int16]) -> None:
        """Counts one slice."""
        highest = int(hu.max())
        self.voxels += hu.size
        self.lowest = min(self.lowest, int(hu.min()))
        self.highest = max(self.highest, highest)
        if highest > HIGHEST_HU:
            self.above += int((hu > HIGHEST_HU).sum())

    def warnings(self) -> tuple[str, ...]:
        """Sentences for a person. Raises `ValueError` where rescale is missing and the values are no HU."""
        looks_wrong = self.lowest > _AIR_BELOW or (self.lowest >= 0 and self.highest <= _BYTE)
        if self.unscaled and looks_wrong:
            raise ValueError(
                "its headers do not say RescaleSlope and RescaleIntercept, and its stored values are no Hounsfield units"
            )
        found = list(self.notes)
        if self.unscaled:
            found.append(
                "RescaleSlope or RescaleIntercept is missing; the stored values were taken as Hounsfield units"
            )
        if looks_wrong:
            found.append(f"does not look like Hounsfield units: the values are {self.lowest} to {self.highest}")
        if self.above > _MANY * self.voxels:
            found.append(f"{self.above / self.voxels:.1%} of the voxels are above {HIGHEST_HU} HU")
        return tuple(found)


def read_hu(path: Path, pixels: PixelFormat, out: NDArray[np.int16], report: HuReport) -> None:
    """Reads one slice into `out` [row, column] as HU. Raises `ValueError` with a reason for what cannot be read."""
    try:
        raw = _stored_values(path, pixels)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or 'unknown error'})") from error
    to_hu(raw, pixels, out, report)
    report.add(out)


def to_hu(raw: NDArray[np.integer[Any]], pixels: PixelFormat, out: NDArray[np.int16], report: HuReport) -> None:
    """Stored values [row, column], high bits not yet cleared, to HU in `out`, rounded and never below -1024.

    Padding becomes -1024. Of MONOCHROME1 the stored range is turned round first, unless a negative slope does that.
    Missing slope and intercept are taken as 1 and 0, which `report` notes.
    """
    slope = 1.0 if pixels.slope is None else pixels.slope
    intercept = 0.0 if pixels.intercept is None else pixels.intercept
    report.unscaled |= pixels.slope is None or pixels.intercept is None
    values = _significant(raw, pixels)
    padded = _padded(raw, values, pixels)
    if pixels.inverted and slope > 0:
        report.notes["its slices are MONOCHROME1; their stored values were turned round"] = None
        values = (-1 if pixels.signed else (1 << pixels.bits_stored) - 1) - values
    if slope == 1.0 and intercept.is_integer() and _stays_short(pixels, int(intercept)):
        # Most series: nothing can overflow, and no copy in a wider type is needed.
        np.add(values, int(intercept), out=out, dtype=np.int16, casting="unsafe")
        np.maximum(out, LOWEST_HU, out=out)
    else:
        hu = values * slope
        hu += intercept
        np.rint(hu, out=hu)
        np.clip(hu, LOWEST_HU, np.iinfo(np.int16).max, out=out, casting="unsafe")
    if padded is None:
        return
    if ((out[padded] > _TISSUE_HU[0]) & (out[padded] < _TISSUE_HU[1])).any() and _fits(pixels):
        report.notes["PixelPaddingValue lies among the values of tissue and was not used"] = None
    else:
        out[padded] = LOWEST_HU


def same_pixels(a: Path, a_pixels: PixelFormat, b: Path, b_pixels: PixelFormat) -> bool:
    """Whether two files keep the same values in the same way; False where one cannot be read, which reading then says."""
    formats = [
        (p.syntax, p.rows, p.columns, p.bits_stored, p.signed, p.slope, p.intercept) for p in (a_pixels, b_pixels)
    ]
    if formats[0] != formats[1]:
        return False
    try:
        return _encoded(a, a_pixels) == _encoded(b, b_pixels)
    except (OSError, ValueError):
        return False


def _significant(raw: NDArray[np.integer[Any]], pixels: PixelFormat) -> NDArray[np.integer[Any]]:
    """Stored values without the bits above and below, which may hold overlays; the sign extended. int64 for 32 bits."""
    if pixels.bits_stored == pixels.bits_allocated:
        return raw if pixels.bits_allocated < 32 else raw.astype(np.int64)
    down = pixels.bits_allocated - pixels.bits_stored
    # Decoders of the JPEG family put values into the lowest bits; elsewhere HighBit says where they are.
    up = pixels.bits_allocated - 1 - pixels.high_bit if pixels.syntax in (*UNCOMPRESSED, RLE) else down
    # The array's type has the sign of the pixels: the shift to the right carries it on.
    found: NDArray[np.integer[Any]] = np.left_shift(raw, up)
    np.right_shift(found, down, out=found)
    return found if pixels.bits_allocated < 32 else found.astype(np.int64)


def _stored_range(pixels: PixelFormat) -> tuple[int, int]:
    """Lowest and highest value that the stored bits can hold."""
    low = -(1 << pixels.bits_stored - 1) if pixels.signed else 0
    return low, low + (1 << pixels.bits_stored) - 1


def _stays_short(pixels: PixelFormat, intercept: int) -> bool:
    """Whether every stored value, and its sum with the intercept, is one of int16."""
    low, high = _stored_range(pixels)
    limits = np.iinfo(np.int16)
    return limits.min <= min(low, low + intercept) and max(high, high + intercept) <= limits.max


def _fits(pixels: PixelFormat) -> bool:
    """Whether the stored bits can hold the padding; where not, it is no value of the image whatever they become."""
    assert pixels.padding is not None
    low, high = _stored_range(pixels)
    return low <= pixels.padding[0] and pixels.padding[1] <= high


def _padded(
    raw: NDArray[np.integer[Any]], values: NDArray[np.integer[Any]], pixels: PixelFormat
) -> NDArray[np.bool_] | None:
    """Where padding is stored; None for nowhere."""
    if pixels.padding is None:
        return None
    low, high = pixels.padding
    where = values if _fits(pixels) else raw
    mask: NDArray[np.bool_] = (where >= low) & (where <= high)
    return mask if mask.any() else None


def _stored_values(path: Path, pixels: PixelFormat) -> NDArray[np.integer[Any]]:
    if pixels.syntax not in UNCOMPRESSED:
        return decoded(path, _encoded(path, pixels), pixels)
    kind = stored_dtype(pixels)
    raw = np.frombuffer(_encoded(path, pixels), kind.newbyteorder(">" if pixels.syntax == EXPLICIT_BIG else "<"))
    return raw.astype(kind, copy=False).reshape(pixels.rows, pixels.columns)


def _encoded(path: Path, pixels: PixelFormat) -> bytes:
    """Bytes of the pixels as the file has them. Raises `ValueError` where they are no longer where the header had them."""
    with path.open("rb", buffering=0) as file:
        file.seek(pixels.at)
        found = pixel_element(file.read(12), pixels.syntax)
        if found is None or found[1] != pixels.length:
            raise ValueError("has changed since it was listed")
        file.seek(pixels.at + found[0])
        if pixels.syntax not in UNCOMPRESSED:
            return file.read()
        content = file.read(pixels.slice_bytes)
    if len(content) != pixels.slice_bytes:
        raise ValueError("is shorter than when it was listed")
    return content
