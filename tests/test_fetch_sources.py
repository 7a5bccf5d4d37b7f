"""Archives that are not trusted, CT series by idc-index, kaggle's command, and the labels of ISIC 2018."""

import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from synthoma.errors import MissingExtraError
from synthoma.fetching import Conditions, FetchError, fetch, find_entry, plan_fetch
from synthoma.fetching.archives import unpack
from synthoma.fetching.entries import Idc
from synthoma.fetching.idc import Series, choose_series, fetch_series, incomplete
from synthoma.fetching.isic import CLASSES, write_labels
from synthoma.recipe import SourceSection
from synthoma.sources.registry import open_source

PLENTY = 1 << 40


def zip_of(path: Path, members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if change:
                change(info)
            archive.writestr(info, content)
    return path


def unpacked(archive: Path, folder: Path, free: int = PLENTY) -> int:
    return unpack(archive, folder, lambda place: free, lambda what, done, total: None)


def test_unpacks(tmp_path: Path) -> None:
    archive = zip_of(
        tmp_path / "a.zip", {"subset0/a.mhd": b"header", "subset0/a.raw": bytes(5000), "read me.txt": b"x"}
    )
    assert unpacked(archive, tmp_path / "out") == 3
    assert (tmp_path / "out" / "subset0" / "a.raw").read_bytes() == bytes(5000)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a.mhd", "a.raw", "read me.txt", "subset0"]


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:/evil.txt", "."])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    archive = zip_of(tmp_path / "a.zip", {"fine.txt": b"x", name: b"evil"})
    with pytest.raises(FetchError, match=r"member 2 would be written outside the folder; nothing was unpacked"):
        unpacked(archive, tmp_path / "below" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip"]


def test_links_bombs_and_no_space(tmp_path: Path) -> None:
    def link(info: zipfile.ZipInfo) -> None:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(FetchError, match="member 1 is a link"):
        unpacked(zip_of(tmp_path / "link.zip", {"passwd": b"/etc/passwd"}, link), tmp_path / "out")
    with pytest.raises(FetchError, match="would grow more than 300 times"):
        unpacked(zip_of(tmp_path / "bomb.zip", {"zeros": bytes(5_000_000)}), tmp_path / "out")
    with pytest.raises(FetchError, match=r"has 0 kB free, and 5 kB are needed"):
        unpacked(zip_of(tmp_path / "fine.zip", {"a": bytes(5000)}), tmp_path / "out", free=10)
    assert not (tmp_path / "out").exists()


def test_damaged_archives(tmp_path: Path) -> None:
    good = zip_of(tmp_path / "good.zip", {"a.raw": bytes(range(256)) * 40}).read_bytes()
    flipped = bytearray(good)
    flipped[60] ^= 0xFF
    for content in (b"<html>", good[:-30], bytes(flipped)):
        archive = tmp_path / "bad.zip"
        archive.write_bytes(content)
        with pytest.raises(FetchError, match="is no ZIP archive, or is damaged"):
            unpacked(archive, tmp_path / "out")
        assert [path for path in tmp_path.rglob("*") if path.suffix in (".raw", ".part")] == []


class Frame:
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return self.rows


class Archive:
    """Stands for idc_index.IDCClient 0.13: writes files as its default hierarchy does. losing: files that do not come."""

    def __init__(self, losing: int = 0) -> None:
        self.rows = [
            {
                "PatientID": f"P{patient}",
                "SeriesInstanceUID": f"1.2.{patient}.{k}",
                "instanceCount": 3,
                "series_size_MB": 0.003,
            }
            for patient in (2, 1, 3)
            for k in range(2)
        ]
        self.losing, self.asked, self.queries = losing, list[list[str]](), list[str]()

    def sql_query(self, sql_query: str) -> Frame:
        self.queries.append(sql_query)
        return Frame(self.rows)

    def download_from_selection(self, downloadDir: str, *, seriesInstanceUID: list[str], **options: bool) -> None:
        assert options["use_s5cmd_sync"], "what is there is not sent again"
        self.asked.append(seriesInstanceUID)
        for uid in seriesInstanceUID:
            place = Path(downloadDir) / "lidc_idri" / f"P{uid.split('.')[2]}" / "1.2.840" / f"CT_{uid}"
            place.mkdir(parents=True, exist_ok=True)
            for k in range(3 - self.losing):
                (place / f"{k}.dcm").write_bytes(bytes(1000))


LIDC = Idc("lidc_idri")


def test_choice_of_series() -> None:
    client = Archive()
    assert [series.patient for series in choose_series(client, LIDC)] == ["P1", "P1", "P2", "P2", "P3", "P3"]
    assert "collection_id = 'lidc_idri'" in client.queries[0]
    assert "Modality = 'CT'" in client.queries[0]
    assert {series.patient for series in choose_series(client, LIDC, patients=2)} == {"P1", "P2"}
    assert choose_series(client, LIDC, uids=["1.2.3.1"]) == (Series("P3", "1.2.3.1", 3, 3000),)


@pytest.mark.parametrize(
    ("patients", "uids", "words"),
    [
        (1, ["1.2.3.1"], "give one of them"),
        (None, ["1.2.3.1' OR 1=1"], "not a series instance UID"),
        (None, ["1.2.3.9"], "is no CT series of 'lidc_idri'"),
    ],
)
def test_choices_that_there_are_not(patients: int | None, uids: list[str], words: str) -> None:
    with pytest.raises(FetchError, match=words):
        choose_series(Archive(), LIDC, patients, uids)


def test_an_index_without_the_collection() -> None:
    client = Archive()
    client.rows = []
    with pytest.raises(FetchError, match="update idc-index"):
        choose_series(client, LIDC)


def test_series_arrive_whole_or_not_at_all(tmp_path: Path) -> None:
    client = Archive(losing=1)
    chosen = choose_series(client, LIDC, patients=2)
    with pytest.raises(FetchError, match="4 of 4 series did not arrive whole"):
        fetch_series(client, chosen, tmp_path, False)
    client.losing = 0
    fetch_series(client, chosen, tmp_path, False)
    assert incomplete(chosen, tmp_path / "dicom") == []
    fetch_series(client, chosen, tmp_path, False)
    assert len(client.asked) == 2, "whole series are not asked for again"
    (tmp_path / "dicom" / "lidc_idri" / "P1" / "1.2.840" / "CT_1.2.1.0" / "1.dcm").write_bytes(bytes(999))
    (tmp_path / "dicom" / "lidc_idri" / "P1" / "1.2.840" / "CT_1.2.1.0" / "2.dcm").write_bytes(bytes(999))
    assert [series.uid for series in incomplete(chosen, tmp_path / "dicom")] == ["1.2.1.0"]


def test_a_collection_from_plan_to_ledger(tmp_path: Path) -> None:
    entry = find_entry("lung-pet-ct-dx")
    out = tmp_path / "out"
    plan = plan_fetch(entry, out, patients=1, client=Archive())
    assert plan.needed == 6000
    told = "\n".join(plan.describe(10**12))
    assert "6 kB to come: 2 CT series of 1 patient(s)" in told
    assert f"{out}/annotations" in told, "where the boxes go that the user has to bring"
    assert "more than is free" in "\n".join(plan.describe(10))
    ledger = fetch(plan, conditions=Conditions(), show_progress=False)
    assert [row["series"] for row in ledger["series"]] == ["1.2.1.0", "1.2.1.1"]
    assert plan_fetch(entry, out, patients=2, client=Archive()).needed == 6000, "only what is not there yet"
    with pytest.raises(FetchError, match="are needed"):
        fetch(plan_fetch(entry, out, client=Archive()), conditions=Conditions(free=lambda folder: 5000))


def test_without_idc_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idc_index", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthoma\[fetch\]'"):
        plan_fetch(find_entry("lidc"), tmp_path / "out")


@pytest.mark.slow
def test_the_index_tells_what_a_real_series_is(data_root: Path, tmp_path: Path) -> None:
    """Lung_Dx-A0001 of Lung-PET-CT-Dx came from TCIA; IDC's index 25.0.5 states its files and bytes, so it is whole."""
    real = next((data_root / "ct_volume" / "dicom").glob("*/*/*"))
    uid = "1.3.6.1.4.1.14519.5.2.1.6655.2359.213534032021332276911485641315"
    place = tmp_path / "lung_pet_ct_dx" / "Lung_Dx-A0001" / "study" / f"CT_{uid}"
    place.parent.mkdir(parents=True)
    place.symlink_to(real, target_is_directory=True)
    assert incomplete([Series("Lung_Dx-A0001", uid, 64, 33_750_912)], tmp_path) == []


def kaggle_of(archive: dict[str, bytes] | None) -> Callable[[list[str]], "subprocess.CompletedProcess[str]"]:
    def run(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
        if archive is None:
            return subprocess.CompletedProcess(arguments, 1, stderr="Traceback\n401 - Unauthorized\n")
        owner, name = arguments[arguments.index("-d") + 1].split("/")
        assert owner == "nodoubttome"
        zip_of(Path(arguments[arguments.index("-p") + 1]) / f"{name}.zip", archive)
        return subprocess.CompletedProcess(arguments, 0, stderr="")

    return run


def test_kaggle_by_hand_and_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "skin"
    entry = find_entry("skin9")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        FetchError, match=r"asks for an account\. By hand: sign in at https://www\.kaggle\.com/datasets"
    ):
        plan_fetch(entry, out)
    command = tmp_path / "kaggle"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    plan = plan_fetch(entry, out)
    with pytest.raises(FetchError, match=r"it says: 401 - Unauthorized\. By hand"):
        fetch(plan, run=kaggle_of(None))
    ledger = fetch(plan, run=kaggle_of({"Train/melanoma/a.jpg": b"picture"}))
    assert (out / "Train" / "melanoma" / "a.jpg").read_bytes() == b"picture"
    assert not list(out.glob("*.zip"))
    assert ledger["files"][0]["unpacked"] == 1
    fetch(plan_fetch(entry, out), run=kaggle_of(None))
    kept = fetch(plan_fetch(entry, tmp_path / "kept"), keep_archives=True, run=kaggle_of({"a.jpg": b"x"}))
    assert (tmp_path / "kept" / kept["files"][0]["file"]).exists()


def isic_tables(folder: Path, truth: str, lesions: str) -> None:
    (folder / "ISIC2018_Task3_Training_GroundTruth").mkdir()
    (folder / "ISIC2018_Task3_Training_GroundTruth" / "ISIC2018_Task3_Training_GroundTruth.csv").write_text(truth)
    (folder / "ISIC2018_Task3_Training_LesionGroupings.csv").write_text(lesions)


TRUTH = "image," + ",".join(CLASSES) + "\nISIC_1,0.0,1.0,0.0,0.0,0.0,0.0,0.0\nISIC_2,1.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
LESIONS = "image,lesion_id,diagnosis_confirm_type\nISIC_1,HAM_7,consensus\nISIC_2,HAM_7,histopathology\n"


def test_isic_becomes_a_table_that_is_read(tmp_path: Path) -> None:
    isic_tables(tmp_path, TRUTH, LESIONS)
    pictures = tmp_path / "ISIC2018_Task3_Training_Input"
    pictures.mkdir()
    for name in ("ISIC_1", "ISIC_2"):
        Image.new("RGB", (40, 30), (200, 120, 90)).save(pictures / f"{name}.jpg")
    assert write_labels(tmp_path) == 2
    records = list(open_source(tmp_path, SourceSection()).records())
    assert sorted(str(record.label) for record in records) == ["melanoma", "nevus"]
    assert len({record.group for record in records}) == 1, "photographs of one lesion stay together"
    assert all(record.origin and record.origin.path.is_file() for record in records)


@pytest.mark.parametrize(
    ("truth", "lesions", "words"),
    [
        (TRUTH.replace("MEL", "MM"), LESIONS, "has no column MEL"),
        (TRUTH.replace("ISIC_2,1.0,0.0", "ISIC_2,1.0,1.0"), LESIONS, "has not one class"),
        (TRUTH, LESIONS.replace("ISIC_2", "ISIC_9"), "no lesion in"),
    ],
)
def test_isic_tables_that_are_not_as_published(tmp_path: Path, truth: str, lesions: str, words: str) -> None:
    isic_tables(tmp_path, truth, lesions)
    with pytest.raises(FetchError, match=words):
        write_labels(tmp_path)
    assert not (tmp_path / "labels.csv").exists()
