"""Values of DICOM elements from their bytes, and the few facts about a series that may be told."""

import math
import re
from collections.abc import Mapping

# All that is ever read out of a file, by the names of PS3.6.
TAGS = {
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "AcquisitionDate": 0x00080022,
    "ContentDate": 0x00080023,
    "AcquisitionTime": 0x00080032,
    "ContentTime": 0x00080033,
    "Modality": 0x00080060,
    "Manufacturer": 0x00080070,
    "PatientID": 0x00100020,
    "PatientSex": 0x00100040,
    "PatientAge": 0x00101010,
    "SliceThickness": 0x00180050,
    "KVP": 0x00180060,
    "GantryDetectorTilt": 0x00181120,
    "ConvolutionKernel": 0x00181210,
    "SeriesInstanceUID": 0x0020000E,
    "AcquisitionNumber": 0x00200012,
    "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "PixelSpacing": 0x00280030,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "PixelPaddingValue": 0x00280120,
    "PixelPaddingRangeLimit": 0x00280121,
    "BurnedInAnnotation": 0x00280301,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "RescaleType": 0x00281054,
    "ModalityLUTSequence": 0x00283000,
}
_MANUFACTURERS = {
    "GE": ("GE ", "GE_", "GEMS", "GENERAL ELECTRIC"),
    "Siemens": ("SIEMENS",),
    "Philips": ("PHILIPS", "MARCONI", "PICKER", "ELSCINT"),
    "Canon-Toshiba": ("CANON", "TOSHIBA"),
    "Hitachi-Fujifilm": ("HITACHI", "FUJI"),
    "United Imaging": ("UIH", "UNITED IMAGING"),
    "Neusoft": ("NEUSOFT",),
    "Shimadzu": ("SHIMADZU",),
}
_KERNEL = re.compile(r"[A-Za-z0-9]{1,12}")
_AGE = re.compile(r"(\d{1,3})([DWMY])")


def text(raw: bytes | None) -> str:
    """An element as text without padding; "" where it is absent. UTF-8 where it is such, else Latin-1."""
    if raw is None:
        return ""
    try:
        found = raw.decode("utf-8")
    except UnicodeDecodeError:
        found = raw.decode("latin-1")
    return found.strip(" \0\t\r\n")


def texts(raw: bytes | None) -> list[str]:
    """The parts of a text of several values."""
    return [part.strip(" \0") for part in text(raw).split("\\")]


def number(raw: bytes | None, name: str) -> float:
    """A decimal or integer string (DS, IS). Raises `ValueError`, which names the tag and not the value."""
    try:
        found = float(text(raw))
    except ValueError:
        raise ValueError(f"its {name} is no number") from None
    if not math.isfinite(found) or abs(found) > 1e9:
        raise ValueError(f"its {name} is no number that can be")
    return found


def numbers(raw: bytes | None, count: int, name: str) -> tuple[float, ...] | None:
    """`count` decimal strings; None where the element is absent or empty. Raises `ValueError`."""
    if not text(raw):
        return None
    parts = texts(raw)
    if len(parts) != count:
        raise ValueError(f"its {name} has {len(parts)} values instead of {count}")
    return tuple(number(part.encode(), name) for part in parts)


def integer(
    raw: bytes | None, order: str, default: int | None = None, *, signed: bool = False, textual: bool = False
) -> int:
    """A binary integer of 2 or 4 bytes (US, SS, UL), or a textual one (IS). Raises `ValueError`."""
    if not raw:
        if default is None:
            raise ValueError("its header does not say how its pixels are stored")
        return default
    if textual:
        return int(number(raw, "NumberOfFrames"))
    if len(raw) not in (2, 4):
        raise ValueError("its header does not say how its pixels are stored")
    return int.from_bytes(raw, "big" if order == ">" else "little", signed=signed)


def facts_of(raw: Mapping[str, bytes | None]) -> dict[str, float | str]:
    """What may be told about a slice: kvp, slice_thickness (mm), kernel, manufacturer, sex, age_band.

    Free text is not believed to be harmless: the manufacturer is one of a list or "other", a kernel is up to 12 letters
    and digits, an age becomes a decade. What does not look right is left out.
    """
    facts: dict[str, float | str] = {}
    for key, name, low, high in (("kvp", "KVP", 20.0, 200.0), ("slice_thickness", "SliceThickness", 0.05, 50.0)):
        try:
            value = number(raw[name], name)
        except ValueError:
            continue
        if low <= value <= high:
            facts[key] = value
    kernel = texts(raw["ConvolutionKernel"])[0]
    if _KERNEL.fullmatch(kernel):
        facts["kernel"] = kernel
    maker = text(raw["Manufacturer"]).upper() + " "
    if maker.strip():
        facts["manufacturer"] = next(
            (name for name, starts in _MANUFACTURERS.items() if maker.startswith(starts)), "other"
        )
    sex = text(raw["PatientSex"]).upper()
    if sex in ("M", "F", "O"):
        facts["sex"] = sex
    band = _age_band(text(raw["PatientAge"]).upper())
    if band:
        facts["age_band"] = band
    return facts


def _age_band(age: str) -> str | None:
    """A decade of life, "90+" from 90 on (HIPAA's safe harbour), from an age string like 061Y; None for no such."""
    matched = _AGE.fullmatch(age)
    if matched is None:
        return None
    years = int(matched[1]) if matched[2] == "Y" else 0
    if matched[2] != "Y" and int(matched[1]) / {"D": 365, "W": 52, "M": 12}[matched[2]] >= 10:
        return None
    if years > 130:
        return None
    return "90+" if years >= 90 else f"{years // 10 * 10}-{years // 10 * 10 + 9}"
