"""DICOM series whose slices are no regular grid: gaps, uneven spacing, tilt and shifts are never silent."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from dicom_files import only, ramp, write_series
from synthoma.errors import VolumeError
from synthoma.formats.volumes.dicom import read_dicom

# The writer of the files complains of values that are wrong on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def test_missing_slices_are_named_with_their_place(tmp_path: Path) -> None:
    files = write_series(tmp_path, ramp((10, 8, 8)), origin=(0, 0, -250))
    files[3].unlink()
    volume = only(tmp_path)
    assert volume.problem == "1 slice is missing between z = -240.0 and -230.0 mm (spacing 5 mm)"
    with pytest.raises(VolumeError, match=r"between z = -240\.0 and -230\.0 mm .*on_gap=resample"):
        read_dicom(volume)
    with pytest.raises(VolumeError, match="is missing"):
        read_dicom(volume, on_gap="skip")
    files[6].unlink()
    files[7].unlink()
    assert only(tmp_path).problem == (
        "3 slices are missing: 1 between z = -240.0 and -230.0 mm, 2 between z = -225.0 and -210.0 mm (spacing 5 mm)"
    )


def test_a_gap_is_filled_by_interpolation_when_asked(tmp_path: Path) -> None:
    array = ramp((10, 8, 8))
    files = write_series(tmp_path, array)
    whole = only(tmp_path).geometry
    files[3].unlink()
    volume = only(tmp_path)
    read = read_dicom(volume, on_gap="resample")
    assert volume.geometry == whole == read.geometry
    kept = [0, 1, 2, 4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(read.array[kept], array[kept])
    between = (array[2].astype(np.float64) + array[4]) / 2
    np.testing.assert_allclose(read.array[3], between, atol=0.5)


def test_uneven_spacing_is_resampled_at_the_median(tmp_path: Path) -> None:
    depths = (0.0, 2.0, 4.0, 7.0, 9.0, 11.0)
    array = np.stack([np.full((8, 8), 100 * depth, np.int16) for depth in depths])
    write_series(tmp_path, array, ImagePositionPatient=lambda n: [0.0, 0.0, depths[n]])
    volume = only(tmp_path)
    assert volume.problem is not None
    assert "uneven: 2 to 3 mm (median 2 mm)" in volume.problem
    read = read_dicom(volume, on_gap="resample")
    assert read.geometry == volume.geometry
    assert read.geometry is not None
    assert read.geometry.spacing[0] == 2.0
    # The values are 100 for each mm, which linear interpolation keeps.
    np.testing.assert_array_equal(read.array[:, 4, 4], [0, 200, 400, 600, 800, 1000])


def test_rounded_positions_are_regular_and_end_on_the_last_slice(tmp_path: Path) -> None:
    write_series(tmp_path, ramp((30, 8, 8)), ImagePositionPatient=lambda n: [0.0, 0.0, round(n * 5 / 3, 2)])
    volume = only(tmp_path)
    assert volume.problem is None
    assert volume.geometry is not None
    assert volume.geometry.world((29, 0, 0))[2] == pytest.approx(round(29 * 5 / 3, 2), abs=1e-9)


def test_small_steps_that_add_up_are_no_regular_grid(tmp_path: Path) -> None:
    """Each step is within 1 % of the median, and slices in the middle lie half a slice off."""
    depths = np.concatenate(([0], np.cumsum([5.04] * 60 + [4.96] * 60)))
    write_series(tmp_path, ramp((121, 4, 4)), ImagePositionPatient=lambda n: [0.0, 0.0, float(round(depths[n], 4))])
    problem = only(tmp_path).problem
    assert problem is not None
    assert "drifts by 2.4 mm" in problem


def tilted(folder: Path, degrees: float, array: np.ndarray, spacing: float = 2.0) -> None:
    """Slices as a tilted gantry takes them: their planes lean, and the table moves along z."""
    angle = np.radians(degrees)
    lean = [1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(-np.sin(angle))]
    write_series(
        folder,
        array,
        (spacing, 1.0, 1.0),
        orientation=lean,
        ImagePositionPatient=lambda n: [0.0, 0.0, n * spacing / float(np.cos(angle))],
        GantryDetectorTilt=degrees,
    )


def test_gantry_tilt_is_found_and_sheared_back(tmp_path: Path) -> None:
    """A field that is linear in world places keeps its value at each place, through shift and interpolation."""
    degrees, size = 20.0, (12, 24, 20)
    angle = np.radians(degrees)
    column = np.array((0.0, np.cos(angle), -np.sin(angle)))
    z, y, x = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    start = np.stack([np.zeros_like(z), np.zeros_like(z), z * 2.0 / np.cos(angle)], axis=-1)
    world = start + x[..., None] * np.array((1.0, 0, 0)) + y[..., None] * column

    def field(place: np.ndarray) -> np.ndarray:
        return place @ np.array((7.0, 11.0, 13.0))

    tilted(tmp_path, degrees, np.rint(field(world)).astype(np.int16))
    volume = only(tmp_path)
    assert volume.problem == "the gantry was tilted by 20 degrees: slices are shifted in plane against each other"
    with pytest.raises(VolumeError, match="tilted by 20 degrees"):
        read_dicom(volume)
    read = read_dicom(volume, on_gap="resample")
    geometry = read.geometry
    assert geometry is not None
    assert geometry.size[0] == 12
    assert geometry.size[1] > 24
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.size), indexing="ij"), axis=-1)
    expected = field(geometry.world(index))
    inside = read.array > -1024
    # The pixels at the edge of a shifted slice are mixed with air.
    for axis in (1, 2):
        inside &= np.roll(read.array > -1024, 1, axis) & np.roll(read.array > -1024, -1, axis)
    assert inside.sum() > 0.8 * np.prod(size)
    np.testing.assert_allclose(read.array[inside], expected[inside], atol=1.0)


def test_slices_shifted_against_each_other(tmp_path: Path) -> None:
    write_series(tmp_path, ramp(), ImagePositionPatient=lambda n: [3.0 if n == 2 else 0.0, 0.0, 5.0 * n])
    problem = only(tmp_path).problem
    assert problem is not None
    assert "shifted in plane against each other, by up to 3 mm" in problem


def test_a_tilt_that_the_positions_deny(tmp_path: Path) -> None:
    write_series(tmp_path, ramp(), GantryDetectorTilt=12.5)
    problem = only(tmp_path).problem
    assert problem is not None
    assert "tilt of 12.5 degrees that the positions do not show" in problem
    np.testing.assert_array_equal(read_dicom(only(tmp_path), on_gap="resample").array, ramp())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"PixelSpacing": None}, "PixelSpacing"),
        ({"PixelSpacing": [0.01, 0.01]}, "distance between pixels is implausible"),
        ({"PixelSpacing": [0.75, 70.0]}, "distance between pixels is implausible"),
        ({"ImageOrientationPatient": None}, "ImageOrientationPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.3, 0.9, 0]}, "right angles"),
        ({"ImagePositionPatient": lambda n: [0.0, 0.0, 5.0 * n] if n != 2 else None}, "1 of 6 slices do not say"),
        ({"ImagePositionPatient": None}, "6 of 6 slices do not say their position"),
        ({"ImagePositionPatient": lambda n: [0.0, 0.0, 30.0 * n]}, "between slices is implausible"),
        ({"ImagePositionPatient": lambda n: [0.0, 0.0, 5.0 * n if n < 5 else 1e6]}, "more slices are missing"),
    ],
)
def test_what_cannot_be_mended_is_refused_always(tmp_path: Path, change: dict[str, object], said: str) -> None:
    write_series(tmp_path, ramp(), **change)
    volume = only(tmp_path)
    assert volume.problem is not None
    assert said in volume.problem
    assert volume.geometry is None
    with pytest.raises(VolumeError, match=said):
        read_dicom(volume, on_gap="resample")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_slices(tmp_path: Path, count: int) -> None:
    write_series(tmp_path, ramp((count, 8, 8)))
    problem = only(tmp_path).problem
    assert problem is not None
    assert problem.startswith(f"it has {count} slice")
