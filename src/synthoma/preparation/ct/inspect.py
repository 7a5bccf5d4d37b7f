"""What a folder of volumes holds, without cutting it: `synthoma volumes`. Nothing is written."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from synthoma.errors import SynthomaError, VolumeError
from synthoma.formats.volumes.geometry import Geometry, in_lps_order
from synthoma.formats.volumes.registry import read_volume
from synthoma.formats.volumes.shapes import OnGap, VolumeFile
from synthoma.measure.lungs import lung_mask
from synthoma.preparation.ct.cut import PATIENCE_S, without_file
from synthoma.preparation.ct.find import VolumeSet, find_volumes
from synthoma.preparation.ct.lesions import find_lesions
from synthoma.preparation.isolated import Failure, run_isolated
from synthoma.recipe import Recipe

# A plane is called by its name up to so many degrees; a gantry is tilted by more.
_STRAIGHT = 1.0
_PLANES = {2: "axial", 1: "coronal", 0: "sagittal"}


class VolumeFacts(NamedTuple):
    """A volume as it is. key, patient: pseudonyms. marks: lesions that the recipe would cut; refused: reason -> number.

    size: voxels (z, y, x) of the array; spacing: mm, None where unknown. lungs: litres, None where nobody looked.
    """

    key: str
    patient: str
    kind: str
    size: tuple[int, int, int] | None
    spacing: tuple[float, float, float] | None
    orientation: str
    unit: str
    facts: Mapping[str, float | str]
    marks: Mapping[str, int]
    refused: Mapping[str, int]
    lungs: float | None
    warnings: Sequence[str]
    problem: str


@dataclass(frozen=True)
class Inspection:
    """All volumes, what was left out, and what to tell. files: of the volumes, in their order; private."""

    rows: list[VolumeFacts]
    left_out: Mapping[str, int]
    notes: Sequence[str]
    warnings: Sequence[str]
    files: Sequence[Path]


@dataclass(frozen=True)
class _Job:
    volume: VolumeFile
    on_gap: OnGap


def inspect_volumes(
    data: Path,
    recipe: Recipe,
    marks: Path | None = None,
    groups: Path | None = None,
    *,
    key_file: Path | None = None,
    lungs: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Facts of all volumes from their headers and marks. lungs: read the voxels too, and look for lungs in them.

    Raises as `find_volumes` does.
    """
    found = find_volumes(data, recipe, marks, groups, key_file=key_file, progress=progress)
    rows = [_facts(found, number, recipe) for number in range(len(found.volumes))]
    if lungs:
        jobs = [_Job(volume, "resample" if recipe.ct.on_gap == "resample" else "error") for volume in found.volumes]
        for number, outcome in run_isolated(look_for_lungs, jobs, workers, PATIENCE_S):
            row = rows[number]
            if isinstance(outcome, Failure):
                rows[number] = row._replace(problem=row.problem or outcome.reason)
            else:
                rows[number] = row._replace(lungs=outcome)
    return Inspection(rows, found.left_out, found.notes, found.warnings, [volume.path for volume in found.volumes])


def look_for_lungs(job: _Job, alive: Callable[[], None]) -> float | None:
    """Litres of lung; None where the volume is not in HU, or does not say its spacing."""
    try:
        volume = read_volume(job.volume, job.on_gap)
    except SynthomaError as error:
        raise VolumeError(without_file(str(error), job.volume)) from error
    alive()
    if volume.unit != "hu" or volume.geometry is None:
        return None
    array, geometry = in_lps_order(volume.array, volume.geometry)
    return float(lung_mask(array, geometry.spacing).sum() * np.prod(geometry.spacing) / 1e6)


def orientation_of(geometry: Geometry) -> str:
    """Plane of the slices along the first axis, and how far it is off: "axial", "axial, oblique by 12°"."""
    normal = np.abs(np.asarray(geometry.directions[0]))
    axis = int(normal.argmax())
    # Turning within the plane tilts the rows; both count.
    away = [np.degrees(np.arccos(min(1.0, float(np.max(np.abs(row)))))) for row in geometry.directions]
    plane = _PLANES[axis]
    return plane if max(away) <= _STRAIGHT else f"{plane}, oblique by {max(away):.0f}°"


def _facts(found: VolumeSet, number: int, recipe: Recipe) -> VolumeFacts:
    volume = found.volumes[number]
    geometry = volume.geometry
    marks: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    warnings = [without_file(text, volume) for text in volume.warnings]
    if found.marks is not None and (volume.problem is None or recipe.ct.on_gap == "resample"):
        for lesion in find_lesions(volume, geometry, found.marks[number], recipe.ct).lesions:
            if lesion.reason:
                refused[lesion.reason.partition(" (")[0]] += 1
            else:
                marks[lesion.label or "without a class"] += 1
    return VolumeFacts(
        found.keys[number],
        found.groups[number],
        volume.kind,
        None if geometry is None else geometry.size,
        None if geometry is None else geometry.spacing,
        "unknown" if geometry is None else orientation_of(geometry),
        volume.unit,
        dict(volume.facts),
        dict(marks),
        dict(refused),
        None,
        warnings,
        volume.problem or "",
    )


def as_json(inspection: Inspection) -> dict[str, Any]:
    """One document without names."""
    return {
        "volumes": [row._asdict() for row in inspection.rows],
        "left_out": dict(inspection.left_out),
        "notes": list(inspection.notes),
        "warnings": list(inspection.warnings),
    }
