"""Phantom CT on disk: what is written is what readers of the formats find, and invented names only."""

import csv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from synthoma.cli.app import app
from synthoma.errors import DataError
from synthoma.formats.marks import cluster_nodules, consensus, read_marks, summarise_ratings
from synthoma.phantoms.ct import write_ct_phantoms
from synthoma.sources import data_terms

needs_ct = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("pydicom", "SimpleITK", "nibabel", "defusedxml")),
    reason="the packages of the extra ct are not installed",
)
SMALL = {"size": (56, 96, 96), "spacing": (5.0, 3.5, 3.5)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three small volumes of two patients as DICOM, with all that belongs to them."""
    path = tmp_path_factory.mktemp("phantoms") / "ct"
    write_ct_phantoms(path, volumes=3, patients=2, seed=4, nodules=(3, 5), **SMALL)
    return path


def truth_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def place(row: dict[str, str]) -> np.ndarray:
    return np.array([float(row[axis]) for axis in "xyz"])


def read_with_itk(files):
    import SimpleITK

    return SimpleITK.ReadImage([str(path) for path in files] if isinstance(files, list) else str(files))


@needs_ct
def test_all_marks_are_read_and_name_what_is_there(folder):
    marks = read_marks(folder / "marks")
    assert marks.skipped == ()
    assert marks.files["lidc"] == 3
    assert marks.files["luna16_annotations"] == 1
    assert marks.files["pet_ct_dx"] == len({box.sop_instance_uid for box in marks.boxes}) > 0
    truth = truth_of(folder)
    series = {row["series"] for row in truth}
    assert len(series) == 3
    assert {reading.series for reading in marks.readings} == series
    assert {point.series for point in marks.points} <= series
    expected = [row for row in truth if row["kind"] == "nodule" and int(row["readers"]) >= 3]
    assert len(marks.points) == len(expected) > 0
    for point, row in zip(marks.points, expected, strict=True):
        np.testing.assert_allclose(point.position, place(row), atol=2e-6)
        assert point.diameter == pytest.approx(float(row["diameter_mm"]), abs=2e-6)
    assert data_terms(folder).licence == "CC0-1.0"


@needs_ct
def test_the_readers_consensus_is_the_nodule(tmp_path):
    """Full agreement in 3D: the clustered outlines have the place, the size and the rating of the truth."""
    size, spacing = (80, 200, 200), (2.5, 1.6, 1.6)
    write_ct_phantoms(
        tmp_path / "ct", volumes=1, seed=8, size=size, spacing=spacing, diameters=(8, 24), nodules=(6, 6), spheres=True
    )
    (reading,) = read_marks(tmp_path / "ct" / "marks" / "lidc").readings
    slices = sorted((tmp_path / "ct" / "images").rglob("*.dcm"))
    image = read_with_itk(slices)
    z_positions = [image.TransformIndexToPhysicalPoint((0, 0, z))[2] for z in range(size[0])]
    clusters = cluster_nodules(reading.nodules, spacing[1:], spacing[0])
    rows = [row for row in truth_of(tmp_path / "ct") if row["kind"] == "nodule"]
    assert len(clusters) == len(rows) == 6
    for cluster in clusters:
        assert not cluster.unresolved
        agreed = consensus(cluster, z_positions)
        z, y, x = agreed.center
        world = image.TransformContinuousIndexToPhysicalPoint((x, y, z))
        row = min(rows, key=lambda each: np.linalg.norm(place(each) - world))
        assert int(row["readers"]) == cluster.readers
        away = np.abs(place(row) - world) / spacing[::-1]
        assert away.max() < 0.5
        volume = agreed.mask.mask.sum() * np.prod(spacing)
        # The readers' errors are of the order of a fifth of a pixel at each side, and a pixel has a grain of its own.
        assert abs((6 * volume / np.pi) ** (1 / 3) - float(row["diameter_mm"])) < 0.8 * spacing[1]
        assert abs(summarise_ratings(cluster)["malignancy"].median - int(row["malignancy"])) <= 1


@needs_ct
def test_dicom_has_the_geometry_the_voxels_and_invented_names(folder):
    import pydicom

    truth = truth_of(folder)
    boxes = read_marks(folder / "marks" / "boxes").boxes
    patients, uids = {}, {}
    folders = sorted({path.parent for path in (folder / "images").rglob("*.dcm")})
    assert len(folders) == 3
    for images in folders:
        files = sorted(images.glob("*.dcm"))
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
        first = headers[0]
        rows = [row for row in truth if row["series"] == first.SeriesInstanceUID]
        assert {row["patient"] for row in rows} == {images.parent.name}
        patients.setdefault(first.PatientID, set()).add(
            (str(first.PatientName), first.PatientBirthDate, images.parent.name)
        )
        assert first.SyntheticData == "YES"
        assert "^" in str(first.PatientName)
        assert len(first.StudyDate) == 8
        uids |= {header.SOPInstanceUID: (header, rows) for header in headers}
        image = read_with_itk(files)
        assert image.GetSize() == SMALL["size"][::-1]
        np.testing.assert_allclose(image.GetSpacing(), SMALL["spacing"][::-1], rtol=1e-6)
        solid = [row for row in rows if row["texture"] == "solid" and float(row["diameter_mm"]) > 12]
        for row in solid:
            assert image[image.TransformPhysicalPointToIndex(place(row).tolist())] > -200
    assert len(patients) == 2
    assert all(len(facts) == 1 for facts in patients.values())
    for box in boxes:
        header, rows = uids[box.sop_instance_uid]
        x0, y0, x1, y1 = box.box
        origin, spacing = np.array(header.ImagePositionPatient, dtype=float), SMALL["spacing"][1:]
        near = [row for row in rows if abs(place(row)[2] - origin[2]) <= float(row["diameter_mm"]) / 2 + 8]
        pixels = [(place(row)[:2] - origin[:2]) / spacing[::-1] for row in near]
        assert any(x0 - 0.5 <= x <= x1 and y0 - 0.5 <= y <= y1 for x, y in pixels)


@needs_ct
@pytest.mark.parametrize(("kind", "suffix"), [("nifti", ".nii.gz"), ("metaimage", ".mhd")])
def test_other_formats_hold_the_same_volumes(folder, tmp_path, kind, suffix):
    import pydicom
    from SimpleITK import GetArrayFromImage

    write_ct_phantoms(tmp_path / "ct", volumes=1, kind=kind, seed=4, nodules=(3, 5), **SMALL)
    files = sorted((tmp_path / "ct" / "images").rglob(f"*{suffix}"))
    assert len(files) == 1
    assert not (tmp_path / "ct" / "marks" / "boxes").exists()
    first = [row for row in truth_of(folder) if row["series"] == truth_of(folder)[0]["series"]]
    assert truth_of(tmp_path / "ct") == first
    series = {row["series"]: row["patient"] for row in truth_of(folder)}
    dicom = [
        (read_with_itk(sorted(images.glob("*.dcm"))), pydicom.dcmread(next(images.glob("*.dcm"))).SeriesInstanceUID)
        for images in sorted((folder / "images").glob("*/*"))
    ]
    for path in files:
        assert path.parent.name == series[path.name.removesuffix(suffix)]
        image = read_with_itk(path)
        voxels = GetArrayFromImage(image)
        (as_dicom,) = [each for each in dicom if each[1] == path.name.removesuffix(suffix)]
        np.testing.assert_array_equal(voxels, GetArrayFromImage(as_dicom[0]))
        for corner in ((0, 0, 0), (95, 0, 55), (10, 95, 3)):
            np.testing.assert_allclose(
                image.TransformIndexToPhysicalPoint(corner),
                as_dicom[0].TransformIndexToPhysicalPoint(corner),
                atol=2e-3,
            )


@needs_ct
def test_the_same_arguments_write_the_same_bytes_and_a_second_time_nothing(folder, tmp_path):
    report = write_ct_phantoms(tmp_path / "again", volumes=1, seed=4, nodules=(3, 5), **SMALL)
    assert not report.reused
    assert report.count == 1
    files = [
        path for part in ("images", "marks/lidc", "marks/boxes") for path in (tmp_path / "again" / part).rglob("*.*")
    ]
    assert len(files) > SMALL["size"][0]
    for path in files:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path / "again")).read_bytes(), path
    again = write_ct_phantoms(tmp_path / "again", volumes=1, seed=4, nodules=(3, 5), **SMALL)
    assert again.reused
    assert again.nodules == report.nodules
    assert "nothing was written" in str(again)
    with pytest.raises(DataError, match="another seed"):
        write_ct_phantoms(tmp_path / "again", volumes=1, seed=5, nodules=(3, 5), **SMALL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "png"}, "dicom, nifti, metaimage"),
        ({"kind": "nifti", "marks": ("boxes",)}, "write the phantoms as dicom"),
        ({"marks": ("stars",)}, "not stars"),
        ({"volumes": 0}, "at least one volume"),
        ({"volumes": 2, "patients": 3}, "cannot be shared"),
        ({"size": (8, 64, 64)}, "24 to 1024 voxels"),
        ({"spacing": (2.0, 0.0, 1.0)}, "0.1 to 20 mm"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(tmp_path, arguments, words):
    with pytest.raises(DataError, match=words):
        write_ct_phantoms(tmp_path / "ct", **arguments)
    assert not (tmp_path / "ct").exists()


@needs_ct
def test_the_command_writes_volumes(tmp_path):
    out = tmp_path / "ct"
    result = CliRunner().invoke(
        app, ["phantom", "ct", str(out), "--count", "1", "--size", "48", "--format", "metaimage"]
    )
    assert result.exit_code == 0, result.output
    assert len(list(out.rglob("*.mhd"))) == 1
    assert "1 phantom CT volumes (metaimage)" in " ".join(result.output.split())
    refused = CliRunner().invoke(app, ["phantom", "skin", str(out), "--format", "nifti"])
    assert refused.exit_code == 2
