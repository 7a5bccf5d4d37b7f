"""Volumes of all kinds below one folder: what is found, what is left out with its reason, and in which order."""

from pathlib import Path

import numpy as np
import pytest

from synthoma.errors import VolumeError
from synthoma.formats.volumes import Geometry
from synthoma.formats.volumes.dicom_write import DicomSeries, write_dicom_series
from synthoma.formats.volumes.registry import holds_volumes, is_volume_name, list_volumes, read_volume
from synthoma.formats.volumes.write import write_volume

GEOMETRY = Geometry((4, 5, 6), (2.5, 0.75, 0.75), (-10.5, 20.25, -300.0))
HU = np.random.default_rng(2).integers(-1024, 1500, GEOMETRY.size).astype(np.int16)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    write_volume(root / "b" / "deep" / "1.2.3.mhd", HU, GEOMETRY)
    write_volume(root / "b" / "4.5.6.mhd", HU, GEOMETRY, compress=True)
    write_volume(root / "a.NII.GZ", HU, GEOMETRY)
    write_volume(root / "c" / "c.nrrd", HU, GEOMETRY)
    write_volume(root / "c" / ".hidden.nrrd", HU, GEOMETRY)
    write_dicom_series(root / "c" / "series", HU, GEOMETRY, series=DicomSeries("SYN-1", "SYNTHETIC^ONE", "registry"))
    (root / "c" / "notes.csv").write_text("seriesuid,coordX\n")
    (root / "bad.mha").write_bytes(b"ObjectType = Image\n")
    return root


def test_all_kinds_are_found_and_read(tree: Path) -> None:
    listing = list_volumes(tree, unit="hu")
    names = [volume.path.relative_to(tree).as_posix() for volume in listing.volumes if volume.kind != "dicom"]
    assert names == ["a.NII.GZ", "b/4.5.6.mhd", "b/deep/1.2.3.mhd", "c/c.nrrd"]
    assert [volume.kind for volume in listing.volumes].count("dicom") == 1
    for volume in listing.volumes:
        assert volume.problem is None
        found = read_volume(volume)
        assert found.unit == "hu"
        np.testing.assert_array_equal(found.array, HU)
        assert found.geometry is not None
        np.testing.assert_allclose(found.geometry.world((3, 4, 5)), GEOMETRY.world((3, 4, 5)), atol=1e-5, rtol=0)
    (left,) = listing.left_out
    assert (left.what, left.path.name) == ("unusable file", "bad.mha")
    assert "ElementDataFile" in left.reason
    assert str(tree) not in repr(listing)


def test_unit_of_dicom_is_its_own(tree: Path) -> None:
    units = {volume.kind: volume.unit for volume in list_volumes(tree).volumes}
    assert units == {"dicom": "hu", "nifti": "unknown", "metaimage": "unknown", "nrrd": "unknown"}


def test_one_file_is_taken_or_refused_by_name(tree: Path) -> None:
    (volume,) = list_volumes(tree / "c" / "c.nrrd").volumes
    assert volume.kind == "nrrd"
    with pytest.raises(VolumeError, match=r"bad\.mha is no MetaImage"):
        list_volumes(tree / "bad.mha")
    with pytest.raises(VolumeError, match="does not exist"):
        list_volumes(tree / "nothing")


def test_world_of_a_voxel_is_the_same_through_all_kinds(tmp_path: Path) -> None:
    """One bright voxel of an oblique, anisotropic volume, through each format and its reader."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn[:, 2] = np.cross(turn[:, 0], turn[:, 1])
    x, y, z = (tuple(float(value) for value in axis) for axis in turn.T)
    geometry = Geometry((7, 8, 9), (3.0, 0.6, 0.9), (12.5, -80.0, 41.0), (z, y, x))
    hu = np.full(geometry.size, -900, dtype=np.int16)
    hu[5, 2, 7] = 432
    for name in ("a.nii.gz", "b.nii", "c.mhd", "d.mha", "e.nrrd"):
        write_volume(tmp_path / name, hu, geometry)
    write_dicom_series(tmp_path / "f", hu, geometry, series=DicomSeries("SYN-1", "SYNTHETIC^ONE", "registry/2"))
    listing = list_volumes(tmp_path, unit="hu")
    assert len(listing.volumes) == 6
    for volume in listing.volumes:
        found = read_volume(volume)
        assert found.geometry is not None
        (index,) = np.argwhere(found.array == 432)
        np.testing.assert_allclose(found.geometry.world(index), geometry.world((5, 2, 7)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["A.NII", "a.nii.gz", "a.mhd", "a.MHA", "a.nrrd", "a.nhdr", "IM1.dcm", "x.IMA"])
def test_names_of_volumes(name: str) -> None:
    assert is_volume_name(name)


@pytest.mark.parametrize("name", ["a.raw", "a.zraw", "a.gz", "a.png", "nii", "a.nii.txt", "DICOMDIR"])
def test_other_names(name: str) -> None:
    assert not is_volume_name(name)


def test_whether_there_are_volumes(tree: Path, tmp_path: Path) -> None:
    assert holds_volumes(tree)
    assert holds_volumes(tree / "c" / "series" / "0001.dcm")
    assert not holds_volumes(tmp_path / "nothing")
    plain = tmp_path / "plain"
    (plain / "sub").mkdir(parents=True)
    (plain / "picture.png").write_bytes(b"\x89PNG" + bytes(200))
    (plain / ".a.nii").write_bytes(b"")
    (plain / ".git").mkdir()
    (plain / ".git" / "a.nii").write_bytes(b"")
    assert not holds_volumes(plain)
    (plain / "sub" / "IM0001").write_bytes((tree / "c" / "series" / "0001.dcm").read_bytes())
    assert holds_volumes(plain)
    assert holds_volumes(plain / "sub" / "IM0001")
