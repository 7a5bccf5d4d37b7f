"""CT series as DICOM files: found by content, checked from their headers, read as Hounsfield units (extra: ct).

SimpleITK and others read a series with a missing slice without an error and with the wrong spacing; here geometry is checked
from the headers of all slices before a pixel is read, and what is wrong is said.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthoma.errors import VolumeError
from synthoma.formats.files import normal_name, walk_files
from synthoma.formats.volumes.dicom_geometry import slice_places
from synthoma.formats.volumes.dicom_headers import Damaged, Header, read_header, require_pydicom
from synthoma.formats.volumes.dicom_pixels import HuReport, read_hu, same_pixels
from synthoma.formats.volumes.dicom_refusal import Refusal
from synthoma.formats.volumes.dicom_resample import Resampler
from synthoma.formats.volumes.dicom_series import DicomSlice, Found, place_in_order, stacks_of
from synthoma.formats.volumes.shapes import LeftOut, Listing, OnGap, Volume, VolumeFile

_INDEX_FILE = "DICOMDIR"


def list_dicom(
    root: Path,
    burned_in: Literal["refuse", "allow"] = "refuse",
    progress: Callable[[int, int], None] | None = None,
) -> Listing:
    """All CT series below a folder (or the one file `root`), from headers; files that are no DICOM are not mentioned.

    Slices are one volume when they share series, orientation, size and pixel spacing; they are sorted along the normal of
    their planes, whatever their names. Pixels are only read to compare slices at one place. burned_in: "allow" takes
    images whose header says that there is text in the pixels. progress: called with files done and files in all.

    Left out, each with its reason: localizers, copies, other modalities, secondary captures, multi-frame files, damaged
    files. A damaged slice leaves a gap, which is then the `problem` of its volume. Problems that `read_dicom` cannot mend
    (no spacing, few slices, sizes mixed, several phases) have the geometry None.

    Raises `VolumeError` for a place that does not exist, `DataError` for a folder that cannot be listed,
    `MissingExtraError` without pydicom.
    """
    require_pydicom()
    root = Path(root)
    if not root.exists():
        raise VolumeError(f"{root} does not exist; name a folder with DICOM files.")
    files = [path for path in (walk_files(root) if root.is_dir() else [root]) if path.name.upper() != _INDEX_FILE]
    found: list[Found] = []
    left_out: list[LeftOut] = []
    for number, path in enumerate(files, start=1):
        header: Header | Refusal | None
        try:
            header = read_header(path, burned_in)
        except Damaged as error:
            header = Refusal("damaged file", str(error))
        if isinstance(header, Header):
            found.append(Found(path, header))
        elif header is not None:
            left_out.append(LeftOut(header.what, header.reason, path))
        if progress is not None:
            progress(number, len(files))
    volumes, copies = stacks_of(found, lambda a, b: same_pixels(a.path, a.header.pixels, b.path, b.header.pixels))
    left_out = sorted(left_out + copies, key=lambda left: normal_name(left.path.as_posix()))
    return Listing(tuple(sorted(volumes, key=place_in_order)), tuple(left_out))


def read_dicom(volume: VolumeFile, on_gap: OnGap = "error") -> Volume:
    """The voxels [slice, row, column] of a listed series, int16 in HU, -1024 and more.

    on_gap: with "resample", missing slices, uneven distances and tilt are mended by linear interpolation onto the regular
    grid `volume.geometry`; places without any slice are -1024. "skip" is for callers: here a problem is an error.

    Raises `VolumeError` for a problem of the geometry, damaged pixels, missing rescale with values that are no HU, and a
    compressed file without its decoder.
    """
    geometry = volume.geometry
    if volume.problem is not None and (on_gap != "resample" or geometry is None):
        hint = "" if geometry is None else "; to interpolate, ct.on_gap=resample, to leave it out, ct.on_gap=skip"
        raise VolumeError(f"the series in {volume.path}: {volume.problem}{hint}.")
    if geometry is None:
        raise VolumeError(f"the series in {volume.path} does not say its geometry.")
    slices = _slices(volume)
    report = HuReport()
    array = np.full(geometry.size, -1024, np.int16) if volume.problem else np.empty(geometry.size, np.int16)

    def read(one: DicomSlice, out: NDArray[np.int16]) -> None:
        try:
            read_hu(one.path, one.header.pixels, out, report)
        except (ValueError, VolumeError) as error:
            raise VolumeError(f"{one.path}: {error}.") from error

    if volume.problem is None:
        for one, out in zip(slices, array, strict=True):
            read(one, out)
    else:
        shape = slices[0].header.pixels.rows, slices[0].header.pixels.columns
        resampler = Resampler(slice_places(np.array([one.position for one in slices]), geometry), array)
        for one in slices:
            pixels = np.empty(shape, np.int16)
            read(one, pixels)
            resampler.add(pixels)
    try:
        warnings = report.warnings()
    except ValueError as error:
        raise VolumeError(f"the series in {volume.path}: {error}.") from error
    return Volume(array, geometry, "hu", (*volume.warnings, *warnings))


def slice_index(volume: VolumeFile, sop_instance_uid: str) -> int:
    """Number of a slice in `volume.slices`, which is its index in the array of a volume without a problem.

    Raises `VolumeError` where the volume has no such slice; the message does not repeat the UID.
    """
    for index, one in enumerate(volume.slices):
        if one.sop_instance_uid == sop_instance_uid:
            return index
    raise VolumeError("the volume has no slice with the SOP instance UID of the mark.")


def pixel_to_world(volume: VolumeFile, sop_instance_uid: str, xy: ArrayLike) -> NDArray[np.float64]:
    """World places [..., 3] (x, y, z) in mm, LPS, of pixels [..., 2] (x: column, y: row; 0 is the centre of the first).

    By the header of that one slice (PS3.3 C.7.6.2.1.1), so it holds for volumes that are resampled too. Raises
    `VolumeError` for a slice that the volume has not, and one that does not say its directions and spacing.
    """
    one = _slices(volume)[slice_index(volume, sop_instance_uid)]
    orientation, spacing = one.header.orientation, one.header.spacing
    if orientation is None or spacing is None:
        raise VolumeError("the slice of the mark does not say its orientation and pixel spacing.")
    between_rows, between_columns = spacing
    steps = np.array((orientation[:3], orientation[3:])) * ((between_columns,), (between_rows,))
    return np.asarray(xy, dtype=np.float64) @ steps + np.asarray(one.position)


def _slices(volume: VolumeFile) -> list[DicomSlice]:
    slices = [one for one in volume.slices if isinstance(one, DicomSlice)]
    if volume.kind != "dicom" or len(slices) != len(volume.slices) or not slices:
        raise VolumeError(f"{volume.path} is no DICOM series with slices that list_dicom has found.")
    return slices
