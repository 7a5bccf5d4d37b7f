"""Tables of points as CSV: LUNA16 annotations and candidates, and plain tables of anybody's.

LUNA16: Setio et al., Med. Image Anal. 42 (2017) 1-13; `seriesuid,coordX,coordY,coordZ,diameter_mm` or `...,class`,
world coordinates LPS in mm. A diameter of -1 (annotations_excluded.csv) means: not measured.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from synthoma.formats.marks.shapes import AttributeValue, BadMarks, Findings, Kind, Mark

MAX_TABLE_BYTES = 256 << 20
_SERIES = ("series", "seriesuid", "series_uid", "seriesinstanceuid", "series_instance_uid", "file", "filename", "path")
_ROLES: Mapping[str, tuple[str, ...]] = {
    "series": _SERIES,
    "x": ("x", "x_mm", "coordx"),
    "y": ("y", "y_mm", "coordy"),
    "z": ("z", "z_mm", "coordz"),
    "diameter": ("diameter", "diameter_mm"),
    "label": ("label", "class"),
}
# Columns that name a person; they are no attributes of a nodule.
_PERSONAL = (
    *("patient", "patient_id", "patientid", "patient_name", "patientname", "name", "mrn", "birth_date", "birthdate"),
    *("dob", "accession", "accession_number", "study", "study_uid", "studyuid", "study_instance_uid"),
    *("studyinstanceuid", "sop_instance_uid", "sopinstanceuid"),
)
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>"})
_MAX_MM = 10_000.0
_MAX_DIAMETER = 500.0
_NOT_MEASURED = -1.0


@dataclass(slots=True)
class _Header:
    """Index of the column of each role, and of the attributes; count: number of columns."""

    count: int
    roles: dict[str, int]
    attributes: dict[str, int]
    personal: list[int] = field(default_factory=list)
    kind: Kind = "table"


def read_points(content: bytes) -> Findings:
    """Points of a table. A row that cannot be used is skipped with its line and reason; no value of it is repeated.

    Raises `BadMarks` for what is no such table, or has no usable row.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadMarks(f"is no table of marks in UTF-8 (byte {error.start}); save it as CSV in UTF-8") from error
    first = text.lstrip().partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = _read_header(next((row for row in rows if any(row)), []))
        found = Findings(header.kind)
        for column in header.personal:
            found.skipped.append((f"column {column + 1}", "may name a person; it was left out"))
        lines = list(_read_rows(rows, header, found))
    except csv.Error as error:
        raise BadMarks(f"is no table of marks: line {rows.line_num} cannot be read as CSV") from error
    if header.kind == "luna16_annotations" and any(line.excluded for line in lines):
        found.kind = "luna16_excluded"
    _add_marks(lines, header, found)
    if not found.points:
        rows_left_out = [entry for entry in found.skipped if entry[0].startswith("line")]
        reason = f"; {' '.join(rows_left_out[0])}" if rows_left_out else ""
        raise BadMarks(f"is a table of marks without a usable row{reason}")
    return found


@dataclass(slots=True)
class _Line:
    series: str
    position: tuple[float, float, float]
    diameter: float | None
    label: str | None
    cells: tuple[str, ...]
    excluded: bool


def _read_header(cells: list[str]) -> _Header:
    names = [cell.strip() for cell in cells]
    folded = [name.casefold() for name in names]
    if len(set(folded)) != len(folded):
        raise BadMarks("is no table of marks: two columns have one name")
    roles = {}
    for role, known in _ROLES.items():
        columns = [folded.index(name) for name in known if name in folded]
        if len(columns) > 1 and role != "series":
            raise BadMarks(f"has two columns for {role}; leave one of them")
        if columns:
            roles[role] = columns[0]
    if not {"series", "x", "y", "z"} <= set(roles):
        raise BadMarks(
            "is no file of marks: neither XML of LIDC or Lung-PET-CT-Dx, nor a table whose first line names columns "
            "series (or file), x, y and z"
        )
    taken = set(roles.values())
    personal = [i for i, name in enumerate(folded) if name in (*_PERSONAL, *_SERIES) and i not in taken]
    attributes = {name: i for i, name in enumerate(names) if name and i not in taken and i not in personal}
    return _Header(len(names), roles, attributes, personal, _kind(folded))


def _kind(folded: list[str]) -> Kind:
    place = ["seriesuid", "coordx", "coordy", "coordz"]
    if folded == [*place, "diameter_mm"]:
        return "luna16_annotations"
    return "luna16_candidates" if folded == [*place, "class"] else "table"


def _read_rows(rows: Iterator[list[str]], header: _Header, found: Findings) -> Iterator[_Line]:
    # One text for each series: candidates_V2.csv names 888 series in 750,000 rows.
    known: dict[str, str] = {}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        try:
            yield _read_row(row, header, known)
        except BadMarks as problem:
            found.skipped.append((f"line {rows.line_num}", str(problem)))  # type: ignore[attr-defined]


def _read_row(row: list[str], header: _Header, known: dict[str, str]) -> _Line:
    if len(row) != header.count:
        raise BadMarks(f"has {len(row)} values, but there are {header.count} columns")
    cells = {role: row[column].strip() for role, column in header.roles.items()}
    if cells["series"].casefold() in _MISSING:
        raise BadMarks("names no series or file")
    x, y, z = (_position(cells[axis], axis) for axis in "xyz")
    diameter, excluded = _diameter(cells.get("diameter", ""))
    label: str | None = cells.get("label", "")
    if header.kind == "luna16_candidates":
        if label not in ("0", "1"):
            raise BadMarks("has a class that is neither 0 nor 1")
        label = "nodule" if label == "1" else "non_nodule"
    elif label is None or label.casefold() in _MISSING:
        label = None
    series = known.setdefault(cells["series"], cells["series"])
    others = tuple(row[column].strip() for column in header.attributes.values())
    return _Line(series, (x, y, z), diameter, label, others, excluded)


def _position(text: str, axis: str) -> float:
    value = _number(text)
    if value is None or abs(value) > _MAX_MM:
        raise BadMarks(f"has a {axis} that is no number of mm within {_MAX_MM:,.0f}")
    return value


def _diameter(text: str) -> tuple[float | None, bool]:
    """The diameter in mm, None where it is not known; and whether the table says -1, LUNA16's sign of that."""
    if text.casefold() in _MISSING:
        return None, False
    value = _number(text)
    if value == _NOT_MEASURED:
        return None, True
    if value is None or not 0 < value <= _MAX_DIAMETER:
        raise BadMarks(f"has a diameter that is not between 0 and {_MAX_DIAMETER:,.0f} mm")
    return value, False


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _add_marks(lines: list[_Line], header: _Header, found: Findings) -> None:
    of_file = {"luna16_annotations": "nodule", "luna16_excluded": "excluded"}.get(found.kind)
    columns = [_column([line.cells[i] for line in lines]) for i in range(len(header.attributes))]
    nothing: dict[str, AttributeValue] = {}
    for number, line in enumerate(lines):
        attributes = (
            {name: column[number] for name, column in zip(header.attributes, columns, strict=True)}
            if columns
            else nothing
        )
        found.points.append(Mark(line.series, line.position, line.diameter, of_file or line.label, attributes))


def _column(texts: list[str]) -> list[AttributeValue]:
    """A column as numbers where every known value is one, else as texts."""
    known = [None if text.casefold() in _MISSING else text for text in texts]
    numbers = [None if text is None else _number(text) for text in known]
    if all(number is not None or text is None for number, text in zip(numbers, known, strict=True)):
        return list(numbers)
    return list(known)
