"""From a source of raw images to a Dataset folder: read, clean, group, split, write. One pass over the files.

The result is a function of the recipe and of what the files show and are called within their folder: neither the
folder's place, nor the order of files, nor the number of workers changes a byte of it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.cohort import SPLITS, SplitPlan, assign_splits, cohort_hash, number_groups, split_deviations
from synthoma.dataset import Dataset, seal_dataset
from synthoma.errors import DataError
from synthoma.preparation.denoise import require_method
from synthoma.preparation.duplicates import ExactDuplicates, Grouping, drop_exact_duplicates, group_images
from synthoma.preparation.items import Item, Rejection, count_reasons
from synthoma.preparation.label_errors import LabelCheck, find_label_errors
from synthoma.preparation.near_duplicates import Pair, find_near_duplicates
from synthoma.preparation.overview import draw_overview
from synthoma.preparation.reading import ReadSettings, Rejected, check_denoising, read_all
from synthoma.preparation.scratch import Scratch
from synthoma.preparation.selection import needs_labels, pool_classes, require_attributes, require_labels, select
from synthoma.preparation.summary import class_table, describe, known_attributes
from synthoma.preparation.texture_check import TextureCheck
from synthoma.preparation.writing import write_arrays, write_links, write_records, write_rejected
from synthoma.recipe import Recipe, content_hash
from synthoma.records import Record
from synthoma.run import aside_folder, file_sha256
from synthoma.sources import Source, data_terms

FEWEST_TRAINING_IMAGES = 16
_FILES_NAMED = 5


@dataclass(frozen=True)
class PreparationResult:
    """The dataset that was written, and what to tell its owner in plain words."""

    dataset: Dataset
    notes: list[str]
    warnings: list[str]


@dataclass
class Findings:
    """Everything that was learned on the way, for dataset.json and for the terminal."""

    found: int
    filtered: int
    items: list[Item]
    rejections: list[Rejection]
    exact: ExactDuplicates
    pairs: list[Pair]
    grouping: Grouping
    groups: list[str]
    plan: SplitPlan
    scratch: Scratch
    masks: bool = False
    checked: LabelCheck = field(default_factory=lambda: LabelCheck([], None))
    denoised: TextureCheck | None = None

    @property
    def labels(self) -> list[str | None]:
        return [item.label for item in self.items]

    @property
    def groups_known(self) -> bool:
        """Whether the source says of any image which patient or group it belongs to."""
        return any(item.record.group is not None for item in self.items)

    @property
    def classes(self) -> list[str]:
        return sorted({label for label in self.labels if label is not None})


def prepare(
    source: Source,
    recipe: Recipe,
    out: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PreparationResult:
    """Make the dataset folder `out` from `source` as `recipe.preparation` says; an earlier dataset there is replaced.

    workers: processes that decode and resize; None for one a processor (none for a small set), 1 for this process.
    progress: called with (images done, images in all).

    Raises `DataError`: nothing to read, too many unreadable files, too few images, one class in a conditional recipe.
    """
    out = Path(out)
    _check_target(out, source)
    everything = list(source.records())
    if not everything:
        raise DataError(f"{source.root} holds no images.")
    everything = pool_classes(everything, recipe.preparation.pool)
    records = select(everything, recipe.preparation.where)
    require_attributes(records, recipe)
    filtered = len(everything) - len(records)
    rejections: list[Rejection] = []
    if needs_labels(recipe):
        records, rejections = require_labels(records, recipe)
        if not records:
            raise DataError(
                f"{source.root}: none of the {len(rejections)} images has a label, and recipe '{recipe.name}' is conditional. "
                "Give one folder a class, or a table with a label column; or take an unconditional recipe."
            )
    with aside_folder(out) as folder:
        scratch = Scratch(folder, len(records))
        items, unread = _read(source, records, recipe, scratch, workers, progress)
        rejections += unread
        findings = _judge(items, rejections, recipe, scratch, len(everything), filtered)
        _check_result(findings, recipe, source)
        if recipe.preparation.denoise != "none":
            findings.denoised = check_denoising(
                source, [item.record for item in findings.items], _read_settings(recipe)
            )
        notes, warnings = _write(folder, source, recipe, findings, everything)
    return PreparationResult(Dataset.open(out), notes, warnings)


def _check_target(out: Path, source: Source) -> None:
    """Never replace a folder that is no dataset, nor write into the raw data."""
    place, raw = out.resolve(), source.root.resolve()
    if out.exists() and not (out / "dataset.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is no dataset; it is not overwritten. Choose another --out.")
    # Only a reader that walks a whole tree would come upon the dataset's own pictures when it next looks.
    found_again = source.walks and place.is_relative_to(raw)
    if place == raw or raw.is_relative_to(place) or found_again:
        raise DataError(f"{out} lies within the raw data {source.root} or around it; choose an --out elsewhere.")


def _read_settings(recipe: Recipe) -> ReadSettings:
    section = recipe.preparation
    size = section.size if isinstance(section.size, int) else tuple(section.size)
    return ReadSettings(
        size,
        section.colour,
        section.fit,
        section.upscale == "allow",
        section.max_pixels,
        section.resample,
        section.fill,
        section.denoise,
        section.denoise_strength,
    )


def _read(
    source: Source,
    records: Sequence[Record],
    recipe: Recipe,
    scratch: Scratch,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Item], list[Rejection]]:
    """Read every record; pixels go to `scratch`. Raises `DataError` where too many files are unreadable."""
    settings = _read_settings(recipe)
    require_method(settings.denoise)
    items: list[Item] = []
    rejections: list[Rejection] = []
    for done, (place, outcome) in enumerate(read_all(source, records, settings, workers), start=1):
        record = records[place]
        if isinstance(outcome, Rejected):
            rejections.append(Rejection(record, outcome.reason, outcome.unreadable))
        else:
            scratch.store(place, outcome)
            items.append(
                Item(
                    place,
                    record,
                    outcome.content,
                    outcome.unit,
                    outcome.spacing,
                    outcome.coloured,
                    outcome.upscaled,
                    outcome.padded,
                )
            )
        if progress is not None:
            progress(done, len(records))
    rejections.sort(key=lambda rejection: rejection.record.key)
    _check_readable(source, rejections, len(records), recipe.preparation.max_rejected)
    return items, rejections


def _check_readable(source: Source, rejections: Sequence[Rejection], count: int, most: float) -> None:
    bad = [rejection for rejection in rejections if rejection.unreadable]
    if not bad or (len(bad) < count and len(bad) <= most * count):
        return
    named = "\n".join(f"  - {rejection.record.origin}: {rejection.reason}" for rejection in bad[:_FILES_NAMED])
    more = f"\n  ... and {len(bad) - _FILES_NAMED} more" if len(bad) > _FILES_NAMED else ""
    if len(bad) == count:
        raise DataError(f"{source.root}: no readable image among {count} files.\n{named}{more}")
    raise DataError(
        f"{source.root}: {len(bad)} of {count} files cannot be read, more than preparation.max_rejected = {most:g} allows.\n"
        f"{named}{more}"
    )


def _judge(
    items: list[Item], rejections: list[Rejection], recipe: Recipe, scratch: Scratch, found: int, filtered: int
) -> Findings:
    """Duplicates, groups and the split."""
    section = recipe.preparation
    given = section.split == "given"
    exact = drop_exact_duplicates(items, section.conflicts == "keep")
    kept = sorted(exact.kept, key=lambda item: item.order)
    if not kept:
        reasons = count_reasons([*rejections, *exact.rejections])
        raise DataError(
            f"no image is left to train on: {', '.join(f'{reason} ({n})' for reason, n in reasons.items())}."
        )
    pairs: list[Pair] = []
    if section.near_duplicates:
        pairs = find_near_duplicates(np.stack([scratch.thumbnails[item.place] for item in kept]))
    grouping = group_images(kept, pairs, respect_splits=given)
    contents = [item.content for item in kept]
    groups = number_groups(contents, grouping.groups)
    labels = [item.label for item in kept]
    if given:
        plan = _given_splits(kept, groups, recipe)
    else:
        plan = assign_splits(contents, groups, labels, section.fractions, section.split_seed)
    return Findings(
        found, filtered, kept, [*rejections, *exact.rejections], exact, pairs, grouping, groups, plan, scratch
    )


def _given_splits(items: Sequence[Item], groups: Sequence[str], recipe: Recipe) -> SplitPlan:
    """The source's own split. A given group that straddles it is an error: one of the two must be wrong."""
    missing = sum(item.record.given_split is None for item in items)
    if missing:
        raise DataError(
            f"preparation.split is 'given', but {missing} of {len(items)} images say no split. Put them below Train/, Val/ and "
            "Test/, fill the split column, or use split: random."
        )
    splits = [str(item.record.given_split) for item in items]
    if "train" not in splits:
        raise DataError("preparation.split is 'given', but the source puts no image into train; use split: random.")
    of_group: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        of_group.setdefault(group, set()).add(split)
    torn = sorted(group for group, own in of_group.items() if len(own) > 1)
    if torn:
        raise DataError(
            f"preparation.split is 'given', but {len(torn)} groups stand in more than one split ({', '.join(torn[:_FILES_NAMED])}): "
            "what is measured on such a test set would be too good. Correct the split or the groups, or use split: random."
        )
    deviations = split_deviations([item.label for item in items], splits, recipe.preparation.fractions)
    return SplitPlan(splits, deviations, "test" in splits)


def _check_result(findings: Findings, recipe: Recipe, source: Source) -> None:
    training = findings.plan.splits.count("train")
    if training < FEWEST_TRAINING_IMAGES:
        raise DataError(
            f"{source.root}: {training} images are left for training ({len(findings.items)} in all, {len(findings.rejections)} "
            f"left out); at least {FEWEST_TRAINING_IMAGES} are needed."
        )
    signed = findings.scratch.signed & {item.place for item in findings.items}
    if 0 < len(signed) < len(findings.items):
        raise DataError(
            f"{source.root}: {len(signed)} of {len(findings.items)} images hold Hounsfield units or other signed numbers, the rest "
            "are pictures. Prepare them apart."
        )
    units = {item.unit for item in findings.items}
    if signed and len(units) > 1:
        raise DataError(
            f"{source.root}: some images are in Hounsfield units, and of others the unit is unknown. If all are HU, say so where "
            "they are read: --set ct.unit=hu."
        )
    if needs_labels(recipe) and len(findings.classes) < 2 and recipe.model.when_absent == "error":
        raise DataError(
            f"{source.root}: there is one class only ('{findings.classes[0]}'), and recipe '{recipe.name}' is conditional. Add a "
            "class, or take an unconditional recipe (model.family=dcgan)."
        )


def _write(
    folder: Path, source: Source, recipe: Recipe, findings: Findings, everything: Sequence[Record]
) -> tuple[list[str], list[str]]:
    """All files of the dataset; returns notes and warnings."""
    findings.masks = write_arrays(folder, findings.items, findings.scratch)
    findings.scratch.remove()
    images: NDArray[np.generic] = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    window = _encoding(findings, recipe).get("window", (0, 255))
    if recipe.preparation.label_errors and len(findings.classes) > 1:
        index = {name: i for i, name in enumerate(findings.classes)}
        labels = np.array([index.get(label or "", -1) for label in findings.labels], dtype=np.int64)
        contents = [item.content for item in findings.items]
        findings.checked = find_label_errors(images, labels, findings.groups, contents, window)
    write_records(folder, findings.items, findings.groups, findings.plan.splits)
    write_rejected(folder, findings.rejections)
    write_links(folder, everything, source.root)
    draw_overview(
        folder / "private" / "overview.png", recipe.name, images, findings.labels, findings.plan.splits, window
    )
    notes, warnings = describe(findings, recipe, source)
    seal_dataset(folder, {**_info(folder, source, recipe, findings), "notes": notes, "warnings": warnings})
    return notes, warnings


def _info(folder: Path, source: Source, recipe: Recipe, findings: Findings) -> dict[str, Any]:
    """dataset.json without the sums of files."""
    items, plan = findings.items, findings.plan
    contents = [item.content for item in items]
    rows = [
        # Attributes count where there are any: a model may be conditioned on them.
        [item.content, item.label, split, *([item.record.attributes] if item.record.attributes else [])]
        for item, split in zip(items, plan.splits, strict=True)
    ]
    arrays = [file_sha256(folder / name) for name in ("images.npy", "masks.npy") if (folder / name).exists()]
    terms, own = data_terms(source.root), recipe.data
    encoding = _encoding(findings, recipe)
    return {
        "name": recipe.name,
        "recipe_hash": recipe.part_hash("source", "preparation"),
        "encoding": encoding,
        "classes": findings.classes,
        "counts": class_table(findings.labels, plan.splits),
        "groups": {
            split: len({group for group, own in zip(findings.groups, plan.splits, strict=True) if own == split})
            for split in SPLITS
        },
        "cohort": {
            "hash": cohort_hash(contents, findings.groups, plan.splits),
            "split": recipe.preparation.split,
            "fractions": list(recipe.preparation.fractions),
            "seed": recipe.preparation.split_seed,
            "deviations": [vars(deviation) for deviation in plan.deviations],
            "independent_reference": plan.independent_reference,
            "groups_known": findings.groups_known,
        },
        # The hashes of contents are those of the raw pixels; the arrays' own tell how these were prepared.
        "content": content_hash([rows, arrays, *([window] if (window := encoding.get("window")) else [])]),
        "data": {
            "licence": own.licence if own.licence is not None else terms.licence,
            "citation": own.citation if own.citation is not None else terms.citation,
            "may_release": own.may_release if own.may_release is not None else terms.may_release,
        },
        "preparation": _preparation_info(findings, recipe),
        "label_errors": [
            {
                "key": items[error.row].record.key,
                "label": items[error.row].label,
                "suggested": findings.classes[error.suggested],
                "probability": error.probability,
            }
            for error in findings.checked.doubtful
        ],
    }


def _encoding(findings: Findings, recipe: Recipe) -> dict[str, Any]:
    """What the numbers in images.npy are. window: those that become black and white, where not 0 and 255.

    Hounsfield units have the window of the recipe; of an unknown unit nothing is known but the numbers' own range.
    """
    scratch = findings.scratch
    encoding = {"channels": scratch.shape[0], "size": list(scratch.shape[1:]), "dtype": scratch.dtype.name}
    if scratch.signed_range is None:
        return {"unit": "rgb8" if recipe.preparation.colour == "rgb" else "grey8", **encoding}
    unit = findings.items[0].unit
    low, high = scratch.signed_range
    window = list(recipe.ct.window) if unit == "hu" else [float(low), float(max(high, low + 1))]
    return {"unit": unit, **encoding, "window": window}


def _preparation_info(findings: Findings, recipe: Recipe) -> dict[str, Any]:
    items = findings.items
    sizes = Counter(label for label in findings.labels if label is not None)
    coloured = sum(item.coloured for item in items)
    scratch = findings.scratch
    return {
        "found": findings.found,
        "filtered": findings.filtered,
        "kept": len(items),
        "rejected": count_reasons(findings.rejections),
        "duplicates": findings.exact.duplicates,
        "conflicts": findings.exact.conflicts,
        "near_duplicate_pairs": len(findings.pairs),
        "near_duplicate_groups": findings.grouping.merged,
        "near_duplicates_apart": findings.grouping.straddling,
        "chains": findings.grouping.chains,
        "upscaled_share": round(sum(item.upscaled for item in items) / len(items), 4),
        "fit": recipe.preparation.fit,
        "resampled": recipe.preparation.resample,
        "fill": recipe.preparation.fill if recipe.preparation.fit == "pad" else None,
        "denoised": None if findings.denoised is None else asdict(findings.denoised),
        "pooled": recipe.preparation.pool,
        "attributes": known_attributes(items),
        "colour": {"wanted": recipe.preparation.colour, "coloured": coloured, "grey": len(items) - coloured},
        "grey16_window": list(scratch.window) if scratch.sixteen else None,
        "masks": findings.masks,
        "imbalance": round(max(sizes.values()) / min(sizes.values()), 2) if sizes else None,
        "label_check_accuracy": findings.checked.accuracy,
    }
