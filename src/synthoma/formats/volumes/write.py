"""Volumes as NIfTI, MetaImage and NRRD files, with their geometry. The same input gives the same bytes.

Formats: NIfTI-1 (nifti.nimh.nih.gov/nifti-1), MetaImage (itk.org/Wiki/ITK/MetaIO/Documentation), NRRD0004
(teem.sourceforge.net/nrrd/format.html). World coordinates are LPS in MetaImage and here in NRRD, and RAS in NIfTI.
"""

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import MissingExtraError
from synthoma.formats.volumes.geometry import Geometry
from synthoma.run import write_atomically

LONGEST_DESCRIPTION = 79  # what NIfTI has room for; the others are held to it too
_ELEMENT_TYPES = {"uint8": "MET_UCHAR", "int16": "MET_SHORT", "float32": "MET_FLOAT"}
_NRRD_TYPES = {"uint8": "uint8", "int16": "int16", "float32": "float"}
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT: world is that of the scanner
# Noise of a scanner does not get much smaller at higher levels, which take several times as long.
_LEVEL = 1


def write_volume(
    path: Path, array: NDArray[np.generic], geometry: Geometry, description: str = "", *, compress: bool = False
) -> None:
    """Write [z, y, x] as the suffix says: .nii, .nii.gz, .mhd (with .raw beside it, or .zraw), .mha or .nrrd.

    array: int16, uint8 or float32, as it lies in `geometry`; it is not turned. compress: of MetaImage and NRRD; NIfTI is
    compressed as its suffix says. description: one line of at most 79 ASCII characters. A file that is there is replaced
    in one step; of an .mhd, the old header goes first and the new one comes last, so that it never has other voxels.

    Raises `ValueError` for another type, shape, suffix or description, `MissingExtraError` for NIfTI without nibabel,
    `SynthomaError` where the file cannot be written.
    """
    path = Path(path)
    _check(array, geometry, description)
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        _write_nifti(path, little, geometry, description)
    elif name.endswith(".mhd"):
        data = path.with_suffix(".zraw" if compress else ".raw")
        body = zlib.compress(little.data, _LEVEL) if compress else little.tobytes()
        path.unlink(missing_ok=True)
        write_atomically(data, body)
        stored = len(body) if compress else None
        write_atomically(path, _metaimage_header(little, geometry, description, data.name, stored))
    elif name.endswith(".mha"):
        body = zlib.compress(little.data, _LEVEL) if compress else little.tobytes()
        stored = len(body) if compress else None
        header = _metaimage_header(little, geometry, description, "LOCAL", stored)
        write_atomically(path, header.encode("ascii") + body)
    elif name.endswith(".nrrd"):
        body = gzip.compress(little.data, _LEVEL, mtime=0) if compress else little.tobytes()
        encoding = "gzip" if compress else "raw"
        write_atomically(path, _nrrd_header(little, geometry, description, encoding).encode("ascii") + body)
    else:
        raise ValueError(f"{path.name}: volumes are written as .nii.gz, .nii, .mhd, .mha or .nrrd")


def _check(array: NDArray[np.generic], geometry: Geometry, description: str) -> None:
    if array.dtype.name not in _ELEMENT_TYPES:
        raise ValueError(f"volumes are written as int16, uint8 or float32, not as {array.dtype}")
    if array.shape != geometry.size:
        raise ValueError(f"an array of shape {array.shape} does not lie in a geometry of size {geometry.size}")
    if len(description) > LONGEST_DESCRIPTION or not description.isascii() or not (description + "x").isprintable():
        raise ValueError(f"a description is one line of at most {LONGEST_DESCRIPTION} ASCII characters")


def _write_nifti(path: Path, array: NDArray[np.generic], geometry: Geometry, description: str) -> None:
    try:
        import nibabel
    except ImportError as error:
        raise MissingExtraError(
            "writing NIfTI needs nibabel, which is not installed: pip install 'synthoma[ct]'."
        ) from error
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(array.dtype)
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), geometry.ras_affine, header)
    image.header.set_sform(geometry.ras_affine, code=_SCANNER)
    image.header.set_qform(geometry.ras_affine, code=_SCANNER)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii")
    content = image.to_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.compress(content, _LEVEL, mtime=0)
    write_atomically(path, content)


def _metaimage_header(
    array: NDArray[np.generic], geometry: Geometry, description: str, data: str, stored_bytes: int | None
) -> str:
    """stored_bytes: of the voxels where they are compressed; None where they are not."""
    directions = geometry.directions[::-1]  # of x, y and z; MetaIO keeps one after another
    lines = ["ObjectType = Image", "NDims = 3"]
    if description:
        lines.append(f"Comment = {description}")
    lines += ["BinaryData = True", "BinaryDataByteOrderMSB = False", f"CompressedData = {stored_bytes is not None}"]
    if stored_bytes is not None:
        lines.append(f"CompressedDataSize = {stored_bytes}")
    lines += [
        f"TransformMatrix = {_numbers(value for direction in directions for value in direction)}",
        f"Offset = {_numbers(geometry.origin)}",
        "CenterOfRotation = 0 0 0",
        f"ElementSpacing = {_numbers(geometry.spacing[::-1])}",
        f"DimSize = {' '.join(str(n) for n in geometry.size[::-1])}",
        f"ElementType = {_ELEMENT_TYPES[array.dtype.name]}",
        f"ElementDataFile = {data}",
    ]
    return "\n".join(lines) + "\n"


def _nrrd_header(array: NDArray[np.generic], geometry: Geometry, description: str, encoding: str) -> str:
    steps = " ".join(f"({_numbers(step, ',')})" for step in geometry.steps[::-1])
    lines = ["NRRD0004"]
    if description:
        lines.append(f"content: {description}")
    lines += [
        f"type: {_NRRD_TYPES[array.dtype.name]}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in geometry.size[::-1])}",
        f"space directions: {steps}",
        "kinds: domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        'space units: "mm" "mm" "mm"',
        f"space origin: ({_numbers(geometry.origin, ',')})",
    ]
    return "\n".join(lines) + "\n\n"


def _numbers(values: Iterable[float], between: str = " ") -> str:
    """With all their digits, so that they are read as they were."""
    return between.join(repr(float(value) + 0.0) for value in values)
