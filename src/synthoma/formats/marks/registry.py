"""Which parser takes a file: decided by what is in it, never by its name."""

import os
from pathlib import Path

from synthoma.errors import MarksError
from synthoma.formats.files import first_character
from synthoma.formats.marks import lidc, voc
from synthoma.formats.marks.point_tables import MAX_TABLE_BYTES, read_points
from synthoma.formats.marks.shapes import BadMarks, Findings, Kind, Marks, Skipped
from synthoma.formats.marks.xml_tree import MAX_XML_BYTES, parse_xml
from synthoma.formats.xml_safety import local_name

_HEAD = 4096


def read_marks(path: Path) -> Marks:
    """Read LIDC XML, LUNA16 tables, Lung-PET-CT-Dx boxes or a plain table; of a folder, every file below it by itself.

    A part that cannot be used is listed in `skipped`; in a folder, a whole file too, by its number in the sorted list,
    since names of files and folders may be those of patients (`Skipped.path` has it, and is private).

    Raises `MarksError` for one file that cannot be used, for a folder in which no file can; `MissingExtraError`
    for XML without defusedxml.
    """
    path = Path(path)
    if not path.exists():
        raise MarksError(f"{path} does not exist.")
    if not path.is_dir():
        try:
            found = _read_file(path)
        except BadMarks as problem:
            raise MarksError(f"{path} {problem}.") from problem
        return _joined([(found, "", path)], [])
    files = sorted(_files_below(path))
    whole: list[tuple[Findings, str, Path]] = []
    skipped: list[Skipped] = []
    for number, file in enumerate(files, start=1):
        place = f"file {number} of {len(files)}"
        try:
            whole.append((_read_file(file), f"{place}, ", file))
        except BadMarks as problem:
            skipped.append(Skipped(place, str(problem), file))
    if not whole:
        first = f"; {skipped[0].place} {skipped[0].reason}" if skipped else ""
        raise MarksError(f"{path} has no file of marks among its {len(files):,} files{first}.")
    return _joined(whole, skipped)


def _files_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise MarksError(f"{folder} has a folder that cannot be read: {error.strerror or 'unknown error'}.") from error

    return [Path(root) / name for root, _, names in os.walk(folder, onerror=refuse) for name in names]


def _joined(whole: list[tuple[Findings, str, Path]], skipped: list[Skipped]) -> Marks:
    files: dict[Kind, int] = {}
    for found, place, path in whole:
        files[found.kind] = files.get(found.kind, 0) + 1
        skipped.extend(Skipped(place + inside, reason, path) for inside, reason in found.skipped)
    return Marks(
        tuple(point for found, _, _ in whole for point in found.points),
        tuple(box for found, _, _ in whole for box in found.boxes),
        tuple(reading for found, _, _ in whole for reading in found.readings),
        tuple(skipped),
        files,
    )


def _read_file(path: Path) -> Findings:
    content, is_xml = _content(path)
    if not is_xml:
        return read_points(content)
    root = parse_xml(content)
    name = local_name(root.tag)
    if name == lidc.ROOT:
        return lidc.read_lidc(root)
    if name == voc.ROOT:
        return voc.read_boxes(root, path)
    if name == lidc.ROOT_OF_RADIOGRAPHS:
        raise BadMarks("is a reading of radiographs, not of CT; leave it out")
    raise BadMarks(f"is XML, but neither a reading of LIDC ({lidc.ROOT}) nor boxes of Lung-PET-CT-Dx ({voc.ROOT})")


def _content(path: Path) -> tuple[bytes, bool]:
    """All bytes of a file, and whether it is XML. Only the head is read of what cannot be marks, such as images."""
    if not path.is_file():
        raise BadMarks("is no file that can be read")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            first = first_character(head)
            if not first:
                raise BadMarks(
                    "is empty" if len(head) < _HEAD else "is no file of marks: it is neither XML nor a table"
                )
            is_xml = first == b"<"
            if not is_xml and b"\0" in head:
                raise BadMarks("is no file of marks: it is neither XML nor a table in UTF-8")
            limit = MAX_XML_BYTES if is_xml else MAX_TABLE_BYTES
            content = head + file.read(limit + 1 - len(head))
    except OSError as error:
        raise BadMarks(f"cannot be read: {error.strerror or 'unknown error'}") from error
    if len(content) > limit:
        raise BadMarks(f"is larger than {limit >> 20} MB, and so no file of marks")
    return content, is_xml
