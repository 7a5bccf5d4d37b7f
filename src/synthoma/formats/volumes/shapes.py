"""What there is of volumes, before and after their voxels are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.volumes.geometry import Geometry

VolumeKind = Literal["dicom", "nifti", "metaimage", "nrrd"]
OnGap = Literal["error", "skip", "resample"]
VolumeUnit = Literal["hu", "unknown"]


@dataclass(frozen=True, slots=True)
class SliceFile:
    """One slice of a DICOM series. position: of the centre of its first pixel, (x, y, z) in mm, LPS."""

    path: Path = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    position: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """A volume that was found, and what its headers say; no voxel was read.

    path: the file, or the folder of a series. slices: of a DICOM series in the order of the array's first axis; () else.
    geometry: as the array will have it when it is read (with `on_gap="resample"` along the slice axis another size);
    None where the file does not say it: then nothing can be told in mm. unit: "hu" for CT in DICOM; other files say
    nothing of their unit, so theirs is "unknown" until somebody who knows says so.
    patient, series: as the file has them. Private: for grouping and for joining with marks only.
    facts: allow-listed and harmless, such as kvp, kernel, slice_thickness, manufacturer, sex, age_band.
    problem: what is wrong with the geometry (a gap, tilt, ...), a sentence that names no person; None for none.
    """

    kind: VolumeKind
    path: Path = field(repr=False)
    slices: tuple[SliceFile, ...] = field(repr=False)
    geometry: Geometry | None
    unit: VolumeUnit
    patient: str | None = field(default=None, repr=False)
    series: str | None = field(default=None, repr=False)
    facts: Mapping[str, float | str] = field(default_factory=dict)
    problem: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was found and is no volume to be used. what: "localizer", "duplicate slice", ...; names no person."""

    what: str
    reason: str
    path: Path = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listing:
    """All volumes below a folder, in an order that does not depend on the file system, and what was left out."""

    volumes: tuple[VolumeFile, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Voxels [z, y, x]: int16 in HU, or in the file's own numbers where the unit is unknown (int16, or float32).

    geometry: None where the file does not say it.
    """

    array: NDArray[np.generic]
    geometry: Geometry | None
    unit: VolumeUnit
    warnings: tuple[str, ...] = ()
