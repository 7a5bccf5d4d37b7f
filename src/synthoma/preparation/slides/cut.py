"""One slide to one shard of tiles: grid, tissue, annotations, quality, stain, pixels. Runs in a process of its own."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import RecipeError
from synthoma.formats.annotations import Annotation, AnnotationIndex, check_against, read_annotations
from synthoma.formats.slides import Slide, open_slide
from synthoma.formats.slides.slide import SAME_MPP
from synthoma.formats.tiles import PIXELS, PixelsWriter, write_shard_info, write_shard_table
from synthoma.memory import keep_freed_memory
from synthoma.preparation.slides.artefacts import QualityModel, Reference, reject, relative_to_slide, score_tiles
from synthoma.preparation.slides.overlay import draw_contact_sheet, draw_overlay, write_tiles_geojson
from synthoma.preparation.slides.places import NO_TISSUE, Places, grid, judge, runs, spare
from synthoma.preparation.slides.staining import Staining, fit_staining
from synthoma.preparation.slides.tissue import Tissue, slide_reference, tissue_fraction, tissue_mask
from synthoma.run import aside_folder
from synthoma.slide_settings import SlidesSection

# The thumbnail in which tissue is looked for: about 8 microns a pixel, and never more pixels than these a side.
THUMBNAIL_MPP, THUMBNAIL_SIDE = 8.0, 4096
# Tiles that are read as one strip, and that are scored together.
STRIP, BATCH = 8, 32
_SHEET = 64


@dataclass(frozen=True)
class SlideJob:
    """All that a process needs to cut one slide. tile: pixels a side. folder_label: class by its folder, if any.

    annotations: None where nobody gave any, and none where this slide has none of those that there are. key names the
    slide in all that is not private; target is the shard's folder, pictures the private one.
    """

    key: str
    file: Path
    annotations: tuple[Path, ...] | None
    folder_label: str | None
    section: SlidesSection
    tile: int
    mpp: float | None
    target: Path
    pictures: Path
    inputs: str
    stain_target: Staining | None = None


def cut_slide(job: SlideJob, alive: Callable[[], None]) -> dict[str, Any]:
    """Cut a slide into `job.target`; what slide.json says of it, without the file's name.

    Raises `SlideError` where the slide cannot be read, `AnnotationError` where its annotation cannot.
    """
    section = job.section
    keep_freed_memory()
    with open_slide(job.file, job.mpp) as slide:
        mpp = slide.require_mpp()
        warnings = list(slide.warnings)
        annotations, told = _annotations(job, slide)
        warnings += told
        boxes = grid(slide.size, mpp, section, job.tile)
        tissue, thumbnail, thumbnail_mpp = find_tissue(slide, section)
        alive()
        shares, hidden = (tissue_fraction(mask, thumbnail_mpp, boxes, mpp) for mask in (tissue.mask, tissue.hidden))
        covered = None
        if job.annotations is not None:
            covered = AnnotationIndex(annotations, section.include, section.exclude).fraction(boxes)
        places = judge(boxes, shares, covered, job.folder_label, section, hidden)
        spare(places, section.most_tiles, job.key)
        staining = fit_staining(slide, places, section, job.tile, job.stain_target)
        if staining.reason:
            warnings.append(staining.reason)
        with aside_folder(job.target) as folder:
            reference = slide_reference(thumbnail, tissue)
            scores, rows, sheet = _write_pixels(job, slide, places, staining, reference, folder, alive)
            taken = places.wanted
            info = {
                "key": job.key,
                "inputs": job.inputs,
                "taken": len(taken),
                "stored": len(rows),
                "places": len(places),
                "tile": job.tile,
                "mpp": section.mpp,
                "slide_mpp": list(mpp),
                "size": list(slide.size),
                "levels": len(slide.levels),
                "tissue": {"share": tissue.share, "blank": tissue.blank, "reason": tissue.reason},
                "stain": staining.to_json(),
                "classes": _counts([places.labels[i] for i in taken]),
                "annotated": bool(job.annotations),
                "rejected": _counts([reason for reason in places.reasons if reason]),
                "warnings": warnings,
            }
            write_shard_table(folder, _columns(places, scores, rows))
            write_shard_info(folder, info)
    job.pictures.mkdir(parents=True, exist_ok=True)
    draw_overlay(job.pictures / f"{job.key}-overlay.png", thumbnail, thumbnail_mpp, mpp, tissue, annotations, places)
    write_tiles_geojson(job.pictures / f"{job.key}.geojson", places, scores)
    if sheet:
        draw_contact_sheet(job.pictures / f"{job.key}-tiles.png", sheet)
    return info


def find_tissue(slide: Slide, section: SlidesSection) -> tuple[Tissue, NDArray[np.uint8], float]:
    """Tissue of a slide, in a thumbnail uint8 [h, w, 3] whose microns a pixel come last."""
    mpp = slide.require_mpp()
    coarsest = max(side * own for side, own in zip(slide.size, mpp, strict=True)) / THUMBNAIL_SIDE
    at = max(THUMBNAIL_MPP, coarsest, *mpp)
    thumbnail = slide.thumbnail(at)
    return tissue_mask(thumbnail, at, section.tissue), thumbnail, at


def _annotations(job: SlideJob, slide: Slide) -> tuple[list[Annotation], list[str]]:
    found: list[Annotation] = []
    told: list[str] = []
    for number, path in enumerate(job.annotations or (), start=1):
        file = read_annotations(path)
        found += file.annotations
        # The file's name may hold that of a patient; the number says which one in the order of names.
        told += [f"annotation file {number}, {place}: {reason}" for place, reason in file.skipped]
        told += check_against(file, slide.size, slide.require_mpp()).warnings
    return found, told


def _write_pixels(
    job: SlideJob,
    slide: Slide,
    places: Places,
    staining: Staining,
    reference: Reference,
    folder: Path,
    alive: Callable[[], None],
) -> tuple[dict[str, NDArray[np.float32]], dict[int, int], list[tuple[str, NDArray[np.uint8]]]]:
    """Read, judge, stain and write the wanted tiles. Returns their scores [places] (NaN where not read), where the pixels of
    each place lie, and some tiles for a sheet. Doubtful places are judged as well, and never taken.

    What is out of focus beside the rest of the slide is only known in the end: its pixels stay, and nothing names them.
    """
    section, tile = job.section, job.tile
    rows: dict[int, int] = {}
    scores: dict[str, NDArray[np.float32]] = {}
    shown: dict[str, list[NDArray[np.uint8]]] = {}
    model = load_quality(section.quality)
    wanted = places.wanted
    every = max(1, len(wanted) // _SHEET)
    with PixelsWriter(folder / PIXELS, (tile, tile, 3)) as writer:
        for numbers in batches(runs(sorted({*wanted.tolist(), *places.doubtful}), places.boxes, STRIP), BATCH):
            pixels = read_places(slide, places.boxes, numbers, section.mpp, tile)
            alive()
            found = score_tiles(pixels, section.mpp, reference=reference, model=model)
            for name, values in found.items():
                scores.setdefault(name, np.full(len(places), np.nan, np.float32))[numbers] = values
            reasons = reject(found, section.limits)
            reasons = [
                reason or (NO_TISSUE if place in places.doubtful else "")
                for place, reason in zip(numbers, reasons, strict=True)
            ]
            for place, reason in zip(numbers, reasons, strict=True):
                places.reasons[place] = reason
            good = np.array([reason == "" for reason in reasons])
            rows |= {place: writer.count + i for i, place in enumerate(np.asarray(numbers)[good].tolist())}
            writer.append(staining.apply(pixels[good]) if good.any() else pixels[:0])
            for place, picture, reason in zip(numbers, pixels, reasons, strict=True):
                group = shown.setdefault(reason or f"taken: {places.labels[place] or 'tissue'}", [])
                if len(group) < _SHEET and (reason or place % every == 0 or len(group) < 8):
                    group.append(picture)
    if scores:
        scores = relative_to_slide(scores, section.limits)
        for place, reason in zip(
            rows, reject({name: v[list(rows)] for name, v in scores.items()}, section.limits), strict=True
        ):
            places.reasons[place] = reason
    titles = sorted(shown, key=lambda title: (not title.startswith("taken"), title))
    return scores, rows, [(title, np.stack(shown[title])[:_SHEET].transpose(0, 3, 1, 2)) for title in titles]


def batches(found: Sequence[Sequence[int]], least: int) -> list[list[int]]:
    """Runs put together until a batch has at least `least` places; the last one may have fewer."""
    result: list[list[int]] = []
    for run in found:
        if result and len(result[-1]) < least:
            result[-1].extend(run)
        else:
            result.append(list(run))
    return result


def read_places(
    slide: Slide, boxes: NDArray[np.float64], numbers: Sequence[int], mpp: float, tile: int
) -> NDArray[np.uint8]:
    """Pixels uint8 [n, tile, tile, 3] of places, those that touch each other read as one strip."""
    parts = []
    for run in runs(numbers, boxes, longest_strip(slide, mpp, tile)):
        x, y = boxes[run[0], :2]
        strip = slide.read(float(x), float(y), tile * len(run), tile, mpp)
        parts.append(strip.reshape(tile, len(run), tile, 3).swapaxes(0, 1))
    return np.concatenate(parts)


def longest_strip(slide: Slide, mpp: float, tile: int) -> int:
    """Tiles that may be read as one strip, so that the last one is off its place by less than a pixel.

    A level whose resolution is nearly the wanted one is taken as it is, and the difference adds up along a strip.
    """
    own = slide.levels[slide.level_for(mpp)].mpp
    assert own is not None
    off = abs(mpp / own[0] - 1)
    return STRIP if off > SAME_MPP else min(STRIP, 1 + int(1 / max(off * tile, 1e-6)))


def load_quality(name: str | None) -> QualityModel | None:
    """The user's own function for scores of tiles, `module:function`."""
    if name is None:
        return None
    module, _, function = name.partition(":")
    try:
        found: QualityModel = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"slides.quality: '{name}' is no module:function that can be imported ({error}).") from error
    return found


def _columns(places: Places, scores: Mapping[str, NDArray[np.float32]], rows: Mapping[int, int]) -> dict[str, Any]:
    """The table of a shard: a line a place with tissue, annotation or scores; `row` where its pixels lie, None if not taken."""
    worth = [
        i for i in range(len(places)) if places.tissue[i] > 0 or places.labels[i] is not None or i in places.doubtful
    ]
    taken = set(places.wanted.tolist())
    columns: dict[str, Any] = {
        "x": places.boxes[worth, 0],
        "y": places.boxes[worth, 1],
        "row": [rows[i] if i in taken else None for i in worth],
        "label": [places.labels[i] for i in worth],
        "reason": [places.reasons[i] for i in worth],
        "tissue": places.tissue[worth].astype(np.float32),
    }
    columns |= {
        f"covered_{name or 'unnamed'}": values[worth].astype(np.float32) for name, values in places.covered.items()
    }
    return columns | {name: values[worth] for name, values in scores.items()}


def _counts(names: Sequence[str | None]) -> dict[str, int]:
    return {name or "": names.count(name) for name in sorted(set(names), key=str)}
