"""What a pathologist looks at: a slide with its tissue, annotations and tiles, and a sheet of tiles. Both are private."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from synthoma.formats.annotations import Annotation, write_geojson
from synthoma.pictures import contact_sheet, legend_below, write_png
from synthoma.preparation.slides.artefacts import REASONS as QUALITY
from synthoma.preparation.slides.places import NO_TISSUE, OUTSIDE, SPARED, UNDECIDED, Places
from synthoma.preparation.slides.tissue import Tissue

TAKEN, TISSUE, ANNOTATION = (0, 140, 60), (0, 90, 200), (20, 20, 20)
# A reason has the same colour on all slides; scores of one's own take the rest, in the order of their names.
REASONS = {
    UNDECIDED: (230, 160, 0),
    SPARED: (150, 200, 160),
    QUALITY["pen_blue"]: (50, 60, 230),
    QUALITY["pen_green"]: (0, 170, 110),
    QUALITY["pen_red"]: (225, 0, 40),
    QUALITY["pen_black"]: (60, 60, 60),
    QUALITY["background"]: (160, 160, 160),
    QUALITY["dark"]: (225, 95, 0),
    QUALITY["bubble"]: (0, 160, 190),
    QUALITY["blur"]: (125, 85, 35),
    QUALITY["fold"]: (130, 0, 180),
    QUALITY["uniform"]: (235, 0, 200),
}
OWN = ((200, 0, 90), (90, 120, 0), (0, 90, 120), (150, 60, 60))
# Places that nobody expects a tile of are not drawn: they would hide the slide.
UNDRAWN = (OUTSIDE, NO_TISSUE)
SHORTEST, LONGEST = 1024, 2048


def draw_overlay(
    path: Path,
    thumbnail: NDArray[np.uint8],
    thumbnail_mpp: float,
    slide_mpp: tuple[float, float],
    tissue: Tissue,
    annotations: Sequence[Annotation],
    places: Places,
) -> None:
    """`path`: the thumbnail with the outline of tissue, annotations, taken tiles, and rejected ones by reason."""
    longest = max(thumbnail.shape[:2])
    scale = LONGEST / longest if longest > LONGEST else max(1.0, SHORTEST / longest)
    size = tuple(max(1, round(length * scale)) for length in thumbnail.shape[1::-1])
    picture = Image.fromarray(thumbnail).resize(
        (size[0], size[1]), Image.Resampling.BOX if scale <= 1 else Image.Resampling.BICUBIC
    )
    mask = np.asarray(Image.fromarray(tissue.mask).resize((size[0], size[1]), Image.Resampling.NEAREST))
    pixels = np.array(picture)
    pixels[_outline(mask)] = TISSUE
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture, "RGBA")
    to_x, to_y = (own / thumbnail_mpp * scale for own in slide_mpp)
    colours = _colours(places)
    for box, reason in zip(places.boxes, places.reasons, strict=True):
        if reason in UNDRAWN:
            continue
        colour = colours[reason or "taken"]
        corners = (box[0] * to_x, box[1] * to_y, box[2] * to_x - 1, box[3] * to_y - 1)
        if corners[2] > corners[0] and corners[3] > corners[1]:
            draw.rectangle(corners, fill=(*colour, 45), outline=(*colour, 255))
    for annotation in annotations:
        for polygon in getattr(annotation.geometry, "geoms", [annotation.geometry]):
            for ring in (polygon.exterior, *polygon.interiors):
                draw.line([(x * to_x, y * to_y) for x, y in ring.coords], fill=(*ANNOTATION, 255), width=2)
    entries: list[tuple[str, tuple[int, int, int]]] = [("tissue", TISSUE)]
    if annotations:
        entries.append(("annotations", ANNOTATION))
    counts: dict[str, int] = {name: places.reasons.count("" if name == "taken" else name) for name in colours}
    entries += [(f"{name} ({counts[name]})", colour) for name, colour in colours.items()]
    write_png(legend_below(picture, entries), path)


def _colours(places: Places) -> dict[str, tuple[int, int, int]]:
    """ "taken" and the reasons that are drawn -> their colours."""
    found = set(places.reasons)
    own = sorted(found - {"", *UNDRAWN, *REASONS})
    known = {reason: colour for reason, colour in REASONS.items() if reason in found}
    return {"taken": TAKEN} | known | {reason: OWN[i % len(OWN)] for i, reason in enumerate(own)}


def write_tiles_geojson(path: Path, places: Places, scores: Mapping[str, NDArray[np.float32]]) -> None:
    """`path`: the tiles for QuPath, taken ones as their class and rejected ones as "not taken: reason", with their scores."""
    import shapely

    colours = _colours(places)
    items = []
    for place, (box, label, reason) in enumerate(zip(places.boxes, places.labels, places.reasons, strict=True)):
        if reason in UNDRAWN:
            continue
        name = f"not taken: {reason}" if reason else label or "taken"
        measured = {"tissue": float(places.tissue[place])} | {key: float(own[place]) for key, own in scores.items()}
        items.append((shapely.box(*box), name, colours[reason or "taken"], measured))
    write_geojson(path, items, "tile")


def draw_contact_sheet(path: Path, sections: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
    """`path`: some tiles by class, and some of the rejected ones by reason; sections: (title, uint8 [n, 3, h, w])."""
    reduced = [(title, np.stack([_small(tile) for tile in tiles])) for title, tiles in sections]
    write_png(contact_sheet(reduced, columns=16, scale=1), path)


def _small(tile: NDArray[np.uint8], side: int = 96) -> NDArray[Any]:
    image = Image.fromarray(np.ascontiguousarray(tile.transpose(1, 2, 0)))
    image.thumbnail((side, side), Image.Resampling.BOX)
    return np.asarray(image).transpose(2, 0, 1)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask that touch one outside of it."""
    inside = mask.copy()
    for axis in (0, 1):
        for shift in (1, -1):
            inside &= np.roll(mask, shift, axis)
    return mask & ~inside
