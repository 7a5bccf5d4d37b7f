"""`synthoma fetch weights`: asked for by name, checked by its sum, found again by `evaluate --weights NAME`."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import synthoma.fetching.weights
from fetch_fixture import FileServer, file_server
from synthoma.cli.app import app
from synthoma.errors import EvaluationError
from synthoma.fetching import Entry, FetchError, find_weights, find_weights_entry, weights_folder, weights_remote
from synthoma.fetching.entries import Http
from synthoma.networks.features import load_extractor, weights_file
from synthoma.networks.features.squeezenet import SqueezeNet
from synthoma.recipe import load_recipe
from synthoma.report.provenance import settings

NAME = weights_remote(find_weights_entry("inception")).name


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty cache folders of synthoma and of torch."""
    monkeypatch.setenv("SYNTHOMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of a network that loads fast, served under Inception's name."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(SqueezeNet().state_dict(), file)
    return file.read_bytes()


@pytest.fixture
def server(cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with file_server() as running:
        running.files[f"/{NAME}"] = content
        serve(running, content, monkeypatch)
        yield running


def serve(server: FileServer, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The entry of Inception, with address and sum of the file on the test's server."""
    entry = find_weights_entry("inception")
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    there = replace(weights_remote(entry), url=f"{server.url}/{NAME}", checksum=digest, size=len(content))
    changed = replace(entry, means=Http((there,)))
    monkeypatch.setitem(synthoma.fetching.weights.WEIGHTS, "inception", changed)
    return changed


def test_the_catalogue_pins_the_file_whose_name_holds_the_sum() -> None:
    remote = weights_remote(find_weights_entry("inception"))
    algorithm, digits = (remote.checksum or "").split(":")
    assert algorithm == "sha256"
    assert len(bytes.fromhex(digits)) == 32
    assert remote.name.removesuffix(".pth").endswith(f"-{digits[:8]}")
    assert remote.url.startswith("https://github.com/toshas/torch-fidelity/")
    assert remote.url.endswith(f"/{remote.name}")
    assert remote.size == 95_628_359
    with pytest.raises(FetchError, match="did you mean 'inception'"):
        find_weights_entry("incption")


def test_fetched_weights_are_found_by_name(server: FileServer, cache: Path, content: bytes) -> None:
    shown = CliRunner().invoke(app, ["fetch", "weights", "inception", "--yes"])
    assert shown.exit_code == 0, shown.output
    for told in ("Apache-2.0", "96 MB", hashlib.sha256(content).hexdigest(), "--weights inception"):
        assert told in shown.output
    file = cache / "weights" / "inception" / NAME
    assert file.read_bytes() == content
    assert not (file.parent / "synthoma-data.yaml").exists()
    assert json.loads((file.parent / "fetched.json").read_text())["files"][0]["sum_from"] == "catalogue"
    assert find_weights("inception") == weights_file("inception") == weights_file(file) == file
    extractor = load_extractor("inception")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32)).astype(np.uint8)
    assert extractor.features(images).shape == (2, extractor.dimension)
    again = CliRunner().invoke(app, ["fetch", "weights", "inception", "--yes", "--json"])
    assert again.exit_code == 0, again.output
    assert len(server.seen) == 1, "what is there is not fetched again"


def test_a_broken_download_goes_on(server: FileServer, cache: Path, content: bytes) -> None:
    server.cuts = [16 << 16]
    shown = CliRunner().invoke(app, ["fetch", "weights", "inception", "--yes"])
    assert shown.exit_code == 0, shown.output
    assert [asked for _, asked, _ in server.seen] == [None, f"bytes={16 << 16}-"]
    assert find_weights("inception").read_bytes() == content


def test_nothing_is_fetched_without_a_yes(server: FileServer, cache: Path) -> None:
    shown = CliRunner().invoke(app, ["fetch", "weights", "inception"])
    assert isinstance(shown.exception, FetchError)
    assert "scripts give --yes" in str(shown.exception)
    assert server.seen == []
    assert not cache.exists()


def test_another_file_under_the_address_is_refused(
    server: FileServer, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, b"what was meant", monkeypatch)
    shown = CliRunner().invoke(app, ["fetch", "weights", "inception", "--yes"])
    assert isinstance(shown.exception, FetchError)
    assert hashlib.sha256(content).hexdigest() in str(shown.exception)
    assert "--weights FILE" in str(shown.exception)
    with pytest.raises(FetchError, match="not on this machine"):
        find_weights("inception")


def test_where_it_cannot_be_fetched_it_says_what_else_can_be_done(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [404]
    shown = CliRunner().invoke(app, ["fetch", "weights", "inception", "--yes"])
    assert isinstance(shown.exception, FetchError)
    assert f"bring {NAME} from elsewhere" in str(shown.exception)
    with pytest.raises(FetchError, match=r"synthoma fetch weights inception.*96 MB.*--weights FILE"):
        weights_file("inception")


def test_the_copy_that_torch_fidelity_keeps_is_used_and_checked(
    server: FileServer, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "torch" / "hub" / "checkpoints" / NAME
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert find_weights("inception") == file
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FetchError, match="its SHA-256 is another"):
        find_weights("inception")


def test_where_weights_lie_without_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SYNTHOMA_CACHE", raising=False)
    monkeypatch.setattr(synthoma.fetching.weights.platform, "system", lambda: "Linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_folder("inception") == tmp_path / "synthoma" / "weights" / "inception"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert weights_folder("inception") == tmp_path / ".cache" / "synthoma" / "weights" / "inception"
    monkeypatch.setattr(synthoma.fetching.weights.platform, "system", lambda: "Darwin")
    assert weights_folder("inception") == tmp_path / "Library" / "Caches" / "synthoma" / "weights" / "inception"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["weights", "inception", "--patients", "3"], 2), (["lidc", "inception"], 2), (["weights", "nothing"], 1)],
)
def test_choices_that_there_are_not(arguments: list[str], code: int) -> None:
    assert CliRunner().invoke(app, ["fetch", *arguments, "--yes"]).exit_code == code


def test_weights_are_listed_and_named_in_reports(cache: Path) -> None:
    listed = CliRunner().invoke(app, ["fetch", "weights", "--json"])
    assert [row["name"] for row in json.loads(listed.stdout)] == ["inception"]
    recipe = load_recipe("demo", ["evaluation.weights=[inception, /home/somebody/net.pth]"]).model_dump(mode="json")
    shown = dict(dict(settings(recipe, public=True))["evaluation"])
    assert shown["weights"] == "inception, (a .pth file)"
    with pytest.raises(EvaluationError, match="does not exist"):
        weights_file("no-such-file.pth")
