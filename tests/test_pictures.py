"""Pictures: what is drawn is what was given, and files are whole."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthoma.errors import SynthomaError
from synthoma.pictures import (
    beside,
    contact_sheet,
    flatten_volumes,
    grid,
    middle_slices,
    montage,
    picture,
    to_uint8,
    write_gif,
    write_png,
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def test_to_uint8_maps_the_range_and_clips() -> None:
    values = np.array([-3.0, -1.0, 0.0, 1.0, 9.0]).reshape(5, 1, 1, 1)
    assert to_uint8(values, -1, 1).ravel().tolist() == [0, 0, 128, 255, 255]
    assert to_uint8(np.array([[[[-1000]]], [[[400]]]], dtype=np.int16), -1000, 400).ravel().tolist() == [0, 255]


def test_to_uint8_refuses_nan_and_an_empty_range() -> None:
    with pytest.raises(SynthomaError, match="NaN"):
        to_uint8(np.full((1, 1, 2, 2), np.nan), -1, 1)
    with pytest.raises(ValueError, match="no range"):
        to_uint8(np.zeros((1, 1, 2, 2)), 1, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_puts_each_image_at_its_place(channels: int) -> None:
    images = noise(5, channels, 8, 6)
    sheet = np.asarray(grid(images, columns=3, pad=2, scale=1))
    assert sheet.shape == (2 * 10 + 2, 3 * 8 + 2, 3)
    for place in range(5):
        row, column = divmod(place, 3)
        tile = sheet[2 + row * 10 : 10 + row * 10, 2 + column * 8 : 8 + column * 8]
        expected = np.broadcast_to(images[place].transpose(1, 2, 0), (8, 6, 3))
        assert np.array_equal(tile, expected)
    assert (sheet[12:20, 18:24] == 255).all(), "the place of a sixth image stays white"


def test_grid_enlarges_small_images_without_smoothing() -> None:
    images = noise(1, 1, 16, 16)
    sheet = np.asarray(grid(images, columns=1, pad=0))
    assert sheet.shape == (64, 64, 3)
    assert np.array_equal(sheet[::4, ::4, 0], images[0, 0])


def test_row_labels_are_drawn_beside_their_rows() -> None:
    images = np.full((4, 1, 32, 32), 255, dtype=np.uint8)
    bare = grid(images, columns=2, scale=1)
    labelled = grid(images, columns=2, scale=1, row_labels=["first_class", "zweite Klasse äöü"])
    margin = labelled.width - bare.width
    ink = np.asarray(labelled)[:, :margin].min(axis=(1, 2)) < 128
    assert ink[:34].any()
    assert ink[36:].any()
    assert (np.asarray(labelled)[:, margin:] == 255).all(), "labels never cover an image"


def test_volumes_show_three_middle_slices() -> None:
    volume = noise(1, 1, 4, 6, 8)
    flat = flatten_volumes(volume)
    assert flat.shape == (1, 1, 6, 8 + 8 + 6 + 4)
    assert np.array_equal(flat[0, 0, :, :8], volume[0, 0, 2])
    assert np.array_equal(flat[0, 0, 1:5, 10:18], volume[0, 0, ::-1, 3])
    assert np.array_equal(flat[0, 0, 1:5, 20:], volume[0, 0, ::-1, :, 4])
    assert grid(volume, columns=1).height > 0


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        grid(np.zeros((0, 1, 4, 4), np.uint8), columns=3)
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ValueError, match="at least one"):
        write_gif([], Path("never.gif"), 0.1)


def test_contact_sheet_stacks_titled_sections() -> None:
    sheet = contact_sheet([("one", noise(3, 3, 32, 32)), ("two", noise(9, 3, 32, 32))], columns=4, scale=1)
    assert sheet.width == 4 * 34 + 2
    assert sheet.height == (34 + 2 + 26) + (3 * 34 + 2 + 26)


def test_png_is_exact_and_repeatable(tmp_path: Path) -> None:
    image = picture(noise(3, 9, 7))
    write_png(image, tmp_path / "deep" / "a.png")
    write_png(image, tmp_path / "b.png")
    assert (tmp_path / "deep" / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), np.asarray(image))
    assert not [file for file in tmp_path.rglob("*") if file.suffix == ".part"]


def test_gif_has_all_frames_and_their_times(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 10 + i), (i * 80, 0, 0)) for i in range(3)]
    write_gif(frames, tmp_path / "progress.gif", seconds=0.2)
    with Image.open(tmp_path / "progress.gif") as file:
        assert (file.n_frames, file.size) == (3, (20, 12))
        times = []
        for index in range(3):
            file.seek(index)
            times.append(file.info["duration"])
    assert times == [200, 200, 2000]


def test_small_volumes_are_enlarged_by_their_own_size() -> None:
    """A volume of 16 voxels is small, though its three slices side by side are not."""
    assert grid(noise(1, 1, 16, 16, 16), columns=1, pad=0).size == (4 * (3 * 16 + 4), 64)


def test_a_mask_channel_beside_colours_is_not_shown() -> None:
    image = noise(4, 5, 7)
    assert np.array_equal(np.asarray(picture(image)), image[:3].transpose(1, 2, 0))
    assert np.array_equal(np.asarray(picture(image[:2])), image[0])


@pytest.mark.parametrize(("axis", "size"), [(0, (6, 8)), (1, (4, 8)), (2, (4, 6))])
def test_middle_slices_of_each_plane(axis: int, size: tuple[int, int]) -> None:
    volumes = noise(3, 2, 4, 6, 8)
    slices = middle_slices(volumes, axis)
    assert slices.shape == (3, 2, *size)
    expected = np.take(volumes, (2, 3, 4)[axis], axis=2 + axis)
    assert np.array_equal(slices, expected if axis == 0 else expected[:, :, ::-1]), "the head is up"


def test_montage_sets_rows_under_titles() -> None:
    real, made = noise(9, 1, 64, 64), noise(2, 1, 64, 64)
    sheet = montage([("Axial", [("real", real), ("synthetic", made)]), ("Coronal", [("real", real)])], columns=8)
    assert sheet.height == 2 * 26 + 3 * 68
    margin = sheet.width - (8 * 66 + 2)
    shown = np.asarray(sheet)[26 + 68 + 2 : 26 + 68 + 66, margin + 2 : margin + 66, 0]
    assert np.array_equal(shown, made[0, 0]), "the second row holds the second set"
    with pytest.raises(ValueError, match="at least one row"):
        montage([])


def test_pictures_beside_each_other_are_reduced_and_wrapped() -> None:
    red, blue = Image.new("RGB", (900, 450), (255, 0, 0)), Image.new("RGB", (300, 300), (0, 0, 255))
    sheet = np.asarray(beside([("a" * 400, "one", red), ("b", "two", blue), ("c", "", blue)], columns=2, most=300))
    assert sheet.shape[1] == 16 + 2 * 316, "columns are as wide as the widest reduced picture"
    top = 16 + 46
    assert tuple(sheet[top + 5, 16 + 5]) == (255, 0, 0)
    assert tuple(sheet[top + 5, 16 + 316 + 5]) == (0, 0, 255)
    assert tuple(sheet[top + 300 + 16 + 46 + 5, 16 + 5]) == (0, 0, 255), "the third is in the second row"
    assert (sheet[16:top, 317:331] == 255).all(), "a long title is cut at its column"
    with pytest.raises(ValueError, match="nothing to put"):
        beside([], columns=2)
