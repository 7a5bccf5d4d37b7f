"""A slide in microns per pixel: regions and thumbnails at exactly the resolution that is asked for."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import SlideError
from synthoma.formats.slides.area import area_mean, on_white, whole_mean, without_alpha
from synthoma.formats.slides.readers import ReaderFactory, SlideFileError, SlideReader, open_reader

Bytes = NDArray[np.uint8]
Pair = tuple[float, float]

# Below: no light microscope resolves it. Above: the number is meant for a printer, or in another unit.
FINEST_MPP, COARSEST_MPP = 0.05, 20.0
_DISAGREE = 0.05
# A level whose resolution is the wanted one to this share is taken pixel by pixel.
SAME_MPP = 0.02
# OpenSlide paints regions above 4096 pixels piece by piece, at rounded places; and memory stays flat.
_BLOCK = 2048
# A whole number of pixels is taken for one when the error over a region stays below this part of a pixel.
_WHOLE = 1e-3
# Scanners write pyramids; a large file without one is often a picture that somebody exported.
_FLAT_SIDE = 3000


@dataclass(frozen=True)
class Level:
    """size (width, height) in its own pixels; downsample: level-0 pixels per pixel; mpp (x, y), None where unknown."""

    size: tuple[int, int]
    downsample: float
    mpp: Pair | None


@dataclass(frozen=True)
class SlideSpec:
    """What a worker process needs to open a slide by itself. mpp: the override (x, y) that the user gave, if any."""

    path: Path
    mpp: Pair | None = None
    reader: ReaderFactory = open_reader

    def open(self) -> "Slide":
        return Slide(self)


def open_slide(path: Path | str, mpp: float | Pair | None = None, reader: ReaderFactory = open_reader) -> "Slide":
    """Open a slide, or a plain large picture.

    mpp: microns per pixel of level 0 (one number, or x and y), for files that say nothing. Where the file says
    something, that counts, unless they differ by more than 5 %: then `mpp` wins and `Slide.warnings` says so.
    reader: what opens the file; OpenSlide and Pillow by default.

    Raises `SlideError` for a file that cannot be opened and for an implausible `mpp`, `MissingExtraError` where
    OpenSlide is needed and not installed.
    """
    given = (float(mpp), float(mpp)) if isinstance(mpp, (int, float)) else mpp
    return Slide(SlideSpec(Path(path), given, reader))


class Slide:
    """An open slide. Pickled, it is reopened by path; a forked process opens a handle of its own.

    size: (width, height) of level 0. mpp: microns per pixel of level 0 (x, y), None where nobody says it.
    vendor: the format, "picture" for plain ones. objective: magnification as the file says, None where it does not.
    warnings: what a user should know, in plain words that name no file.
    """

    def __init__(self, spec: SlideSpec) -> None:
        if spec.mpp is not None and not _plausible(spec.mpp):
            raise SlideFileError(
                spec.path,
                f"cannot have {_words(spec.mpp)} µm per pixel; plausible are {FINEST_MPP} to {COARSEST_MPP:g}",
            )
        self._spec = spec
        self._reader: SlideReader | None = spec.reader(spec.path)
        self._process = os.getpid()
        self.path = spec.path
        self.vendor = self._reader.vendor
        self.objective = self._reader.objective
        self._sizes = self._reader.level_sizes
        self._reader_downsamples = self._reader.downsamples
        self._downsamples = [
            _true_downsample(self._sizes, level, self._reader_downsamples) for level in self._level_numbers
        ]
        self.size = self._sizes[0]
        self._mpp_in_file = self._reader.mpp
        self.mpp, self.warnings = self._settle_mpp()

    @property
    def levels(self) -> tuple[Level, ...]:
        """The stored levels, finest first."""
        return tuple(
            Level(size, downsample, None if self.mpp is None else _scaled(self.mpp, downsample))
            for size, downsample in zip(self._sizes, self._downsamples, strict=True)
        )

    def require_mpp(self) -> Pair:
        """Microns per pixel of level 0 (x, y). Raises `SlideError` where neither the file nor the user says it."""
        if self.mpp is not None:
            return self.mpp
        if self._mpp_in_file is not None:
            raise SlideFileError(
                self.path,
                f"says {_words(self._mpp_in_file)} µm per pixel, which cannot be right (plausible are {FINEST_MPP} to "
                f"{COARSEST_MPP:g}): give --mpp, or slides.mpp_table",
            )
        hint = "" if self.objective is None else f" (its objective was {self.objective:g}x)"
        raise SlideFileError(self.path, f"has no resolution: give --mpp, or slides.mpp_table{hint}")

    def level_for(self, mpp: float) -> int:
        """The coarsest level that is at least as fine as `mpp`, to 2 %.

        Raises `SlideError` where even level 0 is coarser: pixels are never invented.
        """
        finest = self.require_mpp()
        limit = mpp * (1.0 + SAME_MPP)
        fit = [level for level in self._level_numbers if max(_scaled(finest, self._downsamples[level])) <= limit]
        if not fit:
            raise SlideFileError(
                self.path,
                f"was scanned at {_words(finest)} µm per pixel, and {mpp:g} is finer; ask for a coarser mpp, or leave it out",
            )
        return max(fit, key=lambda level: self._downsamples[level])

    def read(self, x: float, y: float, width: int, height: int, mpp: float) -> Bytes:
        """Region of `width` x `height` pixels at `mpp` whose top-left corner is at level-0 pixel (x, y).

        Returns uint8 [height, width, 3]. Each pixel is the mean over the square of mpp x mpp microns that it covers,
        with fractional edges, taken from the coarsest level that is fine enough. A level that has the wanted
        resolution to 2 % is taken pixel by pixel instead, beginning with the pixel nearest to (x, y). White where
        nothing was scanned and outside of the slide.

        Raises `SlideError` where the slide has no resolution, is coarser than `mpp`, or the region cannot be decoded;
        other regions of the slide can be read after that.
        """
        if width < 1 or height < 1 or not all(map(math.isfinite, (x, y, mpp))) or mpp <= 0.0:
            raise ValueError(f"no region: {width} x {height} pixels at ({x}, {y}) at {mpp} µm per pixel")
        level = self.level_for(mpp)
        across, down = (mpp / own for own in _scaled(self.require_mpp(), self._downsamples[level]))
        downsample = self._downsamples[level]
        left, top = x / downsample, y / downsample
        if max(abs(across - 1.0), abs(down - 1.0)) <= SAME_MPP:
            across = down = 1.0
            left, top = float(round(left)), float(round(top))
        return self._render(level, (left, top), (across, down), (width, height))

    def thumbnail(self, mpp: float) -> Bytes:
        """The whole slide at exactly `mpp`: uint8 [h, w, 3] with w = ceil(width * own mpp / mpp), h likewise.

        Read block by block, so that memory does not grow with the slide. Pixel (j, i) covers the level-0 pixels
        (i, j) * mpp / own mpp to (i + 1, j + 1) * mpp / own mpp.
        """
        own = self.require_mpp()
        level = self.level_for(mpp)
        across, down = (mpp / each for each in _scaled(own, self._downsamples[level]))
        width, height = (max(1, math.ceil(side * each / mpp - 1e-6)) for side, each in zip(self.size, own, strict=True))
        return self._render(level, (0.0, 0.0), (across, down), (width, height))

    def spec(self) -> SlideSpec:
        """What opens this slide again, in another process say."""
        return self._spec

    def close(self) -> None:
        """Close the file. Reading afterwards opens it again."""
        if self._reader is not None and self._process == os.getpid():
            self._reader.close()
        self._reader = None

    def __enter__(self) -> "Slide":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["Slide"], tuple[SlideSpec]]:
        return type(self), (self._spec,)

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, {self.size[0]} x {self.size[1]}, {len(self._sizes)} levels, mpp {self.mpp})"

    @property
    def _level_numbers(self) -> range:
        return range(len(self._sizes))

    def _handle(self) -> SlideReader:
        """The reader of this process; opened anew after a failed read and after a fork."""
        if self._process != os.getpid():
            self._reader, self._process = None, os.getpid()
        if self._reader is None:
            self._reader = self._spec.reader(self.path)
        return self._reader

    def _settle_mpp(self) -> tuple[Pair | None, tuple[str, ...]]:
        """The resolution that counts, and what is to be said about it."""
        found, given = self._mpp_in_file, self._spec.mpp
        warnings = []
        if found is None and len(self._sizes) == 1 and max(self.size) > _FLAT_SIDE:
            warnings.append(
                f"The file has {self.size[0]} x {self.size[1]} pixels, no pyramid and no resolution; it may be a flat picture "
                "that was exported from a slide, not the slide."
            )
        if found is not None and not _plausible(found):
            warnings.append(
                f"The file says {_words(found)} µm per pixel, which cannot be right"
                + ("." if given is None else f"; {_words(given)} is used, as given.")
            )
            return given, tuple(warnings)
        if found is None or given is None:
            return found or given, tuple(warnings)
        if max(abs(a - b) / a for a, b in zip(found, given, strict=True)) > _DISAGREE:
            warnings.append(f"The file says {_words(found)} µm per pixel; {_words(given)} is used, as given.")
            return given, tuple(warnings)
        return found, tuple(warnings)

    def _render(self, level: int, start: Pair, scale: Pair, size: tuple[int, int]) -> Bytes:
        """`size` output pixels, each `scale` pixels of `level` large, from `start` in pixels of it; all as (x, y)."""
        scale = _near_whole(scale[0], size[0]), _near_whole(scale[1], size[1])
        columns, rows = list(_blocks(size[0], scale[0])), list(_blocks(size[1], scale[1]))
        if len(columns) == len(rows) == 1:
            return self._block(level, start, scale, size)
        result = np.empty((size[1], size[0], 3), dtype=np.uint8)
        for top, bottom in rows:
            for left, right in columns:
                corner = (start[0] + left * scale[0], start[1] + top * scale[1])
                result[top:bottom, left:right] = self._block(level, corner, scale, (right - left, bottom - top))
        return result

    def _block(self, level: int, start: Pair, scale: Pair, size: tuple[int, int]) -> Bytes:
        """As `_render`, for what can be read at once."""
        downsample = self._reader_downsamples[level]
        across = _source(start[0], scale[0], size[0], downsample)
        down = _source(start[1], scale[1], size[1], downsample)
        try:
            pixels = self._handle().read_region(level, across.place, down.place, across.length, down.length)
        except SlideError:
            # An OpenSlide handle that failed once fails for ever; the next region gets a new one.
            self.close()
            raise
        pixels = on_white(pixels)
        if across.whole and down.whole:
            return without_alpha(whole_mean(pixels, int(scale[1]), int(scale[0])))
        within = (down.within, across.within)
        return without_alpha(area_mean(pixels, within, (scale[1], scale[0]), (size[1], size[0])))


@dataclass(frozen=True)
class _Source:
    """What to read along one axis: `length` pixels of the level from the level-0 pixel `place`.

    within: where the output starts within what is read; whole: it starts and ends on whole pixels.
    """

    place: int
    length: int
    within: float
    whole: bool


def _source(start: float, scale: float, count: int, downsample: float) -> _Source:
    """What to read for `count` output pixels of `scale` pixels of the level, from `start` in pixels of the level.

    The place falls on a whole pixel of the level where the downsample is a whole number, else within half a level-0
    pixel of one. Fractional edges take that into account; whole ones need no better.
    """
    nearest = round(start)
    if scale.is_integer() and abs(start - nearest) < _WHOLE:
        return _Source(round(nearest * downsample), count * int(scale), 0.0, True)
    first = math.floor(start)
    if round(first * downsample) / downsample > start:
        first -= 1
    place = round(first * downsample)
    within = start - place / downsample
    return _Source(place, math.ceil(within + count * scale), within, False)


def _blocks(count: int, scale: float) -> Iterator[tuple[int, int]]:
    """Output pixels `start` to `stop` that are read at once, so that no more than about `_BLOCK` pixels are read."""
    step = max(1, int(_BLOCK / scale))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def _near_whole(scale: float, count: int) -> float:
    """`scale`, or the whole number that gives the same `count` output pixels to a thousandth of a pixel."""
    whole = float(max(1, round(scale)))
    return whole if abs(scale - whole) * count < _WHOLE else scale


def _true_downsample(sizes: tuple[tuple[int, int], ...], level: int, told: tuple[float, ...]) -> float:
    """Level-0 pixels per pixel of a level.

    OpenSlide divides the sizes. Those of a level were rounded when it was made, so that 2 reads as 2.0005; where both
    sides fit a whole number to a pixel, that is what the scanner did.
    """
    whole = max(1, round(told[level]))
    fits = all(abs(fine / whole - coarse) <= 1.0 for fine, coarse in zip(sizes[0], sizes[level], strict=True))
    return float(whole) if fits else told[level]


def _plausible(mpp: Pair) -> bool:
    return all(FINEST_MPP <= each <= COARSEST_MPP for each in mpp)


def _scaled(mpp: Pair, downsample: float) -> Pair:
    return mpp[0] * downsample, mpp[1] * downsample


def _words(mpp: Pair) -> str:
    """A resolution as a person writes it: one number where both are the same."""
    x, y = (f"{each:.4g}" for each in mpp)
    return x if x == y else f"{x} x {y}"
