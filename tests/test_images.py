"""Decoding of single files: what a picture means, whatever its mode, and what happens to damaged ones."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthoma.formats.images import ImageFileError, read_image


@pytest.fixture
def gradient():
    """[y, x, 3] uint8, different in each corner and channel."""
    y, x = np.mgrid[0:20, 0:30]
    return np.stack([8 * x, 12 * y, 4 * (x + y)], axis=-1).astype(np.uint8)


def test_rgb_and_grey_are_read_as_they_are(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.colour
    np.testing.assert_array_equal(image.array, gradient)
    Image.fromarray(gradient[..., 0]).save(tmp_path / "b.png")
    image = read_image(tmp_path / "b.png")
    assert not image.colour
    np.testing.assert_array_equal(image.array, gradient[..., :1])


def test_a_grey_picture_saved_as_rgb_is_the_same_picture(tmp_path, gradient):
    Image.fromarray(gradient[..., 0]).convert("RGB").save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert not image.colour
    np.testing.assert_array_equal(image.array, gradient[..., :1])


def test_one_coloured_pixel_makes_a_colour_picture(tmp_path):
    array = np.full((33, 33, 3), 90, dtype=np.uint8)
    array[17, 5, 2] = 200
    Image.fromarray(array).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").array.shape == (33, 33, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, gradient, orientation):
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation](gradient))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, gradient)


def test_palette(tmp_path, gradient):
    picture = Image.fromarray(gradient).quantize(16)
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, np.asarray(picture.convert("RGB")))


def test_alpha_lies_on_white(tmp_path):
    array = np.zeros((4, 4, 4), dtype=np.uint8)
    array[..., 0] = 200
    array[:2, :, 3] = 255
    Image.fromarray(array).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png").array
    assert read[0, 0].tolist() == [200, 0, 0]
    assert read[3, 3].tolist() == [255, 255, 255]


def test_grey_with_alpha(tmp_path):
    Image.fromarray(np.array([[[50, 255], [50, 0]]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").array.tolist() == [[[50], [255]]]


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 0, 0])
    picture.putdata([0, 1])
    picture.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png").array.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_one_bit(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").array.tolist() == [[[255], [0]]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_its_depth(tmp_path, suffix):
    array = np.array([[0, 300], [4095, 65535]], dtype=np.uint16)
    Image.fromarray(array).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.array.dtype == np.uint16
    np.testing.assert_array_equal(image.array[..., 0], array)


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, green, blue = read_image(tmp_path / "a.jpg").array[4, 4]
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize("name", ["mit Leerzeichen.png", "Übergröße äöü.png", "🩻 lesion 🎗.png"])
def test_names_of_all_kinds(tmp_path, gradient, name):
    Image.fromarray(gradient).save(tmp_path / name)
    assert read_image(tmp_path / name).array.shape == gradient.shape


def damaged(folder: Path, kind: str) -> Path:
    """A bad file of the given kind."""
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = folder / ("whole.jpg" if "jpeg" in kind else "whole.png")
    Image.fromarray(random).save(whole)
    bad = folder / f"bad{whole.suffix}"
    content = whole.read_bytes()
    changed = {
        "truncated jpeg": content[: len(content) // 2],
        "truncated png": content[: len(content) // 2],
        "header only jpeg": content[:24],
        "empty": b"",
        "text": b"this is no picture\n" * 50,
        "broken chunk png": content[:60] + bytes(40) + content[100:],
    }
    bad.write_bytes(changed[kind])
    return bad


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated jpeg", "truncated"),
        ("truncated png", "truncated"),
        ("header only jpeg", "damaged|no picture|truncated"),
        ("empty", "empty"),
        ("text", "no picture"),
        ("broken chunk png", "damaged|truncated"),
    ],
)
def test_damaged_files_are_told_with_reason(tmp_path, kind, reason):
    path = damaged(tmp_path, kind)
    with pytest.raises(ImageFileError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert path.name not in caught.value.reason


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ImageFileError, match="does not exist"):
        read_image(tmp_path / "none.png")


def huge_png(path: Path, side: int = 20_000) -> Path:
    """A PNG whose header promises side x side grey pixels, with the pixels to go with it, well packed."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(1)
    row = bytes(side + 1)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    return path


def test_a_huge_png_is_refused_by_its_header(tmp_path):
    import resource

    path = huge_png(tmp_path / "huge.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageFileError, match=r"more pixels|more than the limit"):
        read_image(path)
    # 400 million grey pixels would be 400 MB; the header takes none.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    # A larger limit in the recipe does not lift Pillow's.
    with pytest.raises(ImageFileError, match="limit"):
        read_image(path, max_pixels=10**9)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_stricter_limit_counts(tmp_path, gradient):
    Image.fromarray(gradient).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match="30 x 20 pixels"):
        read_image(tmp_path / "a.png", max_pixels=599)
    assert read_image(tmp_path / "a.png", max_pixels=600)


def test_a_file_with_several_pages_is_refused(tmp_path, gradient):
    frames = [Image.fromarray(gradient), Image.fromarray(gradient[::-1].copy())]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageFileError, match="2 pictures"):
        read_image(tmp_path / "a.tif")


@settings(max_examples=60, deadline=None)
@given(
    position=st.integers(0, 900), value=st.integers(0, 255), suffix=st.sampled_from(["png", "jpg", "tif", "gif", "bmp"])
)
def test_a_flipped_byte_never_escapes_as_another_error(tmp_path_factory, position, value, suffix):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 12), dtype=np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(ImageFileError):
        assert read_image(path, max_pixels=10**6).array.ndim == 3
