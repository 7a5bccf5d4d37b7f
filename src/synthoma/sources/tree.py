"""A folder tree: class folders, perhaps below Train/, Val/ and Test/; or a flat folder of pictures without classes."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from synthoma.errors import DataError
from synthoma.formats.files import normal_name, relative_place, walk_files
from synthoma.formats.images import is_image_name
from synthoma.formats.tables import is_table_name
from synthoma.recipe import SourceSection
from synthoma.records import Origin, Pixels, Record, record_key
from synthoma.sources.groups import FILE_NAME as GROUPS_FILE
from synthoma.sources.groups import apply_groups, find_groups_file
from synthoma.sources.source import ListedSource, image_files, read_picture

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Files that lie beside pictures by habit; others are counted in a note.
_EXPECTED_SUFFIXES = frozenset({".md", ".txt", ".yaml", ".yml", ".json", ".pdf", ".html", ".xml"})
DESCRIPTION = "tree: a folder with one folder a class (also below Train/, Val/, Test/), or a flat folder of pictures"


def recognises(path: Path, section: SourceSection) -> bool:
    """Whether there is any picture below the folder."""
    return path.is_dir() and bool(image_files(path))


def class_folders(path: Path) -> set[str]:
    """Names of the folders that would be classes (or splits)."""
    return {place.parts[0] for place in (file.relative_to(path) for file in image_files(path)) if len(place.parts) > 1}


@dataclass
class TreeSource(ListedSource):
    """Pictures below a folder; the class is the name of the first folder below the root, or below the split."""

    root: Path
    groups_file: Path | None = None
    walks: bool = True
    parallel: bool = True

    @classmethod
    def open(cls, path: Path, section: SourceSection, groups: Path | None) -> "TreeSource":
        if not path.is_dir():
            raise DataError(f"{path} is no folder; source.kind 'tree' reads a folder of pictures.")
        explicit = groups or (Path(section.groups) if section.groups else None)
        return cls(path, find_groups_file(path, explicit))

    def read(self, record: Record, max_pixels: int) -> Pixels:
        return read_picture(record, max_pixels)

    def _list(self) -> list[Record]:
        files = walk_files(self.root)
        pictures = [path for path in files if is_image_name(path.name)]
        if not pictures:
            raise DataError(f"{self.root} holds no pictures.")
        self._note_ignored(files)
        base = self._unwrapped(pictures)
        folders = {path.relative_to(base).parts[0] for path in pictures if len(path.relative_to(base).parts) > 1}
        splits = {name for name in folders if name.casefold() in SPLIT_NAMES}
        if splits and splits != folders:
            raise DataError(
                f"{base} holds folders of splits ({', '.join(sorted(splits))}) beside others "
                f"({', '.join(sorted(folders - splits)[:5])}). Are these classes? Move one kind elsewhere."
            )
        records = [self._record(path, base, bool(splits)) for path in pictures]
        self._note_layout(
            records, splits, [path.name for path in files if is_table_name(path.name) and path.name != GROUPS_FILE]
        )
        if self.groups_file is not None:
            records, notes, warnings = apply_groups(records, self.root, self.groups_file)
            self.notes += notes
            self.warnings += warnings
        return records

    def _unwrapped(self, pictures: list[Path]) -> Path:
        """The root, or the one folder in it that holds Train/ and Test/, as archives are often packed."""
        places = [path.relative_to(self.root).parts for path in pictures]
        if len({parts[0] for parts in places}) > 1 or any(len(parts) < 3 for parts in places):
            return self.root
        inner = {parts[1].casefold() for parts in places}
        return self.root / places[0][0] if inner <= set(SPLIT_NAMES) else self.root

    def _record(self, path: Path, base: Path, split_first: bool) -> Record:
        folders = path.relative_to(base).parts[:-1]
        split = None
        if split_first and folders:
            split, folders = SPLIT_NAMES[folders[0].casefold()], folders[1:]
        return Record(
            key=record_key(relative_place(path, self.root)),
            label=normal_name(folders[0]) if folders else None,
            group=None,
            origin=Origin(path),
            given_split=split,
        )

    def _note_ignored(self, files: list[Path]) -> None:
        ignored = [path for path in files if not is_image_name(path.name) and not is_table_name(path.name)]
        odd = Counter(
            path.suffix.lower() or "no ending" for path in ignored if path.suffix.lower() not in _EXPECTED_SUFFIXES
        )
        if odd:
            names = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(odd.items()))
            self.notes.append(f"Files that are not named like pictures were ignored: {names}.")

    def _note_layout(self, records: list[Record], splits: set[str], tables: list[str]) -> None:
        labels = {record.label for record in records if record.label is not None}
        if splits:
            self.notes.append(
                f"The folders {', '.join(sorted(splits))} hold a given split. By default they are pooled and split anew by "
                "group; `preparation.split: given` honours them."
            )
        if not labels:
            beside = "".join(f" {name} was not read; source.kind=table takes it." for name in tables)
            self.notes.append(f"There are no class folders: the pictures are one set without labels.{beside}")
        elif any(record.label is None for record in records):
            count = sum(record.label is None for record in records)
            self.warnings.append(f"{count} pictures lie beside the class folders and have no label.")
        alike = [name for name, count in Counter(label.casefold() for label in labels).items() if count > 1]
        if alike:
            self.warnings.append(
                f"Class folders differ by upper and lower case only: {', '.join(sorted(alike))}. They stay apart."
            )
