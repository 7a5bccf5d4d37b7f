"""`synthoma augment`: copies of volumes on the disk, with their masks, their place in the world and their parameters."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from synthoma.cli.app import app
from synthoma.errors import DataError, RecipeError, SynthomaError
from synthoma.formats.nifti import encode_nifti, read_nifti, read_placed_nifti
from synthoma.preparation.augment_volumes import augment_volumes
from synthoma.transforms.deform import Deformation, DeformationRanges
from synthoma.transforms.nodules import deform_nodule

nibabel = pytest.importorskip("nibabel")
SPACING = (2.0, 0.8, 0.7)


def nodule(seed: int, size: tuple[int, int, int] = (10, 14, 12)) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    axes = [np.arange(n) - (n - 1) / 2 for n in size]
    inside = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) < 16
    noise = np.random.default_rng(seed).normal(0, 30, size)
    return np.where(inside, 40 + noise, -850 + noise).astype(np.int16), inside.astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two arrays and a NIfTI file of another place and order of axes, with masks."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "volumes").mkdir()
    for number in range(2):
        volume, mask = nodule(number)
        np.save(tmp_path / "volumes" / f"n{number}.npy", volume)
        np.save(tmp_path / "masks" / f"n{number}.npy", mask)
    volume, mask = nodule(2)
    # Voxel (i, j, k) is (y, x, z) of the head-first LPS array, with the patient's left at the end.
    affine = np.array([[0, -0.7, 0, 31], [-0.8, 0, 0, -12], [0, 0, 2.0, 55], [0, 0, 0, 1]])
    for name, array in (("volumes", volume), ("masks", mask)):
        image = nibabel.Nifti1Image(array.transpose(1, 2, 0), affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / name / "n2.nii.gz")
    return tmp_path


def test_copies_masks_and_parameters(folder: Path) -> None:
    out = folder / "out"
    made = augment_volumes(
        folder / "volumes", out, DeformationRanges(noise=(20, 20)), times=2, masks=folder / "masks", spacing=SPACING
    )
    assert (made.volumes, made.copies, made.failed) == (3, 6, {})
    lines = [json.loads(line) for line in (out / "augmentation.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [
        f"n{n}-00{copy}{suffix}" for n, suffix in enumerate((".npy", ".npy", ".nii.gz")) for copy in range(2)
    ]
    assert all(line["spacing"] == pytest.approx(SPACING) for line in lines)
    for line in lines[:4]:
        volume, mask = (np.load(folder / part / line["source"]) for part in ("volumes", "masks"))
        again = deform_nodule(volume, mask, Deformation.from_json(line["parameters"]), tuple(line["spacing"]))
        np.testing.assert_array_equal(np.load(out / line["file"]), again.volume)
        np.testing.assert_array_equal(np.load(out / "masks" / line["file"]), again.mask)
        assert again.volume.dtype == np.int16
        assert not np.array_equal(again.volume, volume)


def test_a_volume_stays_at_its_place_in_the_world(folder: Path) -> None:
    still = DeformationRanges(rotation=(0, 0, 0), scaling=(1, 1), elastic=0)
    augment_volumes(folder / "volumes" / "n2.nii.gz", folder / "out", still, times=1)
    before, after = (
        nibabel.as_closest_canonical(nibabel.load(path))
        for path in (folder / "volumes" / "n2.nii.gz", folder / "out" / "n2-000.nii.gz")
    )
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj))
    volume, spacing, affine = read_placed_nifti(folder / "volumes" / "n2.nii.gz")
    assert spacing == pytest.approx(SPACING)
    # A voxel by hand: that of the file at (i, j, k) = (3, 5, 7).
    world = nibabel.load(folder / "volumes" / "n2.nii.gz").affine @ (3, 5, 7, 1)
    x, y, z = np.rint(np.linalg.inv(affine) @ world)[:3].astype(int)
    np.testing.assert_allclose(affine @ (x, y, z, 1), world, atol=1e-9)
    assert volume[0, z, y, x] == np.asarray(nibabel.load(folder / "volumes" / "n2.nii.gz").dataobj)[3, 5, 7]


def test_wide_integers_and_masks_of_arrays_become_nifti(folder: Path) -> None:
    volume, mask = nodule(4)
    affine = np.diag([-0.7, -0.8, 2.0, 1.0])
    wide = nibabel.Nifti1Image(volume.transpose(2, 1, 0).astype(np.int64), affine, dtype=np.int64)
    nibabel.save(wide, folder / "wide.nii")
    np.save(folder / "mask.npy", mask.astype(bool))
    made = augment_volumes(folder / "wide.nii", folder / "out", DeformationRanges(), times=1, masks=folder / "mask.npy")
    assert made.failed == {}
    values, marked = (nibabel.load(folder / "out" / name / "wide-000.nii.gz") for name in ("", "masks"))
    assert values.get_data_dtype() == np.int16
    assert marked.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(values.affine, marked.affine)
    assert np.asarray(values.dataobj)[np.asarray(marked.dataobj) > 0].mean() > -200


def test_a_copy_does_not_depend_on_the_files_beside_it(folder: Path) -> None:
    ranges = DeformationRanges()
    augment_volumes(folder / "volumes", folder / "all", ranges, times=2)
    augment_volumes(folder / "volumes" / "n1.npy", folder / "one", ranges, times=2)
    augment_volumes(folder / "volumes" / "n1.npy", folder / "other", ranges, times=2, seed=1)
    whole, alone, other = (np.load(folder / name / "n1-001.npy") for name in ("all", "one", "other"))
    np.testing.assert_array_equal(whole, alone)
    assert not np.array_equal(whole, other)
    assert not np.array_equal(whole, np.load(folder / "all" / "n1-000.npy"))


def test_a_bad_file_costs_itself_only(folder: Path) -> None:
    volumes = folder / "volumes"
    (volumes / "broken.npy").write_bytes((volumes / "n0.npy").read_bytes()[:200])
    (volumes / "broken.nii.gz").write_bytes((volumes / "n2.nii.gz").read_bytes()[:60])
    np.save(volumes / "flat.npy", np.zeros((4, 4), np.int16))
    np.save(volumes / "objects.npy", np.array([{}]), allow_pickle=True)
    (volumes / "more.nii.gz").write_bytes(encode_nifti(np.zeros((2, 4, 4, 4), np.int16), None, "two", {}))
    made = augment_volumes(volumes, folder / "out", DeformationRanges(), times=1)
    assert made.volumes == 3
    reasons = {file.name: reason for file, reason in made.failed.items()}
    assert set(reasons) == {"broken.npy", "broken.nii.gz", "flat.npy", "objects.npy", "more.nii.gz"}
    assert "no readable .npy file" in reasons["objects.npy"]
    assert "expected a size of three axes" in reasons["flat.npy"]
    assert "2 channels" in reasons["more.nii.gz"]
    assert not list((folder / "out").glob("*broken*"))


def test_what_cannot_be_done_is_told(folder: Path, tmp_path: Path) -> None:
    ranges = DeformationRanges()
    with pytest.raises(DataError, match="does not exist"):
        augment_volumes(tmp_path / "nowhere", folder / "a", ranges, times=1)
    with pytest.raises(DataError, match="holds no volumes"):
        augment_volumes(tmp_path, folder / "a", ranges, times=1)
    with pytest.raises(DataError, match="is not empty"):
        augment_volumes(folder / "volumes", folder / "masks", ranges, times=1)
    (folder / "masks" / "n1.npy").unlink()
    made = augment_volumes(folder / "volumes", folder / "b", ranges, times=1, masks=folder / "masks")
    assert ["has no mask" in reason for reason in made.failed.values()] == [True]
    with pytest.raises(DataError, match=r"none of 3 volumes(.|\n)*could fold this volume"):
        augment_volumes(folder / "volumes", folder / "c", DeformationRanges(elastic=50), times=1)


def test_the_command(folder: Path) -> None:
    arguments = ["augment", str(folder / "volumes"), "--masks", str(folder / "masks"), "--out", str(folder / "out")]
    own = ["--times", "2", "--noise", "20", "--padding", "-1000", "--scaling", "0.8", "1.2", "--flip", "z"]
    done = CliRunner().invoke(app, [*arguments, *own])
    assert done.exit_code == 0, done.output
    assert "6 copies of 3 volumes" in done.output
    assert len(list((folder / "out" / "masks").iterdir())) == 6
    values, _ = read_nifti(folder / "out" / "n2-001.nii.gz")
    assert values.dtype == np.int16
    again = CliRunner().invoke(app, [*arguments, "--json"])
    assert isinstance(again.exception, SynthomaError)
    wrong = CliRunner().invoke(app, [*arguments[:-1], str(folder / "new"), "--padding", "edge"])
    assert isinstance(wrong.exception, RecipeError)
    none = CliRunner().invoke(app, [*arguments[:-1], str(folder / "new"), "--flip", "w"])
    assert isinstance(none.exception, RecipeError)
    assert not (folder / "new").exists()
