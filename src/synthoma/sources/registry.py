"""Which reader opens a path: each says whether it recognises it; none or several is an error that helps."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from synthoma.errors import DataError
from synthoma.formats.files import walk_files
from synthoma.recipe import SourceSection
from synthoma.sources import arrays, cuts, table, tiles, tree
from synthoma.sources.source import Source


class Reader(NamedTuple):
    """recognises(path, section); open(path, section, groups file that was asked for)."""

    description: str
    recognises: Callable[[Path, SourceSection], bool]
    open: Callable[[Path, SourceSection, Path | None], Source]


READERS: dict[str, Reader] = {
    "tree": Reader(tree.DESCRIPTION, tree.recognises, tree.TreeSource.open),
    "table": Reader(table.DESCRIPTION, table.recognises, table.TableSource.open),
    "arrays": Reader(arrays.DESCRIPTION, arrays.recognises, arrays.ArraysSource.open),
    "tiles": Reader(tiles.DESCRIPTION, tiles.recognises, tiles.TilesSource.open),
    "cuts": Reader(cuts.DESCRIPTION, cuts.recognises, cuts.CutsSource.open),
}


def open_source(path: Path, section: SourceSection, groups: Path | None = None) -> Source:
    """The reader for a path, by `source.kind` or by asking each; `groups`: the file of `--groups`.

    Raises `DataError` where the path does not exist, no reader recognises it, or several do.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; --data takes a folder or a file with images.")
    # Whole slides and CT volumes were cut before they come here: what is opened is their pieces.
    kind = section.kind if section.kind not in ("auto", "slides", "volumes") else _recognise(path, section)
    return READERS[kind].open(path, section, groups)


def _recognise(path: Path, section: SourceSection) -> str:
    kinds = [kind for kind, reader in READERS.items() if reader.recognises(path, section)]
    if set(kinds) == {"tree", "table"} and table.outranks_tree(path, section):
        return "table"
    for kind in ("tiles", "cuts"):
        # Nobody but us writes tiles.json and cuts.json, and the pictures beside them are overlays.
        if kind in kinds:
            return kind
    if not kinds:
        known = "\n  - ".join(reader.description for reader in READERS.values())
        raise DataError(f"{path}: {_found(path)}. Recognised are:\n  - {known}")
    if len(kinds) > 1:
        raise DataError(
            f"{path} can be read in more than one way: {' or '.join(kinds)}. Say which is meant: --set source.kind={kinds[0]}."
        )
    return kinds[0]


def _found(path: Path) -> str:
    """What is there, in a few words."""
    if path.is_file():
        return f"a file that ends in '{path.suffix}'" if path.suffix else "a file without an ending"
    files = walk_files(path)
    if not files:
        return "the folder is empty"
    endings = Counter(file.suffix.lower() or "no ending" for file in files).most_common(5)
    return f"no images were found among {len(files)} files ({', '.join(f'{name}: {n}' for name, n in endings)})"
