"""What is told about the data: classes by splits, what was left out and why, the split, terms of use."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthoma.cohort import SPLITS
from synthoma.report import words
from synthoma.report.facts import Facts


@dataclass(frozen=True)
class ClassRow:
    """A class, its images in train, val and test, their sum, and its size as a share of the largest class."""

    name: str
    counts: list[str]
    total: str
    share: str
    bar: float


@dataclass(frozen=True)
class DataView:
    """`facts`: (term, words); `lists`: (title, lines). `missing` says why most of it is absent."""

    classes: list[ClassRow]
    totals: list[str]
    groups: list[str] | None
    facts: list[tuple[str, str]]
    lists: list[tuple[str, list[str]]]
    missing: str | None


def data_view(facts: Facts, public: bool) -> DataView:
    """The data section; on a public page without pseudonyms and paths."""
    info: Mapping[str, Any] | None = facts.dataset.info if facts.dataset is not None else None
    known = (facts.model or {}).get("dataset", {})
    counts = info["counts"] if info else known.get("counts")
    rows, totals = _class_rows(counts) if counts else ([], [])
    if info is None:
        return DataView(
            rows,
            totals,
            None,
            _terms(known),
            [],
            "The dataset was not at hand when this page was written; what is shown here was noted in the model.",
        )
    groups = [words.count(info["groups"].get(split, 0)) for split in SPLITS]
    groups.append(words.count(sum(info["groups"].values())))
    return DataView(rows, totals, groups, [*_terms(info["data"]), *_preparation(info)], _lists(info, public), None)


def _class_rows(counts: Mapping[str, Mapping[str, int]]) -> tuple[list[ClassRow], list[str]]:
    names = list(dict.fromkeys(name for split in SPLITS for name in counts.get(split, {})))
    numbers = {name: [int(counts.get(split, {}).get(name, 0)) for split in SPLITS] for name in names}
    totals = {name: sum(row) for name, row in numbers.items()}
    everything, largest = sum(totals.values()), max(totals.values(), default=0)
    rows = [
        ClassRow(
            words.spoken(name) if name and name != "None" else "all images",
            [words.count(n) for n in numbers[name]],
            words.count(totals[name]),
            words.share(totals[name] / max(everything, 1)),
            round(100 * totals[name] / max(largest, 1), 1),
        )
        for name in names
    ]
    sums = [sum(row[i] for row in numbers.values()) for i in range(len(SPLITS))]
    return rows, [words.count(n) for n in (*sums, everything)]


def _terms(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    release: dict[object, str] = {
        True: "allowed by the terms of the data",
        False: "not allowed by the terms of the data",
    }
    return [
        ("Licence of the images", str(data.get("licence") or "unknown")),
        ("Citation", str(data.get("citation") or "unknown")),
        ("Release of synthetic images", release.get(data.get("may_release"), "unknown")),
    ]


def _preparation(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    done: Mapping[str, Any] = info.get("preparation", {})
    encoding = info["encoding"]
    rejected = sum(done.get("rejected", {}).values())
    result = [("Images", f"{words.size_words(encoding['size'], encoding['channels'])}, {encoding['unit']}")]
    if "found" in done:
        result.append(("Found, kept", f"{words.count(done['found'])} found, {words.count(done.get('kept', 0))} kept"))
    result += [
        ("Rejected", words.plural(rejected, "file") if rejected else "none"),
        ("Exact duplicates dropped", words.count(done.get("duplicates", 0))),
        ("Same picture, two labels", words.count(done.get("conflicts", 0))),
        ("Near-duplicates", _near_duplicates(done)),
        ("Likely label errors", words.plural(len(info.get("label_errors", [])), "image")),
    ]
    if done.get("label_check_accuracy") is not None:
        result.append(
            (
                "Classifier that checked the labels",
                f"right for {words.share(done['label_check_accuracy'])} of the images",
            )
        )
    if done.get("upscaled_share") is not None:
        result.append(("Enlarged to fit", words.share(done["upscaled_share"])))
    if done.get("fit"):
        result.append(
            (
                "Other aspect ratios",
                {"crop": "cropped", "pad": "padded", "stretch": "stretched"}.get(done["fit"], str(done["fit"])),
            )
        )
    if isinstance(done.get("imbalance"), int | float):
        result.append(("Imbalance", f"{words.number(done['imbalance'], 2)} : 1, largest to smallest class"))
    cohort = info["cohort"]
    fractions = " / ".join(words.share(f) for f in cohort.get("fractions", []))
    result.append(("Split aimed at", f"{fractions} by patient or group" if fractions else "as the source says"))
    if cohort.get("independent_reference") is False:
        result.append(("Independent reference", "none: too few groups to keep some aside"))
    return result


def _near_duplicates(done: Mapping[str, Any]) -> str:
    """How many there are, and whether each pair is in one split."""
    groups, apart = done.get("near_duplicate_groups"), done.get("near_duplicates_apart") or 0
    if groups is None:
        return "not looked for"
    told = [f"{words.plural(groups, 'set')} kept in one split"] if groups else []
    within = done.get("near_duplicate_pairs", 0) - apart
    if not groups and within:
        told.append(f"{words.plural(within, 'pair')} within groups that were given")
    if apart:
        told.append(f"{words.plural(apart, 'pair')} that given groups or splits hold apart")
    told += [f"a chain of {words.plural(length, 'image')} that was not merged" for length in done.get("chains") or []]
    return "; ".join(told) or "none found"


def _lists(info: Mapping[str, Any], public: bool) -> list[tuple[str, list[str]]]:
    rejected = info.get("preparation", {}).get("rejected", {})
    lists = [
        ("Warnings", [words.sentence(item) for item in info.get("warnings", [])]),
        ("Rejected, by reason", [f"{words.count(n)} × {reason}" for reason, n in rejected.items()]),
        ("Deviations of the split", [words.sentence(item) for item in info["cohort"].get("deviations", [])]),
        ("Notes", [words.sentence(item) for item in info.get("notes", [])]),
    ]
    if public:
        lists = [(title, [words.without_people(line) for line in lines]) for title, lines in lists]
    return [(title, lines) for title, lines in lists if lines]
