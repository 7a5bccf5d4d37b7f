"""Which records a recipe wants: `preparation.where`, and labels where the model needs them."""

from collections.abc import Sequence
from typing import Any

from synthoma.errors import DataError, nearest_name_hint
from synthoma.formats.tables import as_text
from synthoma.preparation.items import Rejection
from synthoma.recipe import Recipe
from synthoma.records import Record

# Families whose networks see the class.
_CONDITIONAL = frozenset({"cgan"})
_NO_LABEL = "no label, which a conditional model needs"
_SHOWN = 12


def needs_labels(recipe: Recipe) -> bool:
    """Whether the recipe's model is conditional, so that an image without a label cannot be used."""
    return recipe.model.family in _CONDITIONAL


def select(records: Sequence[Record], where: dict[str, Any]) -> list[Record]:
    """Records for which every key of `where` has one of the wanted values; a single value counts as a list of one.

    Keys are `label` and the attributes. Numbers compare as numbers (3 matches 3.0), texts as texts. Raises `DataError`
    that names the known keys, or the values that there are where nothing is left.
    """
    chosen = list(records)
    for key, wanted in where.items():
        known = ["label", *sorted({name for record in records for name in record.attributes})]
        if key not in known:
            hint = nearest_name_hint(key, known) or "."
            raise DataError(f"preparation.where: the images have no '{key}'{hint} Known: {', '.join(known)}.")
        values = {_comparable(value) for value in (wanted if isinstance(wanted, list) else [wanted])}
        left = [record for record in chosen if _comparable(_value(record, key)) in values]
        if not left:
            raise DataError(f"preparation.where: no image has {key} = {wanted!r}. There are: {_existing(chosen, key)}.")
        chosen = left
    return chosen


def require_labels(records: Sequence[Record]) -> tuple[list[Record], list[Rejection]]:
    """Records with a label, and rejections of those without."""
    labelled = [record for record in records if record.label is not None]
    return labelled, [Rejection(record, _NO_LABEL) for record in records if record.label is None]


def _value(record: Record, key: str) -> float | str | None:
    return record.label if key == "label" else record.attributes.get(key)


def _comparable(value: object) -> object:
    """One form for values that mean the same: 3, 3.0 and '3'."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return as_text(float(value))
    return str(value)


def _existing(records: Sequence[Record], key: str) -> str:
    values = sorted({"(missing)" if value is None else as_text(value) for value in (_value(r, key) for r in records)})
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(values[:_SHOWN]) + more
