"""NIfTI, MetaImage and NRRD that are read: voxels lie where SimpleITK finds them, and nothing is taken silently."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from synthoma.formats.volumes import Geometry, in_lps_order
from synthoma.formats.volumes.files import list_file, read_file
from synthoma.formats.volumes.write import write_volume
from volume_files import (
    GEOMETRY,
    NAMES,
    PACKED,
    SIZE,
    MetaFields,
    oblique,
    read,
    refusal,
    set_fields,
    some_hu,
    write_metaimage,
    write_nifti,
    write_nrrd,
)


@pytest.mark.parametrize("geometry", [GEOMETRY, oblique()], ids=["axial", "oblique"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_files_of_simpleitk_are_read_as_it_reads_them(
    tmp_path: Path, name: str, compress: bool, geometry: Geometry
) -> None:
    hu = some_hu()
    image = SimpleITK.GetImageFromArray(hu)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(np.asarray(geometry.directions)[::-1].T.ravel().tolist())
    SimpleITK.WriteImage(image, str(tmp_path / name), compress)
    listed = list_file(tmp_path / name)
    found = read_file(listed)
    np.testing.assert_array_equal(found.array, hu)
    assert found.array.dtype == np.int16
    assert listed.geometry == found.geometry
    assert found.geometry is not None
    for index in [(0, 0, 0), (3, 4, 5), (2, 0, 5)]:
        place = image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        np.testing.assert_allclose(found.geometry.world(index), place, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_marked_voxel_stays_at_its_place(tmp_path: Path, name: str) -> None:
    """Through a file, and through the order of LPS, the one bright voxel has the same world coordinates."""
    x, y, z = ((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0))
    for geometry in (oblique(), Geometry(SIZE, (2.5, 0.7, 0.8), (30.0, -7.0, 2.0), (z, y, x))):
        array = np.full(SIZE, -1000, dtype=np.int16)
        array[1, 3, 4] = 777
        write_volume(tmp_path / name, array, geometry, compress=PACKED[name])
        found = read(tmp_path / name, "hu")
        assert found.geometry is not None
        for voxels, where in [(found.array, found.geometry), in_lps_order(found.array, found.geometry)]:
            (index,) = np.argwhere(voxels == 777)
            np.testing.assert_allclose(where.world(index), geometry.world((1, 3, 4)), atol=1e-5, rtol=0)


def test_sform_goes_before_qform_and_a_difference_is_said(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", qoffset_x=15.0)
    found = list_file(path)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.origin, GEOMETRY.origin, atol=1e-5)
    assert found.warnings == ("says two geometries that differ (sform and qform); its sform was used",)
    set_fields(path, sform_code=0)
    found = list_file(path)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.origin, (-15.0, 20.25, -300.0), atol=1e-5)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("fields", "apart"),
    [({"qoffset_z": -299.2}, False), ({"qoffset_z": -298.9}, True), ({"quatern_b": 5.0}, True)],
)
def test_forms_differ_from_a_millimetre_on(tmp_path: Path, fields: dict[str, float], apart: bool) -> None:
    warnings = list_file(write_nifti(tmp_path / "a.nii", **fields)).warnings
    assert any("sform was used" in warning for warning in warnings) == apart


def test_forms_differ_from_a_hundredth_of_a_voxel_on(tmp_path: Path) -> None:
    pixdim = np.array([1, 0.8, 0.7, 2.5 * 1.02, 0, 0, 0, 0])  # 0.15 mm over the volume, so only the share tells
    (warning,) = list_file(write_nifti(tmp_path / "a.nii", pixdim=pixdim)).warnings
    assert "sform was used" in warning


def test_without_forms_spacing_is_taken_only_with_its_unit(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", sform_code=0, qform_code=0)
    found = list_file(path)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.spacing, GEOMETRY.spacing, rtol=1e-6)
    assert len(found.warnings) == 1
    assert "how its axes lie" in found.warnings[0]
    set_fields(path, xyzt_units=0)
    found = list_file(path)
    assert found.geometry is None
    assert found.warnings == ("does not say how far apart its voxels are",)
    assert read_file(found).array.shape == SIZE


@pytest.mark.parametrize(("code", "scale"), [(1, 1e3), (2, 1.0), (3, 1e-3)])
def test_units_of_nifti_become_millimetres(tmp_path: Path, code: int, scale: float) -> None:
    path = write_nifti(tmp_path / "a.nii", xyzt_units=code)
    affine = GEOMETRY.ras_affine[:3] / scale
    set_fields(path, srow_x=affine[0], srow_y=affine[1], srow_z=affine[2], qform_code=0)
    found = list_file(path)
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.spacing, GEOMETRY.spacing, rtol=1e-6)
    np.testing.assert_allclose(found.geometry.origin, GEOMETRY.origin, rtol=1e-6)
    assert found.problem is None


def test_unknown_unit_of_nifti_is_taken_as_mm_and_said(tmp_path: Path) -> None:
    found = list_file(write_nifti(tmp_path / "a.nii", xyzt_units=0))
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.spacing, GEOMETRY.spacing, rtol=1e-6)
    assert found.warnings == ("does not say its unit of length; millimetres are taken",)


def test_negative_pixdim_is_ignored_and_said(tmp_path: Path) -> None:
    pixdim = np.array([1, -0.8, 0.7, 2.5, 0, 0, 0, 0])
    found = list_file(write_nifti(tmp_path / "a.nii", pixdim=pixdim, sform_code=0))
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.spacing, GEOMETRY.spacing, rtol=1e-6)
    assert found.warnings == ("says negative voxel sizes; their signs were ignored",)


def test_shear_is_refused(tmp_path: Path) -> None:
    assert "right angles" in refusal(write_nifti(tmp_path / "a.nii", srow_x=[-0.8, 0.2, 0, 10.5]))
    assert "right angles" in refusal(write_nrrd(tmp_path, space_directions="(0.8,0,0) (0.2,0.7,0) (0,0,2.5)"))
    assert "right angles" in refusal(write_metaimage(tmp_path, TransformMatrix="1 0 0 0.6 0.8 0 0 0 1"))


@pytest.mark.parametrize(
    ("space", "signs"),
    [("LPS", (1, 1, 1)), ("right-anterior-superior", (-1, -1, 1)), ("RAS", (-1, -1, 1)), ("LAS", (1, -1, 1))],
)
def test_spaces_of_nrrd_become_lps(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    path = write_nrrd(tmp_path, space=space)
    found = list_file(path)
    assert found.geometry is not None
    assert found.warnings == ()
    place = np.array((-10.5 + 5 * 0.8, 20.25, -300 + 3 * 2.5)) * signs
    np.testing.assert_allclose(found.geometry.world((3, 0, 5)), place, atol=1e-9)
    oracle = SimpleITK.ReadImage(str(path)).TransformIndexToPhysicalPoint((5, 0, 3))
    np.testing.assert_allclose(oracle, place, atol=1e-9)


def test_nrrd_says_what_it_knows_and_no_more(tmp_path: Path) -> None:
    bare: MetaFields = {"space": None, "space_directions": None, "space_origin": None}
    assert list_file(write_nrrd(tmp_path, **bare)).geometry is None
    only_spacing = list_file(write_nrrd(tmp_path, **bare, spacings="0.8 0.7 2.5"))
    assert only_spacing.geometry == Geometry(SIZE, (2.5, 0.7, 0.8))
    assert "how its axes lie" in only_spacing.warnings[0]
    assert list_file(write_nrrd(tmp_path, **bare, spacings="0.8 0.7 2.5", units='"x" "x" "x"')).geometry is None
    no_origin = list_file(write_nrrd(tmp_path, space_origin=None))
    assert no_origin.geometry is not None
    assert "first voxel" in no_origin.warnings[0]
    scanner = list_file(write_nrrd(tmp_path, space="scanner-xyz"))
    assert "how its axes lie" in scanner.warnings[0]
    micron = list_file(write_nrrd(tmp_path, space_units='"um" "um" "um"'))
    assert micron.geometry is not None
    assert micron.geometry.spacing == pytest.approx((0.0025, 0.0007, 0.0008))
    assert micron.problem is not None


def test_metaimage_says_what_it_knows_and_no_more(tmp_path: Path) -> None:
    assert list_file(write_metaimage(tmp_path, ElementSpacing=None)).geometry is None
    assert "how its axes lie" in list_file(write_metaimage(tmp_path, TransformMatrix=None)).warnings[0]
    assert "first voxel" in list_file(write_metaimage(tmp_path, Offset=None)).warnings[0]
    assert "above 0" in refusal(write_metaimage(tmp_path, ElementSpacing="-0.8 0.7 2.5"))
    assert "unit vectors" in refusal(write_metaimage(tmp_path, TransformMatrix="2 0 0 0 1 0 0 0 1"))


@pytest.mark.parametrize("spacing", ["0.05 0.7 2.5", "0.8 0.7 25"])
def test_implausible_spacing_is_a_problem(tmp_path: Path, spacing: str) -> None:
    listed = list_file(write_metaimage(tmp_path, ElementSpacing=spacing))
    assert listed.problem is not None
    assert "0.1 to 20 mm" in listed.problem
    assert listed.problem in refusal(tmp_path / "a.mhd")


def test_values_are_hounsfield_units_only_if_somebody_says_so(tmp_path: Path) -> None:
    path = write_metaimage(tmp_path)
    unknown = read(path)
    assert (unknown.unit, unknown.array.dtype) == ("unknown", np.int16)
    assert unknown.warnings == ("looks like Hounsfield units, but does not say so; declare it with --set ct.unit=hu",)
    declared = read(path, "hu")
    assert (declared.unit, declared.warnings) == ("hu", ())
    np.testing.assert_array_equal(declared.array, unknown.array)
    assert read(write_metaimage(tmp_path, some_hu(-800, 900).tobytes())).warnings == ()
    assert "no value below -200" in read(write_metaimage(tmp_path, some_hu(0, 255).tobytes()), "hu").warnings[0]


def test_slope_and_intercept_of_nifti_are_applied(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", some_hu(0, 4000), scl_slope=0.5, scl_inter=-1000.25)
    true = some_hu(0, 4000) * 0.5 - 1000.25
    unknown = read(path)
    assert unknown.array.dtype == np.float32
    np.testing.assert_array_equal(unknown.array, true.astype(np.float32))
    declared = read(path, "hu")
    assert declared.array.dtype == np.int16
    np.testing.assert_array_equal(declared.array, np.rint(true))
    np.testing.assert_array_equal(unknown.array, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "float32", "float64", ">i2", ">f4"])
def test_types_of_nifti(tmp_path: Path, dtype: str) -> None:
    array = some_hu(0, 100).astype(dtype)
    header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    nibabel.save(nibabel.Nifti1Image(array.T, GEOMETRY.ras_affine, header), tmp_path / "a.nii.gz")
    found = read(tmp_path / "a.nii.gz")
    assert found.array.dtype == (np.int16 if np.dtype(dtype).name in ("uint8", "int8", "int16") else np.float32)
    np.testing.assert_array_equal(found.array, array)


def test_big_endian_metaimage_and_nrrd(tmp_path: Path) -> None:
    big = some_hu().astype(">i2").tobytes()
    np.testing.assert_array_equal(read(write_metaimage(tmp_path, big, BinaryDataByteOrderMSB="True")).array, some_hu())
    np.testing.assert_array_equal(read(write_nrrd(tmp_path, big, endian="big")).array, some_hu())


def test_nifti_2(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(some_hu().T, GEOMETRY.ras_affine), tmp_path / "a.nii.gz")
    found = read(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(found.array, some_hu())
    assert found.geometry is not None
    np.testing.assert_allclose(found.geometry.world((3, 4, 5)), GEOMETRY.world((3, 4, 5)), atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("unit", ["auto", "hu"])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, bad: float, unit: str) -> None:
    array = some_hu().astype(np.float32)
    array[2, 3, 4] = bad
    assert "no numbers" in refusal(write_nifti(tmp_path / "a.nii", array), unit)


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    array = some_hu().astype(np.int32)
    array[0, 0, 0] = 40000
    assert refusal(write_nifti(tmp_path / "a.nii", array), "hu").startswith("has values from -10")
    array[0, 0, 0] = (1 << 24) + 1
    assert (
        "has values beyond 16,777,216, which are kept to 7 digits"
        in read(write_nifti(tmp_path / "a.nii", array)).warnings
    )
    assert "float32 does not hold" in refusal(write_nifti(tmp_path / "a.nii", np.full(SIZE, 1e300)))


def test_padding_below_air_becomes_air_and_is_said(tmp_path: Path) -> None:
    hu = some_hu()
    hu[0] = -3024
    found = read(write_metaimage(tmp_path, hu.tobytes()), "hu")
    np.testing.assert_array_equal(found.array, np.maximum(hu, -1024))
    assert "below -1024 HU" in found.warnings[0]
    np.testing.assert_array_equal(read(tmp_path / "a.mhd").array, hu)


def test_blocks_join_to_the_whole(tmp_path: Path) -> None:
    """A volume of more than one block of 8 MiB."""
    array = np.random.default_rng(1).integers(-1000, 500, (40, 400, 400)).astype(np.int16)
    for name, compress in [("a.mhd", True), ("a.nrrd", False)]:
        write_volume(tmp_path / name, array, Geometry(array.shape, (1.0, 1.0, 1.0)), compress=compress)
        np.testing.assert_array_equal(read(tmp_path / name).array, array)


def test_names_become_series(tmp_path: Path) -> None:
    for name, series in [("1.3.6.1.4.1.14519.5.mhd", "1.3.6.1.4.1.14519.5"), ("Case 7.NII.GZ", "Case 7")]:
        write_volume(tmp_path / name, some_hu(), GEOMETRY)
        listed = list_file(tmp_path / name)
        assert listed.series == series
        assert listed.patient is None
        assert series not in repr(listed)


@pytest.mark.slow
def test_real_nifti_lies_where_its_boxes_say(data_root: Path) -> None:
    path = data_root / "ct_volume" / "Lung_Dx-A0002_B40f.nii.gz"
    listed = list_file(path, "hu")
    assert listed.geometry is not None
    assert (listed.geometry.size, listed.problem, listed.warnings) == ((30, 512, 512), None, ())
    assert listed.geometry.spacing == (8.0, 0.646484375, 0.646484375)
    image = SimpleITK.ReadImage(str(path))
    found = read_file(listed)
    assert found.array.dtype == np.int16
    assert found.warnings == ()
    np.testing.assert_array_equal(found.array, SimpleITK.GetArrayFromImage(image))
    for index in [(0, 0, 0), (29, 511, 511)]:
        place = image.TransformIndexToPhysicalPoint([int(n) for n in index[::-1]])
        np.testing.assert_allclose(listed.geometry.world(index), place, atol=1e-4, rtol=0)
    with (data_root / "ct_volume" / "Lung_Dx-A0002_B40f_boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        assert listed.geometry.world((int(row["slice_index"]), 0, 0))[2] == pytest.approx(float(row["z_mm"]), abs=1e-3)
