"""Headers of NIfTI-1 and NIfTI-2 files (.nii, .nii.gz), by way of nibabel (extra: ct).

Cox et al., "A (sort of) new image data format standard: NIfTI-1", 2004; nifti.nimh.nih.gov/nifti-1.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import MissingExtraError
from synthoma.formats.volumes import headers
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.headers import BadVolume, FileHeader, Grid

_SIZES = {348: b"n+1", 540: b"n+2"}
_PAIRS = (b"ni1", b"ni2")
# NIFTI_UNITS_METER, _MM, _MICRON: the lower three bits of xyzt_units
_MM_OF_CODE = {1: 1e3, 2: 1.0, 3: 1e-3}
_LPS_RAS = np.diag((-1.0, -1.0, 1.0, 1.0))
_FORMS_APART_MM = 1.0
_FORMS_APART = 0.01


def read_nifti_header(path: Path) -> FileHeader:
    """The header of a NIfTI file, packed or not. Raises `BadVolume`, `MissingExtraError` without nibabel."""
    block, packed = _block(path)
    header = _parsed(block)
    counts = _counts(header)
    slope, intercept = _scaling(header)
    offset = float(header["vox_offset"])
    length = int(header["sizeof_hdr"])
    if not (length + 4 <= offset < headers.MAX_BYTES) or not offset.is_integer():
        raise BadVolume("does not say where its voxels begin; its header is damaged")
    size = headers.checked_size(counts)
    return FileHeader(
        kind="nifti",
        size=size,
        dtype=_dtype(header),
        grid=_grid(header, size),
        data=path,
        skip=int(offset),
        encoding="gzip" if packed else "raw",
        slope=slope,
        intercept=intercept,
    )


def _block(path: Path) -> tuple[bytes, bool]:
    """The first 540 bytes, unpacked, and whether the file is packed."""
    headers.file_bytes(path)
    try:
        with path.open("rb") as file:
            block = file.read(max(_SIZES))
            packed = block.startswith(headers.GZIP_MAGIC)
            if packed:
                file.seek(0)
                with gzip.GzipFile(fileobj=file) as stream:
                    block = stream.read(max(_SIZES))
    except (OSError, EOFError, zlib.error) as error:
        raise BadVolume("is no readable NIfTI file; it may be truncated") from error
    return block, packed


def _parsed(block: bytes) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise MissingExtraError(
            "NIfTI files (.nii, .nii.gz) need nibabel, which is not installed: pip install 'synthoma[ct]'."
        ) from error
    classes = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    for endianness, order in (("<", "little"), (">", "big")):
        length = int.from_bytes(block[:4], order)  # type: ignore[arg-type]
        if length in _SIZES and len(block) >= length:
            header = classes[length](block[:length], endianness=endianness, check=False)
            magic = bytes(header["magic"].item())[:3]
            if magic in _PAIRS:
                raise BadVolume("is a header without voxels (.hdr and .img); save it as .nii.gz")
            if magic == _SIZES[length]:
                return header
    raise BadVolume("is no NIfTI file, or its header is damaged")


def _counts(header: Any) -> list[int]:
    """Voxels along x, y and z."""
    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7:
        raise BadVolume("has a damaged header: it does not say how many axes there are")
    counts = dim[1 : dim[0] + 1]
    if len(counts) < 3:
        raise BadVolume(f"has {len(counts)} axes; a volume has three")
    if len(counts) > 3 and counts[3] != 1:
        raise BadVolume(f"holds {counts[3]} volumes; save each in a file of its own")
    if any(count != 1 for count in counts[4:]):
        raise BadVolume("holds several values a voxel; a volume has one")
    return counts[:3]


def _dtype(header: Any) -> np.dtype[np.generic]:
    code = int(header["datatype"])
    try:
        dtype: np.dtype[np.generic] = header.get_data_dtype()
    except Exception as error:  # nibabel raises several types for codes that it does not know
        raise BadVolume(f"holds values of a type that is not read (NIfTI code {code})") from error
    return headers.checked_dtype(dtype)


def _scaling(header: Any) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means that values are not scaled (NIfTI-1, scl_slope), nibabel writes NaN."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise BadVolume("has a slope or intercept that is no number; its header is damaged")
    return slope, intercept


def _grid(header: Any, size: tuple[int, int, int]) -> Grid:
    """Where the voxels lie: by the sform if there is one, else by the qform (NIfTI-1, "3D image orientation")."""
    warnings: list[str] = []
    pixdim = header["pixdim"]
    if (pixdim[1:4] < 0).any():
        warnings.append("says negative voxel sizes; their signs were ignored")
        pixdim[1:4] = np.abs(pixdim[1:4])
    to_mm = _MM_OF_CODE.get(int(header["xyzt_units"]) & 7)
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not (has_sform or has_qform):
        return _grid_by_pixdim(pixdim, size, to_mm, warnings)
    if to_mm is None:
        warnings.append("does not say its unit of length; millimetres are taken")
    scale = np.diag((*(3 * (to_mm or 1.0,)), 1.0))
    qform = _qform(header) if has_qform else None
    if has_sform:
        affine = np.asarray(header.get_sform(), dtype=np.float64)
        if has_qform and (qform is None or _are_apart(scale @ affine, scale @ qform, size)):
            warnings.append("says two geometries that differ (sform and qform); its sform was used")
    elif qform is None:
        raise BadVolume("has a geometry that is none (qform); its header is damaged")
    else:
        affine = qform
    with np.errstate(all="ignore"):
        lps = _LPS_RAS @ scale @ affine
    return Grid(headers.placed(size, lps[:3, :3].T, lps[:3, 3]), tuple(warnings))


def _grid_by_pixdim(
    pixdim: NDArray[np.floating], size: tuple[int, int, int], to_mm: float | None, warnings: list[str]
) -> Grid:
    x, y, z = (float(length) * (to_mm or 1.0) for length in pixdim[1:4])
    if to_mm is None or not all(0 < length < math.inf for length in (x, y, z)):
        return Grid(None, (*warnings, headers.UNKNOWN_SPACING))
    return Grid(Geometry(size, (z, y, x)), (*warnings, headers.UNKNOWN_ORIENTATION))


def _qform(header: Any) -> NDArray[np.float64] | None:
    """[4, 4], or None where its numbers are no rotation."""
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(header.get_qform(), dtype=np.float64)
    except Exception:  # ValueError, or HeaderDataError, which is none
        return None
    return affine if np.isfinite(affine).all() else None


def _are_apart(one: NDArray[np.float64], other: NDArray[np.float64], size: tuple[int, int, int]) -> bool:
    """Whether a corner of the volume lies over 1 mm from itself, or a voxel's edge differs by over 1 %."""
    ends = [(0, count - 1) for count in size[::-1]]
    corners = np.array([(x, y, z, 1) for x in ends[0] for y in ends[1] for z in ends[2]], dtype=np.float64)
    with np.errstate(all="ignore"):
        distances = np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1)
        one_edges, other_edges = (np.linalg.norm(affine[:3, :3], axis=0) for affine in (one, other))
        close = (distances <= _FORMS_APART_MM).all() and np.allclose(one_edges, other_edges, rtol=_FORMS_APART, atol=0)
    return not close
