"""A table (CSV or Parquet) beside pictures: file, label, group or patient, split, and any further columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synthoma.errors import DataError, nearest_name_hint
from synthoma.formats.files import normal_name
from synthoma.formats.tables import Table, column_names, is_table_name, read_table
from synthoma.recipe import SourceSection
from synthoma.records import Origin, Pixels, Record, pseudonym, record_key
from synthoma.sources.attributes import Value, choose_attributes
from synthoma.sources.groups import FILE_NAME as GROUPS_FILE
from synthoma.sources.groups import apply_groups, find_groups_file
from synthoma.sources.source import ListedSource, image_files, read_picture
from synthoma.sources.tree import SPLIT_NAMES, class_folders

DESCRIPTION = (
    "table: a CSV or Parquet file with a column 'file' (source.file_column), or a folder with one and pictures"
)

# Other usual names, taken where the recipe keeps its default and the table has no column of that name.
_ALIASES = {"label": ("label", "class"), "group": ("group", "patient")}


def tables_in(folder: Path, section: SourceSection) -> list[Path]:
    """Tables directly in a folder that have the column of files; groups.csv is none of them."""
    found = []
    for path in sorted(folder.iterdir()):
        if is_table_name(path.name) and not path.name.startswith(".") and path.name != GROUPS_FILE and path.is_file():
            try:
                names = column_names(path)
            except DataError:
                # Not every CSV that lies about is a table for us; one that is asked for by name gets its error.
                continue
            if section.file_column in names:
                found.append(path)
    return found


def recognises(path: Path, section: SourceSection) -> bool:
    """A table file; or a folder with pictures and exactly one table that has the column of files."""
    if path.is_file():
        return is_table_name(path.name)
    return len(tables_in(path, section)) == 1 and bool(image_files(path))


def outranks_tree(path: Path, section: SourceSection) -> bool:
    """Whether a table in a folder settles the matter: the pictures lie flat, or in one folder, so there are no classes."""
    return len(class_folders(path)) <= 1


@dataclass
class TableSource(ListedSource):
    """A row an image. Files are relative to the table's folder, or absolute."""

    file: Path
    section: SourceSection
    groups_file: Path | None = None
    walks: bool = False
    parallel: bool = True

    @classmethod
    def open(cls, path: Path, section: SourceSection, groups: Path | None) -> "TableSource":
        file = path
        if path.is_dir():
            tables = tables_in(path, section)
            if len(tables) != 1:
                raise DataError(
                    f"{path} holds {len(tables)} tables with a column '{section.file_column}'; give the one that is meant as --data."
                )
            file = tables[0]
        elif not is_table_name(path.name):
            raise DataError(f"{path} is no table; source.kind 'table' reads .csv, .tsv and .parquet.")
        explicit = groups or (Path(section.groups) if section.groups else None)
        return cls(file, section, find_groups_file(file.parent, explicit) if explicit or path.is_dir() else None)

    @property
    def root(self) -> Path:
        return self.file.parent

    def read(self, record: Record, max_pixels: int) -> Pixels:
        return read_picture(record, max_pixels)

    def _list(self) -> list[Record]:
        table = read_table(self.file)
        files = table.texts(self._column(table, "file", required=True) or "")
        label, group, split = (self._column(table, name) for name in ("label", "group", "split"))
        none: list[str | None] = [None] * len(table)
        labels = table.texts(label) if label else none
        groups = table.texts(group) if group else none
        splits = table.texts(split) if split else none
        attributes = self._attributes(table, {self.section.file_column, label, group, split})
        if not label:
            self.notes.append(f"{self.file.name} has no column of labels: the pictures are one set without labels.")
        records, times = [], dict[str, int]()
        for row, name in enumerate(files):
            if name is None:
                raise DataError(f"{self.file}: row {row + 2} names no file.")
            place = normal_name(name.replace("\\", "/"))
            times[place] = times.get(place, 0) + 1
            owner = groups[row]
            records.append(
                Record(
                    # A file that stands in the table twice is two records; its pixels will show that they are one.
                    key=record_key(place if times[place] == 1 else f"{place}#{times[place]}"),
                    label=None if labels[row] is None else normal_name(str(labels[row])),
                    group=None if owner is None else pseudonym(owner),
                    origin=Origin(self.root / name.replace("\\", "/"), group=owner or ""),
                    given_split=self._split(splits[row], row),
                    attributes={column: values[row] for column, values in attributes.items()},
                )
            )
        if not records:
            raise DataError(f"{self.file} has no rows.")
        return self._grouped(records, group)

    def _grouped(self, records: list[Record], group_column: str | None) -> list[Record]:
        """Apply a groups file; one that was found by itself gives way to the table's own column."""
        missing = sum(record.label is None for record in records)
        if 0 < missing < len(records):
            self.warnings.append(f"{missing} rows of {self.file.name} have no label.")
        if self.groups_file is not None and not (group_column and self.groups_file.name == GROUPS_FILE):
            records, notes, warnings = apply_groups(records, self.root, self.groups_file)
            self.notes += notes
            self.warnings += warnings
        elif group_column and (alone := sum(record.group is None for record in records)):
            self.warnings.append(f"{alone} rows of {self.file.name} have no group; each is a group of its own.")
        return records

    def _column(self, table: Table, role: str, required: bool = False) -> str | None:
        """Name of the column for a role; a name that the user set must be there."""
        name: str = getattr(self.section, f"{role}_column")
        default = SourceSection.model_fields[f"{role}_column"].default
        names = _ALIASES.get(role, (name,)) if name == default else (name,)
        found = next((candidate for candidate in names if candidate in table.columns), None)
        if found is None and (required or name != default):
            hint = nearest_name_hint(name, table.columns) or "."
            raise DataError(
                f"{self.file} has no column '{name}'{hint} It has: {', '.join(table.columns)}. Set source.{role}_column."
            )
        return found

    def _attributes(self, table: Table, used: set[str | None]) -> dict[str, Sequence[Value]]:
        """Further columns, without those that may say who a patient is."""
        columns = {name: table.numbers_or_texts(name) for name in table.columns if name and name not in used}
        chosen = choose_attributes(columns, self.section.attributes, str(self.file))
        self.notes += chosen.notes
        self.warnings += chosen.warnings
        return chosen.values

    def _split(self, text: str | None, row: int) -> str | None:
        if text is None:
            return None
        split = SPLIT_NAMES.get(text.casefold())
        if split is None:
            raise DataError(f"{self.file}: row {row + 2} has the split '{text}'; expected train, val or test.")
        return split
