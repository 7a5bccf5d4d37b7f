"""A volume as a DICOM series of CT images, one file a slice (PS3.3 A.3; extra: ct).

What was made by a program says so in each file: (0008,001C) Synthetic Data, an image type that is DERIVED, a content
qualification of RESEARCH, and which software contributed.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import MissingExtraError, VolumeError
from synthoma.formats.volumes.dicom_headers import quiet
from synthoma.formats.volumes.geometry import Geometry
from synthoma.run import aside_folder

if TYPE_CHECKING:
    from pydicom import Dataset

TransferSyntax = Literal["explicit", "implicit", "rle", "jpeg_ls", "jpeg2000"]
_SYNTAX_UIDS: Mapping[TransferSyntax, str] = {
    "explicit": "1.2.840.10008.1.2.1",
    "implicit": "1.2.840.10008.1.2",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg_ls": "1.2.840.10008.1.2.4.80",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
}
_PLAIN: tuple[TransferSyntax, ...] = ("explicit", "implicit")
_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_IMPLEMENTATION = "synthoma/implementation"
_LUNG_WINDOW = (-600.0, 1600.0)  # centre and width that viewers show at first


@dataclass(frozen=True, slots=True)
class DicomSeries:
    """What a series says of itself, beside its voxels.

    patient_id, patient_name: as they are written; a synthetic person is named as such by the caller. seed: any text;
    all UIDs follow from it (2.25 and a UUID), and equal seeds give equal UIDs. study: another seed for the UIDs of study
    and frame of reference, so that series share them. Dates are YYYYMMDD, times HHMMSS, age as DICOM writes it ("063Y").
    slice_thickness: mm; the distance of slices where it is None. slope, intercept: how HU are stored.
    synthetic: whether a program made the voxels; derivation then says how. others: further elements by DICOM keyword.
    """

    patient_id: str
    patient_name: str
    seed: str
    study: str | None = None
    description: str = ""
    kvp: float = 120.0
    kernel: str = "STANDARD"
    manufacturer: str = "Synthoma"
    slice_thickness: float | None = None
    sex: Literal["", "M", "F", "O"] = ""
    age: str = ""
    birth_date: str = ""
    study_date: str = ""
    study_time: str = ""
    slope: float = 1.0
    intercept: float = -1024.0
    transfer_syntax: TransferSyntax = "explicit"
    synthetic: bool = True
    derivation: str = "Made by a program; it shows no person."
    others: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def series_uid(self) -> str:
        """UID of the series."""
        return uid_of(f"{self.seed}/series")

    @property
    def study_uid(self) -> str:
        """UID of the study."""
        return uid_of(f"{self.study or self.seed}/study")

    @property
    def frame_of_reference_uid(self) -> str:
        """UID of the world that positions are told in."""
        return uid_of(f"{self.study or self.seed}/frame of reference")

    def slice_uid(self, number: int) -> str:
        """SOP instance UID of a slice by its place along the array's first axis."""
        return uid_of(f"{self.seed}/slice/{number}")


def uid_of(text: str) -> str:
    """A UID that follows from a text: 2.25 and a UUID of version 5 as one number (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'synthoma/{text}').int}"


def write_dicom_series(folder: Path, hu: NDArray[np.int16], geometry: Geometry, *, series: DicomSeries) -> list[str]:
    """Write HU [z, y, x] as one DICOM file a slice; returns the SOP instance UIDs in the order of the first axis.

    folder: made anew, as a whole or not at all; it may be there if it is empty. Where the first axis runs against the
    normal (row direction x column direction), readers that sort along the normal give the slices the other way round;
    places in the world stay what they are. HU come back as they were where (hu - intercept) / slope is a whole number,
    else to within half a slope.

    Raises `ValueError` for another shape or type, for HU that do not fit 16 bits with this slope and intercept, and for
    texts that DICOM does not allow, such as a date that is none; `VolumeError` for a folder that has something in it and
    for a slice that an encoder refuses; `MissingExtraError` without pydicom or an encoder.
    """
    folder = Path(folder)
    _check_encoder(series.transfer_syntax)
    if hu.dtype != np.int16 or hu.shape != geometry.size:
        raise ValueError(f"HU are int16 of shape {geometry.size}, not {hu.dtype} of shape {hu.shape}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise VolumeError(f"{folder} is there and not empty; a series is written into a folder of its own.")
    lowest, highest = (_stored(np.array([end]), series)[0] for end in (hu.min(), hu.max()))
    if series.slope <= 0 or lowest < -(1 << 15) or highest >= (1 << 16 if lowest >= 0 else 1 << 15):
        raise ValueError(f"HU do not fit 16 bits with slope {series.slope} and intercept {series.intercept}")
    signed = bool(lowest < 0)
    bits = 12 if not signed and highest < 1 << 12 else 16
    with quiet(), aside_folder(folder.absolute()) as aside:
        dataset = _template(geometry, series, signed=signed, bits=bits)
        for number, plane in enumerate(hu):
            pixels = _stored(plane, series).astype("<i2" if signed else "<u2")
            _write_slice(aside / f"{number + 1:04d}.dcm", dataset, pixels, geometry, series, number)
    return [series.slice_uid(number) for number in range(len(hu))]


def _stored(hu: NDArray[np.int16], series: DicomSeries) -> NDArray[np.int64]:
    stored: NDArray[np.int64] = np.rint((hu.astype(np.float64) - series.intercept) / series.slope).astype(np.int64)
    return stored


def _write_slice(
    path: Path, dataset: "Dataset", pixels: NDArray[np.generic], geometry: Geometry, series: DicomSeries, number: int
) -> None:
    from pydicom.uid import UID, ExplicitVRLittleEndian

    syntax = UID(_SYNTAX_UIDS[series.transfer_syntax])
    compressed = series.transfer_syntax not in _PLAIN
    position = geometry.world((number, 0, 0))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(series.slice_uid(number))
    dataset.InstanceNumber = number + 1
    dataset.ImagePositionPatient = _decimals(position)
    dataset.SliceLocation = _decimals([float(np.cross(*_in_plane(geometry)) @ position)])[0]
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if compressed else syntax
    if compressed:
        try:
            dataset.compress(syntax, generate_instance_uid=False)
        except (RuntimeError, NotImplementedError) as error:
            raise VolumeError(
                f"slice {number} cannot be stored as {series.transfer_syntax}; write it as explicit."
            ) from error
    dataset.save_as(path, enforce_file_format=True)


def _in_plane(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions along a row (of x) and down a column (of y)."""
    return np.asarray(geometry.directions[2]), np.asarray(geometry.directions[1])


def _template(geometry: Geometry, series: DicomSeries, *, signed: bool, bits: int) -> "Dataset":
    """All that the slices of a series share."""
    from pydicom import Dataset
    from pydicom.config import RAISE
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID
    from pydicom.valuerep import validate_value

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_CT_IMAGE_STORAGE)
    meta.ImplementationClassUID = UID(uid_of(_IMPLEMENTATION))
    dataset = Dataset()
    dataset.file_meta = meta
    for keyword, value in (_said(series) | _grid(geometry, series) | _pixels(series, signed=signed, bits=bits)).items():
        setattr(dataset, keyword, value)
    if series.synthetic:
        dataset.SyntheticData = "YES"
        dataset.ContentQualification = "RESEARCH"
        dataset.DerivationDescription = series.derivation
        dataset.ContributingEquipmentSequence = [_equipment()]
    for keyword, value in series.others.items():
        setattr(dataset, keyword, value)
    for element in dataset:
        if isinstance(element.value, str):  # pydicom would only warn
            validate_value(element.VR, element.value, RAISE)
    return dataset


def _said(series: DicomSeries) -> dict[str, Any]:
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL"] if series.synthetic else ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": _CT_IMAGE_STORAGE,
        "StudyDate": series.study_date,
        "ContentDate": series.study_date,
        "StudyTime": series.study_time,
        "ContentTime": series.study_time,
        "AccessionNumber": "",
        "Modality": "CT",
        "Manufacturer": series.manufacturer,
        "ReferringPhysicianName": "",
        "SeriesDescription": series.description,
        "PatientName": series.patient_name,
        "PatientID": series.patient_id,
        "PatientBirthDate": series.birth_date,
        "PatientSex": series.sex,
        "PatientAge": series.age,
        "PatientPosition": "HFS",
        "KVP": _decimals([series.kvp])[0],
        "ConvolutionKernel": series.kernel,
        "StudyInstanceUID": series.study_uid,
        "SeriesInstanceUID": series.series_uid,
        "FrameOfReferenceUID": series.frame_of_reference_uid,
        "PositionReferenceIndicator": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "AcquisitionNumber": 1,
        "BurnedInAnnotation": "NO",
    }


def _grid(geometry: Geometry, series: DicomSeries) -> dict[str, Any]:
    _, rows, columns = geometry.size
    thickness = geometry.spacing[0] if series.slice_thickness is None else series.slice_thickness
    return {
        "SliceThickness": _decimals([thickness])[0],
        "ImageOrientationPatient": _decimals(np.concatenate(_in_plane(geometry))),
        "PixelSpacing": _decimals(geometry.spacing[1:]),
        "Rows": rows,
        "Columns": columns,
    }


def _pixels(series: DicomSeries, *, signed: bool, bits: int) -> dict[str, Any]:
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
        "RescaleIntercept": _decimals([series.intercept])[0],
        "RescaleSlope": _decimals([series.slope])[0],
        "RescaleType": "HU",
        "WindowCenter": _decimals(_LUNG_WINDOW)[0],
        "WindowWidth": _decimals(_LUNG_WINDOW)[1],
    }


def _equipment() -> "Dataset":
    """The software, as an item of the contributing equipment (PS3.3 C.12.1; code DCM 109103)."""
    from pydicom import Dataset

    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109103", "DCM"
    purpose.CodeMeaning = "Modifying Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = item.ManufacturerModelName = "Synthoma"
    item.SoftwareVersions = metadata.version("synthoma")
    return item


def _decimals(values: Any) -> list[Any]:
    """Decimal strings of at most 16 characters, with as many digits as these hold."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]


def _check_encoder(syntax: TransferSyntax) -> None:
    try:
        from pydicom.pixels import get_encoder
    except ImportError as error:
        raise MissingExtraError(
            "writing DICOM needs pydicom, which is not installed: pip install 'synthoma[ct]'."
        ) from error
    if syntax not in _PLAIN and not get_encoder(_SYNTAX_UIDS[syntax]).is_available:
        raise MissingExtraError(
            f"writing DICOM as {syntax} needs an encoder that is not installed: pip install 'synthoma[ct]'."
        )
