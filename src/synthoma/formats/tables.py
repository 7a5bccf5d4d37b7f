"""Tables of text: CSV (UTF-8 with or without BOM; comma, semicolon or tab) and Parquet -> columns of values."""

import csv
import io
import math
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synthoma.errors import DataError

SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
Value = float | str | None
# Texts that stand for "not known" in the tables of the field.
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>"})
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Table:
    """Columns by name, all of one length; texts are stripped, missing values are None."""

    path: Path
    columns: dict[str, list[Value]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def texts(self, name: str) -> list[str | None]:
        """A column as texts: 3.0 becomes '3', so that a class or group that is a number reads as one."""
        return [None if value is None else as_text(value) for value in self.columns[name]]

    def numbers_or_texts(self, name: str) -> list[Value]:
        """A column as numbers where every known value is one, else as texts."""
        numbers: list[Value] = []
        for value in self.columns[name]:
            number = None if value is None else _as_number(value)
            if value is not None and number is None:
                return list(self.texts(name))
            numbers.append(number)
        return numbers


def as_text(value: float | str) -> str:
    """Text of a value as a person would write it."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _as_number(value: float | str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def is_table_name(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def read_table(path: Path) -> Table:
    """Read a table by the ending of its name. Raises `DataError` that names file, line and remedy."""
    try:
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not table.columns:
        raise DataError(f"{path} has no columns; the first line must name them.")
    return table


def column_names(path: Path) -> list[str]:
    """Names of the columns, without reading the rows."""
    if path.suffix.lower() == ".parquet":
        try:
            return [str(name) for name in pq.read_schema(path).names]
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is no readable Parquet file.") from error
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no UTF-8 text; save the table as CSV in UTF-8.") from error
    return [name.strip() for name in next(csv.reader([first], delimiter=_delimiter(first)), [])]


def _read_csv(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save the table as CSV in UTF-8.") from error
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]))
    try:
        header = [name.strip() for name in next(lines, [])]
        if len(set(header)) != len(header):
            raise DataError(f"{path}: two columns have one name; the names of columns must differ.")
        columns: dict[str, list[Value]] = {name: [] for name in header}
        for row in lines:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise DataError(f"{path}, line {lines.line_num}: {len(row)} values, but {len(header)} columns.")
            for name, cell in zip(header, row, strict=True):
                columns[name].append(_known(cell.strip()))
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: {error}.") from error
    return Table(path, columns)


def _read_parquet(path: Path) -> Table:
    try:
        content = pq.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"{path} is no readable Parquet file.") from error
    return Table(
        path,
        {str(name): [_plain(value) for value in content.column(name).to_pylist()] for name in content.column_names},
    )


def _delimiter(header: str) -> str:
    """The separator that occurs most often in the first line; a comma where none does."""
    return max(_DELIMITERS, key=header.count)


def _known(text: str) -> str | None:
    return None if text.casefold() in _MISSING else text


def _plain(value: object) -> Value:
    """A Parquet value as number or text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (bool, date, datetime)):
        return str(value)
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 2**53 else str(value)
    return _known(str(value).strip())
