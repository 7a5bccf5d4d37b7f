"""What there is of volumes below a folder, whose they are, and what is marked on them; no voxel is read."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synthoma.errors import DataError
from synthoma.formats.files import normal_name, relative_place
from synthoma.formats.marks import Marks, read_marks
from synthoma.formats.tables import column_names, read_table
from synthoma.formats.volumes.registry import list_volumes
from synthoma.formats.volumes.shapes import VolumeFile
from synthoma.preparation.ct.join import Joined, VolumeMarks, by_name, join_marks, told_lost
from synthoma.preparation.ct.pseudonyms import PseudonymKey, load_key
from synthoma.recipe import Recipe
from synthoma.sources.groups import find_groups_file

_FILE_COLUMNS, _GROUP_COLUMNS = ("file", "series"), ("group", "patient")

_KEY_MADE = (
    "A key for the pseudonyms was made, since there was none (--key, $SYNTHOMA_KEY_FILE or ~/.config/synthoma/pseudonym.key). "
    "Keep it: with it the same patients get the same pseudonyms in the next delivery, and never give it away with data."
)


@dataclass(frozen=True)
class VolumeSet:
    """Volumes with what belongs to each, all in one order.

    keys, groups: pseudonyms of the volumes and of their patients. marks: None where none were given. lost: kind -> number
    of marks without a volume. left_out: what was found and is no volume to be used -> number. places: of the files below
    the root; private, as are the volumes' own fields.
    """

    root: Path
    volumes: Sequence[VolumeFile]
    places: Sequence[str] = field(repr=False)
    keys: Sequence[str]
    groups: Sequence[str]
    marks: Sequence[VolumeMarks] | None
    lost: Mapping[str, int]
    left_out: Mapping[str, int]
    pseudonyms: PseudonymKey
    notes: Sequence[str]
    warnings: Sequence[str]


def find_volumes(
    data: Path,
    recipe: Recipe,
    marks: Path | None = None,
    groups: Path | None = None,
    *,
    key_file: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VolumeSet:
    """All volumes of a file or folder with their patients and marks. key_file: of the pseudonyms' key, see `load_key`.

    Raises `DataError` where there is no volume, where none of the marks belongs to any, or for a groups file that names
    none; `VolumeError` and `MarksError` for files that cannot be used.
    """
    section = recipe.ct
    key = load_key(key_file)
    listing = list_volumes(data, unit=section.unit, burned_in=section.burned_in, progress=progress)
    left_out = Counter(f"{one.what}: {one.reason}" for one in listing.left_out)
    volumes = listing.volumes
    if not volumes:
        told = "; ".join(f"{what} ({count})" for what, count in left_out.most_common(5))
        raise DataError(f"{data} holds no CT volumes{f'. Left out: {told}' if told else ''}.")
    root = data if data.is_dir() else data.parent
    places = [relative_place(volume.path, root) for volume in volumes]
    file = find_groups_file(root, groups or (Path(recipe.source.groups) if recipe.source.groups else None))
    given = read_groups(file, volumes, places, root) if file else {}
    owners = [_owner(number, volume, places[number], given) for number, volume in enumerate(volumes)]
    warnings = list(key.warnings)
    if alone := sum(kind == "file" for kind, _ in owners):
        warnings.append(
            f"{alone} of {len(volumes)} volumes do not say their patient; each counts as a patient of its own. If some belong to one "
            "patient, give a groups file (--groups)."
        )
    joined, told_marks, warned = (None, [], []) if marks is None else _joined(data, volumes, places, marks)
    return VolumeSet(
        root,
        volumes,
        places,
        _volume_keys(volumes, places, key),
        [key.name(kind, name) for kind, name in owners],
        None if joined is None else joined.marks,
        {} if joined is None else joined.lost,
        dict(left_out),
        key,
        [*([_KEY_MADE] if key.made else []), *told_marks],
        [*warnings, *warned],
    )


def _joined(
    data: Path, volumes: Sequence[VolumeFile], places: Sequence[str], marks: Path
) -> tuple[Joined, list[str], list[str]]:
    """Marks of the volumes, with notes and warnings. Raises `DataError` where no mark belongs to any volume."""
    found = read_marks(marks)
    joined = join_marks(volumes, places, found)
    count = len(found.points) + len(found.boxes) + len(found.readings)
    if count and not any(one.readings or one.points or one.boxes for one in joined.marks):
        raise DataError(
            f"none of the marks in {marks} belongs to a volume in {data}. {' '.join(told_lost(joined.lost))}"
        )
    left_out = ", ".join(joined.left_out)
    notes = [f"Columns of marks that may name a person were left out: {left_out}."] if left_out else []
    return joined, notes, told_lost(joined.lost) + _told_skipped(found)


def _volume_keys(volumes: Sequence[VolumeFile], places: Sequence[str], key: PseudonymKey) -> list[str]:
    """Pseudonyms of volumes: by their series for DICOM, wherever it lies, else by their place below the root."""
    seen: Counter[str] = Counter()
    keys = []
    for volume, place in zip(volumes, places, strict=True):
        name = f"dicom {volume.series}" if volume.kind == "dicom" and volume.series else f"file {place}"
        seen[name] += 1
        # Several volumes of one series differ in orientation or size; the listing has them in a fixed order.
        keys.append(key.name("volume", name if seen[name] == 1 else f"{name} {seen[name]}"))
    return keys


def _owner(number: int, volume: VolumeFile, place: str, given: Mapping[int, str]) -> tuple[str, str]:
    """Kind and name of whom the volume belongs to: the group that was given, the patient, else the volume itself."""
    if number in given:
        return "group", given[number]
    patient = (volume.patient or "").strip()
    if patient:
        return "patient", patient
    return "file", volume.series if volume.kind == "dicom" and volume.series else place


def read_groups(file: Path, volumes: Sequence[VolumeFile], places: Sequence[str], root: Path) -> dict[int, str]:
    """Number of a volume -> its group, from a CSV with the columns file (or series) and group (or patient).

    Raises `DataError` where the columns are missing, a volume has two groups, or none of the volumes is named.
    """
    known = column_names(file)
    what = next((name for name in _FILE_COLUMNS if name in known), None)
    column = next((name for name in _GROUP_COLUMNS if name in known), None)
    if what is None or column is None:
        raise DataError(
            f"{file} has the columns {', '.join(known) or 'none'}; needed are 'file' or 'series', and 'group'."
        )
    table = read_table(file)
    named = by_name(volumes, places)
    groups: dict[int, str] = {}
    for name, group in zip(table.texts(what), table.texts(column), strict=True):
        if name is None or group is None:
            continue
        for number in named.get(normal_name(name), []):
            if groups.setdefault(number, group) != group:
                raise DataError(f"{file} puts '{name}' into two groups; a volume belongs to one patient.")
    if not groups:
        raise DataError(
            f"{file} names none of the {len(volumes)} volumes; its files must be relative to {root}, or be series."
        )
    return groups


def _told_skipped(found: Marks) -> list[str]:
    if not found.skipped:
        return []
    first = found.skipped[0]
    return [
        f"{len(found.skipped)} parts of the marks could not be used, such as: {first.place} {first.reason}; `synthoma marks` lists all."
    ]
