"""Which columns of a source become attributes of its images: those that are asked for, else all that identify nobody.

Attributes are written into the dataset, so a column that may say who a patient is stays out unless it is named.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from synthoma.errors import DataError, nearest_name_hint

Value = float | str | None

# Names of columns that identify: "patient", "Subject_ID", "date of birth", "mrn", "image_id".
_IDENTIFIER = re.compile(
    r"(^|[^a-z])(patients?|subjects?|persons?|names?|surname|mrn|dob|birth|accession|ssn|uid|filename|path|comments?)([^a-z]|$)"
    r"|(^|[^a-z])id$|(patient|subject|person|study|series|case|image)_?id",
    re.IGNORECASE,
)
# Texts that differ from row to row in at least so many rows are identifiers or free text, nothing to learn from.
_FEWEST_TEXTS = 10


class Chosen(NamedTuple):
    """Attribute -> a value for each row (None: missing), and what to tell the owner of the data."""

    values: dict[str, Sequence[Value]]
    notes: list[str]
    warnings: list[str]


def choose_attributes(columns: Mapping[str, Sequence[Value]], wanted: Sequence[str] | None, where: str) -> Chosen:
    """Columns that become attributes. wanted: `source.attributes`; where: name of the source, for errors.

    Raises `DataError` where a wanted column does not exist, naming those that do.
    """
    identifying = [name for name, values in columns.items() if may_identify(name, values)]
    if wanted is None:
        kept = {name: values for name, values in columns.items() if name not in identifying}
        left_out = ", ".join(identifying)
        notes = [f"Columns that look like names or numbers of persons or files were left out: {left_out}."]
        return Chosen(kept, notes if identifying else [], [])
    for name in wanted:
        if name not in columns:
            hint = nearest_name_hint(name, columns) or "."
            raise DataError(
                f"{where} has no attribute '{name}'{hint} It has: {', '.join(columns) or 'none'}. Correct source.attributes."
            )
    named = [name for name in wanted if name in identifying]
    warning = f"These look like names or numbers of persons, and were kept because source.attributes asks for them: {', '.join(named)}."
    return Chosen({name: columns[name] for name in wanted}, [], [warning] if named else [])


def may_identify(name: str, values: Sequence[Value]) -> bool:
    """Whether a column may say who a patient is: by its name, or because its texts are all different."""
    texts = [value for value in values if isinstance(value, str)]
    different = len(texts) >= _FEWEST_TEXTS and len(set(texts)) == len(texts)
    return bool(_IDENTIFIER.search(name)) or different
