"""DICOM series: what belongs together, where it lies, and what is left out."""

import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom

from dicom_files import AXIAL, CORONAL, ROOT, alter, only, ramp, rewrite, write_series
from synthoma.errors import VolumeError
from synthoma.formats.volumes.dicom import list_dicom, pixel_to_world, read_dicom, slice_index

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
# The writer of the files complains of values that are wrong on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def test_slices_are_sorted_by_place_and_not_by_name(tmp_path: Path) -> None:
    array = ramp()
    files = write_series(tmp_path / "deep" / "er", array, (2.5, 0.7, 0.9))
    (tmp_path / "deep" / "notes.txt").write_text("no image")
    (tmp_path / "DICOMDIR").write_bytes(files[0].read_bytes())
    volume = only(tmp_path)
    assert [one.path for one in volume.slices] == files
    assert volume.problem is None
    assert volume.path == tmp_path / "deep" / "er"
    assert volume.patient == "MRN-0042"
    assert volume.series == f"{ROOT}.1"
    assert volume.geometry is not None
    assert volume.geometry.size == array.shape
    assert volume.geometry.spacing == pytest.approx((2.5, 0.7, 0.9), abs=1e-12)
    assert volume.geometry.origin == pytest.approx((-100, -120, -300), abs=1e-12)
    read = read_dicom(volume)
    assert read.array.dtype == np.int16
    assert read.unit == "hu"
    assert read.warnings == ()
    np.testing.assert_array_equal(read.array, array)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE, (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)])
def test_world_is_that_of_simpleitk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    sitk = pytest.importorskip("SimpleITK")
    files = write_series(tmp_path, ramp(), (3.0, 0.7, 0.9), (11, -7, 40), orientation)
    volume = only(tmp_path)
    assert volume.problem is None
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in files])
    image = reader.Execute()
    geometry = read_dicom(volume).geometry
    assert geometry is not None
    for z, y, x in ((0, 0, 0), (5, 15, 19), (2, 3, 4)):
        np.testing.assert_allclose(geometry.world((z, y, x)), image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-6)


def test_stored_pixel_to_world(tmp_path: Path) -> None:
    write_series(tmp_path, ramp(), (3.0, 0.7, 0.9), (11, -7, 40), OBLIQUE)
    volume = only(tmp_path)
    assert volume.geometry is not None
    uid = f"{ROOT}.1.4"
    index = slice_index(volume, uid)
    assert index == 4
    xy = np.array([[0, 0], [19, 15], [2.5, 3.25]])
    places = pixel_to_world(volume, uid, xy)
    np.testing.assert_allclose(volume.geometry.index(places), [[4, y, x] for x, y in xy], atol=1e-6)
    with pytest.raises(VolumeError, match="no slice") as caught:
        slice_index(volume, "1.2.3.4.5")
    assert "1.2.3.4.5" not in str(caught.value)


def test_listing_does_not_depend_on_names(tmp_path: Path) -> None:
    files = write_series(tmp_path / "a", ramp())
    write_series(tmp_path / "a", ramp(seed=1), series=2, prefix="s")
    first = list_dicom(tmp_path)
    names = [f"{number:03d}" for number in range(len(files))]
    random.Random(0).shuffle(names)
    for path, name in zip(files, names, strict=True):
        path.rename(path.with_name(name))
    again = list_dicom(tmp_path)
    assert [v.series for v in first.volumes] == [v.series for v in again.volumes] == [f"{ROOT}.1", f"{ROOT}.2"]
    uids = [[one.sop_instance_uid for one in v.slices] for v in again.volumes]
    assert uids == [[one.sop_instance_uid for one in v.slices] for v in first.volumes]
    np.testing.assert_array_equal(read_dicom(again.volumes[1]).array, ramp(seed=1))


def test_a_listed_volume_can_go_to_another_process(tmp_path: Path) -> None:
    write_series(tmp_path, ramp())
    sent = pickle.loads(pickle.dumps(only(tmp_path)))  # noqa: S301
    np.testing.assert_array_equal(read_dicom(sent).array, ramp())


def test_slices_of_several_sizes(tmp_path: Path) -> None:
    array = ramp((6, 8, 8))
    files = write_series(tmp_path, array)
    write_series(tmp_path, ramp((6, 8, 10)), prefix="wide")
    for path in (*files[3:], *(tmp_path / f"wide{n:03d}.dcm" for n in (4, 5, 6))):
        path.unlink()
    shutil.copy(files[0], tmp_path / "copy.dcm")
    volumes = list_dicom(tmp_path).volumes
    assert len(volumes) == 2  # each is regular by itself
    (tmp_path / "wide002.dcm").unlink()
    narrow, wide = sorted(list_dicom(tmp_path).volumes, key=lambda v: v.problem is not None)
    assert narrow.problem is None
    assert wide.problem == (
        "its series has slices of several sizes (8 x 8, 8 x 10); it has 2 slices; a volume needs at least 3"
    )


def test_scouts_and_other_kinds_are_left_out(tmp_path: Path) -> None:
    write_series(tmp_path, ramp())
    write_series(tmp_path, ramp((1, 8, 8)), orientation=CORONAL, prefix="across", SOPInstanceUID="1.2.9")
    write_series(tmp_path, ramp((1, 8, 8)), series=2, prefix="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path, ramp((1, 8, 8)), series=3, prefix="mr", Modality="MR")
    write_series(tmp_path, ramp((1, 8, 8)), series=4, prefix="odd", Modality="DOE^JANE")
    write_series(tmp_path, ramp((1, 8, 8)), series=5, prefix="sc", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    write_series(tmp_path, ramp((1, 8, 8)), series=6, prefix="multi", NumberOfFrames=2)
    write_series(tmp_path, ramp((1, 8, 8)), series=7, prefix="rgb", PhotometricInterpretation="RGB", SamplesPerPixel=3)
    write_series(tmp_path, ramp((1, 8, 8)), series=8, prefix="zeff", RescaleType="Z_EFF")
    listing = list_dicom(tmp_path)
    assert len(listing.volumes) == 1
    assert {left.path.name.removesuffix("001.dcm"): left.what for left in listing.left_out} == {
        "across": "localizer",
        "scout": "localizer",
        "mr": "not CT",
        "odd": "not CT",
        "sc": "secondary capture",
        "multi": "multi-frame CT",
        "rgb": "colour picture",
        "zeff": "not Hounsfield units",
    }
    assert not any("DOE" in left.reason for left in listing.left_out)


def test_burned_in_annotations_are_refused_unless_allowed(tmp_path: Path) -> None:
    write_series(tmp_path, ramp(), BurnedInAnnotation="YES")
    refused = list_dicom(tmp_path)
    assert not refused.volumes
    assert {left.what for left in refused.left_out} == {"burned-in annotation"}
    allowed = list_dicom(tmp_path, burned_in="allow").volumes[0]
    np.testing.assert_array_equal(read_dicom(allowed).array, ramp())


def test_copies_are_listed_and_one_is_kept(tmp_path: Path) -> None:
    array = ramp()
    files = write_series(tmp_path, array)
    shutil.copy(files[2], tmp_path / "another.dcm")
    listing = list_dicom(tmp_path)
    assert [left.what for left in listing.left_out] == ["duplicate slice"]
    assert listing.volumes[0].problem is None
    assert listing.volumes[0].warnings == ()
    np.testing.assert_array_equal(read_dicom(listing.volumes[0]).array, array)


def test_of_unlike_slices_at_one_place_the_newest_is_kept(tmp_path: Path) -> None:
    array = ramp()
    files = write_series(tmp_path, array)
    newer = write_series(tmp_path, ramp(seed=1), prefix="a", AcquisitionTime="111213", SOPInstanceUID="1.2.0.7")
    for path in newer[:3] + newer[4:]:
        path.unlink()
    listing = list_dicom(tmp_path)
    assert [left.path for left in listing.left_out] == [files[3]]
    read = read_dicom(listing.volumes[0])
    assert "the newest by its time" in read.warnings[0]
    np.testing.assert_array_equal(read.array[3], ramp(seed=1)[3])
    np.testing.assert_array_equal(read.array[2], array[2])


def test_two_acquisitions_in_one_series_become_two_volumes(tmp_path: Path) -> None:
    write_series(tmp_path, ramp())
    write_series(tmp_path, ramp(seed=1), prefix="b", AcquisitionNumber=2, SOPInstanceUID=lambda n: f"1.2.7.{n}")
    volumes = list_dicom(tmp_path).volumes
    assert [volume.problem for volume in volumes] == [None, None]
    np.testing.assert_array_equal(read_dicom(volumes[0]).array, ramp())
    np.testing.assert_array_equal(read_dicom(volumes[1]).array, ramp(seed=1))


def test_phases_that_nothing_separates_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, ramp())
    write_series(tmp_path, ramp(seed=1), prefix="b", SOPInstanceUID=lambda n: f"1.2.7.{n}")
    volume = only(tmp_path)
    assert volume.problem is not None
    assert "2 different slices at each place" in volume.problem
    assert volume.geometry is None


def test_two_phases_of_which_one_misses_a_slice_are_not_mixed(tmp_path: Path) -> None:
    write_series(tmp_path, ramp())
    later = write_series(tmp_path, ramp(seed=1), prefix="b", AcquisitionNumber=2, SOPInstanceUID=lambda n: f"1.2.7.{n}")
    later[2].unlink()
    whole, holed = list_dicom(tmp_path).volumes
    assert whole.problem is None
    np.testing.assert_array_equal(read_dicom(whole).array, ramp())
    assert holed.problem is not None
    assert "1 slice is missing" in holed.problem
    assert len(holed.slices) == 5


def test_two_patients_under_one_series_are_never_mixed(tmp_path: Path) -> None:
    write_series(tmp_path, ramp(), PatientID=lambda n: f"MRN-{n % 2}")
    volumes = list_dicom(tmp_path).volumes
    assert sorted(volume.patient or "" for volume in volumes) == ["MRN-0", "MRN-1"]
    assert all(len(volume.slices) == 3 for volume in volumes)


def test_facts_are_an_allow_list(tmp_path: Path) -> None:
    write_series(
        tmp_path,
        ramp(),
        Manufacturer="GE MEDICAL SYSTEMS of Dr. Doe",
        ConvolutionKernel="of Jane Doe, 1950",
        StudyDescription="Jane Doe",
        PatientAge="093Y",
        KVP=9999,
    )
    volume = only(tmp_path)
    assert volume.facts == {"slice_thickness": 5.0, "manufacturer": "GE", "sex": "F", "age_band": "90+"}
    shown = repr(volume)
    assert not any(word in shown for word in ("Doe", "MRN", str(tmp_path), ROOT))


@pytest.mark.parametrize(
    ("age", "band"),
    [("061Y", "60-69"), ("090Y", "90+"), ("018M", "0-9"), ("999Y", None), ("Jane", None), (None, None)],
)
def test_age_becomes_a_band(tmp_path: Path, age: str | None, band: str | None) -> None:
    write_series(tmp_path, ramp((3, 4, 4)), PatientAge=age)
    assert only(tmp_path).facts.get("age_band") == band


def test_progress_counts_files(tmp_path: Path) -> None:
    write_series(tmp_path, ramp((3, 4, 4)))
    seen: list[tuple[int, int]] = []
    list_dicom(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_volume_too_large_for_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path, ramp())
    monkeypatch.setattr("synthoma.formats.volumes.dicom_geometry.MAX_BYTES", 6 * 16 * 20 * 2 - 1)
    volume = only(tmp_path)
    assert volume.problem is not None
    assert volume.geometry is None


def test_a_single_file_and_no_place_at_all(tmp_path: Path) -> None:
    files = write_series(tmp_path, ramp())
    assert list_dicom(files[0]).volumes[0].problem is not None
    with pytest.raises(VolumeError, match="does not exist"):
        list_dicom(tmp_path / "none")


def test_without_a_preamble(tmp_path: Path) -> None:
    files = write_series(tmp_path, ramp())
    for path in files:
        dataset = pydicom.dcmread(path)
        alter(dataset, "SpecificCharacterSet", "ISO_IR 100")
        kept = pydicom.Dataset(dataset)
        with path.open("wb") as file:
            pydicom.filewriter.write_dataset(_implicit(file), kept)
    np.testing.assert_array_equal(read_dicom(only(tmp_path)).array, ramp())


def _implicit(file: object) -> object:
    from pydicom.filebase import DicomIO

    made = DicomIO(file)  # type: ignore[arg-type]
    made.is_little_endian = True
    made.is_implicit_VR = True
    return made


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    files = write_series(tmp_path, ramp())
    volume = only(tmp_path)
    rewrite(files[2], lambda dataset: alter(dataset, "StudyDescription", "x" * 40))
    with pytest.raises(VolumeError, match="has changed since it was listed"):
        read_dicom(volume)
