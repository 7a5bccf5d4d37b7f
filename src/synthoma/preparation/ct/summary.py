"""What came of the volumes, in rows and in a few sentences without names."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from synthoma.measure.segment import KNOWN_ERROR
from synthoma.preparation.ct.cut import CutResult

_NAMED = 8


class CutRow(NamedTuple):
    """A volume in the table, by its pseudonym. problem: why there is nothing of it, else ""."""

    key: str
    taken: int
    classes: Mapping[str, int]
    rejected: Mapping[str, int]
    problem: str


def cut_rows(result: CutResult) -> list[CutRow]:
    """All volumes in the order of the listing; those that failed or were skipped have their reason."""
    rows = []
    for key in result.files:
        info = result.done.get(key)
        if info is None:
            why = result.failed.get(key) or f"left out: {result.skipped[key]}"
            rows.append(CutRow(key, 0, {}, {}, why))
            continue
        most = max(info["rejected"].items(), key=lambda item: item[1], default=("no mark", 0))
        problem = "" if info["taken"] else f"{most[0]} ({most[1]})" if most[1] else most[0]
        rows.append(CutRow(key, info["taken"], info["classes"], info["rejected"], problem))
    return rows


def describe_cuts(result: CutResult) -> tuple[list[str], list[str]]:
    """Notes and warnings for the terminal and the dataset; they name no file, patient or UID."""
    rows = cut_rows(result)
    classes: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    masks: Counter[str] = Counter()
    for row in rows:
        classes.update(row.classes)
        rejected.update(row.rejected)
    for info in result.done.values():
        masks.update(info["masks"])
    groups = {info["group"] for info in result.done.values() if info["taken"]}
    reused = f" ({result.reused} were done before)" if result.reused else ""
    named = ", ".join(f"{name or 'without a class'} {n}" for name, n in sorted(classes.items()))
    notes = [
        *result.notes,
        f"{classes.total()} {result.cut} of {len(result.done)} volumes{reused} and {len(groups)} patients: {named or 'none'}.",
    ]
    notes += (
        [f"Masks: {', '.join(f'{_BY[name]} {n}' for name, n in sorted(masks.items()))}."]
        if set(masks) - {"none"}
        else []
    )
    if masks["segmenter"]:
        notes.append(f"The segmenter's error: {KNOWN_ERROR}.")
    if rejected:
        notes.append(f"Not taken: {', '.join(f'{reason} {n}' for reason, n in rejected.most_common())}.")
    if merged := sum(info["merged"] for info in result.done.values()):
        notes.append(
            f"{merged} marks are of lesions that are marked in another way or file too; each lesion was cut once."
        )
    return notes, [*result.warnings, *_warned(result, rows)]


_BY = {"readers": "by readers", "segmenter": "by the segmenter", "box": "filled boxes", "none": "none"}


def _warned(result: CutResult, rows: list[CutRow]) -> list[str]:
    warnings = []
    for count, what in (
        (len(result.failed), "cannot be cut"),
        (len(result.skipped), "were left out by ct.on_gap=skip"),
    ):
        reasons = Counter(result.failed.values() if what == "cannot be cut" else result.skipped.values())
        if count:
            told = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common(_NAMED))
            warnings.append(f"{count} of {len(rows)} volumes {what}: {told}.")
    empty = [row for row in rows if row.key in result.done and not row.taken]
    if empty:
        told = "; ".join(f"{why} in {n}" for why, n in Counter(row.problem for row in empty).most_common(_NAMED))
        warnings.append(f"{len(empty)} of {len(rows)} volumes gave none of the {result.cut}: {told}.")
    flagged = Counter(text for info in result.done.values() for text in info["warnings"])
    return warnings + [f"{text} ({n} volumes)" if n > 1 else text for text, n in flagged.most_common(_NAMED)]
