"""Regions of whole slides: exact microns a pixel from the nearest level, and what is said where the resolution is missing."""

from pathlib import Path

import numpy as np
import pytest

from slide_file_fixture import SIZE, box_integral, texture
from synthoma.errors import SlideError
from synthoma.formats.slides import open_slide
from synthoma.formats.slides import slide as slide_module
from synthoma.formats.slides.area import area_mean, whole_mean


class ArrayReader:
    """A slide in memory, with the conventions of OpenSlide: what any other library has to offer to stand in for it."""

    vendor = "array"
    mpp: tuple[float, float] | None = (0.25, 0.25)
    objective: float | None = 40.0

    def __init__(self, path: Path) -> None:
        finest = texture(*SIZE)
        self.levels = [finest]
        for factor in (2, 8):
            blocks = finest.reshape(SIZE[1] // factor, factor, SIZE[0] // factor, factor, 3).astype(float)
            self.levels.append(np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8))
        self.level_sizes = tuple((level.shape[1], level.shape[0]) for level in self.levels)
        self.downsamples = (1.0, 2.0, 8.0)
        self.reads: list[tuple[int, int, int]] = []

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        self.reads.append((level, width, height))
        column, row = x / self.downsamples[level], y / self.downsamples[level]
        assert column.is_integer()
        assert row.is_integer()
        region = np.zeros((height, width, 4), dtype=np.uint8)
        pixels = self.levels[level]
        for j in range(height):
            source = int(row) + j
            if 0 <= source < pixels.shape[0]:
                first, last = max(0, int(column)), min(pixels.shape[1], int(column) + width)
                if first < last:
                    place = slice(first - int(column), last - int(column))
                    region[j, place, :3] = pixels[source, first:last]
                    region[j, place, 3] = 255
        return region

    def close(self) -> None:
        self.reads.clear()


class Unscanned(ArrayReader):
    """A slide whose lower half was not scanned: transparent, black below."""

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        region = super().read_region(level, x, y, width, height)
        row = y / self.downsamples[level] + np.arange(height)
        region[row >= SIZE[1] / 2 / self.downsamples[level]] = 0
        return region


class Silent(ArrayReader):
    mpp = None


class Printer(ArrayReader):
    mpp = (352.7, 352.7)


PLACES = [(0.0, 0.0), (37.0, 20.0), (16.0, 48.0), (101.37, 55.81), (-23.5, -8.0), (600.0, 480.0), (512.25, -40.0)]


@pytest.mark.parametrize(("x", "y"), PLACES)
@pytest.mark.parametrize("mpp", [0.5, 1.0, 1.5, 2.0, 4.0, 0.26, 0.33, 0.7, 0.9137, 1.93, 2.37, 5.1])
def test_a_region_is_the_box_integral_of_the_nearest_finer_level(x, y, mpp):
    slide = open_slide("array", reader=ArrayReader)
    read = slide.read(x, y, 40, 30, mpp)
    level = max(n for n, downsample in enumerate((1, 2, 8)) if 0.25 * downsample <= mpp)
    downsample = (1, 2, 8)[level]
    left, top, step = x / downsample, y / downsample, mpp / (0.25 * downsample)
    if step == 1.0:  # the level itself: whole pixels
        left, top = round(left), round(top)
    expected = box_integral(ArrayReader(Path()).levels[level], left, top, step, 40, 30)
    assert read.shape == (30, 40, 3)
    assert read.dtype == np.uint8
    assert np.abs(read - expected).max() <= 0.51
    assert {reads[0] for reads in slide._handle().reads} == {level}


def test_whole_pixels_are_taken_where_a_level_has_nearly_the_wanted_resolution():
    slide = open_slide("array", reader=ArrayReader)
    level = ArrayReader(Path()).levels[1]
    for mpp in (0.491, 0.5, 0.509):
        assert np.array_equal(slide.read(100.0, 60.0, 50, 40, mpp), level[30:70, 50:100])
    assert not np.array_equal(slide.read(100.0, 60.0, 50, 40, 0.515), level[30:70, 50:100])
    assert [slide.level_for(mpp) for mpp in (0.246, 0.25, 0.48, 0.491, 1.9, 2.0, 9.0)] == [0, 0, 0, 1, 1, 2, 2]


def test_pixels_are_not_invented():
    slide = open_slide("array", reader=ArrayReader)
    with pytest.raises(SlideError, match=r"array was scanned at 0.25 µm per pixel, and 0.2 is finer"):
        slide.read(0, 0, 10, 10, 0.2)
    for bad in ((0, 0, 0, 10, 1.0), (0, 0, 10, 10, 0.0), (float("nan"), 0, 10, 10, 1.0), (0, 0, 10, 10, float("inf"))):
        with pytest.raises(ValueError, match="no region"):
            slide.read(*bad)


@pytest.mark.parametrize("mpp", [0.25, 0.75, 1.0, 3.3, 7.9, 13.0])
def test_a_thumbnail_is_as_exact_and_does_not_depend_on_the_blocks_it_is_read_in(mpp, monkeypatch):
    slide = open_slide("array", reader=ArrayReader)
    whole = slide.thumbnail(mpp)
    assert whole.shape == (int(np.ceil(SIZE[1] * 0.25 / mpp)), int(np.ceil(SIZE[0] * 0.25 / mpp)), 3)
    level = max(n for n, downsample in enumerate((1, 2, 8)) if 0.25 * downsample <= mpp)
    step = mpp / (0.25 * (1, 2, 8)[level])
    expected = box_integral(ArrayReader(Path()).levels[level], 0, 0, step, whole.shape[1], whole.shape[0])
    assert np.abs(whole - expected).max() <= 0.51
    monkeypatch.setattr(slide_module, "_BLOCK", 70)
    slide = open_slide("array", reader=ArrayReader)
    pieces = slide.thumbnail(mpp)
    assert np.abs(pieces.astype(int) - whole).max() <= 1  # fractional edges may round the other way
    assert max(max(read[1:]) for read in slide._handle().reads) <= 74


def test_what_was_not_scanned_is_white():
    slide = open_slide("array", reader=Unscanned)
    below = slide.read(0, 256, 64, 64, 0.5)
    assert (below == 255).all()
    pixels = slide.read(0, 192, 64, 64, 0.5)
    assert (pixels[32:] == 255).all()
    assert np.array_equal(pixels[:32], ArrayReader(Path()).levels[1][96:128, :64])
    assert (slide.read(-1000, -1000, 20, 20, 1.0) == 255).all()


@pytest.mark.parametrize(("down", "across"), [(1, 1), (2, 2), (3, 5), (4, 4), (16, 16), (32, 32), (17, 40), (64, 2)])
def test_means_over_whole_pixels(down, across):
    random = np.random.default_rng(down)
    pixels = random.integers(0, 256, (5 * down, 7 * across, 4), dtype=np.uint8)
    exact = pixels.reshape(5, down, 7, across, 4).mean(axis=(1, 3))
    assert np.abs(whole_mean(pixels, down, across) - exact).max() <= 0.5
    assert (whole_mean(np.full_like(pixels, 255), down, across) == 255).all()


def test_means_must_lie_within_what_was_read():
    pixels = np.zeros((10, 10, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match="outside"):
        area_mean(pixels, (0.0, 0.5), (2.0, 2.0), (5, 5))


@pytest.mark.parametrize(
    ("reader", "given", "counts", "warned"),
    [
        (ArrayReader, None, (0.25, 0.25), ""),
        (ArrayReader, 0.26, (0.25, 0.25), ""),
        (ArrayReader, 0.5, (0.5, 0.5), "says 0.25 µm per pixel; 0.5 is used"),
        (ArrayReader, (0.25, 0.3), (0.25, 0.3), "0.25 x 0.3 is used"),
        (Silent, None, None, ""),
        (Silent, 0.5, (0.5, 0.5), ""),
        (Printer, None, None, "says 352.7 µm per pixel, which cannot be right"),
        (Printer, 0.5, (0.5, 0.5), "cannot be right; 0.5 is used"),
    ],
)
def test_which_resolution_counts(reader, given, counts, warned):
    slide = open_slide("folder/name.svs", given, reader=reader)
    assert slide.mpp == counts
    assert bool(slide.warnings) == bool(warned)
    assert all(warned in warning and "name.svs" not in warning for warning in slide.warnings)
    assert slide.levels[1].size == (320, 256)
    assert slide.levels[1].mpp == (None if counts is None else (2 * counts[0], 2 * counts[1]))


def test_a_missing_resolution_is_an_error_only_where_it_is_needed():
    slide = open_slide("a.svs", reader=Silent)
    assert slide.size == SIZE
    assert len(slide.levels) == 3
    for use in (slide.require_mpp, lambda: slide.read(0, 0, 9, 9, 1.0), lambda: slide.thumbnail(8.0)):
        with pytest.raises(SlideError, match=r"a.svs has no resolution: give --mpp, or slides.mpp_table \(.* 40x\)"):
            use()
    with pytest.raises(SlideError, match=r"says 352.7 µm per pixel, which cannot be right .*: give --mpp"):
        open_slide("a.svs", reader=Printer).require_mpp()
    for implausible in (0.0, -1.0, 0.01, 50.0, float("nan"), (0.5, 500.0)):
        with pytest.raises(SlideError, match="plausible are"):
            open_slide("a.svs", implausible, reader=Silent)


def test_pixels_need_not_be_square():
    slide = open_slide("array", (0.25, 0.5), reader=ArrayReader)
    read = slide.read(0, 0, 30, 30, 1.0)
    # 0.5 x 1 µm: the second level, of which two columns and one row make a pixel.
    exact = ArrayReader(Path()).levels[1][:30, :60].reshape(30, 30, 2, 3).mean(axis=2)
    assert np.abs(read - exact).max() <= 0.51
