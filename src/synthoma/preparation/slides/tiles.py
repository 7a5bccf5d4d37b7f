"""A folder of slides to a folder of tiles: what belongs together, a process a slide, and a table of what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from synthoma.errors import AnnotationError, DataError, nearest_name_hint
from synthoma.formats.annotations import read_annotations
from synthoma.formats.files import file_identity, relative_place
from synthoma.formats.slides import slide_files
from synthoma.formats.tables import column_names, read_table
from synthoma.formats.tiles import INFO, PRIVATE, SCHEMA_VERSION, SETTINGS
from synthoma.preparation.isolated import Failure, run_isolated
from synthoma.preparation.slides.cut import SlideJob, cut_slide, load_quality
from synthoma.preparation.slides.matching import (
    Matching,
    annotation_files,
    match_annotations,
    read_groups,
    tcga_patient,
)
from synthoma.preparation.slides.staining import Staining
from synthoma.preparation.slides.summary import write_slide_table
from synthoma.recipe import Recipe, content_hash
from synthoma.records import record_key
from synthoma.run import read_json, write_json
from synthoma.sources.groups import find_groups_file

# Raised when what a shard holds changes its meaning, so that older ones are cut anew.
VERSION = 1
_NAMED = 5


@dataclass(frozen=True)
class SlideSet:
    """Slides with what belongs to each: annotation files, patient, resolution, class by folder."""

    root: Path
    slides: Sequence[Path]
    matching: Matching | None
    patients: Mapping[Path, str]
    mpp: Mapping[Path, float]
    labels: Mapping[Path, str]
    notes: Sequence[str]

    def key(self, slide: Path) -> str:
        """Names a slide in all that is not private; stable between runs."""
        return record_key(relative_place(slide, self.root))


@dataclass(frozen=True)
class TilesResult:
    """What came of each slide: key -> slide.json, or why it failed; file -> key."""

    folder: Path
    done: Mapping[str, Mapping[str, Any]]
    failed: Mapping[str, str]
    keys: Mapping[Path, str]
    reused: int
    notes: Sequence[str]
    warnings: Sequence[str]


def find_slides(data: Path, recipe: Recipe, annotations: Path | None = None, groups: Path | None = None) -> SlideSet:
    """Slides below `data` (or the one that it is) with their annotations, patients and resolutions; no pixels are read."""
    section = recipe.slides
    slides = [data] if data.is_file() else slide_files(data)
    root = data.parent if data.is_file() else data
    if not slides:
        raise DataError(f"{data} holds no slides.")
    notes = []
    matching = None
    if annotations is not None:
        table = Path(section.annotation_table) if section.annotation_table else None
        matching = match_annotations(slides, annotation_files(annotations), table, root)
        if len(matching.slides_without) == len(slides):
            raise DataError(
                f"none of the {len(slides)} slides in {data} has an annotation in {annotations}: names do not match. Give a table "
                "with the columns slide and annotation: --set slides.annotation_table=FILE."
            )
    file = find_groups_file(root, groups or (Path(recipe.source.groups) if recipe.source.groups else None))
    patients = read_groups(file, slides, root) if file else {}
    derived = {slide: patient for slide in slides if slide not in patients and (patient := tcga_patient(slide))}
    if derived:
        notes.append(f"The patients of {len(derived)} slides were taken from their TCGA barcodes.")
    labels = _folder_labels(slides, root) if matching is None else {}
    if labels:
        notes.append(
            f"Without annotations, the folders of the slides are classes: {', '.join(sorted(set(labels.values())))}."
        )
    return SlideSet(root, slides, matching, {**derived, **patients}, _resolutions(slides, recipe, root), labels, notes)


def _folder_labels(slides: Sequence[Path], root: Path) -> dict[Path, str]:
    """Class by the folder below the root, where all slides lie in at least two such folders."""
    places = {slide: Path(relative_place(slide, root)).parts for slide in slides}
    if any(len(parts) < 2 for parts in places.values()) or len({parts[0] for parts in places.values()}) < 2:
        return {}
    return {slide: parts[0] for slide, parts in places.items()}


def _resolutions(slides: Sequence[Path], recipe: Recipe, root: Path) -> dict[Path, float]:
    section = recipe.slides
    known = {slide: section.given_mpp for slide in slides if section.given_mpp is not None}
    if section.mpp_table is None:
        return known
    table = Path(section.mpp_table)
    columns = column_names(table)
    if "file" not in columns or "mpp" not in columns:
        raise DataError(f"{table} has the columns {', '.join(columns) or 'none'}; needed are 'file' and 'mpp'.")
    rows = read_table(table)
    for name, value in zip(rows.texts("file"), rows.numbers_or_texts("mpp"), strict=True):
        slide = next((s for s in slides if name in (s.name, s.stem, relative_place(s, root))), None)
        if slide is None:
            continue
        if not isinstance(value, float) or not 0.05 < value < 20:
            raise DataError(f"{table}: '{value}' is no resolution; microns a pixel lie between 0.05 and 20.")
        known[slide] = value
    return known


def check_classes(slides: SlideSet, recipe: Recipe) -> tuple[list[str], list[str]]:
    """Notes and warnings about annotation classes: those that no recipe names, and files that cannot be read.

    Raises `DataError` where a class that the recipe names occurs nowhere.
    """
    if slides.matching is None:
        return [], []
    counts: dict[str, int] = {}
    broken: list[str] = []
    for file in sorted({file for own in slides.matching.files.values() for file in own}):
        try:
            found = read_annotations(file)
        except AnnotationError as error:
            broken.append(str(error))
            continue
        for annotation in found.annotations:
            counts[annotation.label or "(no class)"] = counts.get(annotation.label or "(no class)", 0) + 1
    section = recipe.slides
    for name in [*(section.include or []), *section.exclude]:
        if name not in counts:
            hint = nearest_name_hint(name, counts) or "."
            raise DataError(
                f"slides: no annotation has the class '{name}'{hint} There are: {', '.join(sorted(counts)) or 'none'}."
            )
    ignored = sorted(set(counts) - set(section.include or counts) - set(section.exclude))
    notes = [f"Annotations: {', '.join(f'{name} ({n})' for name, n in sorted(counts.items()))}."]
    if ignored:
        notes.append(f"Annotation classes that slides.include does not name were ignored: {', '.join(ignored)}.")
    return notes, broken


def cut_slides(
    slides: SlideSet,
    recipe: Recipe,
    out: Path,
    *,
    workers: int,
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int, int], None] | None = None,
) -> TilesResult:
    """Cut all slides, or every `shard[1]`-th from number `shard[0]` on, into `out`; those that are done are left alone.

    Raises `DataError` where more than `slides.max_failed` of them cannot be read, or none gives a tile.
    """
    tile = tile_size(recipe)
    stain_target = _stain_target(recipe)
    # What is wrong with the recipe is told once, not by every slide.
    load_quality(recipe.slides.quality)
    settings = {"schema": SCHEMA_VERSION, "slides": recipe.slides.model_dump(mode="json"), "tile": tile}
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()) and not (out / SETTINGS).is_file():
        raise DataError(f"{out} is not empty and holds no tiles; name a new or an empty folder.")
    write_json(out / SETTINGS, settings)
    notes, warnings = check_classes(slides, recipe)
    mine = [slide for number, slide in enumerate(slides.slides) if number % shard[1] == shard[0]]
    jobs, done, keys = [], {}, {slide: slides.key(slide) for slide in mine}
    for slide in mine:
        job = _job(slides, slide, recipe, out, tile, stain_target)
        _write_private(slides, slide, out, job)
        known = job.target / INFO
        if known.is_file() and read_json(known)["inputs"] == job.inputs:
            done[job.key] = read_json(known)
        else:
            jobs.append(job)
    reused, failed = len(done), {}
    if progress is not None:
        progress(reused, len(mine))
    for count, (number, outcome) in enumerate(
        run_isolated(cut_slide, jobs, workers, recipe.slides.patience_s), start=1
    ):
        if isinstance(outcome, Failure):
            failed[jobs[number].key] = outcome.reason
        else:
            done[jobs[number].key] = outcome
        if progress is not None:
            progress(reused + count, len(mine))
    result = TilesResult(out, done, failed, keys, reused, [*slides.notes, *notes], [*warnings, *_unmatched(slides)])
    part = "" if shard[1] == 1 else f"-{shard[0] + 1}-of-{shard[1]}"
    write_slide_table(out / PRIVATE / f"slides{part}.csv", result, slides.patients)
    _check(result, recipe, len(mine))
    return result


def tile_size(recipe: Recipe) -> int:
    """Pixels a side of a tile: `slides.tile`, else the size that images are trained at."""
    size = recipe.preparation.size
    return recipe.slides.tile or (size if isinstance(size, int) else max(size))


def _job(
    slides: SlideSet, slide: Path, recipe: Recipe, out: Path, tile: int, stain_target: Staining | None
) -> SlideJob:
    key = slides.key(slide)
    annotations = slides.matching.files[slide] if slides.matching else None
    mpp = slides.mpp.get(slide)
    label = slides.labels.get(slide)
    inputs = content_hash(
        [
            VERSION,
            recipe.slides.model_dump(
                mode="json", exclude={"mpp_table", "given_mpp", "annotation_table", "max_failed", "patience_s"}
            ),
            tile,
            mpp,
            label,
            file_identity(slide),
            None if annotations is None else [file_identity(file) for file in annotations],
            None if stain_target is None else stain_target.to_json(),
        ]
    )
    pictures = out / PRIVATE / "slides"
    return SlideJob(key, slide, annotations, label, recipe.slides, tile, mpp, out / key, pictures, inputs, stain_target)


def _write_private(slides: SlideSet, slide: Path, out: Path, job: SlideJob) -> None:
    folder = out / PRIVATE / "slides"
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "file": str(slide),
        "place": relative_place(slide, slides.root),
        "group": slides.patients.get(slide),
        "annotations": [str(file) for file in job.annotations or ()],
    }
    write_json(folder / f"{job.key}.json", own)


def _unmatched(slides: SlideSet) -> list[str]:
    if slides.matching is None:
        return []
    told = []
    for what, files, other in (
        ("slides have no annotation", slides.matching.slides_without, "no tile is taken of them"),
        ("annotation files have no slide", slides.matching.annotations_without, "they are not used"),
    ):
        if files:
            names = ", ".join(file.name for file in files[:_NAMED]) + (", ..." if len(files) > _NAMED else "")
            told.append(f"{len(files)} {what}, and {other}: {names}.")
    return told


def _check(result: TilesResult, recipe: Recipe, count: int) -> None:
    if len(result.failed) > recipe.slides.max_failed * count or len(result.failed) == count:
        names = {key: file for file, key in result.keys.items()}
        told = "\n".join(f"  - {names[key]}: {reason}" for key, reason in list(result.failed.items())[:_NAMED])
        raise DataError(
            f"{len(result.failed)} of {count} slides cannot be read, more than slides.max_failed = {recipe.slides.max_failed:g} "
            f"allows.\n{told}"
        )
    if not any(info["taken"] for info in result.done.values()):
        reasons: dict[str, int] = {}
        for info in result.done.values():
            for reason, number in info["rejected"].items():
                reasons[reason] = reasons.get(reason, 0) + number
        told = ", ".join(f"{reason} ({n})" for reason, n in sorted(reasons.items(), key=lambda item: -item[1]))
        raise DataError(
            f"none of the {count} slides gave a tile: {told or 'they are smaller than one tile'}. Look at the overlays in "
            f"{result.folder / PRIVATE / 'slides'}."
        )


def _stain_target(recipe: Recipe) -> Staining | None:
    """The look that slides are brought to where the recipe names a picture for it."""
    section = recipe.slides
    if section.stain == "none" or section.stain_target is None:
        return None
    path = Path(section.stain_target)
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    except (OSError, ValueError) as error:
        raise DataError(f"slides.stain_target: {path} is no picture that can be read ({error}).") from error
    return Staining.target_of(pixels, section.stain, str(path))
