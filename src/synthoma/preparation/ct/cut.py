"""A set of volumes to a folder of cubes or slices: a process a volume, so that one that is damaged costs itself only.

Nothing that is written names a file, patient, UID or date: keys and groups are pseudonyms, and reasons are told without
names. A volume whose files, marks and settings are what they were is left as it is.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthoma.ct_settings import CtSection
from synthoma.errors import DataError, SynthomaError, VolumeError
from synthoma.formats.cuts import INFO, SCHEMA_VERSION, SETTINGS, CutsShard
from synthoma.formats.files import file_identity
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.registry import read_volume
from synthoma.formats.volumes.shapes import VolumeFile
from synthoma.measure.segment import SEGMENTER
from synthoma.memory import keep_freed_memory
from synthoma.preparation.ct.cubes import cut_cubes
from synthoma.preparation.ct.find import VolumeSet
from synthoma.preparation.ct.join import VolumeMarks
from synthoma.preparation.ct.lesions import find_lesions, lps_geometry
from synthoma.preparation.ct.pieces import PieceWriter
from synthoma.preparation.ct.slices import cut_slices, load_references
from synthoma.preparation.isolated import Failure, run_isolated
from synthoma.recipe import Recipe, content_hash
from synthoma.run import aside_folder, file_sha256, read_json, write_json
from synthoma.sources.terms import keep_terms

# Raised when what a shard holds changes its meaning, so that older ones are cut anew.
VERSION = 1
# Seconds without a sign of life: the lungs of a large volume take some tens of them on a busy machine.
PATIENCE_S = 600.0
_NAMED = 5


@dataclass(frozen=True)
class CutJob:
    """All that a process needs to cut one volume. key, group: pseudonyms; marks: None where none were given."""

    key: str
    group: str
    volume: VolumeFile = field(repr=False)
    marks: VolumeMarks | None = field(repr=False)
    section: CtSection
    voxels: int
    target: Path
    settings: str
    inputs: str


@dataclass(frozen=True)
class CutResult:
    """What came of each volume: key -> volume.json, or why it failed, or was left out by `ct.on_gap=skip`.

    files: key -> file or folder; private, for the terminal only.
    """

    folder: Path
    cut: str
    done: Mapping[str, Mapping[str, Any]]
    failed: Mapping[str, str]
    skipped: Mapping[str, str]
    files: Mapping[str, Path] = field(repr=False)
    reused: int
    notes: Sequence[str]
    warnings: Sequence[str]


def cut_volumes(
    found: VolumeSet,
    recipe: Recipe,
    out: Path,
    *,
    workers: int,
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] | None = None,
) -> CutResult:
    """Cut all volumes, or every `shard[1]`-th from number `shard[0]` on, into `out`; those that are done are left alone.

    Raises `VolumeError` for volumes with gaps under `ct.on_gap=error`; `DataError` where more than `ct.max_failed` of them
    cannot be read, none gives anything, or `out` holds cuts with pseudonyms of another key.
    """
    section = recipe.ct
    mine = list(range(shard[0], len(found.volumes), shard[1]))
    _check_gaps([found.volumes[number] for number in mine], section)
    if section.cut == "cubes" and found.marks is None:
        raise DataError(
            "cubes are cut around marks; give them (--marks FILE or folder), or cut slices: --set ct.cut=slices."
        )
    settings = _settings(section, cube_side(recipe))
    _begin(out, found, settings)
    jobs, done, skipped = _split(
        [_job(found, number, section, cube_side(recipe), out, content_hash(settings)) for number in mine]
    )
    reused, failed = len(done), {}
    told = progress or (lambda done, total: None)
    told(reused, len(mine))
    for count, (number, outcome) in enumerate(run_isolated(cut_volume, jobs, workers, PATIENCE_S), start=1):
        if isinstance(outcome, Failure):
            failed[jobs[number].key] = outcome.reason
            # What an earlier cut left there is of other files or settings.
            shutil.rmtree(jobs[number].target, ignore_errors=True)
        else:
            done[jobs[number].key] = outcome
        told(reused + count, len(mine))
    whole = shard[1] == 1
    warnings = [*found.warnings, *_told_left_out(found), *(_strangers(found, out) if whole else [])]
    files = {found.keys[number]: found.volumes[number].path for number in mine}
    result = CutResult(out, section.cut, done, failed, skipped, files, reused, found.notes, warnings)
    _check(result, section, len(mine), whole)
    return result


def _split(jobs: Sequence[CutJob]) -> tuple[list[CutJob], dict[str, Mapping[str, Any]], dict[str, str]]:
    """Jobs that are to be done, what volume.json says of those that are, and why others are left out."""
    waiting, done, skipped = [], {}, {}
    for job in jobs:
        known = job.target / INFO
        if job.volume.problem is not None and job.section.on_gap == "skip":
            skipped[job.key] = job.volume.problem
            shutil.rmtree(job.target, ignore_errors=True)
        elif known.is_file() and (info := read_json(known))["inputs"] == job.inputs:
            done[job.key] = info
        else:
            waiting.append(job)
    return waiting, done, skipped


def cut_volume(job: CutJob, alive: Callable[[], None]) -> dict[str, Any]:
    """Cut one volume into `job.target`; what volume.json says of it.

    Raises `VolumeError` where it cannot be read or lacks what the recipe needs, without the file's name.
    """
    keep_freed_memory()
    try:
        return _cut(job, alive)
    except SynthomaError as error:
        raise VolumeError(without_file(str(error), job.volume)) from error


def without_file(text: str, volume: VolumeFile) -> str:
    """A message without the names of the volume's files, patient and series."""
    files = [one.path for one in volume.slices] or [volume.path]
    # The folder of a series may be called like a word of the message, so that only its whole path is looked for.
    names = {str(path) for path in (*files, volume.path)} | {path.name for path in files}
    names |= {one.sop_instance_uid for one in volume.slices}
    names |= {name for name in (volume.patient, volume.series) if name}
    for name in sorted(names, key=len, reverse=True):
        if len(name) > 2:
            text = text.replace(name, "the file")
    return text


def cube_side(recipe: Recipe) -> int:
    """Voxels a side of a cube: `ct.cube`, else the size that images are trained at."""
    size = recipe.preparation.size
    return recipe.ct.cube or (size if isinstance(size, int) else max(size))


def _cut(job: CutJob, alive: Callable[[], None]) -> dict[str, Any]:
    section = job.section
    references = load_references(_reference(section)) if section.cut == "slices" else None
    volume = read_volume(job.volume, "resample" if section.on_gap == "resample" else "error")
    alive()
    found = None if job.marks is None else find_lesions(job.volume, volume.geometry, job.marks, section)
    lesions = None if found is None else found.lesions
    if section.cut == "cubes":
        pieces = cut_cubes(volume, lesions or [], section, job.voxels)
    else:
        pieces = cut_slices(volume, lesions, section, references)
    with aside_folder(job.target) as folder:
        with PieceWriter(folder) as writer:
            for piece in pieces:
                writer.append(piece)
                alive()
        geometry = volume.geometry
        info = {
            "key": job.key,
            "group": job.group,
            "inputs": job.inputs,
            "settings": job.settings,
            "cut": section.cut,
            "unit": volume.unit,
            "spacing": _piece_spacing(section, geometry),
            "volume": {
                "kind": job.volume.kind,
                "size": list(volume.array.shape),
                "spacing": None if geometry is None else list(geometry.spacing),
                "facts": dict(job.volume.facts),
            },
            "marks": None if job.marks is None else len(job.marks),
            "merged": 0 if found is None else found.merged,
            **writer.facts,
            "warnings": [
                without_file(text, job.volume) for text in dict.fromkeys([*job.volume.warnings, *volume.warnings])
            ],
        }
        CutsShard.write_info(folder, info)
    return info


def _piece_spacing(section: CtSection, geometry: Geometry | None) -> list[float] | None:
    if section.cut == "cubes":
        return [section.spacing] * 3
    if geometry is None:
        return None
    return list(lps_geometry(geometry).spacing[1:]) if section.pixel is None else [section.pixel] * 2


def _reference(section: CtSection) -> Path | None:
    return None if section.slices.reference is None else Path(section.slices.reference)


def _settings(section: CtSection, voxels: int) -> dict[str, Any]:
    """What pieces depend on, without names of folders. The window is training's own."""
    left_out = {"max_failed", "window"}
    left_out |= {"slices", "pixel"} if section.cut == "cubes" else {"spacing", "cube", "segment"}
    own = section.model_dump(mode="json", exclude=left_out)
    if section.cut == "cubes":
        return {"version": VERSION, **own, "voxels": voxels, "segmenter": SEGMENTER if section.segment else None}
    reference = _reference(section)
    load_references(reference)
    sums = [] if reference is None else [file_sha256(file) for file in sorted(reference.glob("*.npy"))]
    own["slices"]["reference"] = content_hash(sums) if sums else None
    return {"version": VERSION, **own}


def _begin(out: Path, found: VolumeSet, settings: Mapping[str, Any]) -> None:
    """Make the folder, or make sure that it is one of these cuts."""
    found.pseudonyms.check_outside(out)
    out.mkdir(parents=True, exist_ok=True)
    known = out / SETTINGS
    if any(out.iterdir()) and not known.is_file():
        raise DataError(f"{out} is not empty and holds no cuts; name a new or an empty folder.")
    fingerprint = found.pseudonyms.fingerprint
    if known.is_file() and read_json(known).get("pseudonyms") != fingerprint:
        raise DataError(
            f"{out} was cut with another key of pseudonyms, by which the same volumes have other names. Give that key (--key FILE), "
            "or cut into a new folder."
        )
    keep_terms(found.root, out)
    write_json(
        known,
        {"schema": SCHEMA_VERSION, "settings": content_hash(settings), "ct": settings, "pseudonyms": fingerprint},
    )


def _job(found: VolumeSet, number: int, section: CtSection, voxels: int, out: Path, settings: str) -> CutJob:
    volume, key, group = found.volumes[number], found.keys[number], found.groups[number]
    marks = None if found.marks is None else found.marks[number]
    paths = [one.path for one in volume.slices] or [volume.path]
    told = [settings, group, volume.unit, [file_identity(path) for path in paths], _marks_identity(marks)]
    # Keyed, since names and times of files are among it.
    inputs = found.pseudonyms.name("inputs", json.dumps(told, sort_keys=True))
    return CutJob(key, group, volume, marks, section, voxels, out / key, settings, inputs)


def _marks_identity(marks: VolumeMarks | None) -> Any:
    if marks is None:
        return None
    outlines = [
        [nodule.reader, dict(nodule.ratings), [[one.z, one.inclusion, one.points.tolist()] for one in nodule.contours]]
        for reading in marks.readings
        for nodule in reading.nodules
    ]
    small = [[point.kind, point.x, point.y, point.z] for reading in marks.readings for point in reading.points]
    points = [[point.position, point.diameter, point.label, dict(point.attributes)] for point in marks.points]
    boxes = [[index, box.box, box.label, box.image_size] for index, box in marks.boxes]
    return [outlines, small, points, boxes]


def _check_gaps(volumes: Sequence[VolumeFile], section: CtSection) -> None:
    bad = [volume for volume in volumes if volume.problem is not None]
    if section.on_gap != "error" or not bad:
        return
    told = "\n".join(f"  - {volume.path}: {volume.problem}" for volume in bad[:_NAMED])
    more = f"\n  ... and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    raise VolumeError(
        f"{len(bad)} of {len(volumes)} volumes have no regular geometry. Mend them, or leave them out (--on-gap skip), or let them be "
        f"interpolated where that can be done (--on-gap resample).\n{told}{more}"
    )


def _strangers(found: VolumeSet, out: Path) -> list[str]:
    """A warning about shards in the folder whose volumes are not there any more."""
    others = {path.parent.name for path in out.glob(f"[!.]*/{INFO}")} - set(found.keys)
    told = f"The folder also holds {len(others)} volumes that were cut before and are not in the data now; remove their folders, or use a new one."
    return [told] if others else []


def _told_left_out(found: VolumeSet) -> list[str]:
    return [f"Left out: {what} ({count})." for what, count in sorted(found.left_out.items())]


def _check(result: CutResult, section: CtSection, count: int, whole: bool) -> None:
    if len(result.failed) > section.max_failed * count or (result.failed and not result.done):
        told = "\n".join(f"  - {result.files[key]}: {why}" for key, why in list(result.failed.items())[:_NAMED])
        raise DataError(
            f"{len(result.failed)} of {count} volumes cannot be cut, more than ct.max_failed = {section.max_failed:g} allows.\n{told}"
        )
    # A part of the volumes may well have no mark.
    if whole and not any(info["taken"] for info in result.done.values()):
        reasons: dict[str, int] = {}
        for info in result.done.values():
            for reason, number in info["rejected"].items():
                reasons[reason] = reasons.get(reason, 0) + number
        told = ", ".join(f"{reason} ({n})" for reason, n in sorted(reasons.items(), key=lambda item: -item[1]))
        raise DataError(f"none of the {count} volumes gave any of the {section.cut}: {told or 'none has a mark'}.")
