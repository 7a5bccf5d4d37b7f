"""Volumes that are written: SimpleITK and pydicom, which know nothing of ours, find the same voxels at the same places."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from synthoma.errors import MissingExtraError, VolumeError
from synthoma.formats.volumes import Geometry
from synthoma.formats.volumes.dicom_write import DicomSeries, TransferSyntax, write_dicom_series
from synthoma.formats.volumes.write import write_volume

FILES = [
    ("a.nii", False),
    ("a.nii.gz", False),
    ("a.mhd", False),
    ("a.mhd", True),
    ("a.mha", False),
    ("a.mha", True),
    ("a.nrrd", False),
    ("a.nrrd", True),
]
# NIfTI keeps its affine in float32.
NEAR_MM = {"a.nii": 1e-5, "a.nii.gz": 1e-5}
SERIES = DicomSeries("SYN-0001", "SYNTHETIC^ONE", "test/1")


def turned(degrees: tuple[float, float, float]) -> tuple[tuple[float, float, float], ...]:
    x, y, z = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix().T.tolist()
    return tuple(z), tuple(y), tuple(x)


GEOMETRIES = {
    "axial": Geometry((4, 5, 6), (2.5, 0.703125, 0.703125), (-180.25, -160.5, -310.0)),
    "oblique": Geometry((4, 5, 6), (2.5, 0.7, 0.8), (-10.123456789, 20.0, -300.0), turned((10, -20, 30))),
    "mirrored": Geometry((4, 5, 6), (1.25, 0.9, 0.6), (120.0, 90.0, 7.5), ((0, 0, 1), (0, -1, 0), (-1, 0, 0))),
}


@pytest.fixture(params=GEOMETRIES)
def geometry(request: pytest.FixtureRequest) -> Geometry:
    return GEOMETRIES[request.param]


def some_hu(size: tuple[int, int, int] = (4, 5, 6)) -> NDArray[np.int16]:
    return np.random.default_rng(5).integers(-1024, 3000, size).astype(np.int16)


def worlds(image: SimpleITK.Image) -> NDArray[np.float64]:
    """Places of all voxels [z, y, x, 3] by SimpleITK."""
    found = np.empty((*image.GetSize()[::-1], 3))
    for index in np.ndindex(found.shape[:3]):
        found[index] = image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
    return found


def own_worlds(geometry: Geometry) -> NDArray[np.float64]:
    return geometry.world(np.stack(np.indices(geometry.size), axis=-1))


@pytest.mark.parametrize(("name", "compress"), FILES)
def test_simpleitk_finds_each_voxel_where_it_was(tmp_path: Path, geometry: Geometry, name: str, compress: bool) -> None:
    hu = some_hu()
    write_volume(tmp_path / name, hu, geometry, "phantom", compress=compress)
    image = SimpleITK.ReadImage(str(tmp_path / name))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), hu)
    np.testing.assert_allclose(worlds(image), own_worlds(geometry), atol=NEAR_MM.get(name, 1e-10), rtol=0)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.mhd", "a.mha", "a.nrrd"])
def test_types_stay(tmp_path: Path, name: str, dtype: str) -> None:
    array = np.arange(120).reshape(4, 5, 6).astype(dtype)
    write_volume(tmp_path / name, array, GEOMETRIES["axial"])
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / name)))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(("name", "compress"), FILES)
def test_same_input_gives_same_bytes(tmp_path: Path, name: str, compress: bool) -> None:
    contents = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        write_volume(folder / name, some_hu(), GEOMETRIES["oblique"], "phantom", compress=compress)
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == (2 if name.endswith(".mhd") else 1)  # and nothing is left aside


def test_big_endian_and_strided_arrays_are_written_as_their_values(tmp_path: Path) -> None:
    hu = some_hu((6, 5, 4)).transpose(2, 1, 0).astype(">i2")
    for name in ("a.nii.gz", "a.mhd", "a.nrrd"):
        write_volume(tmp_path / name, hu, GEOMETRIES["axial"])
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / name))), hu)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path, geometry = tmp_path / "a.nrrd", GEOMETRIES["axial"]
    write_volume(path, some_hu(), geometry)
    old = path.read_bytes()
    for array, description in [
        (some_hu().astype(np.int64), ""),
        (some_hu((5, 5, 6)), ""),
        (some_hu(), "two\nlines"),
        (some_hu(), "x" * 80),
        (some_hu(), "größe"),
    ]:
        with pytest.raises(ValueError):
            write_volume(path, array, geometry, description)
    with pytest.raises(ValueError, match="written as"):
        write_volume(tmp_path / "a.img", some_hu(), geometry)
    assert [file.name for file in tmp_path.iterdir()] == ["a.nrrd"]
    assert path.read_bytes() == old


def read_by_simpleitk(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def test_series_has_its_voxels_and_places(tmp_path: Path, geometry: Geometry) -> None:
    hu = some_hu()
    write_dicom_series(tmp_path / "series", hu, geometry, series=SERIES)
    image = read_by_simpleitk(tmp_path / "series")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), hu)
    np.testing.assert_allclose(worlds(image), own_worlds(geometry), atol=1e-9, rtol=0)


def test_marked_voxel_by_the_equation_of_the_standard(tmp_path: Path) -> None:
    """PS3.3 C.7.6.2.1.1: from the tags alone; (column, row) steps along the row's direction by the second spacing."""
    geometry, index = GEOMETRIES["oblique"], (2, 3, 5)
    uids = write_dicom_series(tmp_path / "series", some_hu(), geometry, series=SERIES)
    slices = [pydicom.dcmread(file) for file in (tmp_path / "series").iterdir()]
    (found,) = [one for one in slices if one.SOPInstanceUID == uids[index[0]]]
    along_row, down_column = np.array(found.ImageOrientationPatient, dtype=float).reshape(2, 3)
    row_spacing, column_spacing = (float(value) for value in found.PixelSpacing)
    place = np.array(found.ImagePositionPatient, dtype=float)
    place = place + along_row * column_spacing * index[2] + down_column * row_spacing * index[1]
    np.testing.assert_allclose(place, geometry.world(index), atol=1e-9, rtol=0)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle", "jpeg_ls", "jpeg2000"])
@pytest.mark.parametrize("intercept", [-1024.0, 0.0])
def test_transfer_syntaxes_lose_nothing(tmp_path: Path, syntax: TransferSyntax, intercept: float) -> None:
    hu = some_hu((3, 32, 32))
    geometry = Geometry((3, 32, 32), (1.0, 1.0, 1.0))
    series = DicomSeries("SYN-1", "SYNTHETIC^ONE", "test/2", transfer_syntax=syntax, intercept=intercept)
    write_dicom_series(tmp_path / "series", hu, geometry, series=series)
    slices = [pydicom.dcmread(file) for file in sorted((tmp_path / "series").iterdir())]
    stored = np.stack([one.pixel_array for one in slices]).astype(np.int64)
    np.testing.assert_array_equal(stored + int(intercept), hu)
    assert {one.PixelRepresentation for one in slices} == {0 if intercept else 1}
    assert {one.BitsStored for one in slices} == {12 if intercept else 16}
    assert len({one.file_meta.TransferSyntaxUID for one in slices}) == 1
    assert slices[0].file_meta.TransferSyntaxUID.is_compressed == (syntax in ("rle", "jpeg_ls", "jpeg2000"))


def test_synthetic_series_says_so_in_each_file(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "series", some_hu(), GEOMETRIES["axial"], series=SERIES)
    for file in (tmp_path / "series").iterdir():
        found = pydicom.dcmread(file)
        assert found.SyntheticData == "YES"
        assert list(found.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert found.ContentQualification == "RESEARCH"
        assert found.BurnedInAnnotation == "NO"
        assert found.DerivationDescription
        assert found.ContributingEquipmentSequence[0].Manufacturer == "Synthoma"


def test_other_series_does_not_say_that_it_is_synthetic(tmp_path: Path) -> None:
    series = DicomSeries(
        "P-77",
        "Müller^Ünal",
        "test/3",
        synthetic=False,
        sex="F",
        age="063Y",
        study_date="20240229",
        slice_thickness=3.0,
        others={"InstitutionName": "A clinic"},
    )
    write_dicom_series(tmp_path / "series", some_hu(), GEOMETRIES["axial"], series=series)
    found = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    assert "SyntheticData" not in found
    assert "ContributingEquipmentSequence" not in found
    assert list(found.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert (str(found.PatientName), found.PatientID, found.PatientAge) == ("Müller^Ünal", "P-77", "063Y")
    assert (found.StudyDate, found.SliceThickness, found.InstitutionName) == ("20240229", 3.0, "A clinic")


def test_uids_follow_from_the_seed(tmp_path: Path) -> None:
    hu, geometry = some_hu(), GEOMETRIES["axial"]
    once = write_dicom_series(tmp_path / "one", hu, geometry, series=SERIES)
    again = write_dicom_series(tmp_path / "two", hu, geometry, series=SERIES)
    other = write_dicom_series(tmp_path / "three", hu, geometry, series=DicomSeries("P", "N", "test/4", study="shared"))
    assert once == again
    assert [file.read_bytes() for file in sorted((tmp_path / "one").iterdir())] == [
        file.read_bytes() for file in sorted((tmp_path / "two").iterdir())
    ]
    assert len({*once, *other}) == 8
    assert all(pydicom.uid.UID(uid).is_valid for uid in (*once, *other, SERIES.series_uid, SERIES.study_uid))
    assert DicomSeries("P", "N", "x", study="shared").study_uid == DicomSeries("P", "N", "y", study="shared").study_uid
    assert (
        DicomSeries("P", "N", "x", study="shared").series_uid != DicomSeries("P", "N", "y", study="shared").series_uid
    )


def test_slope_rounds_to_half_of_itself(tmp_path: Path) -> None:
    hu = some_hu()
    series = DicomSeries("P", "N", "test/5", slope=4.0, intercept=-1024.0)
    write_dicom_series(tmp_path / "series", hu, GEOMETRIES["axial"], series=series)
    slices = [pydicom.dcmread(file) for file in sorted((tmp_path / "series").iterdir())]
    found = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in slices])
    assert np.abs(found - hu).max() == 2


def test_series_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    hu, geometry = some_hu(), GEOMETRIES["axial"]
    narrow = DicomSeries("P", "N", "test/6", slope=0.03125)
    for array, series in [(hu, narrow), (hu.astype(np.float32), SERIES), (hu[:3], SERIES)]:
        with pytest.raises(ValueError):
            write_dicom_series(tmp_path / "series", array, geometry, series=series)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "notes.txt").write_text("mine")
    with pytest.raises(VolumeError, match="not empty"):
        write_dicom_series(tmp_path / "series", hu, geometry, series=SERIES)
    assert [file.name for file in (tmp_path / "series").iterdir()] == ["notes.txt"]


def test_what_is_not_installed_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rle = DicomSeries("P", "N", "test/7", transfer_syntax="rle")
    monkeypatch.setattr("pydicom.pixels.encoders.base.Encoder.is_available", False)
    with pytest.raises(MissingExtraError, match="rle needs an encoder"):
        write_dicom_series(tmp_path / "series", some_hu(), GEOMETRIES["axial"], series=rle)
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthoma\[ct\]'"):
        write_dicom_series(tmp_path / "series", some_hu(), GEOMETRIES["axial"], series=SERIES)
    assert list(tmp_path.iterdir()) == []


def test_slice_that_an_encoder_refuses(tmp_path: Path) -> None:
    """Noise in so few pixels is larger as JPEG-LS than the encoder makes room for."""
    series = DicomSeries("P", "N", "test/8", transfer_syntax="jpeg_ls")
    with pytest.raises(VolumeError, match=r"slice \d cannot be stored as jpeg_ls; write it as explicit"):
        write_dicom_series(tmp_path / "series", some_hu(), GEOMETRIES["axial"], series=series)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"study_date": "tomorrow"}, {"age": "old"}, {"others": {"AccessionNumber": "x" * 17}}]
)
def test_text_that_dicom_does_not_allow(tmp_path: Path, wrong: dict[str, Any]) -> None:
    series = DicomSeries("P", "N", "test/9", **wrong)
    with pytest.raises(ValueError, match=r"Invalid value|exceeds"):
        write_dicom_series(tmp_path / "series", some_hu(), GEOMETRIES["axial"], series=series)
    assert list(tmp_path.iterdir()) == []
