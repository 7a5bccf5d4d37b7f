"""The hash of a stage's inputs: it changes with what the readers would read, and with nothing else."""

import os
from pathlib import Path

from synthoma.formats.manifest import manifest_hash


def make(folder: Path) -> Path:
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "one.png").write_bytes(b"1")
    (folder / "two.csv").write_bytes(b"2")
    return folder


def test_it_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    first = manifest_hash([make(tmp_path / "x")], tmp_path / "memory.json")
    assert manifest_hash([make(tmp_path / "elsewhere" / "y")], tmp_path / "other.json") == first
    (tmp_path / "x" / ".hidden").write_bytes(b"3")
    os.utime(tmp_path / "x" / "two.csv", (1, 1))
    assert manifest_hash([tmp_path / "x"], tmp_path / "memory.json") == first
    (tmp_path / "x" / "two.csv").write_bytes(b"3")
    assert manifest_hash([tmp_path / "x"], tmp_path / "memory.json") != first


def test_links_are_followed_as_the_readers_follow_them(tmp_path: Path) -> None:
    kept = make(tmp_path / "kept")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "melanoma").symlink_to(kept / "a", target_is_directory=True)
    before = manifest_hash([tmp_path / "data"], tmp_path / "memory.json")
    (kept / "a" / "one.png").write_bytes(b"another picture")
    assert manifest_hash([tmp_path / "data"], tmp_path / "memory.json") != before


def test_what_is_remembered_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "Smith^John").mkdir()
    manifest_hash([make(tmp_path / "Smith^John")], tmp_path / "memory.json")
    text = (tmp_path / "memory.json").read_text()
    assert "Smith" not in text
    assert "one.png" not in text
