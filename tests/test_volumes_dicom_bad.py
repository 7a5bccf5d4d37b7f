"""Damaged and hostile DICOM: clear errors only, nothing on the terminal, no name in a reason, memory bounded."""

import os
import random
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_files import ramp, rewrite, write_series
from synthoma.errors import MissingExtraError, SynthomaError, VolumeError
from synthoma.formats.volumes.dicom import list_dicom, read_dicom

# What the reader lets out is an error; what the writer of the files says of wrong values is not.
pytestmark = pytest.mark.filterwarnings("error", "ignore::UserWarning:pydicom.valuerep")
HU = ramp((6, 40, 36))


def damaged(root: Path, said: str) -> None:
    """One file is listed as damaged with a reason like that, and the series has a gap where it was."""
    listing = list_dicom(root)
    assert [left.what for left in listing.left_out] == ["damaged file"], listing.left_out
    assert said in listing.left_out[0].reason
    (volume,) = listing.volumes
    assert volume.problem == "1 slice is missing between z = -295.0 and -285.0 mm (spacing 5 mm)"


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.999])
def test_a_truncated_file(tmp_path: Path, keep: float) -> None:
    files = write_series(tmp_path, HU)
    content = files[2].read_bytes()
    files[2].write_bytes(content[: int(len(content) * keep)])
    damaged(tmp_path, "truncated" if keep > 0.5 else "")


def test_a_truncated_compressed_file(tmp_path: Path) -> None:
    files = write_series(tmp_path, HU, syntax=JPEGLSLossless)
    files[2].write_bytes(files[2].read_bytes()[:-200])
    damaged(tmp_path, "cut off")


def test_a_compressed_file_that_is_larger_than_any_slice(tmp_path: Path) -> None:
    files = write_series(tmp_path, HU, syntax=JPEGLSLossless)
    os.truncate(files[2], 1 << 30)  # sparse: it takes no place on the disk
    damaged(tmp_path, "1024 MiB")


def test_damage_within_compressed_pixels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = write_series(tmp_path, HU, syntax=JPEG2000Lossless)
    content = bytearray(files[2].read_bytes())
    at = content.find(b"\xff\x4f\xff\x51")
    content[at + 60 : at + 400] = bytes(340)
    files[2].write_bytes(content)
    (volume,) = list_dicom(tmp_path).volumes
    with pytest.raises(VolumeError, match="damaged compressed pixels"):
        read_dicom(volume)
    assert capfd.readouterr() == ("", "")


def test_jpeg_lossless_and_damage_in_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """gdcm alone reads this syntax; of most damage it tells the terminal only, and gives wrong pixels."""
    gdcm = pytest.importorskip("gdcm")
    files = write_series(tmp_path, HU)
    for path in files:
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    (volume,) = list_dicom(tmp_path).volumes
    np.testing.assert_array_equal(read_dicom(volume).array, HU)
    content = files[2].read_bytes()
    for place in range(-1500, -200, 300):
        # The picture ends before its last row; gdcm would fill the rest with whatever.
        files[2].write_bytes(content[:place] + b"\xff\xd9" + content[place + 2 :])
        with pytest.raises(VolumeError, match="damaged compressed pixels"):
            read_dicom(volume)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_compressed_picture_that_claims_to_be_huge(tmp_path: Path, syntax: str) -> None:
    files = write_series(tmp_path, HU, syntax=syntax)
    content = bytearray(files[2].read_bytes())
    if syntax == JPEG2000Lossless:
        at = content.find(b"\xff\x4f\xff\x51")
        content[at + 8 : at + 16] = struct.pack(">II", 60_000, 60_000)
    else:
        at = content.find(b"\xff\xf7")
        content[at + 5 : at + 9] = struct.pack(">HH", 60_000, 60_000)
    files[2].write_bytes(content)
    (volume,) = list_dicom(tmp_path).volumes
    with pytest.raises(VolumeError, match="another size than its header"):
        read_dicom(volume)


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("Rows", 65535, "65535 x 36"),
        ("Columns", 0, "40 x 0"),
        ("Rows", 400, "shorter than 400 x 36"),
        ("BitsAllocated", 12, "of 12 bits"),
        ("BitsStored", 17, "17 of 16 bits"),
        ("RescaleSlope", 0, "slope is 0"),
        ("PixelData", None, "no pixels"),
        ("SOPInstanceUID", None, "series and instance"),
        ("SOPClassUID", None, "SOPClassUID"),
        ("ImagePositionPatient", [1, 2], "2 values instead of 3"),
        ("PhotometricInterpretation", None, "how its pixels are stored"),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, keyword: str, value: object, said: str) -> None:
    files = write_series(tmp_path, HU)

    def change(dataset: FileDataset) -> None:
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)

    dataset = pydicom.dcmread(files[2])
    change(dataset)
    dataset.save_as(files[2], enforce_file_format=False)
    damaged(tmp_path, said)


@pytest.mark.parametrize("words", [b"nan", b"inf", b"Jane", b"\xf0\x9f\xab\x81"])
def test_a_position_that_is_no_number(tmp_path: Path, words: bytes) -> None:
    files = write_series(tmp_path, HU)
    content = files[2].read_bytes()
    place = content.find(b"\x20\x00\x32\x00DS") + 8
    files[2].write_bytes(content[:place] + words + content[place + len(words) :])
    damaged(tmp_path, "ImagePositionPatient is no number")


def test_an_element_that_claims_gigabytes(tmp_path: Path) -> None:
    files = write_series(tmp_path, HU, syntax=ImplicitVRLittleEndian)
    content = bytearray(files[2].read_bytes())
    at = content.find(b"\x20\x00\x32\x00")
    content[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFF0)
    files[2].write_bytes(content)
    damaged(tmp_path, "")


def test_a_long_header_is_read_to_its_end(tmp_path: Path) -> None:
    files = write_series(tmp_path, HU)

    def stuff(dataset: FileDataset) -> None:
        block = dataset.private_block(0x0029, "MAKER", create=True)
        block.add_new(1, "OB", bytes(300_000))

    rewrite(files[2], stuff)
    (volume,) = list_dicom(tmp_path).volumes
    assert volume.problem is None
    np.testing.assert_array_equal(read_dicom(volume).array, HU)


def test_text_of_any_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    files = write_series(tmp_path, HU, PatientID="Zoë \N{LUNGS}", SpecificCharacterSet="ISO_IR 192")
    for path in files:
        # A character set that nobody knows: pydicom would warn, with the values.
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_JANE_2"))
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (volume,) = list_dicom(tmp_path).volumes
        np.testing.assert_array_equal(read_dicom(volume).array, HU)
    assert caplog.records == []
    assert volume.patient == "Zoë \N{LUNGS}"
    assert capfd.readouterr() == ("", "")


def test_folders_of_other_files(tmp_path: Path) -> None:
    generator = random.Random(0)
    for number in range(50):
        (tmp_path / f"{number}.bin").write_bytes(generator.randbytes(generator.choice((0, 5, 131, 132, 5000))))
    (tmp_path / "eight.bin").write_bytes(b"\x08\x00\x05\x00" * 500)
    (tmp_path / "text.txt").write_text("DICM" * 200)
    os.mkfifo(tmp_path / "pipe")
    listing = list_dicom(tmp_path)
    assert listing.volumes == ()
    assert listing.left_out == ()


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    write_series(tmp_path, HU)
    (tmp_path / "gone.dcm").symlink_to(tmp_path / "nowhere")
    listing = list_dicom(tmp_path)
    assert [left.what for left in listing.left_out] == ["damaged file"]
    assert "cannot be read" in listing.left_out[0].reason
    assert listing.volumes[0].problem is None


def test_a_slice_that_disappears_after_listing(tmp_path: Path) -> None:
    files = write_series(tmp_path, HU)
    (volume,) = list_dicom(tmp_path).volumes
    files[1].unlink()
    with pytest.raises(VolumeError, match="cannot be read"):
        read_dicom(volume)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless])
def test_flipped_bits_never_end_in_another_error(
    tmp_path: Path, syntax: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """100 files of each kind with flipped, cut or repeated bytes: a volume, or a `SynthomaError`; reasons name nobody."""
    files = write_series(tmp_path, ramp((3, 16, 16)), syntax=syntax)
    whole = files[1].read_bytes()
    generator = random.Random(syntax)
    refused = 0
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(generator.choice((1, 3, 20))):
            content[generator.randrange(128, len(content))] = generator.randrange(256)
        if generator.random() < 0.2:
            del content[generator.randrange(200, len(content)) :]
        files[1].write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            listing = list_dicom(tmp_path)
        told = [left.reason for left in listing.left_out] + [volume.problem or "" for volume in listing.volumes]
        assert not any(word in line for line in told for word in ("Doe", "MRN", "1.2.826", str(tmp_path)))
        for volume in listing.volumes:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    read = read_dicom(volume, on_gap="resample")
            except SynthomaError:
                refused += 1
            else:
                assert volume.geometry is not None
                assert read.array.shape == volume.geometry.size
    assert refused > 0
    assert capfd.readouterr() == ("", "")


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, HU)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthoma\[ct\]'"):
        list_dicom(tmp_path)
