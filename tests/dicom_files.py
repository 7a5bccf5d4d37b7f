"""Small CT series as DICOM files, written with pydicom: what tests read back."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from synthoma.formats.volumes import VolumeFile
from synthoma.formats.volumes.dicom import list_dicom

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ROOT = "1.2.826.0.1.3680043.10.1337"


def slice_dataset(
    stored: NDArray[np.integer[Any]],
    position: Sequence[float],
    spacing: Sequence[float] = (5.0, 0.75, 0.75),
    orientation: Sequence[float] = AXIAL,
    number: int = 0,
    series: int = 1,
) -> FileDataset:
    """One CT slice with stored values [y, x] of 16 bits; rescale intercept -1024 where they are unsigned, else 0."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{ROOT}.{series}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID = CTImageStorage
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID = f"{ROOT}.{series}"
    made.StudyInstanceUID = f"{ROOT}.99"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.Modality = "CT"
    made.Manufacturer = "SIEMENS"
    made.PatientName = "Doe^Jane"
    made.PatientID = "MRN-0042"
    made.PatientSex = "F"
    made.PatientAge = "061Y"
    made.AcquisitionDate = "20240102"
    made.AcquisitionTime = "101112"
    made.AcquisitionNumber = 1
    made.InstanceNumber = number + 1
    made.KVP = 120
    made.ConvolutionKernel = "B40f"
    made.SliceThickness = spacing[0]
    made.ImagePositionPatient = [float(round(value, 6)) for value in position]
    made.ImageOrientationPatient = list(orientation)
    made.PixelSpacing = [spacing[1], spacing[2]]
    made.Rows, made.Columns = stored.shape
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit = 15
    made.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    made.RescaleSlope = 1
    made.RescaleIntercept = 0 if made.PixelRepresentation else -1024
    made.RescaleType = "HU"
    made.PixelData = stored.astype("<i2" if made.PixelRepresentation else "<u2").tobytes()
    made["PixelData"].VR = "OW"
    return made


def write_series(
    folder: Path,
    array: NDArray[np.integer[Any]],
    spacing: Sequence[float] = (5.0, 0.75, 0.75),
    origin: Sequence[float] = (-100.0, -120.0, -300.0),
    orientation: Sequence[float] = AXIAL,
    *,
    series: int = 1,
    syntax: str = ExplicitVRLittleEndian,
    prefix: str = "",
    **changes: Any,
) -> list[Path]:
    """Writes HU [z, y, x] as one file a slice; returns the files in the order of the slices.

    spacing: mm in z, y, x. origin: place (x, y, z) of the first pixel of slice 0; slice k lies k steps along the normal
    of the orientation. File names run against that order. changes: keyword of a tag -> its value in all files, or a
    function of the slice's number; None removes the tag. syntax: UID of the transfer syntax; RLE and JPEG 2000, JPEG-LS
    are encoded by pydicom.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    files = []
    for number, pixels in enumerate(np.asarray(array)):
        place = np.asarray(origin) + number * spacing[0] * normal
        made = slice_dataset((pixels + 1024).astype(np.uint16), place, spacing, orientation, number, series)
        for keyword, change in changes.items():
            alter(made, keyword, change(number) if callable(change) else change)
        path = folder / f"{prefix}{len(array) - number:03d}.dcm"
        write(made, path, syntax)
        files.append(path)
    return files


def alter(dataset: Dataset, keyword: str, value: Any) -> None:
    """Sets a tag by keyword, or removes it for None."""
    if value is None:
        if keyword in dataset:
            delattr(dataset, keyword)
    else:
        setattr(dataset, keyword, value)


def write(dataset: FileDataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Saves a data set of little endian pixels in a transfer syntax."""
    uid = pydicom.uid.UID(syntax)
    if uid.is_encapsulated:
        dataset.compress(uid, generate_instance_uid=False, **({} if uid == RLELossless else {"encoding_plugin": ""}))
    elif not uid.is_little_endian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
        dataset = FileDataset(
            "", dataset, dataset.preamble, dataset.file_meta, is_implicit_VR=False, is_little_endian=False
        )
    dataset.file_meta.TransferSyntaxUID = uid
    dataset.save_as(path, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian, enforce_file_format=True)


def rewrite(path: Path, change: Callable[[FileDataset], None]) -> None:
    """Reads a file, changes its data set in place, and writes it back."""
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


def ramp(size: tuple[int, int, int] = (6, 16, 20), seed: int = 0) -> NDArray[np.int16]:
    """HU [z, y, x] with air, tissue and bone, different in each voxel."""
    return np.random.default_rng(seed).integers(-1024, 1500, size).astype(np.int16)


def only(root: Path) -> VolumeFile:
    """The volume of a folder that holds just one."""
    listing = list_dicom(root)
    assert len(listing.volumes) == 1, listing
    return listing.volumes[0]
