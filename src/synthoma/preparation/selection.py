"""Which records a recipe wants, and under which class: `preparation.pool`, `preparation.where`, and what the model needs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from synthoma.errors import DataError, nearest_name_hint
from synthoma.formats.tables import as_text
from synthoma.preparation.items import Rejection
from synthoma.recipe import Recipe
from synthoma.records import Record

_NO_LABEL = "no label, which a conditional model needs"
_SHOWN = 12


def needs_labels(recipe: Recipe) -> bool:
    """Whether the recipe's model is conditioned on the class, so that an image without a label cannot be used."""
    return "class" in recipe.model.conditions


def pool_classes(records: Sequence[Record], pool: Mapping[str, Sequence[str]]) -> list[Record]:
    """Records with the classes of each pool under the pool's name; other classes keep theirs.

    Raises `DataError` naming the classes that there are, for one that there is not, and for a pool whose name is already
    that of a class outside of it.
    """
    known = sorted({record.label for record in records if record.label is not None})
    pooled = {member: name for name, members in pool.items() for member in members}
    for member in pooled:
        if member not in known:
            hint = nearest_name_hint(member, known) or "."
            raise DataError(
                f"preparation.pool: there is no class '{member}'{hint} There are: {', '.join(known) or 'none'}."
            )
    for name in pool:
        if name in known and name not in pooled:
            raise DataError(
                f"preparation.pool: '{name}' is itself a class of the data. List it among the classes that it is to be made of, or "
                "choose another name."
            )
    return [
        record if record.label is None else replace(record, label=pooled.get(record.label, record.label))
        for record in records
    ]


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


def require_labels(records: Sequence[Record], recipe: Recipe) -> tuple[list[Record], list[Rejection]]:
    """Records with a label, and rejections of those without. With `when_absent: drop`, all where none has a label."""
    labelled = [record for record in records if record.label is not None]
    if not labelled and recipe.model.when_absent == "drop":
        return list(records), []
    return labelled, [Rejection(record, _NO_LABEL) for record in records if record.label is None]


def require_attributes(records: Sequence[Record], recipe: Recipe) -> None:
    """Raises `DataError` where no image has an attribute that the recipe needs; better now than after reading the pixels."""
    present = {name for record in records for name in record.attributes}
    numbers = {name for record in records for name, value in record.attributes.items() if isinstance(value, float)}
    for name in recipe.source.attributes or []:
        if name not in present:
            raise DataError(f"source.attributes: the images have no '{name}'{_hint(name, present)}")
    if recipe.model.when_absent == "drop":
        return
    for name in recipe.model.conditions:
        if name != "class" and name not in numbers:
            problem = f"'{name}' is text, not a number" if name in present else f"the images have no '{name}'"
            raise DataError(
                f"model.conditions: {problem}{_hint(name, numbers)} model.when_absent: drop goes on without it."
            )


def _hint(name: str, known: set[str]) -> str:
    return f"{nearest_name_hint(name, sorted(known)) or '.'} There are: {', '.join(sorted(known)) or 'none'}."


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
