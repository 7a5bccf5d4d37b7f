"""What preparation found, in plain words for the terminal and the report: notes, and warnings that ask for a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from synthoma.cohort import FEWEST_GROUPS, SPLITS, TOLERANCE
from synthoma.preparation.denoise import LEAST_NOISE
from synthoma.preparation.items import Item, Rejection
from synthoma.recipe import Recipe
from synthoma.sources import Source

if TYPE_CHECKING:
    from synthoma.preparation.prepare import Findings

# Keeping less than this share of edge sharpness or of fine texture is warned about.
_KEPT_ENOUGH = 0.8
# Below this the classifier behind the list of label errors is too often wrong itself.
_WEAK_ACCURACY = 0.6


def class_table(labels: Sequence[str | None], splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """split -> class -> images; images without a label count under the empty name."""
    counted = Counter((split, label or "") for split, label in zip(splits, labels, strict=True))
    return {split: {name: n for (own, name), n in sorted(counted.items()) if own == split} for split in SPLITS}


def known_attributes(items: Sequence[Item]) -> dict[str, int]:
    """Attribute -> number of images for which it is known, sorted by name."""
    names = sorted({name for item in items for name in item.record.attributes})
    return {name: sum(item.record.attributes.get(name) is not None for item in items) for name in names}


def describe(findings: Findings, recipe: Recipe, source: Source) -> tuple[list[str], list[str]]:
    """(notes, warnings) about a finished preparation."""
    notes, warnings = [*source.notes], [*source.warnings]
    _reading(findings, recipe, notes, warnings)
    _denoising(findings, recipe, notes, warnings)
    _duplicates(findings, notes, warnings)
    _split(findings, recipe, notes, warnings)
    _classes(findings, recipe, notes, warnings)
    _label_errors(findings, notes)
    return notes, warnings


def _number(count: int, what: str, plural: str | None = None) -> str:
    return f"{count:,} {what if count == 1 else plural or what + 's'}"


def _reading(findings: Findings, recipe: Recipe, notes: list[str], warnings: list[str]) -> None:
    items = findings.items
    notes.append(f"{_number(findings.found, 'image')} found, {len(items):,} kept.")
    if findings.filtered:
        notes.append(f"{_number(findings.filtered, 'image')} not selected by preparation.where.")
    unreadable = [rejection for rejection in findings.rejections if rejection.unreadable]
    if unreadable:
        warnings.append(f"{_number(len(unreadable), 'file')} could not be read and left out: {_reasons(unreadable)}.")
    copies = {rejection.record.key for rejection in findings.exact.rejections}
    unwanted = [r for r in findings.rejections if not r.unreadable and r.record.key not in copies]
    if unwanted:
        warnings.append(f"{_number(len(unwanted), 'image')} left out: {_reasons(unwanted)}.")
    upscaled = sum(item.upscaled for item in items)
    if upscaled:
        share = 100 * upscaled / len(items)
        notes.append(
            f"{_number(upscaled, 'image')} ({share:.1f} %) are smaller than the training size and were enlarged "
            "(preparation.upscale: refuse leaves such out)."
        )
    if recipe.preparation.fill == "black" and len(findings.scratch.shape) == 4 and any(item.padded for item in items):
        warnings.append(
            "Volumes were padded with 0, the lowest value: where they are cut from a larger scan, a generator learns a box of air "
            "around the tissue. preparation.fit: stretch or crop avoids padding, preparation.fill: edge repeats the outermost voxels."
        )
    coloured = sum(item.coloured for item in items)
    if 0 < coloured < len(items):
        notes.append(
            f"Colour and grey are mixed: {coloured:,} in colour, {len(items) - coloured:,} grey; all are made "
            f"{'RGB' if recipe.preparation.colour == 'rgb' else 'grey'}."
        )
    elif coloured and recipe.preparation.colour == "grey":
        notes.append("The images are in colour and were made grey (preparation.colour).")
    elif not coloured and recipe.preparation.colour == "rgb":
        notes.append(
            "The images are grey, and were written with three equal channels; preparation.colour: grey saves two."
        )
    if findings.scratch.sixteen:
        low, high = findings.scratch.window
        notes.append(f"{_number(len(findings.scratch.sixteen), 'image')} of 16 bits: {low} to {high} became 0 to 255.")
    masked = len(findings.scratch.masked)
    if masked and not findings.masks:
        warnings.append("Some images have no mask, so masks were left out.")


def _denoising(findings: Findings, recipe: Recipe, notes: list[str], warnings: list[str]) -> None:
    """What the removal of noise took away and what it kept."""
    check = findings.denoised
    if check is None:
        return
    how = f"{recipe.preparation.denoise}, medians of {_number(check.images, 'image')}"
    removed = 0.0 if check.noise_removed is None else max(check.noise_removed, 0.0)
    parts = {"edge sharpness": (check.edges, check.edges_low), "fine texture": (check.texture, check.texture_low)}
    kept = {name: (middle, low) for name, (middle, low) in parts.items() if middle is not None and low is not None}
    shares = " and ".join(f"{100 * middle:.0f} % of {name}" for name, (middle, _) in kept.items())
    notes.append(
        f"Denoising removed {100 * removed:.0f} % of the noise (sigma {check.noise_before:.1f} -> {check.noise_after:.1f} grey "
        f"levels){f', kept {shares}' if shares else ''} ({how})."
    )
    for name in (name for name in parts if name not in kept):
        notes.append(f"No {name} stands out from the noise, so what denoising makes of it could not be measured.")
    if check.noise_before < LEAST_NOISE:
        notes.append("There is hardly any noise to remove; preparation.denoise: none would do.")
    for name, (middle, low) in kept.items():
        if middle < _KEPT_ENOUGH:
            warnings.append(
                f"Denoising keeps only {100 * middle:.0f} % of {name} (under {100 * low:.0f} % in a tenth of the images): a generator "
                "cannot learn what is gone. Lower preparation.denoise_strength, or take another preparation.denoise, or none."
            )


def _reasons(rejections: Sequence[Rejection]) -> str:
    counted = Counter(rejection.kind for rejection in rejections)
    return "; ".join(f"{reason} ({count})" for reason, count in counted.most_common())


def _duplicates(findings: Findings, notes: list[str], warnings: list[str]) -> None:
    exact, grouping = findings.exact, findings.grouping
    if exact.duplicates:
        notes.append(f"{_number(exact.duplicates, 'exact duplicate')} dropped.")
    if exact.conflicts:
        left_out = any(rejection.reason.startswith("same picture") for rejection in exact.rejections)
        warnings.append(
            f"{_number(exact.conflicts, 'picture')} under more than one label: "
            + ("left out (preparation.conflicts: keep keeps them)." if left_out else "kept under each, in one group.")
        )
    if exact.across_splits:
        warnings.append(
            f"{_number(exact.across_splits, 'picture')} in more than one of the given splits; one copy is used "
            "(that of test before val before train)."
        )
    if grouping.merged:
        notes.append(f"Near-duplicates form {_number(grouping.merged, 'group')}, each kept in one split.")
    if grouping.straddling:
        warnings.append(
            f"{_number(grouping.straddling, 'pair')} of near-duplicates belong to different given groups or splits, which count. "
            "Are the groups right?"
        )
    for size in grouping.chains:
        warnings.append(
            f"A chain of {size} images that look alike ({100 * size / len(findings.items):.0f} % of the set) was not made one "
            "group. Near-duplicates in it may straddle the split; a groups.csv would settle it."
        )
    mixed = sum(findings.labels[pair.first] != findings.labels[pair.second] for pair in findings.pairs)
    if mixed:
        warnings.append(f"{_number(mixed, 'pair')} of near-duplicates with different labels.")


def _split(findings: Findings, recipe: Recipe, notes: list[str], warnings: list[str]) -> None:
    plan = findings.plan
    parts = []
    for split in SPLITS:
        groups = {group for group, own in zip(findings.groups, plan.splits, strict=True) if own == split}
        parts.append(f"{split} {plan.splits.count(split):,} ({_number(len(groups), 'group')})")
    notes.append(f"Split ({'as given' if recipe.preparation.split == 'given' else 'by group'}): {', '.join(parts)}.")
    if not findings.groups_known:
        warnings.append(
            "No patients or groups are known, so each image counts as its own. Where one patient has several, they can be on both "
            "sides of the split, and intervals are too narrow; a groups.csv (file, class, group) beside the images says who belongs together."
        )
    if not plan.independent_reference:
        total = len(set(findings.groups))
        reason = f"only {_number(total, 'group')}" if total < FEWEST_GROUPS else "no group could be spared for test"
        warnings.append(f"There is no test split ({reason}): evaluation has no independent reference.")
    off = [d for d in plan.deviations if recipe.preparation.split == "random" and plan.independent_reference]
    for deviation in off:
        notes.append(
            f"{deviation.label or 'Unlabelled'}: {deviation.share:g} % in {deviation.split} instead of {deviation.wanted:g} % "
            f"(its groups allow no better; more than {TOLERANCE:g} points off)."
        )


def _classes(findings: Findings, recipe: Recipe, notes: list[str], warnings: list[str]) -> None:
    """Pools, attributes; a class from a single group, a class smaller than a batch."""
    for name, members in recipe.preparation.pool.items():
        notes.append(f"Class '{name}' is pooled from {', '.join(members)}.")
    if attributes := known_attributes(findings.items):
        total = len(findings.items)
        named = (
            name if known == total else f"{name} (known for {known:,} of {total:,})"
            for name, known in attributes.items()
        )
        notes.append(f"Attributes: {', '.join(named)}.")
    groups: dict[str, set[str]] = {name: set() for name in findings.classes}
    training: Counter[str] = Counter()
    for label, group, split in zip(findings.labels, findings.groups, findings.plan.splits, strict=True):
        if label is not None:
            groups[label].add(group)
            training[label] += split == "train"
    for name in findings.classes:
        if len(groups[name]) == 1:
            warnings.append(f"Class '{name}' comes from a single patient or group; a model would learn that one.")
        if training[name] < recipe.training.batch:
            warnings.append(
                f"Class '{name}' has {_number(training[name], 'training image')}, fewer than a batch "
                f"({recipe.training.batch}): it is sampled with repetition."
            )


def _label_errors(findings: Findings, notes: list[str]) -> None:
    listed, accuracy = len(findings.checked.doubtful), findings.checked.accuracy
    if not listed or accuracy is None:
        return
    weak = "; it is weak here, so take these as hints" if accuracy < _WEAK_ACCURACY else ""
    notes.append(
        f"{_number(listed, 'label')} may be wrong: a simple classifier, right in {100 * accuracy:.0f} % of cases{weak}, "
        "prefers another class. They are listed in dataset.json (label_errors)."
    )
