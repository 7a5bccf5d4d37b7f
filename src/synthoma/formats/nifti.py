"""NIfTI-1 files (.nii.gz) of volumes, by way of nibabel (extra: ct).

Arrays here are [c, z, y, x] in LPS: x grows to the patient's left, y to the back, z to the head. NIfTI stores (x, y, z)
and its world is RAS, so the first two axes of the affine are negative.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import DataError, MissingExtraError

SUFFIX = ".nii.gz"
LONGEST_DESCRIPTION = 79  # bytes of the header's field descrip, less the zero that ends it
_ALIGNED = 2  # NIFTI_XFORM_ALIGNED_ANAT: axes are those of anatomy, the origin is of no scanner
_COMMENT = 6  # code of a header extension with plain text
_VECTOR = 1007  # NIFTI_INTENT_VECTOR: several values a voxel, along the fifth axis


def encode_nifti(
    volume: NDArray[np.generic],
    spacing: tuple[float, ...] | None,
    description: str,
    comment: Mapping[str, Any],
    affine: NDArray[np.float64] | None = None,
) -> bytes:
    """A volume [c, z, y, x] as a compressed NIfTI-1 file; the same input gives the same bytes.

    spacing: millimetres in z, y, x; None is written as voxels of 1 of an unknown unit. description: at most 79 bytes.
    comment: kept as JSON in a header extension. affine: as `lps_affine` gives it; without one, world zero is the middle of
    the volume. Several channels lie along the fifth axis. Raises `MissingExtraError` without nibabel.
    """
    nibabel = _nibabel()
    if len(description.encode()) > LONGEST_DESCRIPTION:
        raise ValueError(f"a NIfTI description has at most {LONGEST_DESCRIPTION} bytes: {description!r}")
    stored = np.ascontiguousarray(volume.transpose(3, 2, 1, 0))
    stored = stored[..., 0] if stored.shape[3] == 1 else stored[..., None, :]
    if affine is None:
        affine = lps_affine(volume.shape[1:], spacing or (1.0, 1.0, 1.0))
    image = nibabel.Nifti1Image(stored, affine)
    header = image.header
    header.set_sform(image.affine, code=_ALIGNED)
    header.set_qform(image.affine, code=_ALIGNED)
    header.set_xyzt_units("unknown" if spacing is None else "mm")
    header["descrip"] = description.encode()
    if stored.ndim == 5:
        header.set_intent(_VECTOR)
    text = json.dumps(dict(comment), ensure_ascii=False, sort_keys=True).encode()
    header.extensions.append(nibabel.nifti1.Nifti1Extension(_COMMENT, text))
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def lps_affine(size: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Affine from voxel (x, y, z) to RAS millimetres of an array in LPS; `size` and `spacing` in z, y, x."""
    steps = np.array(spacing[::-1], dtype=np.float64) * (-1.0, -1.0, 1.0)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.array(size[::-1]) - 1) / 2
    return affine


def read_nifti(path: Path) -> tuple[NDArray[np.generic], tuple[float, ...] | None]:
    """The volume [c, z, y, x] in LPS, and its spacing (z, y, x) in millimetres, or None where its unit is unknown.

    Axes are permuted and mirrored to LPS as the affine says, values are not resampled. Raises `DataError` for a file
    that cannot be read, `MissingExtraError` without nibabel.
    """
    volume, spacing, _ = read_placed_nifti(path)
    return volume, spacing


def read_placed_nifti(
    path: Path,
) -> tuple[NDArray[np.generic], tuple[float, ...] | None, NDArray[np.float64]]:
    """As `read_nifti`, with the affine from voxel (x, y, z) of the array to RAS: where in the world the volume lies."""
    nibabel = _nibabel()
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        values = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is no readable NIfTI file; it may be truncated.") from error
    if values.ndim == 3:
        values = values[..., None, None]
    if values.ndim != 5 or values.shape[3] != 1:
        raise DataError(f"{path} has the shape {values.shape}; expected a volume (x, y, z), or (x, y, z, 1, channels).")
    volume = np.ascontiguousarray(values[::-1, ::-1, :, 0].transpose(3, 2, 1, 0))
    known = image.header.get_xyzt_units()[0] == "mm"
    zooms = tuple(float(length) for length in image.header.get_zooms()[2::-1])
    # The first two axes of the array run the other way than those of the canonical image.
    affine = np.asarray(image.affine, dtype=np.float64).copy()
    for axis in (0, 1):
        affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
        affine[:3, axis] *= -1
    return volume, zooms if known else None, affine


def nibabel_is_there() -> bool:
    """Whether NIfTI files can be written on this machine."""
    try:
        _nibabel()
    except MissingExtraError:
        return False
    return True


def _nibabel() -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise MissingExtraError(
            "NIfTI files (.nii.gz) need nibabel, which is not installed: pip install 'synthoma[ct]'. "
            "Without it, volumes are written as arrays: --format npy."
        ) from error
    module: ModuleType = nibabel
    return module
