"""DICOM series: what belongs together, where it lies, and gaps, tilt and copies that are never silent."""

import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

import pydicom

from dicom_files import AXIAL, CORONAL, ROOT, alter, ramp, rewrite, write_series
from synthoma.errors import VolumeError
from synthoma.formats.volumes import VolumeFile
from synthoma.formats.volumes.dicom import list_dicom, pixel_to_world, read_dicom, slice_index

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
# The writer of the files complains of values that are wrong on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def only(root: Path) -> VolumeFile:
    listing = list_dicom(root)
    assert len(listing.volumes) == 1, listing
    return listing.volumes[0]


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


def test_missing_slices_are_named_with_their_place(tmp_path: Path) -> None:
    files = write_series(tmp_path, ramp((10, 8, 8)), origin=(0, 0, -250))
    files[3].unlink()
    volume = only(tmp_path)
    assert volume.problem == "1 slice is missing between z = -240.0 and -230.0 mm (spacing 5 mm)"
    with pytest.raises(VolumeError, match=r"between z = -240\.0 and -230\.0 mm .*on_gap=resample"):
        read_dicom(volume)
    with pytest.raises(VolumeError, match="is missing"):
        read_dicom(volume, on_gap="skip")
    files[6].unlink()
    files[7].unlink()
    assert only(tmp_path).problem == (
        "3 slices are missing: 1 between z = -240.0 and -230.0 mm, 2 between z = -225.0 and -210.0 mm (spacing 5 mm)"
    )


def test_a_gap_is_filled_by_interpolation_when_asked(tmp_path: Path) -> None:
    array = ramp((10, 8, 8))
    files = write_series(tmp_path, array)
    whole = only(tmp_path).geometry
    files[3].unlink()
    volume = only(tmp_path)
    read = read_dicom(volume, on_gap="resample")
    assert volume.geometry == whole == read.geometry
    kept = [0, 1, 2, 4, 5, 6, 7, 8, 9]
    np.testing.assert_array_equal(read.array[kept], array[kept])
    between = (array[2].astype(np.float64) + array[4]) / 2
    np.testing.assert_allclose(read.array[3], between, atol=0.5)


def test_uneven_spacing_is_resampled_at_the_median(tmp_path: Path) -> None:
    depths = (0.0, 2.0, 4.0, 7.0, 9.0, 11.0)
    array = np.stack([np.full((8, 8), 100 * depth, np.int16) for depth in depths])
    write_series(tmp_path, array, ImagePositionPatient=lambda n: [0.0, 0.0, depths[n]])
    volume = only(tmp_path)
    assert volume.problem is not None
    assert "uneven: 2 to 3 mm (median 2 mm)" in volume.problem
    read = read_dicom(volume, on_gap="resample")
    assert read.geometry == volume.geometry
    assert read.geometry is not None
    assert read.geometry.spacing[0] == 2.0
    # The values are 100 for each mm, which linear interpolation keeps.
    np.testing.assert_array_equal(read.array[:, 4, 4], [0, 200, 400, 600, 800, 1000])


def test_rounded_positions_are_regular_and_end_on_the_last_slice(tmp_path: Path) -> None:
    write_series(tmp_path, ramp((30, 8, 8)), ImagePositionPatient=lambda n: [0.0, 0.0, round(n * 5 / 3, 2)])
    volume = only(tmp_path)
    assert volume.problem is None
    assert volume.geometry is not None
    assert volume.geometry.world((29, 0, 0))[2] == pytest.approx(round(29 * 5 / 3, 2), abs=1e-9)


def test_small_steps_that_add_up_are_no_regular_grid(tmp_path: Path) -> None:
    """Each step is within 1 % of the median, and slices in the middle lie half a slice off."""
    depths = np.concatenate(([0], np.cumsum([5.04] * 60 + [4.96] * 60)))
    write_series(tmp_path, ramp((121, 4, 4)), ImagePositionPatient=lambda n: [0.0, 0.0, float(round(depths[n], 4))])
    problem = only(tmp_path).problem
    assert problem is not None
    assert "drifts by 2.4 mm" in problem


def tilted(folder: Path, degrees: float, array: np.ndarray, spacing: float = 2.0) -> None:
    """Slices as a tilted gantry takes them: their planes lean, and the table moves along z."""
    angle = np.radians(degrees)
    lean = [1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(-np.sin(angle))]
    write_series(
        folder,
        array,
        (spacing, 1.0, 1.0),
        orientation=lean,
        ImagePositionPatient=lambda n: [0.0, 0.0, n * spacing / float(np.cos(angle))],
        GantryDetectorTilt=degrees,
    )


def test_gantry_tilt_is_found_and_sheared_back(tmp_path: Path) -> None:
    """A field that is linear in world places keeps its value at each place, through shift and interpolation."""
    degrees, size = 20.0, (12, 24, 20)
    angle = np.radians(degrees)
    column = np.array((0.0, np.cos(angle), -np.sin(angle)))
    z, y, x = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    start = np.stack([np.zeros_like(z), np.zeros_like(z), z * 2.0 / np.cos(angle)], axis=-1)
    world = start + x[..., None] * np.array((1.0, 0, 0)) + y[..., None] * column

    def field(place: np.ndarray) -> np.ndarray:
        return place @ np.array((7.0, 11.0, 13.0))

    tilted(tmp_path, degrees, np.rint(field(world)).astype(np.int16))
    volume = only(tmp_path)
    assert volume.problem == "the gantry was tilted by 20 degrees: slices are shifted in plane against each other"
    with pytest.raises(VolumeError, match="tilted by 20 degrees"):
        read_dicom(volume)
    read = read_dicom(volume, on_gap="resample")
    geometry = read.geometry
    assert geometry is not None
    assert geometry.size[0] == 12
    assert geometry.size[1] > 24
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.size), indexing="ij"), axis=-1)
    expected = field(geometry.world(index))
    inside = read.array > -1024
    # The pixels at the edge of a shifted slice are mixed with air.
    for axis in (1, 2):
        inside &= np.roll(read.array > -1024, 1, axis) & np.roll(read.array > -1024, -1, axis)
    assert inside.sum() > 0.8 * np.prod(size)
    np.testing.assert_allclose(read.array[inside], expected[inside], atol=1.0)


def test_slices_shifted_against_each_other(tmp_path: Path) -> None:
    write_series(tmp_path, ramp(), ImagePositionPatient=lambda n: [3.0 if n == 2 else 0.0, 0.0, 5.0 * n])
    problem = only(tmp_path).problem
    assert problem is not None
    assert "shifted in plane against each other, by up to 3 mm" in problem


def test_a_tilt_that_the_positions_deny(tmp_path: Path) -> None:
    write_series(tmp_path, ramp(), GantryDetectorTilt=12.5)
    problem = only(tmp_path).problem
    assert problem is not None
    assert "tilt of 12.5 degrees that the positions do not show" in problem
    np.testing.assert_array_equal(read_dicom(only(tmp_path), on_gap="resample").array, ramp())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"PixelSpacing": None}, "PixelSpacing"),
        ({"PixelSpacing": [0.01, 0.01]}, "distance between pixels is implausible"),
        ({"PixelSpacing": [0.75, 70.0]}, "distance between pixels is implausible"),
        ({"ImageOrientationPatient": None}, "ImageOrientationPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.3, 0.9, 0]}, "right angles"),
        ({"ImagePositionPatient": lambda n: [0.0, 0.0, 5.0 * n] if n != 2 else None}, "1 of 6 slices do not say"),
        ({"ImagePositionPatient": None}, "6 of 6 slices do not say their position"),
        ({"ImagePositionPatient": lambda n: [0.0, 0.0, 30.0 * n]}, "between slices is implausible"),
        ({"ImagePositionPatient": lambda n: [0.0, 0.0, 5.0 * n if n < 5 else 1e6]}, "more slices are missing"),
    ],
)
def test_what_cannot_be_mended_is_refused_always(tmp_path: Path, change: dict[str, object], said: str) -> None:
    write_series(tmp_path, ramp(), **change)
    volume = only(tmp_path)
    assert volume.problem is not None
    assert said in volume.problem
    assert volume.geometry is None
    with pytest.raises(VolumeError, match=said):
        read_dicom(volume, on_gap="resample")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_slices(tmp_path: Path, count: int) -> None:
    write_series(tmp_path, ramp((count, 8, 8)))
    problem = only(tmp_path).problem
    assert problem is not None
    assert problem.startswith(f"it has {count} slice")


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
