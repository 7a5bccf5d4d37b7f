"""Volumes with gaps or damage, without patients, and with marks that fit nothing: told, left out or mended, never silent."""

from pathlib import Path

import pytest

pytest.importorskip("pydicom")
pytest.importorskip("SimpleITK")
pytest.importorskip("nibabel")

import pydicom

from cut_fixture import SLICES, body, cut, recipe
from dicom_files import write_series
from synthoma.errors import DataError, VolumeError
from synthoma.formats.cuts import cuts_shards
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.write import write_volume
from synthoma.preparation.ct.find import find_volumes
from synthoma.preparation.ct.summary import cut_rows, describe_cuts
from synthoma.sources.cuts import CutsSource


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "own.key"


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
