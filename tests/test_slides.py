"""Files of whole slides: pyramids through OpenSlide, plain pictures, processes of their own, and damaged files."""

import multiprocessing
import os
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slide_file_fixture import box_integral, openslide_level, texture
from synthoma.errors import DataError, MissingExtraError, SlideError
from synthoma.formats.slides import Slide, SlideFileError, open_slide, slide_files
from synthoma.phantoms.slides.pyramid import write_pyramid

needs_openslide = pytest.mark.skipif(find_spec("openslide") is None, reason="openslide-python is not installed")


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
