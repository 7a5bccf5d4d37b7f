"""Which DICOM files are no slices of CT that may be used, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

from synthoma.formats.volumes.dicom_values import integer, text, texts

_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_ENHANCED = frozenset({_CT_IMAGE + ".1", _CT_IMAGE + ".2"})
# Modalities that may be told; any other text could be a name in the wrong place.
_MODALITIES = frozenset(
    [
        "CR",
        "DX",
        "DOC",
        "ECG",
        "IO",
        "KO",
        "MG",
        "MR",
        "NM",
        "OT",
        "PR",
        "PT",
        "PX",
        "REG",
        "RF",
        "RTDOSE",
        "RTIMAGE",
        "RTPLAN",
        "RTSTRUCT",
        "RWV",
        "SC",
        "SEG",
        "SM",
        "SR",
        "US",
        "XA",
        "XC",
    ]
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A DICOM file that is no slice of CT. what: its kind; reason: a sentence that names no person."""

    what: str
    reason: str


def refusal(raw: Mapping[str, bytes | None], order: str, burned_in: str, syntax: str) -> Refusal | None:
    """Why a file is no slice of CT; None for one that is.

    raw: bytes of the allowed elements by name. burned_in: "refuse" or "allow" what says that names stand in its pixels.
    Raises `ValueError` for a header that does not say what it is.
    """
    sop_class, modality = text(raw["SOPClassUID"]), text(raw["Modality"]).upper()
    if not sop_class:
        raise ValueError("its header does not say what it is (SOPClassUID)")
    if (
        "SCREEN SAVE" in texts(raw["ImageType"])
        or sop_class == _SECONDARY_CAPTURE
        or sop_class.startswith(_SECONDARY_CAPTURE + ".")
    ):
        return Refusal("secondary capture", "a picture of a screen or document, which may show names")
    if modality != "CT":
        known = modality in _MODALITIES
        return Refusal("not CT", f"its modality is {modality}" if known else "its modality is not CT")
    frames = integer(raw["NumberOfFrames"], order, 1, textual=True)
    if sop_class in _ENHANCED or frames > 1:
        return Refusal(
            "multi-frame CT", "several slices in one file; convert it to one file a slice (emf2sf of dcm4che)"
        )
    if sop_class != _CT_IMAGE:
        return Refusal("not CT", "it is no CT image by its SOP class")
    if not text(raw["PhotometricInterpretation"]):
        raise ValueError("its header does not say how its pixels are stored")
    if integer(raw["SamplesPerPixel"], order, 1) != 1 or not text(raw["PhotometricInterpretation"]).startswith("MONO"):
        return Refusal("colour picture", "it has colours, so no Hounsfield units")
    if burned_in == "refuse" and text(raw["BurnedInAnnotation"]).upper() == "YES":
        return Refusal("burned-in annotation", "its header says that names may stand in its pixels; ct.burned_in=allow")
    if raw["ModalityLUTSequence"] is not None:
        return Refusal("modality table", "it needs a ModalityLUTSequence, which is not supported")
    if text(raw["RescaleType"]).upper() not in ("", "HU", "US"):
        return Refusal("not Hounsfield units", "its rescale type is not HU")
    if syntax == _DEFLATED:
        return Refusal("deflated file", "the deflated transfer syntax is not supported; convert it (dcmconv +te)")
    return None
