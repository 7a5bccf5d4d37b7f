"""Raw files -> images of the training size: each is decoded, hashed and resized in one go, in worker processes or here.

What comes back for a record does not depend on which worker read it, nor on when.
"""

import contextlib
import hashlib
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthoma.errors import DataError
from synthoma.formats.images import ImageFileError
from synthoma.preparation.denoise import Method, Strength, denoise
from synthoma.preparation.resize import Fill, Fit, misfit, place, resize, resize_mask
from synthoma.preparation.texture_check import TextureCheck, compare
from synthoma.recipe import recipe_of_dimension
from synthoma.records import Pixels, Record, Unit
from synthoma.sources.source import Source

# Below this many images the start of worker processes costs more than it saves.
SMALL_SET = 200
_CHUNK = 16
# Images on which it is measured what denoising does.
CHECKED = 32
# Side of the grey thumbnails that near-duplicates are sought in, by number of axes.
THUMBNAIL_SIDE = {2: 64, 3: 20}


@dataclass(frozen=True)
class ReadSettings:
    """The part of a recipe that a worker needs."""

    size: int | tuple[int, ...]
    colour: Literal["rgb", "grey"]
    fit: Fit
    upscale: bool
    max_pixels: int
    resample: bool = True
    fill: Fill = "black"
    denoise: Method = "none"
    denoise_strength: Strength = "auto"


@dataclass(frozen=True)
class Reading:
    """One image that was read. image: [c, *size] uint8, (16-bit grey) uint16 or (HU) int16; mask: [1, *size] or None.

    content: SHA-256 of the decoded pixels before any change, so it is the same under every recipe.
    thumbnail: [side, ...] uint8, grey, the whole image stretched to a square (a cube). coloured: whether it had a hue.
    """

    content: str
    image: NDArray[np.generic]
    thumbnail: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    unit: Unit
    spacing: tuple[float, ...] | None
    coloured: bool
    upscaled: bool
    padded: bool


@dataclass(frozen=True)
class Rejected:
    """One image that was left out. unreadable: a damaged file, as opposed to one that the recipe does not want."""

    reason: str
    unreadable: bool


Outcome = Reading | Rejected


def target_size(size: int | Sequence[int], dim: int) -> tuple[int, ...]:
    """`preparation.size` for images with `dim` axes."""
    if isinstance(size, int):
        return (size,) * dim
    if len(size) != dim:
        raise DataError(
            f"the recipe is for {len(size)}D images (preparation.size has {len(size)} numbers), but these have {dim} axes. Take a "
            f"{dim}D recipe, such as {recipe_of_dimension(dim)}, or set preparation.size to one number for all axes, or to {dim}."
        )
    return tuple(size)


def read_all(
    source: Source, records: Sequence[Record], settings: ReadSettings, workers: int | None
) -> Iterator[tuple[int, Outcome]]:
    """Read every record; yields (place in `records`, outcome) in the order in which they get ready.

    workers: None for as many as there are processors (and none for a small set); 0 or 1 for this process.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if len(records) >= SMALL_SET else 1
    if workers <= 1 or not source.parallel:
        for i, record in enumerate(records):
            yield i, read_one(source, record, settings)
        return
    try:
        yield from _read_in_processes(source, records, settings, workers)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that reads images ended unexpectedly, most likely for lack of memory. Lower preparation.max_pixels, or "
            "read with fewer workers."
        ) from error


def _read_in_processes(
    source: Source, records: Sequence[Record], settings: ReadSettings, workers: int
) -> Iterator[tuple[int, Outcome]]:
    # "forkserver": the caller may hold threads (torch), which a plain fork would copy in the midst of what they do.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    chunks = iter(range(0, len(records), _CHUNK))
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(source, settings)
    ) as pool:

        def submit(start: int) -> Future[list[tuple[int, Outcome]]]:
            return pool.submit(_read_chunk, start, list(records[start : start + _CHUNK]))

        try:
            # A few chunks ahead of the workers, so that results never pile up in memory. The first one starts them all.
            with _without_script():
                pending = {submit(start) for start in islice(chunks, 4 * workers)}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {submit(start) for start in islice(chunks, len(done))}
                for future in done:
                    yield from future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Start processes that do not import the caller's script: they need nothing of it.

    Otherwise a script without `if __name__ == "__main__":` would run a second time in every worker, and one that is read
    from standard input could have no workers at all.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


_worker: tuple[Source, ReadSettings] | None = None


def _start_worker(source: Source, settings: ReadSettings) -> None:
    global _worker
    _worker = (source, settings)


def _read_chunk(start: int, records: list[Record]) -> list[tuple[int, Outcome]]:
    if _worker is None:
        raise RuntimeError("the worker was not started by _start_worker")
    source, settings = _worker
    return [(start + i, read_one(source, record, settings)) for i, record in enumerate(records)]


def read_one(source: Source, record: Record, settings: ReadSettings) -> Outcome:
    """Decode, hash and resize one image; an unreadable one becomes its reason."""
    try:
        pixels = source.read(record, settings.max_pixels)
    except ImageFileError as error:
        return Rejected(error.reason, unreadable=True)
    if settings.denoise != "none" and pixels.array.dtype != np.uint8:
        return Rejected(f"not of 8 bits, which preparation.denoise needs ({pixels.array.dtype})", unreadable=False)
    if pixels.array.dtype == np.float32:
        return Rejected(
            "of real numbers in an unknown unit; if they are Hounsfield units: ct.unit=hu", unreadable=False
        )
    if pixels.array.dtype == np.int16 and settings.colour == "rgb":
        return Rejected("without colours: preparation.colour=grey is needed", unreadable=False)
    spatial = pixels.array.shape[:-1]
    size = target_size(settings.size, len(spatial))
    sizes = f"({' x '.join(map(str, spatial))} for {' x '.join(map(str, size))})"
    if not settings.resample and (reason := misfit(spatial, size, settings.fit)):
        return Rejected(f"{reason} {sizes}", unreadable=False)
    where = place(spatial, size, settings.fit, settings.resample)
    if where.upscales and not settings.upscale:
        return Rejected(f"smaller than the training size {sizes}", unreadable=False)
    grey = to_grey(pixels.array)
    wanted = as_wanted(pixels.array, settings)
    if settings.denoise != "none":
        wanted = denoise(wanted.astype(np.uint8, copy=False), settings.denoise, settings.denoise_strength)
    how = (settings.fit, settings.resample, settings.fill)
    image = np.moveaxis(resize(wanted if settings.colour == "grey" else to_rgb(wanted), size, *how), -1, 0)
    mask = None if pixels.mask is None else np.moveaxis(resize_mask(pixels.mask, size, *how), -1, 0)
    return Reading(
        content=content_of(pixels),
        image=np.ascontiguousarray(image),
        thumbnail=_thumbnail(grey),
        mask=None if mask is None else np.ascontiguousarray(mask),
        unit=pixels.unit,
        spacing=_scaled_spacing(pixels.spacing, where.scale),
        coloured=pixels.array.shape[-1] == 3,
        upscaled=where.upscales,
        padded=where.placed != size,
    )


def check_denoising(source: Source, records: Sequence[Record], settings: ReadSettings) -> TextureCheck:
    """What `settings.denoise` does to noise, edges and texture: on up to `CHECKED` of the readable `records`, spread by key."""
    ordered = sorted(records, key=lambda record: record.key)
    chosen = np.unique(np.linspace(0, len(ordered) - 1, CHECKED).round().astype(int))
    comparisons = []
    for place_of_it in chosen:
        before = as_wanted(source.read(ordered[place_of_it], settings.max_pixels).array, settings).astype(np.uint8)
        comparisons.append(compare(before, denoise(before, settings.denoise, settings.denoise_strength)))
    return TextureCheck.over(comparisons)


def as_wanted(array: NDArray[np.generic], settings: ReadSettings) -> NDArray[np.generic]:
    """What is denoised and resized: the image in colour if the recipe wants that and the image has it, else in grey."""
    return to_grey(array) if settings.colour == "grey" else array


def content_of(pixels: Pixels) -> str:
    """SHA-256 of shape, type and values of the decoded pixels: 64 hex digits."""
    digest = hashlib.sha256(f"{pixels.array.shape} {pixels.array.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels.array).data)
    return digest.hexdigest()


def to_grey(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Luma by ITU-R BT.601 (as Pillow's 'L') for colour, the image itself for grey."""
    if array.shape[-1] == 1:
        return array
    if array.ndim == 3:
        return np.asarray(Image.fromarray(array).convert("L"))[..., None]
    return np.rint(array @ np.array([0.299, 0.587, 0.114])).astype(array.dtype)[..., None]


def to_rgb(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Three channels: grey is repeated."""
    return array if array.shape[-1] == 3 else np.repeat(array, 3, axis=-1)


def _thumbnail(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    dim = grey.ndim - 1
    small = resize(grey, (THUMBNAIL_SIDE[dim],) * dim, "stretch")[..., 0]
    if small.dtype == np.uint8:
        return np.ascontiguousarray(small.astype(np.uint8, copy=False))
    # 16 bits: spread over 8, image by image; what is compared is correlation, which does not see scale and offset.
    values = small.astype(np.float64)
    values -= values.min()
    return np.rint(values * (255 / max(float(values.max()), 1.0))).astype(np.uint8)


def _scaled_spacing(spacing: tuple[float, ...] | None, scale: tuple[float, ...]) -> tuple[float, ...] | None:
    return None if spacing is None else tuple(own / factor for own, factor in zip(spacing, scale, strict=True))
