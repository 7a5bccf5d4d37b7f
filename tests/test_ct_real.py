"""The real series and volume of Lung-PET-CT-Dx: geometry, HU, boxes on tumours, a missing slice."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from synthoma.errors import VolumeError
from synthoma.formats.marks import SliceBox, read_marks
from synthoma.formats.volumes import Volume, VolumeFile
from synthoma.formats.volumes.dicom import pixel_to_world
from synthoma.formats.volumes.registry import list_volumes, read_volume

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def series(data_root: Path) -> tuple[VolumeFile, Volume]:
    listing = list_volumes(data_root / "ct_volume" / "dicom")
    assert not listing.left_out
    (file,) = listing.volumes
    return file, read_volume(file)


@pytest.fixture(scope="module")
def boxes(data_root: Path) -> tuple[SliceBox, ...]:
    return read_marks(data_root / "annotations" / "pet_ct_dx_voc" / "A0001").boxes


def test_the_series_has_the_right_geometry_and_units(series: tuple[VolumeFile, Volume]) -> None:
    file, volume = series
    geometry = volume.geometry
    assert geometry is not None
    assert geometry == file.geometry
    assert volume.array.shape == geometry.size == (64, 512, 512)
    assert geometry.spacing == pytest.approx((5.0, 0.841796875, 0.841796875), abs=1e-6)
    assert geometry.world((0, 0, 0))[2] == pytest.approx(-439.0)
    assert (volume.unit, int(volume.array.min()), int(volume.array.max())) == ("hu", -1024, 2976)
    assert set(file.facts) <= {"kvp", "kernel", "slice_thickness", "manufacturer", "sex", "age_band"}


def test_each_box_lands_on_the_tumour(series: tuple[VolumeFile, Volume], boxes: tuple[SliceBox, ...]) -> None:
    file, volume = series
    place = {one.sop_instance_uid: number for number, one in enumerate(file.slices)}
    here = [box for box in boxes if box.sop_instance_uid in place]
    assert (len(boxes), len(here)) == (20, 11)
    solid, wrong = [], []
    for box in here:
        x0, y0, x1, y1 = box.box
        assert volume.geometry is not None
        corners = volume.geometry.index(pixel_to_world(file, box.sop_instance_uid, [(x0, y0), (x1, y1)]))
        number = place[box.sop_instance_uid]
        np.testing.assert_allclose(corners[:, 0], number, atol=1e-6)
        (top, left), (bottom, right) = corners.round().astype(int)[:, 1:]
        inside = volume.array[number, top:bottom, left:right]
        height, width = inside.shape
        middle = inside[height // 3 : -(height // 3), width // 3 : -(width // 3)]
        solid.append((middle > -100).mean())
        turned = volume.array[number, left:right, top:bottom]
        wrong.append((turned > -100).mean())
        assert (inside < -500).any(), "a box reaches into the lung around the tumour"
    # A mass is solid in its middle; boxes with x and y exchanged lie elsewhere.
    assert min(solid) > 0.5
    assert np.mean(solid) > 0.9
    assert max(wrong) < 0.4


def test_boxes_of_the_volume_in_nifti_lie_at_their_height(data_root: Path) -> None:
    folder = data_root / "ct_volume"
    (file,) = list_volumes(folder / "Lung_Dx-A0002_B40f.nii.gz", unit="hu").volumes
    volume = read_volume(file)
    assert volume.geometry is not None
    assert volume.array.shape == (30, 512, 512)
    assert volume.geometry.spacing == pytest.approx((8.0, 0.646484375, 0.646484375), abs=1e-6)
    with (folder / "Lung_Dx-A0002_B40f_boxes.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 10
    for row in rows:
        number = int(row["slice_index"])
        assert volume.geometry.world((number, 0, 0))[2] == pytest.approx(float(row["z_mm"]), abs=1e-3)
        part = volume.array[number, int(row["ymin"]) : int(row["ymax"]), int(row["xmin"]) : int(row["xmax"])]
        assert (part > -100).mean() > 0.35


def test_a_missing_slice_is_an_error_that_says_where(data_root: Path, tmp_path: Path) -> None:
    files = sorted((data_root / "ct_volume" / "dicom").rglob("*.dcm"))
    (whole,) = list_volumes(data_root / "ct_volume" / "dicom").volumes
    gone = whole.slices[41]
    for file in files:
        if file != gone.path:
            os.symlink(file, tmp_path / file.name)
    (file,) = list_volumes(tmp_path).volumes
    assert file.problem is not None
    assert gone.position[2] == -234.0
    with pytest.raises(VolumeError, match=r"1 slice is missing.*-239.*-229") as caught:
        read_volume(file)
    assert "A0001" not in str(caught.value).replace(str(tmp_path), "")
    mended = read_volume(file, on_gap="resample")
    assert mended.array.shape == (64, 512, 512)
    original = read_volume(whole).array
    kept = [number for number in range(64) if number != 41]
    np.testing.assert_array_equal(mended.array[kept], original[kept])
    expected = (original[40].astype(float) + original[42]) / 2
    assert np.abs(mended.array[41] - expected).max() <= 0.5
