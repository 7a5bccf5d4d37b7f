"""NIfTI, MetaImage and NRRD that are damaged, or claim what they do not hold: clear errors, little memory, no leaks."""

import gzip
import os
import pickle
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from synthoma.errors import MissingExtraError, VolumeError
from synthoma.formats.volumes.files import list_file
from synthoma.formats.volumes.headers import VolumeFileError
from synthoma.formats.volumes.write import write_volume
from volume_files import (
    GEOMETRY,
    NAMES,
    PACKED,
    SIZE,
    read,
    refusal,
    some_hu,
    write_metaimage,
    write_nifti,
    write_nrrd,
)


def test_other_shapes_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    assert "holds 3 volumes" in refusal(write_nifti(path, np.zeros((3, *SIZE), dtype=np.int16)))
    assert "several values a voxel" in refusal(write_nifti(path, np.zeros((3, 1, *SIZE), dtype=np.int16)))
    assert "has 2 axes" in refusal(write_nifti(path, np.zeros((5, 6), dtype=np.int16)))
    assert read(write_nifti(path, np.zeros((1, *SIZE), dtype=np.int16))).array.shape == SIZE
    colours = np.zeros(SIZE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colours" in refusal(write_nifti(path, colours))
    assert "complex64" in refusal(write_nifti(path, np.zeros(SIZE, dtype=np.complex64)))
    assert "one number a voxel" in refusal(write_metaimage(tmp_path, ElementNumberOfChannels="3"))
    assert "has 4 axes" in refusal(write_metaimage(tmp_path, NDims="4", DimSize="6 5 4 2"))
    assert "has 4 axes" in refusal(write_nrrd(tmp_path, dimension="4", sizes="3 6 5 4"))
    assert "none of space" in refusal(write_nrrd(tmp_path, kinds="RGB-color domain domain"))


def claim_nifti(folder: Path) -> Path:
    return write_nifti(folder / "a.nii", dim=[3, 20000, 20000, 10000, 1, 1, 1, 1])


def claim_packed_nifti(folder: Path) -> Path:
    claim_nifti(folder)
    (folder / "a.nii.gz").write_bytes(gzip.compress((folder / "a.nii").read_bytes()))
    return folder / "a.nii.gz"


def claim_metaimage(folder: Path) -> Path:
    return write_metaimage(folder, DimSize="20000 20000 10000")


def claim_packed_metaimage(folder: Path) -> Path:
    return write_metaimage(folder, zlib.compress(bytes(240)), CompressedData="True", DimSize="1000 1000 1000")


def claim_nrrd(folder: Path) -> Path:
    return write_nrrd(folder, sizes="99999999999999999999 5 4")


def claim_packed_nrrd(folder: Path) -> Path:
    return write_nrrd(folder, gzip.compress(bytes(240)), encoding="gzip", sizes="1000 1000 1000")


def bomb(folder: Path) -> Path:
    """A small header over 64 MiB of zeros in 64 KB."""
    packed = zlib.compress(bytes(64 << 20), 9)
    return write_metaimage(folder, packed, CompressedData="True", DimSize="4 4 4")


@pytest.mark.parametrize(
    "claim",
    [claim_nifti, claim_packed_nifti, claim_metaimage, claim_packed_metaimage, claim_nrrd, claim_packed_nrrd, bomb],
)
def test_false_claims_end_early_within_little_memory(tmp_path: Path, claim: Callable[[Path], Path]) -> None:
    path = claim(tmp_path)
    tracemalloc.start()
    try:
        refusal(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("name", NAMES)
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    write_volume(tmp_path / name, some_hu(), GEOMETRY, compress=PACKED[name])
    data = tmp_path / ("a.raw" if name == "a.mhd" else name)
    content = data.read_bytes()
    for kept in (len(content) - 1, len(content) // 2, 0):
        data.write_bytes(content[:kept])
        refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_packed_voxels_are_held_to_their_checksum(tmp_path: Path, name: str) -> None:
    write_volume(tmp_path / name, some_hu(), GEOMETRY, compress=True)
    content = bytearray((tmp_path / name).read_bytes())
    content[-5 if name != "a.mha" else -1] ^= 1  # within CRC-32, before gzip's length; within Adler-32
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith("is damaged or truncated")


def test_more_voxels_than_the_header_says(tmp_path: Path) -> None:
    path = write_metaimage(tmp_path, some_hu().tobytes() + b"\n")
    assert "has bytes after its voxels, which were not read" in list_file(path).warnings
    assert "one of both is wrong" in refusal(write_metaimage(tmp_path, some_hu().tobytes() + bytes(5000)))
    packed = zlib.compress(some_hu().tobytes() + bytes(5000))
    assert "one of both is wrong" in refusal(write_metaimage(tmp_path, packed, CompressedData="True"))


@pytest.mark.parametrize("place", ["../secret.raw", "{outside}/secret.raw", "sub/../../secret.raw", "..\\\\secret.raw"])
@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_voxels_outside_the_folder_are_not_read(tmp_path: Path, place: str, kind: str) -> None:
    folder = tmp_path / "inside"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret.raw").write_bytes(some_hu().tobytes())
    name = place.format(outside=tmp_path)
    if kind == "mhd":
        path = write_metaimage(folder, ElementDataFile=name)
    else:
        path = write_nrrd(folder, b"", data_file=name).rename(folder / "a.nhdr")
    assert refusal(path) == "has its voxels outside its own folder; put both files into one folder"


@pytest.mark.parametrize("name", ["LIST", "slice%03d.raw 1 4 1", "", "missing.raw", ".", "sub", "a\0b", "x" * 300])
def test_other_places_of_voxels_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    refusal(write_metaimage(tmp_path, ElementDataFile=name))
    if name:
        refusal(write_nrrd(tmp_path, b"", data_file=name))


def test_voxels_beside_and_within(tmp_path: Path) -> None:
    hu = some_hu()
    (tmp_path / "my voxels.raw").write_bytes(hu.tobytes())
    np.testing.assert_array_equal(read(write_metaimage(tmp_path, ElementDataFile="my voxels.raw")).array, hu)
    np.testing.assert_array_equal(read(write_nrrd(tmp_path, b"", data_file="my voxels.raw")).array, hu)
    (tmp_path / "head.raw").write_bytes(b"x" * 7 + hu.tobytes())
    np.testing.assert_array_equal(read(write_metaimage(tmp_path, ElementDataFile="head.raw", HeaderSize="7")).array, hu)
    np.testing.assert_array_equal(
        read(write_metaimage(tmp_path, ElementDataFile="head.raw", HeaderSize="-1")).array, hu
    )
    for skip in ("7", "-1"):
        np.testing.assert_array_equal(read(write_nrrd(tmp_path, b"", data_file="head.raw", byte_skip=skip)).array, hu)
    (tmp_path / "link.raw").symlink_to(tmp_path / "my voxels.raw")
    np.testing.assert_array_equal(read(write_metaimage(tmp_path, ElementDataFile="link.raw")).array, hu)
    path = write_metaimage(tmp_path, ElementDataFile="LOCAL")
    assert "bytes in all, but there are 0" in refusal(path)
    path.write_bytes(path.read_bytes() + hu.tobytes())
    np.testing.assert_array_equal(read(path).array, hu)


@pytest.mark.parametrize(
    "changes",
    [
        {"NDims": "three"},
        {"NDims": None},
        {"DimSize": "6 5 -4"},
        {"DimSize": "6 5"},
        {"DimSize": "9" * 5000 + " 5 4"},
        {"ElementSpacing": "nan 1 1"},
        {"ElementSpacing": "inf 1 1"},
        {"Offset": "1 2"},
        {"Offset": "nan 0 0"},
        {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
        {"ElementType": "MET_SHORT_ARRAY"},
        {"BinaryData": "False"},
        {"HeaderSize": "-2"},
        {"ElementToIntensityFunctionSlope": "2"},
    ],
)
def test_bad_fields_of_metaimage(tmp_path: Path, changes: dict[str, str | None]) -> None:
    refusal(write_metaimage(tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "block"},
        {"type": None},
        {"sizes": "6 5 0"},
        {"sizes": "6 5"},
        {"dimension": None},
        {"endian": None},
        {"encoding": "bzip2"},
        {"encoding": "ascii"},
        {"space_directions": "(1,0,0) (0,1,0)"},
        {"space_directions": "none (0,1,0) (0,0,1)"},
        {"space_directions": "(nan,0,0) (0,1,0) (0,0,1)"},
        {"space_directions": "(1e200,0,0) (0,1,0) (0,0,1)"},
        {"space_origin": "(1,2)"},
        {"line_skip": "3"},
        {"byte_skip": "-2"},
    ],
)
def test_bad_fields_of_nrrd(tmp_path: Path, changes: dict[str, str | None]) -> None:
    refusal(write_nrrd(tmp_path, **changes))


@pytest.mark.parametrize(
    "fields",
    [
        {"sizeof_hdr": 349},
        {"magic": b"ni1"},
        {"magic": b""},
        {"dim": [0, 6, 5, 4, 1, 1, 1, 1]},
        {"dim": [3, 6, -5, 4, 1, 1, 1, 1]},
        {"datatype": 999},
        {"datatype": 1},
        {"vox_offset": 0},
        {"vox_offset": np.nan},
        {"vox_offset": 1e30},
        {"scl_slope": np.inf},
        {"srow_x": [0, 0, 0, 0]},
        {"srow_x": [np.nan, 0, 0, 0]},
        {"sform_code": 0, "quatern_b": 7.0},
    ],
)
def test_bad_fields_of_nifti(tmp_path: Path, fields: dict[str, object]) -> None:
    refusal(write_nifti(tmp_path / "a.nii", **fields))


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    assert refusal(tmp_path / "pipe.nii") == "is no plain file"
    assert refusal(tmp_path / "gone.mhd").startswith("cannot be read")
    (tmp_path / "a.raw").write_bytes(b"")
    assert "not named like a volume" in refusal(tmp_path / "a.raw")


def test_without_nibabel_only_nifti_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "a.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    for task in (lambda: list_file(path), lambda: write_volume(tmp_path / "b.nii.gz", some_hu(), GEOMETRY)):
        with pytest.raises(MissingExtraError, match=r"pip install 'synthoma\[ct\]'"):
            task()
    for other in (write_metaimage(tmp_path), write_nrrd(tmp_path)):
        np.testing.assert_array_equal(read(other).array, some_hu())


def test_errors_go_from_one_process_to_another(tmp_path: Path) -> None:
    error = VolumeFileError(tmp_path / "a.nii", "is damaged")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.reason) == (str(error), "is damaged")


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_end_in_clear_errors(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Bits flipped in the header, in the body, and files cut off: an error of ours, or a volume of its size."""
    random = np.random.default_rng(NAMES.index(name))
    write_volume(tmp_path / name, some_hu(), GEOMETRY, "fuzz", compress=PACKED[name])
    whole = (tmp_path / name).read_bytes()
    refused = 0
    for case in range(90):
        content = bytearray(whole)
        if case % 3 == 2:
            del content[int(random.integers(len(content))) :]
        else:
            end = min(len(content), 348 if case % 3 == 0 else len(content))
            for at in random.integers(0, end, int(random.integers(1, 4))):
                content[at] ^= 1 << int(random.integers(8))
        (tmp_path / name).write_bytes(content)
        try:
            found = read(tmp_path / name, "hu" if case % 2 else "auto")
        except VolumeError:
            refused += 1
        else:
            assert found.array.ndim == 3
            assert np.isfinite(found.array).all()
            assert found.geometry is None or found.geometry.size == found.array.shape
    assert refused >= 30  # at least what was cut off
    assert capfd.readouterr() == ("", "")
