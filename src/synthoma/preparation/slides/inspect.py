"""What a folder of slides holds, without cutting it: `synthoma slides`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from synthoma.errors import AnnotationError
from synthoma.formats.annotations import Annotation, AnnotationIndex, check_against, read_annotations
from synthoma.formats.slides import open_slide
from synthoma.preparation.isolated import Failure, run_isolated
from synthoma.preparation.slides.cut import find_tissue
from synthoma.preparation.slides.places import grid, judge
from synthoma.preparation.slides.tiles import find_slides, tile_size
from synthoma.preparation.slides.tissue import tissue_fraction
from synthoma.recipe import Recipe
from synthoma.slide_settings import SlidesSection


class SlideFacts(NamedTuple):
    """A slide as it is. places: tiles that the recipe would look at, before their quality is known; None where unknown."""

    name: str
    width: int | None = None
    height: int | None = None
    levels: int | None = None
    mpp: float | None = None
    tissue: float | None = None
    annotations: Mapping[str, int] = {}
    places: int | None = None
    warnings: Sequence[str] = ()
    problem: str = ""


@dataclass(frozen=True)
class _Job:
    file: Path
    annotations: tuple[Path, ...] | None
    mpp: float | None
    section: SlidesSection
    tile: int


def inspect_slides(
    data: Path, recipe: Recipe, annotations: Path | None = None, groups: Path | None = None, workers: int = 2
) -> list[SlideFacts]:
    """Facts of all slides in the order of their names; one that cannot be read has its problem."""
    slides = find_slides(data, recipe, annotations, groups)
    jobs = [
        _Job(
            slide,
            slides.matching.files[slide] if slides.matching else None,
            slides.mpp.get(slide),
            recipe.slides,
            tile_size(recipe),
        )
        for slide in slides.slides
    ]
    found: dict[int, SlideFacts] = {}
    for number, outcome in run_isolated(look_at, jobs, workers, recipe.slides.patience_s):
        name = jobs[number].file.name
        found[number] = (
            SlideFacts(name, problem=outcome.reason) if isinstance(outcome, Failure) else SlideFacts(**outcome)
        )
    return [found[number] for number in range(len(jobs))]


def look_at(job: _Job, alive: Callable[[], None]) -> dict[str, Any]:
    """Facts of one slide; without a resolution only those that need none."""
    with open_slide(job.file, job.mpp) as slide:
        facts: dict[str, Any] = {
            "name": job.file.name,
            "width": slide.size[0],
            "height": slide.size[1],
            "levels": len(slide.levels),
            "warnings": list(slide.warnings),
        }
        found: list[Annotation] = []
        problems: list[str] = []
        for path in job.annotations or ():
            try:
                file = read_annotations(path)
            except AnnotationError as error:
                problems.append(str(error))
                continue
            found += file.annotations
            facts["warnings"] += [f"{place}: {reason}" for place, reason in file.skipped]
            facts["warnings"] += check_against(file, slide.size, slide.mpp).warnings
        facts["annotations"] = dict(Counter(annotation.label or "no class" for annotation in found))
        if slide.mpp is None:
            return facts | {"problem": "; ".join(["no resolution: give --mpp, or slides.mpp_table", *problems])}
        tissue, _, thumbnail_mpp = find_tissue(slide, job.section)
        boxes = grid(slide.size, slide.mpp, job.section, job.tile)
        alive()
        shares = tissue_fraction(tissue.mask, thumbnail_mpp, boxes, slide.mpp)
        covered = None
        if job.annotations is not None:
            covered = AnnotationIndex(found, job.section.include, job.section.exclude).fraction(boxes)
        places = judge(boxes, shares, covered, None, job.section)
        if tissue.blank:
            problems.append(f"blank: {tissue.reason}")
        return facts | {
            "mpp": sum(slide.mpp) / 2,
            "tissue": tissue.share,
            "places": len(places.wanted),
            "problem": "; ".join(problems),
        }
