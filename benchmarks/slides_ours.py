"""A worker (see worker.py) that takes tiles from a slide: the bare OpenSlide loop, or ours as `cut_slide` does it.

    bare        read_region of the best level, RGBA to RGB; nothing is resampled, kept or written
    resized     the same, and Pillow's box filter to the size of a tile, which most people write by hand
    written     ours: reading, resampling to exact microns, writing into a shard's pixels
    shared      the same by two processes, each with half of the places, as `cut_slides` has slides
    scored      as written, with all quality scores, and what is rejected left out
    stain       ours: a stain transform that was fitted once, on tiles in memory

`--places` is an .npy of places, boxes float64 [n, 4] in level-0 pixels; one pass over all of them is one step.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from passes import timed_passes
from synthoma.formats.slides import Slide, open_slide
from synthoma.formats.tiles import PixelsWriter
from synthoma.memory import keep_freed_memory
from synthoma.preparation.slides.artefacts import reject, score_tiles
from synthoma.preparation.slides.cut import BATCH, STRIP, batches, find_tissue, read_places
from synthoma.preparation.slides.places import runs
from synthoma.preparation.slides.tissue import slide_reference
from synthoma.slide_settings import SlidesSection
from synthoma.transforms.stain import MACENKO_TARGET, fit_macenko, stain_transform
from worker import serve

STYLES = ("bare", "resized", "written", "shared", "scored", "stain")
Pass = Callable[[float], list[float]]


def bare(path: Path, boxes: NDArray[np.float64], mpp: float, tile: int, resized: bool) -> Pass:
    """What people write by hand: a region a tile, of the level that our reader would take; made as large as a tile, or not."""
    with open_slide(path) as slide:
        level = slide.level_for(mpp)
        own = slide.levels[level].mpp
        assert own is not None
        side = tile if abs(mpp / own[0] - 1) < 0.02 else round(tile * mpp / own[0])
    places = [(round(x), round(y)) for x, y in boxes[:, :2]]

    def loop(opened: openslide.OpenSlide) -> None:
        for place in places:
            region = opened.read_region(place, level, (side, side)).convert("RGB")
            pixels = np.asarray(region.resize((tile, tile), Image.Resampling.BOX) if resized else region)
            assert pixels.shape == (tile if resized else side,) * 2 + (3,)

    return lambda seconds: timed_passes(lambda: openslide.OpenSlide(path), loop, seconds)


def ours(path: Path, boxes: NDArray[np.float64], mpp: float, tile: int, scored: bool, work: Path) -> Pass:
    """The loop of `cut_slide` without tissue, annotations and pictures."""
    keep_freed_memory()
    section = SlidesSection(mpp=mpp, tile=tile)
    with open_slide(path) as slide:
        tissue, thumbnail, _ = find_tissue(slide, section)
    reference = slide_reference(thumbnail, tissue)

    def good(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        reasons = reject(score_tiles(pixels, mpp, reference=reference), section.limits)
        return pixels[np.array([reason == "" for reason in reasons])]

    loop = partial(write, boxes=boxes, mpp=mpp, tile=tile, work=work, keep=good if scored else None)
    return lambda seconds: timed_passes(lambda: open_slide(path), loop, seconds)


def shared(path: Path, boxes: NDArray[np.float64], mpp: float, tile: int, work: Path, helped: list[float]) -> Pass:
    """Ours by two processes that are there already; whole rows of the grid stay together. Their time is added to `helped`."""
    middle = int(np.searchsorted(boxes[:, 1], boxes[len(boxes) // 2, 1]))
    halves = [boxes[:middle], boxes[middle:]]
    folders = [work / f"half-{number}" for number in range(len(halves))]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    pool = ProcessPoolExecutor(len(halves), mp_context=multiprocessing.get_context("spawn"))

    def loop(_: Path) -> None:
        tasks = [pool.submit(once, path, half, mpp, tile, own) for half, own in zip(halves, folders, strict=True)]
        helped.extend(task.result() for task in tasks)

    loop(path)
    return lambda seconds: timed_passes(lambda: path, loop, seconds)


def once(path: Path, boxes: NDArray[np.float64], mpp: float, tile: int, work: Path) -> float:
    """One pass over some places of a slide, with writing: seconds of processor time."""
    keep_freed_memory()
    start = time.process_time()
    with open_slide(path) as slide:
        write(slide, boxes, mpp, tile, work)
    return time.process_time() - start


def write(
    slide: Slide,
    boxes: NDArray[np.float64],
    mpp: float,
    tile: int,
    work: Path,
    keep: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
) -> None:
    """Tiles read in batches and written, all of them or what `keep` leaves of a batch."""
    with PixelsWriter(work / "pixels.npy", (tile, tile, 3)) as writer:
        for batch in batches(runs(range(len(boxes)), boxes, STRIP), BATCH):
            pixels = read_places(slide, boxes, batch, mpp, tile)
            writer.append(pixels if keep is None else keep(pixels))


def stain(tiles: NDArray[np.uint8]) -> Pass:
    """Tiles uint8 [n, h, w, 3] brought to the field's usual look, a batch at a time."""
    fit = fit_macenko(tiles.reshape(-1, 3)[::16])
    transform = stain_transform(fit, MACENKO_TARGET)

    def loop(batch: NDArray[np.uint8]) -> None:
        for start in range(0, len(batch), BATCH):
            transform(batch[start : start + BATCH])

    return lambda seconds: timed_passes(lambda: tiles, loop, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", choices=STYLES, required=True)
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--places", type=Path)
    parser.add_argument("--tiles", type=Path, help="an .npy of tiles uint8 [n, h, w, 3]")
    parser.add_argument("--mpp", type=float, default=0.5)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--work", type=Path, help="folder for what is written")
    options = parser.parse_args()
    helped: list[float] = []
    if options.style == "stain":
        tiles = np.load(options.tiles, allow_pickle=False)
        passes, count = stain(tiles), len(tiles)
    else:
        boxes = np.load(options.places, allow_pickle=False)
        count = len(boxes)
        if options.style in ("bare", "resized"):
            passes = bare(options.slide, boxes, options.mpp, options.tile, options.style == "resized")
        elif options.style == "shared":
            passes = shared(options.slide, boxes, options.mpp, options.tile, options.work, helped)
        else:
            passes = ours(options.slide, boxes, options.mpp, options.tile, options.style == "scored", options.work)
    description: dict[str, Any] = {"style": options.style, "tiles": count}

    def measure(seconds: float) -> dict[str, Any]:
        helped.clear()
        return {"seconds": passes(seconds), "helpers": sum(helped)}

    serve(description, measure)


if __name__ == "__main__":
    main()
