"""From folders of CT volumes with marks to cubes and slices on disk: what is kept, told, done again, and named nowhere."""

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("SimpleITK")
pytest.importorskip("nibabel")

import pyarrow.parquet as pq
import pydicom
import typer
from typer.testing import CliRunner

from cut_fixture import SLICES, body, cut, recipe
from dicom_files import write_series
from synthoma.cli import ct
from synthoma.cli.console import console
from synthoma.errors import DataError
from synthoma.formats.cuts import cuts_shards
from synthoma.phantoms.ct.writer import write_ct_phantoms
from synthoma.preparation.ct.cut import CutResult
from synthoma.preparation.ct.detect import holds_ct
from synthoma.preparation.ct.find import VolumeSet, find_volumes
from synthoma.preparation.ct.inspect import inspect_volumes
from synthoma.preparation.ct.pseudonyms import PseudonymKey, load_key
from synthoma.preparation.ct.summary import describe_cuts
from synthoma.sources.cuts import CutsSource
from synthoma.sources.terms import data_terms


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct") / "phantoms"
    write_ct_phantoms(
        folder, volumes=3, patients=2, size=(32, 96, 96), spacing=(4.0, 3.2, 3.2), nodules=(2, 3), diameters=(14, 26), seed=3
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "own.key"


@pytest.fixture(scope="module")
def cubes(phantoms: Path, key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[VolumeSet, CutResult]:
    out = tmp_path_factory.mktemp("cut") / "cubes"
    return cut(phantoms / "images", out, key_file, marks=phantoms / "marks")


def texts_of(folder: Path) -> bytes:
    """All bytes of a folder, all names in it, and its tables unpacked."""
    parts = []
    for file in sorted(folder.rglob("*")):
        parts.append(str(file.relative_to(folder)).encode())
        if file.is_file():
            parts.append(file.read_bytes())
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            parts.append(f"{table.to_pydict()} {table.schema.to_string()}".encode())
    return b"\n".join(parts)


def names_in(folder: Path) -> set[str]:
    """Everything in DICOM files and in their names that may say who a patient is."""
    found: set[str] = set()
    for file in sorted(folder.rglob("*")):
        found.add(file.name if file.is_dir() else file.stem if len(file.stem) > 4 else str(file))
        if file.suffix != ".dcm":
            continue
        for element in pydicom.dcmread(file, stop_before_pixels=True).iterall():
            if element.VR in ("UI", "DA", "DT") or element.keyword in ("PatientName", "PatientID", "StudyTime"):
                found.update(str(element.value).replace("^", "\n").split("\n"))
    ours = {str(pydicom.uid.CTImageStorage), "1.2.840.10008.1.2.1", ""}
    return {name for name in found - ours if len(name) > 3}


def test_nothing_that_is_written_or_printed_names_a_patient(
    phantoms: Path, cubes: tuple[VolumeSet, CutResult], key_file: Path, tmp_path: Path
) -> None:
    _, result = cubes
    names = names_in(phantoms / "images") | {path.stem for path in (phantoms / "marks").rglob("*.xml")}
    assert len(names) > 100
    some = pydicom.dcmread(next((phantoms / "images").rglob("*.dcm")))
    assert {some.PatientID, some.SeriesInstanceUID, some.StudyDate, some.PatientName.family_name} <= names
    written = texts_of(result.folder) + str(describe_cuts(result)).encode()
    reference = tmp_path / "slices-of-MRN-0042"
    reference.mkdir()
    np.save(reference / "of-MRN-0042.npy", body()[0])
    names.add("MRN-0042")
    like = (f"ct.slices.reference={reference}", "ct.slices.likeness=-1")
    _, slices = cut(phantoms / "images", tmp_path / "slices", key_file, *SLICES, *like, marks=phantoms / "marks")
    assert "likeness" in cuts_shards(slices.folder)[0].table()
    written += texts_of(slices.folder)
    app = typer.Typer()
    ct.register(app)
    shown = CliRunner().invoke(
        app, ["volumes", str(phantoms / "images"), "--marks", str(phantoms / "marks"), "--key", str(key_file), "--json"]
    )
    assert shown.exit_code == 0, shown.output
    written += shown.output.encode()
    leaked = [name for name in names if name.encode() in written]
    assert leaked == []
    assert key_file.read_bytes() not in written
    # The search finds what is there: the owner asks for names, and gets them.
    told = CliRunner().invoke(app, ["volumes", str(phantoms / "images"), "--key", str(key_file), "--names", "--json"])
    assert all(str(path) in told.output for path in result.files.values())


def test_cubes_masks_and_attributes_come_back_as_records(cubes: tuple[VolumeSet, CutResult]) -> None:
    found, result = cubes
    source = CutsSource.open(result.folder, recipe().source, None)
    records = source.records()
    assert len(records) == sum(info["taken"] for info in result.done.values()) >= 4
    assert len({record.group for record in records}) == 2
    assert len({record.key for record in records}) == len(records)
    for record in records:
        pixels = source.read(record, 1 << 30)
        assert pixels.array.shape == (24, 24, 24, 1)
        assert pixels.array.dtype == np.int16
        assert (record.unit, record.spacing) == ("hu", (2.0, 2.0, 2.0))
        assert pixels.mask is not None
        assert pixels.mask.shape == pixels.array.shape
        assert pixels.mask[10:14, 10:14, 10:14].any()
        assert record.attributes["mask_by"] in ("readers", "segmenter")
        assert 6 < float(record.attributes["diameter_mm"] or 0) < 40
        assert str(found.root) not in str(record.origin)
    notes, warnings = describe_cuts(result)
    assert any(f"{len(records)} cubes of 3 volumes and 2 patients" in note for note in notes)
    assert any("each lesion was cut once" in note for note in notes)
    assert warnings == []


def test_what_is_done_is_left_alone_until_something_changes(phantoms: Path, key_file: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "images", tmp_path / "cuts"
    shutil.copytree(phantoms / "images", data)
    marks = phantoms / "marks" / "luna16"
    _, first = cut(data, out, key_file, marks=marks, shard=(0, 2))
    assert (len(first.files), first.reused) == (2, 0)
    _, both = cut(data, out, key_file, marks=marks)
    assert (len(both.files), both.reused) == (3, 2)
    before = {shard.key: shard.pixels().tobytes() for shard in cuts_shards(out)}
    os.utime(next(data.rglob("*.dcm")))
    _, again = cut(data, out, key_file, marks=marks)
    assert again.reused == 2
    assert {shard.key: shard.pixels().tobytes() for shard in cuts_shards(out)} == before
    # With other settings, a part alone must not be read together with the rest.
    cut(data, out, key_file, "ct.spacing=3", marks=marks, shard=(0, 2))
    with pytest.raises(DataError, match="other settings"):
        cuts_shards(out)
    _, changed = cut(data, out, key_file, "ct.spacing=3", marks=marks)
    assert changed.reused == 2
    assert len(cuts_shards(out)) == 3
    shutil.rmtree(next(path for path in data.iterdir() if path.is_dir()))
    _, fewer = cut(data, out, key_file, "ct.spacing=3", marks=marks)
    assert any("are not in the data now" in warning for warning in fewer.warnings)
    with pytest.raises(DataError, match="another key"):
        cut(data, out, tmp_path / "other.key", marks=marks)


def test_pseudonyms_are_the_same_in_the_next_delivery_and_only_with_the_key(
    phantoms: Path, cubes: tuple[VolumeSet, CutResult], key_file: Path, tmp_path: Path
) -> None:
    found, _ = cubes
    moved = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(phantoms / "images", moved)
    again = find_volumes(moved, recipe(), key_file=key_file)
    assert set(again.keys) == set(found.keys)
    assert set(again.groups) == set(found.groups)
    other = find_volumes(moved, recipe(), key_file=tmp_path / "other.key")
    assert not set(other.keys) & set(found.keys)
    assert not set(other.groups) & set(found.groups)


def test_the_key_is_made_once_for_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "own.key"
    monkeypatch.setenv("SYNTHOMA_KEY_FILE", str(file))
    made = load_key()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) == 32
    assert load_key(file).name("patient", "x") == made.name("patient", "x") != made.name("volume", "x")
    assert made.warnings == ()
    assert made.made
    assert not load_key(file).made
    assert repr(made) == "PseudonymKey(warnings=())"
    file.chmod(0o644)
    assert len(load_key(file).warnings) == 1
    (tmp_path / "short").write_bytes(b"123")
    with pytest.raises(DataError, match="is no key"):
        load_key(tmp_path / "short")
    with pytest.raises(DataError, match="given away"):
        made.check_outside(tmp_path)
    assert PseudonymKey(b"a" * 32).name("patient", "x") == PseudonymKey(b"a" * 32).name("patient", "x")


def test_slices_keep_every_voxel_of_dicom(tmp_path: Path, key_file: Path) -> None:
    hu = body()
    write_series(tmp_path / "data" / "one", hu)
    (tmp_path / "data" / "synthoma-data.yaml").write_text("licence: CC-BY-4.0\nmay_release: true\n")
    _, result = cut(tmp_path / "data", tmp_path / "cuts", key_file, *SLICES)
    assert data_terms(result.folder) == data_terms(tmp_path / "data")
    assert data_terms(result.folder).licence == "CC-BY-4.0"
    (shard,) = cuts_shards(result.folder)
    np.testing.assert_array_equal(shard.pixels(), hu)
    assert shard.masks() is None
    assert shard.info["spacing"] == [0.75, 0.75]
    source = CutsSource.open(result.folder, recipe().source, None)
    np.testing.assert_array_equal(source.read(source.records()[3], 1 << 30).array[..., 0], hu[3])


def test_the_commands_look_and_cut(
    phantoms: Path, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()
    ct.register(app)
    images, luna = str(phantoms / "images"), str(phantoms / "marks" / "luna16")
    monkeypatch.setattr(console, "_width", 200)
    plain = CliRunner().invoke(app, ["volumes", images, "--marks", luna, "--key", str(key_file)])
    assert plain.exit_code == 0, plain.output
    assert plain.output.count("32 x 96 x 96") == 3
    assert "nodule" in plain.output
    small = ["--set", "ct.cube=16", "--set", "ct.spacing=2"]
    arguments = [
        "cut",
        "lung-nodule-wgan-gp",
        "--data",
        images,
        "--marks",
        luna,
        "--out",
        str(tmp_path / "cuts"),
        *small,
    ]
    done = CliRunner().invoke(app, [*arguments, "--key", str(key_file), "--workers", "2", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert len(document["volumes"]) == 3
    assert sum(row["taken"] for row in document["volumes"]) == sum(
        len(shard.pixels()) for shard in cuts_shards(tmp_path / "cuts")
    )


def test_inspection_reads_headers_and_lungs_if_asked(phantoms: Path, key_file: Path) -> None:
    seen = inspect_volumes(phantoms / "images", recipe(), phantoms / "marks" / "lidc", key_file=key_file)
    assert [row.orientation for row in seen.rows] == ["axial"] * 3
    assert all(row.unit == "hu" and row.lungs is None and row.problem == "" for row in seen.rows)
    assert sum(sum(row.marks.values()) for row in seen.rows) >= 3
    deeper = inspect_volumes(phantoms / "images", recipe(), key_file=key_file, lungs=True)
    assert all(0.5 < (row.lungs or 0) < 9 for row in deeper.rows)


def test_what_volumes_are(phantoms: Path, cubes: tuple[VolumeSet, CutResult], tmp_path: Path) -> None:
    assert holds_ct(phantoms / "images", recipe())
    assert not holds_ct(cubes[1].folder, recipe())
    assert not holds_ct(tmp_path, recipe())
    assert holds_ct(tmp_path, recipe("source.kind=volumes"))


@pytest.mark.parametrize("kind", ["metaimage", "nifti"])
def test_other_formats_give_the_same_cubes_as_dicom(
    kind: str, phantoms: Path, cubes: tuple[VolumeSet, CutResult], key_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "phantoms"
    write_ct_phantoms(
        folder, volumes=3, patients=2, kind=kind, size=(32, 96, 96), spacing=(4.0, 3.2, 3.2), nodules=(2, 3), diameters=(14, 26),
        marks=("lidc", "luna16"), seed=3,
    )  # fmt: skip
    _, other = cut(folder / "images", tmp_path / "cuts", key_file, "ct.unit=hu", marks=folder / "marks" / "lidc")
    _, own = cut(phantoms / "images", tmp_path / "dicom", key_file, marks=phantoms / "marks" / "lidc")
    found, expected = (
        sorted((float(row.mean()), row) for shard in cuts_shards(result.folder) for row in shard.pixels())
        for result in (other, own)
    )
    assert len(found) == len(expected) >= 3
    for (_, row), (_, reference) in zip(found, expected, strict=True):
        assert np.abs(row.astype(np.int64) - reference).max() <= 1
    masks = [
        sorted(int(mask.sum()) for shard in cuts_shards(result.folder) for mask in shard.masks())
        for result in (other, own)
    ]  # type: ignore[union-attr]
    assert masks[0] == masks[1]
