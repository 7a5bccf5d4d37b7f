"""NIfTI files: what is written is what was given, where it was, and says that it is synthetic."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from synthoma.errors import DataError, MissingExtraError
from synthoma.formats.nifti import encode_nifti, lps_affine, read_nifti

nibabel = pytest.importorskip("nibabel")

SIZE, SPACING = (3, 4, 5), (2.5, 0.7, 0.6)
COMMENT = {"synthetic": "YES", "class": "naïf", "seed": 7}


def volume(channels: int = 1, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (channels, *SIZE)).astype(dtype)


def written(tmp_path: Path, made: np.ndarray, spacing: tuple[float, ...] | None = SPACING) -> Path:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(encode_nifti(made, spacing, "SYNTHETIC, not for diagnosis", COMMENT))
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_values_and_spacing_come_back(tmp_path: Path, channels: int, dtype: str) -> None:
    made = volume(channels, dtype)
    back, spacing = read_nifti(written(tmp_path, made))
    assert back.dtype == made.dtype
    assert np.array_equal(back, made)
    assert spacing == pytest.approx(SPACING)


def test_each_voxel_lies_where_lps_puts_it(tmp_path: Path) -> None:
    """The voxel at the end of x is the patient's left: negative x in LPS is right, which RAS counts upwards."""
    made = np.zeros((1, *SIZE), dtype=np.int16)
    made[0, 2, 3, 4] = 1
    image = nibabel.load(written(tmp_path, made))
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    (place,) = np.argwhere(np.asarray(image.dataobj) == 1)
    world = nibabel.affines.apply_affine(image.affine, place)
    z, y, x = (step * (n - 1) / 2 for step, n in zip(SPACING, SIZE, strict=True))
    assert world == pytest.approx((-x, -y, z), abs=1e-5), "left, back and head end, about the middle"


def test_affine_puts_the_middle_at_zero() -> None:
    middle = lps_affine(SIZE, SPACING) @ [2, 1.5, 1, 1]
    assert middle == pytest.approx((0, 0, 0, 1))


def test_an_unknown_spacing_stays_unknown(tmp_path: Path) -> None:
    path = written(tmp_path, volume(), None)
    assert nibabel.load(path).header.get_xyzt_units()[0] == "unknown"
    assert read_nifti(path)[1] is None


def test_the_header_says_what_it_is_and_names_nobody(tmp_path: Path) -> None:
    header = nibabel.load(written(tmp_path, volume())).header
    assert header["descrip"].item() == b"SYNTHETIC, not for diagnosis"
    (extension,) = header.extensions
    assert json.loads(extension.get_content().decode().rstrip("\0")) == COMMENT
    assert (header["db_name"].item(), header["aux_file"].item(), header["intent_name"].item()) == (b"", b"", b"")
    with pytest.raises(ValueError, match="79 bytes"):
        encode_nifti(volume(), None, "x" * 80, {})


def test_the_same_volume_gives_the_same_bytes() -> None:
    first, second = (encode_nifti(volume(), SPACING, "same", COMMENT) for _ in range(2))
    assert first == second
    assert gzip.decompress(first)[4:8] == b"\0\0\0\0", "no time is in the file"


def test_volumes_of_others_are_turned_to_lps(tmp_path: Path) -> None:
    """A RAS file, as most tools write it, has x and y the other way round."""
    made = volume()[0]
    ras = np.ascontiguousarray(made[:, ::-1, ::-1].transpose(2, 1, 0))
    nibabel.save(nibabel.Nifti1Image(ras, np.diag([0.6, 0.7, 2.5, 1])), tmp_path / "ras.nii.gz")
    assert np.array_equal(read_nifti(tmp_path / "ras.nii.gz")[0][0], made)


def test_what_is_no_volume_is_told(tmp_path: Path) -> None:
    whole = encode_nifti(volume(), SPACING, "x", COMMENT)
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.nii\.gz is no readable"):
        read_nifti(tmp_path / "cut.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 6), np.int16), np.eye(4)), tmp_path / "time.nii.gz")
    with pytest.raises(DataError, match="expected a volume"):
        read_nifti(tmp_path / "time.nii.gz")


def test_without_nibabel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r"synthoma\[ct\].*--format npy"):
        encode_nifti(volume(), None, "x", {})
