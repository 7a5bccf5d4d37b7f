"""Which annotation file and which patient belong to a slide."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthoma.errors import DataError
from synthoma.formats.files import normal_name, relative_place, walk_files
from synthoma.formats.tables import column_names, read_table

ANNOTATION_ENDINGS = (".xml", ".geojson", ".json")
# Project, site and patient of a TCGA barcode: what comes after them names samples of the same patient.
_TCGA = re.compile(r"^(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})(?![A-Za-z0-9])")
# Where the name of a slide may end within that of its annotation ("slide1.svs.xml", "slide1_tumour.geojson").
_BORDERS = "._- "


@dataclass(frozen=True)
class Matching:
    """slide -> its annotation files; what has no partner."""

    files: Mapping[Path, tuple[Path, ...]]
    slides_without: Sequence[Path]
    annotations_without: Sequence[Path]


def annotation_files(path: Path) -> list[Path]:
    """Annotation files below a folder, or the one that is named."""
    if not path.exists():
        raise DataError(f"{path} does not exist; --annotations takes a folder or a file.")
    if path.is_file():
        return [path]
    return [file for file in walk_files(path) if file.suffix.lower() in ANNOTATION_ENDINGS]


def match_annotations(
    slides: Sequence[Path], annotations: Sequence[Path], table: Path | None = None, root: Path | None = None
) -> Matching:
    """Annotations of each slide: by `table` (columns slide, annotation), else by name.

    By name: the stem of the annotation is that of the slide, or begins with it and goes on with one of ". _ - " (then
    the longest such slide has it); or the slide's begins with the annotation's in this way, and no other slide does.
    """
    if table is not None:
        return _match_by_table(slides, annotations, table, root)
    found: dict[Path, list[Path]] = {slide: [] for slide in slides}
    lonely = []
    for annotation in annotations:
        name = _stem(annotation)
        exact = [slide for slide in slides if _stem(slide) == name or normal_name(slide.name) == name]
        longer = [slide for slide in slides if _goes_on(name, _stem(slide))]
        shorter = [slide for slide in slides if _goes_on(_stem(slide), name)]
        best = (
            exact or sorted(longer, key=lambda slide: len(_stem(slide)))[-1:] or (shorter if len(shorter) == 1 else [])
        )
        for slide in best:
            found[slide].append(annotation)
        if not best:
            lonely.append(annotation)
    return _matching(found, lonely)


def _match_by_table(slides: Sequence[Path], annotations: Sequence[Path], table: Path, root: Path | None) -> Matching:
    known = column_names(table)
    if "slide" not in known or "annotation" not in known:
        raise DataError(f"{table} has the columns {', '.join(known) or 'none'}; needed are 'slide' and 'annotation'.")
    rows = read_table(table)
    by_name = {name: slide for slide in slides for name in _names(slide, root)}
    files = {name: file for file in annotations for name in (file.name, normal_name(str(file)))}
    found: dict[Path, list[Path]] = {slide: [] for slide in slides}
    for slide_name, file_name in zip(rows.texts("slide"), rows.texts("annotation"), strict=True):
        if slide_name is None or file_name is None:
            continue
        slide, file = by_name.get(normal_name(slide_name)), files.get(normal_name(file_name))
        if slide is None or file is None:
            what = f"slide '{slide_name}'" if slide is None else f"annotation '{file_name}'"
            raise DataError(f"{table}: there is no {what}. Names are those of the files.")
        found[slide].append(file)
    used = {file for own in found.values() for file in own}
    return _matching(found, [file for file in annotations if file not in used])


def _matching(found: Mapping[Path, list[Path]], lonely: Sequence[Path]) -> Matching:
    return Matching(
        {slide: tuple(sorted(own)) for slide, own in found.items()},
        [slide for slide, own in found.items() if not own],
        list(lonely),
    )


def _stem(path: Path) -> str:
    return normal_name(path.stem)


def _names(slide: Path, root: Path | None) -> set[str]:
    return {normal_name(slide.name), _stem(slide), *([relative_place(slide, root)] if root else [])}


def _goes_on(name: str, beginning: str) -> bool:
    return len(name) > len(beginning) and name.startswith(beginning) and name[len(beginning)] in _BORDERS


def read_groups(file: Path, slides: Sequence[Path], root: Path) -> dict[Path, str]:
    """slide -> patient, from a CSV with the columns file and group (or patient).

    Raises `DataError` where the columns are missing, a slide has two patients, or none of the slides is named.
    """
    known = column_names(file)
    column = next((name for name in ("group", "patient") if name in known), None)
    if "file" not in known or column is None:
        raise DataError(f"{file} has the columns {', '.join(known) or 'none'}; needed are 'file' and 'group'.")
    table = read_table(file)
    by_name = {name: slide for slide in slides for name in _names(slide, root)}
    groups: dict[Path, str] = {}
    for name, group in zip(table.texts("file"), table.texts(column), strict=True):
        slide = by_name.get(normal_name(name)) if name else None
        if slide is None or group is None:
            continue
        if groups.setdefault(slide, group) != group:
            raise DataError(f"{file} puts '{name}' into two groups; a slide belongs to one patient.")
    if slides and not groups:
        raise DataError(f"{file} names none of the {len(slides)} slides; its files must be relative to {root}.")
    return groups


def tcga_patient(slide: Path) -> str | None:
    """The patient in the name of a TCGA slide, else None."""
    found = _TCGA.match(slide.name.upper())
    return found.group(1) if found else None
