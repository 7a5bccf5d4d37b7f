"""`synthoma fetch`: what there is, and that nothing happens before a yes."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import synthoma.cli.fetch
import synthoma.fetching
from fetch_fixture import CONTENT, MD5, FileServer, entry_of, file_server, remote
from synthoma.cli.app import app
from synthoma.cli.console import console
from synthoma.fetching import Entry, FetchError, catalogue, find_entry
from synthoma.fetching.entries import Http
from synthoma.recipe import shipped_recipes


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with file_server() as running:
        running.files["/set.npz"] = CONTENT
        yield running


def test_the_catalogue_holds_together() -> None:
    entries = catalogue()
    names = [entry.name for entry in entries]
    assert len(set(names)) == len(names)
    assert {"lidc", "luna16", "lung-pet-ct-dx", "isic", "skin9", "chest-ctscan"} <= set(names)
    assert sum(name.startswith("medmnist-") for name in names) == 18
    sums = set()
    for entry in entries:
        assert set(entry.feeds) <= set(shipped_recipes())
        for side in entry.sides or (None,):
            means = find_entry(entry.name, side).means
            for file in means.files if isinstance(means, Http) else ():
                assert file.url.startswith("https://")
                if file.checksum:
                    algorithm, digits = file.checksum.split(":")
                    assert len(bytes.fromhex(digits)) == hashlib.new(algorithm).digest_size
                    sums.add(digits)
    assert len(sums) == 12 * 4 + 6 * 2, "every MedMNIST file has its own sum"
    derma = find_entry("medmnist-dermamnist", 64)
    assert derma.may_release is None, "CC BY-NC: whether a release is allowed depends on whose it is"
    assert isinstance(derma.means, Http)
    assert derma.means.files[0].url == "https://zenodo.org/records/10519652/files/dermamnist_64.npz?download=1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["medmnist-pathmist"], "did you mean 'medmnist-pathmnist'"),
        (["medmnist-pathmnist", "--size", "32"], "comes at 28, 64, 128, 224"),
        (["luna16", "--size", "28"], "comes in one size"),
        (["luna16", "--only", "subset11.zip"], "has no file 'subset11.zip'"),
        (["luna16", "--patients", "3"], "choose CT series"),
        (["skin9", "--only", "x"], "--only chooses files"),
    ],
)
def test_choices_that_there_are_not(tmp_path: Path, arguments: list[str], words: str) -> None:
    shown = CliRunner().invoke(app, ["fetch", *arguments, "--out", str(tmp_path / "out")])
    assert isinstance(shown.exception, FetchError)
    assert words in str(shown.exception)


@pytest.fixture
def local_entry(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Entry:
    entry = entry_of(remote(server))
    monkeypatch.setattr(synthoma.fetching, "find_entry", lambda name, side=None: entry)
    return entry


def test_it_asks_first(server: FileServer, local_entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    command = ["fetch", "local", "--out", str(out)]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, FetchError)
    assert "scripts give --yes" in str(refused.exception)
    monkeypatch.setattr(synthoma.cli.fetch, "_on_a_terminal", lambda: True)
    for answer in ("n\n", "\n"):
        declined = CliRunner().invoke(app, command, input=answer)
        assert declined.exit_code == 1
        assert "Nothing was fetched" in declined.output
        for told in ("CC BY 4.0", "Nobody, 2026", "3 MB", "free", str(out)):
            assert told in declined.output
    assert not out.exists()
    assert server.seen == []
    agreed = CliRunner().invoke(app, command, input="y\n")
    assert agreed.exit_code == 0, agreed.output
    assert (out / "set.npz").read_bytes() == CONTENT


def test_scripts(server: FileServer, local_entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(app, ["fetch", "local", "--out", str(tmp_path / "out"), "--yes", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["files"][0]["compared_with"] == MD5
    listed = CliRunner().invoke(app, ["fetch", "--json"])
    assert [row["name"] for row in json.loads(listed.stdout)] == [entry.name for entry in catalogue()]
    monkeypatch.setattr(console, "_width", 250)
    table = CliRunner().invoke(app, ["fetch", "--list"])
    assert "medmnist-nodulemnist3d" in table.output
    missing = CliRunner().invoke(app, ["fetch", "local"])
    assert missing.exit_code == typer.BadParameter("").exit_code
