"""Reading whole slides: exact microns per pixel, what is said where the resolution is missing, and damaged files."""

import multiprocessing
import os
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthoma.errors import DataError, MissingExtraError, SlideError
from synthoma.formats.slides import Slide, SlideFileError, open_slide, slide_files
from synthoma.formats.slides import slide as slide_module
from synthoma.formats.slides.area import area_mean, whole_mean
from synthoma.phantoms.slides.pyramid import write_pyramid

needs_openslide = pytest.mark.skipif(find_spec("openslide") is None, reason="openslide-python is not installed")
SIZE = (640, 512)


def texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise over a slope: uint8 [height, width, 3], different everywhere."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    slope = np.stack((x * 180 / width, y * 180 / height, (x + y) * 90 / width), axis=-1)
    return np.clip(slope + random.integers(0, 70, (height, width, 3)), 0, 255).astype(np.uint8)


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


def box_integral(pixels: np.ndarray, left: float, top: float, step: float, width: int, height: int) -> np.ndarray:
    """Mean of `pixels` [h, w, 3], white outside, over squares of `step`: by differences of the interpolated integral."""
    rim = 700
    wide = np.pad(pixels.astype(np.float64), ((rim, rim), (rim, rim), (0, 0)), constant_values=255.0)
    for axis, (start, count) in enumerate(((top, height), (left, width))):
        integral = np.cumsum(wide, axis=axis)
        integral = np.concatenate((np.zeros_like(np.take(integral, [0], axis)), integral), axis=axis)
        edges = rim + start + step * np.arange(count + 1)
        low = np.floor(edges).astype(int)
        share = (edges - low).reshape([-1 if axis == k else 1 for k in range(3)])
        at = np.take(integral, low, axis) * (1 - share) + np.take(integral, low + 1, axis) * share
        wide = np.diff(at, axis=axis) / step
    return wide


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


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyramid_file(tmp_path_factory) -> Path:
    """A tiled pyramid of 1024 x 768 pixels at 0.5 µm."""
    path = tmp_path_factory.mktemp("slides") / "pyramid.tif"
    write_texture(path, (1024, 768))
    return path


def write_texture(path: Path, size: tuple[int, int]) -> None:
    """A slide of grey waves of 64 pixels along x and y, at 0.5 µm."""
    tiles = -(-size[1] // 256), -(-size[0] // 256)
    y, x = np.mgrid[: tiles[0] * 256, : tiles[1] * 256] + 0.5
    waves = 128 + 60 * np.sin(2 * np.pi * x / 64) + 60 * np.sin(2 * np.pi * y / 64)
    picture = np.rint(waves).astype(np.uint8)[..., None].repeat(3, axis=-1)
    write_pyramid(
        path,
        size,
        0.5,
        (255, 255, 255),
        lambda row, column: picture[256 * row : 256 * row + 256, 256 * column : 256 * column + 256],
        "test",
    )


def wave_shift(pixels: np.ndarray, axis: int, start: float, step: float) -> float:
    """By how many level-0 pixels the waves of `write_texture` seem moved along an axis, from their phase."""
    places = start + step * (np.arange(pixels.shape[axis]) + 0.5)
    line = pixels[..., 1].astype(float).mean(axis=1 - axis)
    return float((np.angle(np.sum(line * np.exp(-2j * np.pi * places / 64))) + np.pi / 2) * 64 / (2 * np.pi))


def openslide_level(path: Path, level: int) -> np.ndarray:
    import openslide

    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))[..., :3]


@needs_openslide
@pytest.mark.parametrize("mpp", [0.5, 1.0, 2.0, 0.77, 1.4142])
def test_a_tiff_pyramid_through_openslide(pyramid_file, mpp):
    with open_slide(pyramid_file) as slide:
        assert slide.mpp == (0.5, 0.5)
        assert slide.vendor == "generic-tiff"
        assert slide.size == (1024, 768)
        assert [level.downsample for level in slide.levels] == [1.0, 2.0]
        assert slide.warnings == ()
        read = slide.read(200.0, 100.0, 150, 120, mpp)
        level = 0 if mpp < 1.0 else 1
        step = mpp / (0.5 * 2**level)
        expected = box_integral(openslide_level(pyramid_file, level), 200 / 2**level, 100 / 2**level, step, 150, 120)
        assert np.abs(read - expected).max() <= 0.51


@needs_openslide
def test_levels_whose_size_was_rounded_do_not_shift_anything(tmp_path):
    """1111 pixels make 556, which OpenSlide calls a downsample of 1.998; waves say where a pixel comes from.

    OpenSlide takes whole level-0 pixels as places, so that half of one is what can be promised.
    """
    path = tmp_path / "odd.tif"
    write_texture(path, (1111, 767))
    slide = open_slide(path)
    assert [level.downsample for level in slide.levels] == [1.0, 2.0, 4.0]
    for mpp, step in ((1.0, 2.0), (1.5, 3.0), (2.0, 4.0)):
        for x, y in ((0.0, 0.0), (500.0, 300.0), (732.0, 412.0)):
            read = slide.read(x, y, 64, 64, mpp)
            assert max(abs(wave_shift(read, 1, x, step)), abs(wave_shift(read, 0, y, step))) < 0.6


@needs_openslide
def test_a_slide_travels_to_other_processes(pyramid_file):
    slide = open_slide(pyramid_file, mpp=0.25)
    pixels = slide.read(10, 20, 64, 64, 0.6)
    for copy in (pickle.loads(pickle.dumps(slide)), pickle.loads(pickle.dumps(slide.spec())).open()):  # noqa: S301
        assert copy.mpp == (0.25, 0.25)
        assert np.array_equal(copy.read(10, 20, 64, 64, 0.6), pixels)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_first_pixel_of, (slide,)) == pixels[0, 0].tolist()
    slide.close()
    assert np.array_equal(slide.read(10, 20, 64, 64, 0.6), pixels)


def _first_pixel_of(slide: Slide) -> list[int]:
    return slide.read(10, 20, 64, 64, 0.6)[0, 0].tolist()


@needs_openslide
def test_a_forked_process_opens_a_handle_of_its_own(pyramid_file):
    slide = open_slide(pyramid_file)
    pixels = slide.read(10, 20, 64, 64, 1.0)
    handle = slide._handle()
    child = os.fork()
    if child == 0:
        same = slide._handle() is handle
        os._exit(1 if same or not np.array_equal(slide.read(10, 20, 64, 64, 1.0), pixels) else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert slide._handle() is handle


@needs_openslide
def test_a_damaged_tile_costs_that_region_only(pyramid_file, tmp_path):
    """OpenSlide handles fail for ever once they failed; another region gets a new one."""
    content = bytearray(pyramid_file.read_bytes())
    content[16:400] = bytes(384)  # the first tile of level 0 begins behind the header
    path = tmp_path / "damaged.tif"
    path.write_bytes(content)
    slide = open_slide(path)
    for _ in range(2):
        with pytest.raises(SlideFileError, match=r"damaged.tif cannot be read at \(0, 0\), level 0") as caught:
            slide.read(0, 0, 100, 100, 0.5)
        assert "damaged.tif" not in caught.value.reason
        assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason  # noqa: S301
        expected = openslide_level(pyramid_file, 0)[300:400, 400:500]
        assert np.array_equal(slide.read(400, 300, 100, 100, 0.5), expected)


@needs_openslide
def test_label_and_macro_are_never_asked_for(pyramid_file, monkeypatch):
    import openslide

    def refuse(_: object) -> None:
        raise AssertionError("associated images carry names")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(refuse))
    monkeypatch.setattr(openslide.lowlevel, "read_associated_image", refuse)
    slide = open_slide(pyramid_file)
    slide.thumbnail(4.0)
    slide.read(0, 0, 64, 64, 0.5)
    assert not [name for name in dir(slide) if "label" in name or "macro" in name]


@needs_openslide
def test_a_flat_file_that_pretends_to_be_a_slide_is_flagged(tmp_path):
    pixels = np.full((400, 3500, 3), 200, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "flat.tif")
    slide = open_slide(tmp_path / "flat.tif")
    assert slide.vendor == "picture"
    assert "no pyramid and no resolution" in slide.warnings[0]
    Image.fromarray(pixels[:, :2900]).save(tmp_path / "small.tif")
    assert open_slide(tmp_path / "small.tif").warnings == ()


def test_without_the_package_the_extra_is_named(pyramid_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthoma\[slides\]'"):
        open_slide(pyramid_file)
    Image.fromarray(texture(80, 60)).save(tmp_path / "plain.png")
    assert open_slide(tmp_path / "plain.png", 0.5).size == (80, 60)


@needs_openslide
@pytest.mark.parametrize("name", ["plain.png", "plain.tif", "plain.bmp", "Größe 🎗.png"])
def test_plain_pictures_with_a_given_resolution(tmp_path, name):
    pixels = texture(300, 200)
    Image.fromarray(pixels).save(tmp_path / name, dpi=(300, 300))
    slide = open_slide(tmp_path / name, 0.5)
    assert slide.vendor == "picture"
    assert slide.mpp == (0.5, 0.5)
    assert slide.size == (300, 200)
    expected = box_integral(pixels, 10.5, 20.25, 3.0, 50, 40)
    assert np.abs(slide.read(10.5, 20.25, 50, 40, 1.5) - expected).max() <= 0.51
    assert np.abs(slide.read(-40, 150, 100, 80, 0.5) - box_integral(pixels, -40, 150, 1.0, 100, 80)).max() == 0
    assert open_slide(tmp_path / name).mpp is None


def test_pictures_are_read_as_they_are_meant_to_be_seen(tmp_path):
    pixels = texture(90, 60)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    slide = open_slide(tmp_path / "turned.png", 0.5)
    assert slide.size == (60, 90)
    assert np.array_equal(slide.read(0, 0, 60, 90, 0.5), np.rot90(pixels, -1))
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    grey = open_slide(tmp_path / "grey.png", 0.5).read(0, 0, 90, 60, 0.5)
    assert np.array_equal(grey, pixels[..., :1].repeat(3, axis=2))
    clear = np.dstack((pixels, np.zeros((60, 90), np.uint8)))
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (open_slide(tmp_path / "clear.png", 0.5).read(0, 0, 90, 60, 0.5) == 255).all()


def save_pages(path: Path) -> None:
    page = Image.fromarray(texture(60, 50))
    page.save(path, save_all=True, append_images=[page])


@needs_openslide
@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("missing.svs", lambda path: None, "does not exist"),
        ("empty.svs", lambda path: path.touch(), "is empty"),
        ("junk.svs", lambda path: path.write_bytes(b"no slide at all" * 99), "neither a slide .* nor a picture"),
        ("junk.png", lambda path: path.write_bytes(b"\x89PNG" + bytes(99)), "neither a slide .* nor a picture"),
        ("folder.svs", lambda path: path.mkdir(), "cannot be read: Is a directory"),
        ("pages.tif", save_pages, "holds 2 pictures"),
    ],
)
def test_files_that_are_no_slides(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(SlideError, match=f"{name} .*{message}|{name} {message}"):
        open_slide(tmp_path / name, 0.5)


def test_pictures_that_cannot_serve(tmp_path, monkeypatch):
    Image.fromarray(np.full((40, 40), 40000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(SlideError, match="16-bit"):
        open_slide(tmp_path / "deep.png", 0.5).read(0, 0, 9, 9, 0.5)
    Image.fromarray(texture(200, 200)).save(tmp_path / "whole.png")
    cut = (tmp_path / "whole.png").read_bytes()[:20_000]
    (tmp_path / "cut.png").write_bytes(cut)
    with pytest.raises(SlideError, match=r"cut.png cannot be read: the file is truncated"):
        open_slide(tmp_path / "cut.png", 0.5).read(0, 0, 9, 9, 0.5)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(SlideError, match="tiled pyramid"):
        open_slide(tmp_path / "whole.png", 0.5)


@needs_openslide
@pytest.mark.parametrize("seed", range(60))
def test_damaged_slides_end_in_clear_errors_only(pyramid_file, tmp_path, seed):
    """Truncations, flipped bytes and blocks of zeros, also in the directories at the end of the file."""
    random = np.random.default_rng(seed)
    content = bytearray(pyramid_file.read_bytes())
    if seed % 3 == 0:
        content = content[: int(random.integers(1, len(content)))]
    elif seed % 3 == 1:
        start = 0 if seed % 2 else len(content) - 3000
        for place in random.integers(start, len(content), 40):
            content[place] ^= 1 << random.integers(8)
    else:
        start = int(random.integers(0, len(content) - 500))
        content[start : start + 500] = bytes(500)
    path = tmp_path / f"slide {seed} 🔬.svs"
    path.write_bytes(content)
    said = None
    try:
        pixels = open_slide(path, 0.5).read(0, 0, 512, 384, 1.0)
    except SlideError as error:
        said = str(error)
    assert pixels.shape == (384, 512, 3) if said is None else said.startswith(str(path))


def test_the_slides_of_a_folder(tmp_path):
    for name in ("b.SVS", "a.tif", "sub/c.ndpi", "sub/d.mrxs", "sub/.hidden.svs", ".cache/e.svs", "x.png", "a.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "round").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "z.svs").symlink_to(tmp_path / "a.tif")
    places = [path.relative_to(tmp_path).as_posix() for path in slide_files(tmp_path)]
    assert places == ["a.tif", "b.SVS", "sub/c.ndpi", "sub/d.mrxs", "z.svs"]
    assert slide_files(tmp_path / "x.png") == [tmp_path / "x.png"]
    with pytest.raises(DataError, match="does not exist"):
        slide_files(tmp_path / "nowhere")


# Real slides ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wsi(data_root: Path) -> Path:
    pytest.importorskip("openslide")
    if not (data_root / "wsi").is_dir():
        pytest.skip(f"{data_root} has no folder wsi")
    return data_root / "wsi"


@pytest.mark.slow
def test_a_real_slide_without_resolution(wsi):
    path = wsi / "TCGA-CR-7395-01A-01-TS1.svs"
    slide = open_slide(path)
    assert slide.mpp is None
    assert slide.vendor == "aperio"
    assert [level.downsample for level in slide.levels] == [1.0, 2.0]
    with pytest.raises(SlideError, match=r"TS1.svs has no resolution: give --mpp, or slides.mpp_table"):
        slide.read(0, 0, 256, 256, 0.5)
    # A flat-looking file it is not: it has two levels.
    assert slide.warnings == ()
    slide = open_slide(path, 0.5)
    read = slide.read(1700.0, 1500.0, 256, 256, 1.0)
    # OpenSlide calls the downsample 2.0005 and takes whole level-0 pixels as places; it interpolates what lies between.
    downsample = (4443 / 2221 + 3567 / 1783) / 2
    left, top = round(850 * downsample) / downsample, round(750 * downsample) / downsample
    assert max(abs(left - 850), abs(top - 750)) < 0.25
    level = openslide_level(path, 1).astype(float)
    rows = level[int(top) : int(top) + 257] * (1 - top % 1) + level[int(top) + 1 : int(top) + 258] * (top % 1)
    exact = rows[:256, int(left) : int(left) + 256] * (1 - left % 1) + rows[:256, int(left) + 1 : int(left) + 257] * (
        left % 1
    )
    assert np.abs(read - exact).mean() < 0.5
    thumbnail = slide.thumbnail(8.0)
    assert thumbnail.shape == (223, 278, 3)
    expected = box_integral(openslide_level(path, 1), 0, 0, 8.0, 278, 223)
    assert np.abs(thumbnail[:-1, :-1] - expected[:-1, :-1]).mean() < 0.5


@pytest.mark.slow
def test_a_real_slide_of_one_level_and_its_pyramid(wsi):
    single, pyramid = open_slide(wsi / "CMU-1-Small-Region.svs"), open_slide(wsi / "CMU-1-Small-Region_pyramid.tif")
    assert single.mpp == pyramid.mpp == (0.499, 0.499)
    assert single.objective == 20.0
    assert (len(single.levels), len(pyramid.levels)) == (1, 3)
    full = openslide_level(wsi / "CMU-1-Small-Region.svs", 0)
    assert np.array_equal(single.read(700, 900, 256, 256, 0.5), full[900:1156, 700:956])
    for mpp in (0.998, 1.0, 1.7):
        expected = box_integral(full, 700.3, 900.7, mpp / 0.499, 200, 150)
        assert np.abs(single.read(700.3, 900.7, 200, 150, mpp) - expected).max() <= 0.51
        # The pyramid was compressed once more, and its levels were made by somebody else: alike, and at the same place
        # to half a pixel (at 1.0 the level of 0.998 is taken as it is, which drifts by a pixel in five hundred).
        there = pyramid.read(700.3, 900.7, 200, 150, mpp)[5:-5, 5:-5]
        moved = [np.roll(expected, shift, (0, 1))[5:-5, 5:-5] for shift in np.ndindex(3, 3)]
        differences = [float(np.abs(there - part).mean()) for part in moved]
        assert differences[0] < 15.0
        assert mpp == 1.0 or differences[0] == min(differences)
    assert np.abs(single.thumbnail(8.0).astype(int) - pyramid.thumbnail(8.0)).mean() < 3.0
