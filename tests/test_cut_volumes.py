"""From folders of CT volumes with marks to cubes and slices on disk: what is kept, told, done again, and named nowhere."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("SimpleITK")
pytest.importorskip("nibabel")

import pyarrow.parquet as pq
import pydicom
import typer
from typer.testing import CliRunner

from dicom_files import write_series
from synthoma.cli import ct
from synthoma.cli.console import console
from synthoma.errors import DataError, VolumeError
from synthoma.formats.cuts import cuts_shards
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.write import write_volume
from synthoma.phantoms.ct.writer import write_ct_phantoms
from synthoma.preparation.ct.cut import CutResult, cut_volumes
from synthoma.preparation.ct.detect import holds_ct
from synthoma.preparation.ct.find import VolumeSet, find_volumes
from synthoma.preparation.ct.inspect import inspect_volumes
from synthoma.preparation.ct.pseudonyms import PseudonymKey, load_key
from synthoma.preparation.ct.summary import cut_rows, describe_cuts
from synthoma.recipe import Recipe, load_recipe
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


def recipe(*settings: str) -> Recipe:
    return load_recipe("lung-nodule-wgan-gp", ["ct.cube=24", "ct.spacing=2", "ct.indeterminate=keep", *settings])


SLICES = ("ct.cut=slices", "ct.slices.least_lung=0", "ct.spacing=1", "ct.cube=null")


def cut(
    data: Path,
    out: Path,
    key: Path,
    *settings: str,
    marks: Path | None = None,
    groups: Path | None = None,
    **options: Any,
) -> tuple[VolumeSet, CutResult]:
    wanted = recipe(*settings)
    found = find_volumes(data, wanted, marks, groups, key_file=key)
    return found, cut_volumes(found, wanted, out, workers=2, **options)


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


def body(size: tuple[int, int, int] = (8, 70, 72), seed: int = 0) -> np.ndarray:
    """HU without lungs: a block of tissue in air."""
    hu = np.random.default_rng(seed).integers(-1010, -990, size).astype(np.int16)
    hu[:, 10:-10, 12:-12] += 1040
    return hu


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


def test_a_gap_stops_or_is_left_out_or_interpolated(tmp_path: Path, key_file: Path) -> None:
    files = write_series(tmp_path / "data" / "one", body())
    write_series(tmp_path / "data" / "two", body(seed=1), series=2)
    files[3].unlink()
    with pytest.raises(VolumeError, match=r"on-gap skip(.|\n)*missing"):
        cut(tmp_path / "data", tmp_path / "error", key_file, *SLICES)
    _, skipped = cut(tmp_path / "data", tmp_path / "skip", key_file, *SLICES, "ct.on_gap=skip")
    assert len(skipped.done) == len(skipped.skipped) == 1
    assert "left out by ct.on_gap=skip" in describe_cuts(skipped)[1][0]
    assert [row.taken for row in cut_rows(skipped)].count(0) == 1
    _, mended = cut(tmp_path / "data", tmp_path / "mend", key_file, *SLICES, "ct.on_gap=resample")
    assert [info["taken"] for info in mended.done.values()] == [8, 8]


def test_a_damaged_volume_costs_itself_only_and_is_named_on_the_terminal_only(tmp_path: Path, key_file: Path) -> None:
    data = tmp_path / "data"
    for number in range(3):
        write_volume(data / f"patient-{number}.nii.gz", body(seed=number), Geometry((8, 70, 72), (2.0, 1.0, 1.0)))
    broken = data / "patient-1.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-5000])
    settings = (*SLICES, "ct.unit=hu")
    _, result = cut(data, tmp_path / "cuts", key_file, *settings, "ct.max_failed=0.5")
    assert (len(result.done), len(result.failed)) == (2, 1)
    told = str(describe_cuts(result)) + str(cut_rows(result))
    assert "patient-" not in told
    assert str(tmp_path) not in told
    assert "1 of 3 volumes cannot be cut" in told
    with pytest.raises(DataError, match=r"patient-1\.nii\.gz"):
        cut(data, tmp_path / "strict", key_file, *settings, "ct.max_failed=0")


def test_groups_hold_together_what_has_no_patient(tmp_path: Path, key_file: Path) -> None:
    data = tmp_path / "data"
    for number in range(3):
        write_volume(data / f"scan{number}.mhd", body(seed=number), Geometry((8, 70, 72), (2.0, 1.0, 1.0)))
    alone = find_volumes(data, recipe(), key_file=tmp_path / "new.key")
    assert alone.notes[0].startswith("A key for the pseudonyms was made")
    alone = find_volumes(data, recipe(), key_file=tmp_path / "new.key")
    assert alone.notes == []
    assert len(set(alone.groups)) == 3
    assert "3 of 3 volumes do not say their patient" in alone.warnings[0]
    groups = tmp_path / "groups.csv"
    groups.write_text("file,group\nscan0.mhd,a\nscan1,b\nscan2,a\n")
    found = find_volumes(data, recipe(), groups=groups, key_file=key_file)
    assert found.groups[0] == found.groups[2] != found.groups[1]
    groups.write_text("file,group\nscan0,a\nscan0.mhd,b\n")
    with pytest.raises(DataError, match="two groups"):
        find_volumes(data, recipe(), groups=groups, key_file=key_file)


def test_marks_that_fit_nothing_are_an_error_and_cubes_need_some(tmp_path: Path, key_file: Path) -> None:
    write_volume(tmp_path / "data" / "scan.mhd", body(), Geometry((8, 70, 72), (2.0, 1.0, 1.0)))
    table = tmp_path / "marks.csv"
    table.write_text("file,x,y,z\nother,1,2,3\nsomebody,1,2,3\n")
    with pytest.raises(DataError, match="2 positions name series or files that are not here"):
        find_volumes(tmp_path / "data", recipe(), table, key_file=key_file)
    with pytest.raises(DataError, match="cut around marks"):
        cut(tmp_path / "data", tmp_path / "cuts", key_file)
    table.write_text("file,x,y,z,diameter,label,grade\nscan,35,36,8,9,tumour,2\nscan,35,36,800,9,tumour,2\n")
    _, result = cut(tmp_path / "data", tmp_path / "cuts", key_file, "ct.cube=8", marks=table)
    (shard,) = cuts_shards(tmp_path / "cuts")
    columns = shard.table()
    assert columns["reason"] == ["", "outside the volume"]
    assert columns["row"] == [0, None]
    assert columns["label"] == ["tumour", "tumour"]
    assert columns["grade"] == [2, 2]
    assert columns["index_z"][0] == pytest.approx(4)
    assert shard.info["rejected"] == {"outside the volume": 1}
    source = CutsSource.open(tmp_path / "cuts", recipe().source, None)
    (record,) = source.records()
    assert (record.unit, record.label, record.attributes["grade"]) == ("unknown", "tumour", 2)
    assert "ct.unit=hu" in source.warnings[0]
    assert "Not taken: outside the volume 1." in describe_cuts(result)[0]


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


def lidc_xml(nodules: dict[str, list[tuple[float, str, list[tuple[int, int]]]]], series: str) -> str:
    """A reading by one reader. nodules: name -> (z, SOP UID, outline) of each slice."""
    told = []
    for name, slices in nodules.items():
        rois = "".join(
            f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{uid}</imageSOP_UID><inclusion>TRUE</inclusion>"
            + "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in outline)
            + "</roi>"
            for z, uid, outline in slices
        )
        told.append(
            f"<unblindedReadNodule><noduleID>{name}</noduleID><characteristics><malignancy>5</malignancy></characteristics>"
            f"{rois}</unblindedReadNodule>"
        )
    return (
        f"<LidcReadMessage><ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
        f"<readingSession>{''.join(told)}</readingSession></LidcReadMessage>"
    )


def test_outlines_on_a_series_with_a_gap_are_placed_or_refused(tmp_path: Path, key_file: Path) -> None:
    hu = body((14, 70, 72))
    hu[8:11, 31:38, 31:38] = 900
    files = write_series(tmp_path / "data" / "one", hu, spacing=(5.0, 1.0, 1.0))
    uids = [str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files]
    series = str(pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)
    files[3].unlink()
    square = [(30, 30), (38, 30), (38, 38), (30, 38)]
    nodules = {
        "whole": [(-300.0 + 5 * k, uids[k], square) for k in (8, 9, 10)],
        "torn": [(-300.0 + 5 * k, uids[k], [(x - 15, y) for x, y in square]) for k in (2, 4)],
        "lost": [(-300.0 + 5 * k, uids[k], [(x + 15, y) for x, y in square]) for k in (2, 3, 4)],
    }
    marks = tmp_path / "reading.xml"
    marks.write_text(lidc_xml(nodules, series))
    settings = ("ct.on_gap=resample", "ct.spacing=1", "ct.cube=21")
    _, result = cut(tmp_path / "data", tmp_path / "cuts", key_file, *settings, marks=marks)
    (shard,) = cuts_shards(result.folder)
    assert shard.info["rejected"] == {"outlined on slices that are missing or lie unevenly": 2}
    assert shard.info["taken"] == 1
    masks = shard.masks()
    assert masks is not None
    # The block of 15 x 7 x 7 mm lies where its mask does.
    assert int(masks.sum()) == pytest.approx(15 * 7 * 7, rel=0.03)
    assert shard.pixels()[masks > 0].min() > 400
