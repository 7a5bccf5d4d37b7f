"""The real series of Lung-PET-CT-Dx (CC BY 4.0): geometry, Hounsfield units and boxes agree with what is known of it."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from synthoma.errors import VolumeError
from synthoma.formats.volumes import VolumeFile
from synthoma.formats.volumes.dicom import list_dicom, pixel_to_world, read_dicom, slice_index

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def volume(data_root: Path) -> VolumeFile:
    listing = list_dicom(data_root / "ct_volume" / "dicom")
    assert listing.left_out == ()
    (found,) = listing.volumes
    return found


def test_voxels_and_geometry_are_those_of_simpleitk(volume: VolumeFile) -> None:
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(os.fspath(volume.path)))
    image = reader.Execute()
    read = read_dicom(volume)
    geometry = read.geometry
    assert geometry is not None
    assert volume.problem is None
    assert geometry.size == (64, 512, 512)
    assert geometry.spacing == image.GetSpacing()[::-1] == (5.0, 0.841796875, 0.841796875)
    assert geometry.origin == image.GetOrigin()
    assert read.warnings == ()
    assert (read.array.min(), read.array.max()) == (-1024, 2976)
    np.testing.assert_array_equal(read.array, sitk.GetArrayFromImage(image))
    for z, y, x in ((0, 0, 0), (63, 511, 511), (41, 300, 310)):
        np.testing.assert_allclose(geometry.world((z, y, x)), image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-9)


def test_every_box_lies_on_its_slice(volume: VolumeFile, data_root: Path) -> None:
    assert volume.geometry is not None
    with (data_root / "ct_volume" / "Lung_Dx-A0001_boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11
    for row in rows:
        uid = row["sop_instance_uid"]
        index = slice_index(volume, uid)
        assert index == int(row["slice_index"])
        corners = [[int(row["xmin"]), int(row["ymin"])], [int(row["xmax"]), int(row["ymax"])]]
        places = pixel_to_world(volume, uid, corners)
        np.testing.assert_allclose(places[:, 2], float(row["z_mm"]), atol=1e-9)
        np.testing.assert_allclose(volume.geometry.index(places), [[index, y, x] for x, y in corners], atol=1e-6)


def test_one_slice_less_is_an_error_with_the_place_of_the_gap(volume: VolumeFile, tmp_path: Path) -> None:
    for one in volume.slices:
        if one.position[2] != -229.0:
            shutil.copy(one.path, tmp_path)
    (holed,) = list_dicom(tmp_path).volumes
    assert holed.problem == "1 slice is missing between z = -234.0 and -224.0 mm (spacing 5 mm)"
    with pytest.raises(VolumeError, match=r"1 slice is missing between z = -234\.0 and -224\.0 mm"):
        read_dicom(holed)
    whole, mended = read_dicom(volume), read_dicom(holed, on_gap="resample")
    assert mended.geometry == whole.geometry
    kept = [index for index in range(64) if index != 42]
    np.testing.assert_array_equal(mended.array[kept], whole.array[kept])


def test_nothing_of_the_patient_is_told(volume: VolumeFile) -> None:
    assert volume.facts == {
        "kvp": 120.0,
        "slice_thickness": 5.0,
        "kernel": "L",
        "manufacturer": "Philips",
        "sex": "M",
        "age_band": "50-59",
    }
    shown = repr(volume)
    assert not any(word in shown for word in ("A0001", "1.3.6.1", "2007", os.fspath(volume.path)))
