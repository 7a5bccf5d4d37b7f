"""Stored values of DICOM to Hounsfield units: all ways of keeping them, rescale by slice, padding, compression."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_files import ramp, rewrite, write_series
from synthoma.errors import VolumeError
from synthoma.formats.volumes import Volume
from synthoma.formats.volumes.dicom import list_dicom, read_dicom

HU = ramp((4, 48, 40))


def read(root: Path) -> Volume:
    (volume,) = list_dicom(root).volumes
    return read_dicom(volume)


def store(dataset: FileDataset, values: np.ndarray) -> None:
    """Puts stored values [y, x] of 16 or 32 bits into a slice."""
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW"


def change_all(files: list[Path], change) -> None:  # type: ignore[no-untyped-def]
    for number, path in enumerate(files):
        rewrite(path, lambda dataset, number=number: change(dataset, number))


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
)
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    write_series(tmp_path, HU, syntax=syntax)
    np.testing.assert_array_equal(read(tmp_path).array, HU)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("bits", [12, 16])
def test_signed_values(tmp_path: Path, syntax: str, bits: int) -> None:
    hu = np.clip(HU, -1024, 2047)
    files = write_series(tmp_path, hu)

    def signed(dataset: FileDataset, number: int) -> None:
        store(dataset, hu[number].astype("<i2"))
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.RescaleIntercept = 0
        if pydicom.uid.UID(syntax).is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)

    change_all(files, signed)
    np.testing.assert_array_equal(read(tmp_path).array, hu)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high_bit", [11, 15])
def test_bits_outside_the_stored_ones_are_cleared(tmp_path: Path, signed: bool, high_bit: int) -> None:
    files = write_series(tmp_path, np.clip(HU, -1024, 2047))

    def overlay(dataset: FileDataset, number: int) -> None:
        values = np.clip(HU[number], -1024, 2047).astype(np.int64) + (0 if signed else 1024)
        bits = (values & 0xFFF) << (high_bit - 11)
        noise = 0xF000 if high_bit == 11 else 0x000F
        store(dataset, (bits | noise).astype("<u2"))
        dataset.PixelRepresentation = int(signed)
        dataset.RescaleIntercept = 0 if signed else -1024
        dataset.BitsStored, dataset.HighBit = 12, high_bit

    change_all(files, overlay)
    np.testing.assert_array_equal(read(tmp_path).array, np.clip(HU, -1024, 2047))


def test_rescale_is_that_of_each_slice(tmp_path: Path) -> None:
    """Slope and intercept differ from slice to slice; the Hounsfield units are right to rounding."""
    files = write_series(tmp_path, HU)
    slopes = (0.5, 1.0, 1.37, 0.25)

    def scale(dataset: FileDataset, number: int) -> None:
        intercept = -1024 - 10 * number
        dataset.RescaleSlope, dataset.RescaleIntercept = slopes[number], intercept
        store(dataset, np.rint((HU[number].astype(float) - intercept) / slopes[number]).astype("<u2"))

    change_all(files, scale)
    found = read(tmp_path).array
    for number, slope in enumerate(slopes):
        assert np.abs(found[number].astype(int) - HU[number]).max() <= slope / 2 + 0.5
    np.testing.assert_array_equal(found[1], HU[1])


def test_32_bits(tmp_path: Path) -> None:
    files = write_series(tmp_path, HU)

    def wide(dataset: FileDataset, number: int) -> None:
        store(dataset, (HU[number].astype("<i4") + 5_000_000) * 100)
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.01, -5_000_000

    change_all(files, wide)
    np.testing.assert_array_equal(read(tmp_path).array, HU)


def test_monochrome1_is_turned_round(tmp_path: Path) -> None:
    files = write_series(tmp_path, np.clip(HU, -1024, 3000))

    def invert(dataset: FileDataset, number: int) -> None:
        store(dataset, (4095 - (np.clip(HU[number], -1024, 3000) + 1024)).astype("<u2"))
        dataset.BitsStored, dataset.HighBit, dataset.PhotometricInterpretation = 12, 11, "MONOCHROME1"

    change_all(files, invert)
    found = read(tmp_path)
    np.testing.assert_array_equal(found.array, np.clip(HU, -1024, 3000))
    assert any("MONOCHROME1" in warning for warning in found.warnings)


def test_monochrome1_with_a_negative_slope_is_right_as_it_is(tmp_path: Path) -> None:
    files = write_series(tmp_path, HU)

    def invert(dataset: FileDataset, number: int) -> None:
        store(dataset, (4095 - (HU[number] + 1024)).astype("<u2"))
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.RescaleSlope, dataset.RescaleIntercept = -1, 4095 - 1024

    change_all(files, invert)
    np.testing.assert_array_equal(read(tmp_path).array, HU)


@pytest.mark.parametrize(("value", "limit"), [(-2000, None), (-3024, -2000), (3500, None), (32767, 32000)])
def test_padding_becomes_air(tmp_path: Path, value: int, limit: int | None) -> None:
    files = write_series(tmp_path, HU)

    def pad(dataset: FileDataset, number: int) -> None:
        values = HU[number].astype("<i2")
        values[:5] = value if limit is None else (value + limit) // 2
        store(dataset, values)
        dataset.RescaleIntercept = 0
        dataset.add_new("PixelPaddingValue", "SS", value)
        if limit is not None:
            dataset.add_new("PixelPaddingRangeLimit", "SS", limit)

    change_all(files, pad)
    found = read(tmp_path).array
    assert (found[:, :5] == -1024).all()
    np.testing.assert_array_equal(found[:, 5:], HU[:, 5:])


def test_values_below_air_without_a_padding_tag(tmp_path: Path) -> None:
    write_series(tmp_path, HU, RescaleIntercept=-3024)
    np.testing.assert_array_equal(read(tmp_path).array, np.maximum(HU.astype(int) - 2000, -1024))


def test_padding_beyond_the_stored_bits(tmp_path: Path) -> None:
    """63536 (-2000 as 16 bits) in an image of 12 bits is padding, and no bone of 1072 HU."""
    files = write_series(tmp_path, HU)

    def pad(dataset: FileDataset, number: int) -> None:
        values = (HU[number] + 1024).astype("<u2")
        values[:5] = 63536
        store(dataset, values)
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.add_new("PixelPaddingValue", "US", 63536)

    change_all(files, pad)
    found = read(tmp_path).array
    assert (found[:, :5] == -1024).all()
    np.testing.assert_array_equal(found[:, 5:], HU[:, 5:])


def test_padding_that_is_water_makes_no_holes(tmp_path: Path) -> None:
    files = write_series(tmp_path, np.where(HU > 1000, 0, HU))

    def pad(dataset: FileDataset, number: int) -> None:
        store(dataset, np.where(HU[number] > 1000, 0, HU[number]).astype("<i2"))
        dataset.RescaleIntercept = 0
        dataset.add_new("PixelPaddingValue", "SS", 0)

    change_all(files, pad)
    found = read(tmp_path)
    np.testing.assert_array_equal(found.array, np.where(HU > 1000, 0, HU))
    assert any("PixelPaddingValue" in warning for warning in found.warnings)


def test_missing_rescale_is_taken_as_one_only_where_that_gives_hounsfield_units(tmp_path: Path) -> None:
    files = write_series(tmp_path / "signed", HU, RescaleSlope=None, RescaleIntercept=None)

    def signed(dataset: FileDataset, number: int) -> None:
        store(dataset, HU[number].astype("<i2"))

    change_all(files, signed)
    found = read(tmp_path / "signed")
    np.testing.assert_array_equal(found.array, HU)
    assert any("RescaleSlope or RescaleIntercept is missing" in warning for warning in found.warnings)
    write_series(tmp_path / "unsigned", HU, RescaleSlope=None, RescaleIntercept=None)
    with pytest.raises(VolumeError, match="no Hounsfield units"):
        read(tmp_path / "unsigned")


def test_metal_is_kept_and_said(tmp_path: Path) -> None:
    hu = HU.astype(np.int32)
    hu[:, 0] = 20_000
    write_series(tmp_path, hu)
    found = read(tmp_path)
    np.testing.assert_array_equal(found.array, hu)
    assert found.warnings == ("2.1% of the voxels are above 3071 HU",)


@pytest.mark.parametrize(("low", "high"), [(-150, 900), (0, 255)])
def test_values_that_are_no_hounsfield_units_are_said(tmp_path: Path, low: int, high: int) -> None:
    write_series(tmp_path, np.random.default_rng(0).integers(low, high, HU.shape))
    assert any("does not look like Hounsfield units" in warning for warning in read(tmp_path).warnings)


def test_a_modality_table_and_a_deflated_file_are_refused_by_name(tmp_path: Path) -> None:
    write_series(tmp_path, HU, ModalityLUTSequence=lambda _: [pydicom.Dataset()])
    write_series(tmp_path, HU, prefix="deflated", series=2, syntax=DeflatedExplicitVRLittleEndian)
    listing = list_dicom(tmp_path)
    assert not listing.volumes
    assert {left.what for left in listing.left_out} == {"modality table", "deflated file"}
    assert any("ModalityLUTSequence" in left.reason for left in listing.left_out)


def test_a_missing_decoder_names_the_syntax_and_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, HU, syntax=JPEGLSLossless)
    from pydicom.pixels.decoders.base import Decoder

    monkeypatch.setattr(Decoder, "available_plugins", ())
    monkeypatch.setattr(Decoder, "missing_dependencies", ["gdcm - requires gdcm>=3.0", "pyjpegls - requires jpeg_ls"])
    with pytest.raises(VolumeError, match=r"JPEG-LS Lossless.*pip install python-gdcm pyjpegls.*synthoma\[ct\]"):
        read(tmp_path)


def test_a_syntax_that_nothing_reads(tmp_path: Path) -> None:
    files = write_series(tmp_path, HU, syntax=JPEGLSLossless)

    def video(dataset: FileDataset, number: int) -> None:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML

    change_all(files, video)
    with pytest.raises(VolumeError, match=r"MPEG2 Main Profile.* is not supported"):
        read(tmp_path)
