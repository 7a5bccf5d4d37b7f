"""`groups.csv` (file, class, group): who must stay together, beside images that do not say it themselves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from synthoma.errors import DataError
from synthoma.formats.files import normal_name, relative_place
from synthoma.formats.tables import column_names, is_table_name, read_table
from synthoma.records import Record, pseudonym

FILE_NAME = "groups.csv"
_GROUP_COLUMNS = ("group", "patient")


def find_groups_file(root: Path, explicit: Path | None) -> Path | None:
    """The file that was asked for, else `groups.csv` in the root where it has the columns, else None."""
    if explicit is not None:
        if not explicit.is_file():
            raise DataError(f"{explicit} does not exist; --groups takes a CSV with the columns file and group.")
        return explicit
    found = root / FILE_NAME
    return found if found.is_file() else None


def apply_groups(records: Sequence[Record], root: Path, file: Path) -> tuple[list[Record], list[str], list[str]]:
    """Records with the groups of `file`, and notes and warnings about what does not match.

    Files are named relative to `root`, or by their bare name where a `class` column says the folder. An image that
    the file does not name stays a group of its own. Raises `DataError` where the file has no such columns, gives an
    image two groups, or names none of the images.
    """
    known = column_names(file) if is_table_name(file.name) else []
    column = next((name for name in _GROUP_COLUMNS if name in known), None)
    if "file" not in known or column is None:
        raise DataError(f"{file} has the columns {', '.join(known) or 'none'}; needed are 'file' and 'group'.")
    table = read_table(file)
    group_of: dict[str, str] = {}
    label_of: dict[str, str] = {}
    classes = table.texts("class") if "class" in table.columns else [None] * len(table)
    for name, label, group in zip(table.texts("file"), classes, table.texts(column), strict=True):
        if name is None or group is None:
            continue
        place = _place(name, label)
        if group_of.setdefault(place, group) != group:
            raise DataError(f"{file} puts '{name}' into two groups; an image belongs to one.")
        if label is not None:
            label_of[place] = normal_name(label)
    places = [relative_place(record.origin.path, root) for record in records]
    result = [_with_group(record, group_of.get(place)) for record, place in zip(records, places, strict=True)]
    missing = sum(place not in group_of for place in places)
    unknown = len(set(group_of) - set(places))
    if records and missing == len(records):
        raise DataError(f"{file} names none of the {len(records)} images; its files must be relative to {root}.")
    other = sum(label_of.get(place, r.label) != r.label for place, r in zip(places, records, strict=True))
    notes = [f"{file.name} puts {len(records) - missing} images into {len(set(group_of.values()))} groups."]
    warnings = []
    if unknown:
        warnings.append(f"{file.name} names {unknown} files that are not there.")
    if missing:
        warnings.append(f"{missing} images are not in {file.name}; each is a group of its own.")
    if other:
        warnings.append(f"{other} images have another class in {file.name} than by their folder; the folder counts.")
    return result, notes, warnings


def _place(name: str, label: str | None) -> str:
    path = PurePosixPath(normal_name(name.replace("\\", "/")))
    if len(path.parts) == 1 and label is not None:
        path = normal_name(label) / path
    return path.as_posix()


def _with_group(record: Record, group: str | None) -> Record:
    if group is None:
        return record
    return replace(record, group=pseudonym(group), origin=replace(record.origin, group=group))
