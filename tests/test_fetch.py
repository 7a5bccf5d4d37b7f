"""Fetching over HTTP against a server on this machine: whole, broken, resumed, refused."""

import hashlib
import io
import json
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import synthoma.fetching.download
from fetch_fixture import CONTENT, MD5, FileServer, entry_of, file_server, remote
from synthoma.errors import Interrupted, MissingExtraError, TrainingError
from synthoma.fetching import Conditions, FetchError, fetch, find_entry, plan_fetch
from synthoma.fetching.download import fetch_file
from synthoma.fetching.entries import Http, RemoteFile
from synthoma.fetching.isic import CLASSES
from synthoma.recipe import SourceSection
from synthoma.run import Run
from synthoma.sources.registry import open_source
from synthoma.sources.terms import data_terms

CUT = 16 << 16  # bytes after which the connection closes: whole pieces of the downloader


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with file_server() as running:
        running.files["/set.npz"] = CONTENT
        yield running


@pytest.fixture
def waits() -> list[float]:
    """Seconds that a download would have waited between its tries."""
    return []


@pytest.fixture
def quick(waits: list[float]) -> Conditions:
    return Conditions(attempts=3, timeout=(5.0, 5.0), sleep=waits.append)


def test_a_whole_file(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    done = fetch_file(remote(server), tmp_path, quick)
    assert (tmp_path / "set.npz").read_bytes() == CONTENT
    assert done["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (done["bytes"], done["compared_with"], done["sum_from"]) == (len(CONTENT), MD5, "catalogue")
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]
    assert (tmp_path / "set.npz").stat().st_mode & 0o077, "others may read it as far as the umask allows"
    fetch_file(remote(server), tmp_path, quick)
    assert len(server.seen) == 1, "what is there with the right sum is not fetched again"


@pytest.mark.parametrize("tags", [True, False])
def test_goes_on_where_the_connection_closed(
    server: FileServer, quick: Conditions, waits: list[float], tmp_path: Path, tags: bool
) -> None:
    server.tags, server.cuts = tags, [CUT, CUT // 2]
    fetch_file(remote(server), tmp_path, quick)
    assert (tmp_path / "set.npz").read_bytes() == CONTENT
    assert [asked for _, asked, _ in server.seen] == [None, f"bytes={CUT}-", f"bytes={CUT + CUT // 2}-"]
    assert all(bool(condition) == tags for _, _, condition in server.seen[1:])
    assert waits == [1.0, 1.0], "a try that brought something starts the count anew"


def test_a_later_call_goes_on(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    server.cuts = [CUT, 0, 0]
    with pytest.raises(FetchError, match=r"closed before all.*1\.0 MB are kept; the same command goes on"):
        fetch_file(remote(server), tmp_path, quick)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.npz.part", ".set.npz.part.json"]
    fetch_file(remote(server), tmp_path, quick)
    assert (tmp_path / "set.npz").read_bytes() == CONTENT
    assert server.seen[-1][1] == f"bytes={CUT}-"


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changed_meanwhile_starts_anew(
    server: FileServer, quick: Conditions, tmp_path: Path, heeds: bool
) -> None:
    server.heeds = heeds
    server.cuts = [CUT, 0, 0]
    unpinned = remote(server, checksum=None)
    with pytest.raises(FetchError):
        fetch_file(unpinned, tmp_path, quick)
    server.files["/set.npz"] = CONTENT[::-1]
    done = fetch_file(unpinned, tmp_path, quick)
    assert (tmp_path / "set.npz").read_bytes() == CONTENT[::-1], "two versions are never glued together"
    assert (done["compared_with"], done["sum_from"]) == (None, None)


def test_nothing_is_glued_where_nothing_would_tell(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    server.tags, server.cuts = False, [CUT]
    fetch_file(remote(server, checksum=None), tmp_path, quick)
    assert (tmp_path / "set.npz").read_bytes() == CONTENT
    assert [asked for _, asked, _ in server.seen] == [None, None], "no tag and no sum: the rest is not asked for"


def test_a_server_without_ranges(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [CUT]
    fetch_file(remote(server), tmp_path, quick)
    assert (tmp_path / "set.npz").read_bytes() == CONTENT
    assert server.seen[1][1] == f"bytes={CUT}-"


def test_a_part_that_is_already_all(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    server.cuts = [CUT, 0, 0]
    with pytest.raises(FetchError):
        fetch_file(remote(server), tmp_path, quick)
    (tmp_path / ".set.npz.part").write_bytes(CONTENT)
    fetch_file(remote(server), tmp_path, quick)
    assert (tmp_path / "set.npz").read_bytes() == CONTENT


def test_a_wrong_sum_is_put_aside(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    server.files["/set.npz"] = b"<html>please log in to the hotel's network</html>"
    with pytest.raises(FetchError, match=r"MD5 sum is .* should be .*set\.npz\.bad"):
        fetch_file(remote(server), tmp_path, quick)
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz.bad"]
    server.files["/set.npz"] = CONTENT
    fetch_file(remote(server), tmp_path, quick)
    assert (tmp_path / "set.npz").read_bytes() == CONTENT


def test_busy_then_fine(server: FileServer, quick: Conditions, waits: list[float], tmp_path: Path) -> None:
    server.answers = [503, 429]
    fetch_file(remote(server), tmp_path, quick)
    assert waits == [1.0, 2.0]
    server.answers = [503] * 3
    with pytest.raises(FetchError, match="answers 503"):
        fetch_file(remote(server, name="other.npz"), tmp_path, quick)


@pytest.mark.parametrize(("code", "words"), [(404, "is not there"), (410, "is not there"), (403, "is refused")])
def test_what_does_not_pass_is_not_tried_again(
    server: FileServer, quick: Conditions, waits: list[float], tmp_path: Path, code: int, words: str
) -> None:
    server.answers = [code]
    with pytest.raises(FetchError, match=words):
        fetch_file(remote(server), tmp_path, quick)
    assert waits == []


def test_no_network(quick: Conditions, waits: list[float], tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(FetchError, match=r"cannot be reached .*network"):
        fetch_file(RemoteFile("a.npz", f"http://127.0.0.1:{port}/a.npz", MD5), tmp_path, quick)
    assert waits == [1.0, 2.0]


def test_no_space(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"has 1\.0 MB free, and 3\.0 MB are needed"):
        fetch_file(remote(server), tmp_path, replace(quick, free=lambda folder: 1_000_000))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_keeps_what_came(
    server: FileServer, quick: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, have: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthoma.fetching.download.ResumingDownloader, "_show", full)
    with pytest.raises(FetchError, match="is full"):
        fetch_file(remote(server), tmp_path, quick)
    assert (tmp_path / ".set.npz.part").stat().st_size > 0


def test_zenodo_states_the_sum(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    described = {"key": "set.npz", "size": len(CONTENT), "checksum": MD5, "links": {"self": f"{server.url}/set.npz"}}
    server.files["/api/12"] = json.dumps({"files": [described]}).encode()
    asking = replace(quick, zenodo_api=f"{server.url}/api")
    luna = RemoteFile("set.npz", "https://zenodo.org/never-asked", zenodo="12")
    done = fetch_file(luna, tmp_path, asking)
    assert (done["compared_with"], done["sum_from"], done["url"]) == (MD5, "zenodo", f"{server.url}/set.npz")
    with pytest.raises(FetchError, match=r"does not describe other\.npz"):
        fetch_file(replace(luna, name="other.npz"), tmp_path, asking)
    with pytest.raises(FetchError, match="Zenodo record 13 is not there"):
        fetch_file(replace(luna, zenodo="13"), tmp_path, asking)


def test_a_job_and_its_papers(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    out = tmp_path / "out"
    second = remote(server, name="more.npz", folder="below")
    plan = plan_fetch(entry_of(remote(server), second), out)
    assert not out.exists()
    ledger = fetch(plan, conditions=quick)
    assert json.loads((out / "fetched.json").read_text()) == ledger
    assert [file["file"] for file in ledger["files"]] == ["set.npz", "below/more.npz"]
    assert ledger["finished"] >= ledger["begun"]
    assert data_terms(out).model_dump() == {"licence": "CC BY 4.0", "citation": "Nobody, 2026", "may_release": True}
    (out / "synthoma-data.yaml").write_text("licence: mine\n")
    fetch(plan_fetch(entry_of(remote(server), second), out), conditions=quick)
    assert len(server.seen) == 2, "a finished job asks the server for nothing"
    assert data_terms(out).licence == "mine"


def zipped(name: str, content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, content)
    return archive.getvalue()


def test_archives_are_unpacked_beside_their_papers(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    server.files["/set.zip"] = zipped("subset0/a.raw", bytes(5000))
    unpinned = RemoteFile("set.zip", f"{server.url}/set.zip", folder="images")
    out = tmp_path / "out"
    full = replace(quick, free=lambda folder: (64 << 20) + 4000)
    with pytest.raises(FetchError, match="5 kB are needed"):
        fetch(plan_fetch(entry_of(unpinned), out), conditions=full)
    assert (out / "images" / "set.zip").exists()
    ledger = fetch(plan_fetch(entry_of(unpinned), out), conditions=quick)
    assert len(server.seen) == 1, "an archive that could not be unpacked is not fetched again"
    assert (out / "images" / "subset0" / "a.raw").read_bytes() == bytes(5000)
    assert ledger["files"][0]["unpacked"] == 1
    assert not (out / "images" / "set.zip").exists()
    kept = tmp_path / "kept"
    fetch(plan_fetch(entry_of(unpinned), kept), conditions=quick, keep_archives=True)
    assert (kept / "images" / "set.zip").exists()


def test_an_archive_that_leads_out(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    server.files["/set.zip"] = zipped("../evil.txt", b"evil")
    with pytest.raises(FetchError, match="outside the folder"):
        fetch(plan_fetch(entry_of(RemoteFile("set.zip", f"{server.url}/set.zip")), tmp_path / "out"), conditions=quick)
    assert not (tmp_path / "evil.txt").exists()


def test_what_was_fetched_is_read(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    written = io.BytesIO()
    images = np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    np.savez(written, train_images=images, train_labels=np.arange(6, dtype=np.uint8)[:, None] % 2)
    server.files["/set.npz"] = written.getvalue()
    fetch(plan_fetch(entry_of(remote(server, checksum=None)), tmp_path / "out"), conditions=quick)
    source = open_source(tmp_path / "out", SourceSection())
    assert len(list(source.records())) == 6


def test_isic_gets_its_table(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    names = [file.name for file in find_entry("isic").means.files]  # type: ignore[union-attr]
    truth = f"image,{','.join(CLASSES)}\nISIC_1,0,1,0,0,0,0,0\n"
    for name, content in zip(
        names,
        (
            zipped("ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv", truth.encode()),
            b"image,lesion_id\nISIC_1,HAM_7\n",
            zipped("ISIC2018_Task3_Training_Input/ISIC_1.jpg", b"picture"),
        ),
        strict=True,
    ):
        server.files[f"/{name}"] = content
    entry = replace(find_entry("isic"), means=Http(tuple(RemoteFile(name, f"{server.url}/{name}") for name in names)))
    out = tmp_path / "out"
    fetch(plan_fetch(entry, out, only=names[:2]), conditions=quick)
    assert not (out / "labels.csv").exists(), "without the photographs there is nothing to label"
    fetch(plan_fetch(entry, out), conditions=quick)
    assert (out / "labels.csv").read_text().splitlines()[1] == "ISIC2018_Task3_Training_Input/ISIC_1.jpg,nevus,HAM_7"


def test_folders_of_others_are_left_alone(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FetchError, match="is not empty"):
        plan_fetch(entry_of(remote(server)), tmp_path)
    with pytest.raises(FetchError, match="is a file"):
        plan_fetch(entry_of(remote(server)), tmp_path / "mine.txt")
    out = tmp_path / "out"
    fetch(plan_fetch(entry_of(remote(server)), out), conditions=quick)
    with pytest.raises(FetchError, match="holds local; name another folder for medmnist-breastmnist"):
        plan_fetch(find_entry("medmnist-breastmnist"), out)
    (out / "fetched.json").write_text("{")
    with pytest.raises(FetchError, match="is damaged"):
        plan_fetch(entry_of(remote(server)), out)


def test_interrupted_and_busy(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        lying.extend(path.name for path in (tmp_path / "out").iterdir())
        raise KeyboardInterrupt

    lying: list[str] = []

    plan = plan_fetch(entry_of(remote(server)), tmp_path / "out")
    with pytest.raises(Interrupted, match="same command goes on"):
        fetch(plan, conditions=replace(quick, progress=stop))
    assert (tmp_path / "out" / ".set.npz.part").stat().st_size > 0
    assert not [name for name in lying if name.startswith("tmp")], "a kill leaves nothing among the data"
    server.seen.clear()
    fetch(plan_fetch(plan.entry, plan.out), conditions=quick)
    assert server.seen[0][1] is not None, "it goes on from what had arrived"


def test_two_at_once(server: FileServer, quick: Conditions, tmp_path: Path) -> None:
    plan = plan_fetch(entry_of(remote(server)), tmp_path)
    holding = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(tmp_path / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(TrainingError, match="in use by another"):
            fetch(plan, conditions=quick)
        other.communicate()
    assert server.seen == []
    with Run(tmp_path).locked():
        pass


def test_without_pooch(server: FileServer, quick: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthoma\[fetch\]'"):
        fetch_file(remote(server), tmp_path, quick)
