"""What lies beside fetched data: `fetched.json` (what, from where, when, sums) and `synthoma-data.yaml` (terms)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from synthoma.errors import SynthomaError
from synthoma.fetching.entries import Entry, RemoteFile
from synthoma.fetching.failure import FetchError
from synthoma.run import read_json, write_atomically, write_json

FILE_NAME = "fetched.json"
TERMS_NAME = "synthoma-data.yaml"  # read by synthoma.sources.terms
SCHEMA_VERSION = 1


class Ledger:
    """The fetched.json of a folder; written after each step, so that a later call knows what is whole."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.file, self.content = folder / FILE_NAME, content

    @classmethod
    def open(cls, folder: Path, entry: Entry) -> "Ledger":
        """That of an earlier call, or a new one that is not written yet.

        Raises `FetchError` for a folder that holds something else: another data set, or files of somebody's.
        """
        if folder.exists() and not folder.is_dir():
            raise FetchError(f"--out {folder} is a file; name a folder.")
        file = folder / FILE_NAME
        if not file.exists():
            others = [path for path in folder.iterdir() if path.name != ".lock"] if folder.exists() else []
            if others:
                raise FetchError(f"--out {folder} is not empty; name a new folder, or one that an earlier fetch began.")
            return cls(folder, _begun(entry))
        try:
            content = read_json(file)
            version, name, side = content["schema_version"], content["name"], content["side"]
        except (SynthomaError, KeyError, TypeError) as error:
            raise FetchError(f"{file} is damaged; delete it with its folder, or name another --out.") from error
        if version != SCHEMA_VERSION:
            raise FetchError(f"{file} is of another version of synthoma; name another --out.")
        if (name, side) != (entry.name, entry.side):
            size = f" at {side} px" if side else ""
            raise FetchError(f"--out {folder} holds {name}{size}; name another folder for {entry.name}.")
        return cls(folder, content)

    def has(self, remote: RemoteFile) -> bool:
        """Whether a file was fetched whole, and is still there or was unpacked."""
        row = self._row(remote)
        return row is not None and (row["unpacked"] is not None or (self.file.parent / row["file"]).exists())

    def has_unpacked(self, remote: RemoteFile) -> bool:
        """Whether an archive was unpacked."""
        row = self._row(remote)
        return row is not None and row["unpacked"] is not None

    def note_unpacked(self, remote: RemoteFile, count: int) -> None:
        """Write down how many files came out of an archive that was fetched."""
        row = self._row(remote)
        if row is None:
            raise KeyError(remote.name)
        row["unpacked"] = count
        self.write()

    def _row(self, remote: RemoteFile) -> dict[str, Any] | None:
        return next((row for row in self.content["files"] if row["file"] == remote.place), None)

    def add(self, file: dict[str, Any]) -> None:
        """Write down a file that is whole."""
        files = [other for other in self.content["files"] if other["file"] != file["file"]]
        self.content["files"] = [*files, {**file, "unpacked": None, "when": now()}]
        self.write()

    def write(self) -> None:
        write_json(self.file, self.content)


def _begun(entry: Entry) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "name": entry.name,
        "side": entry.side,
        "title": entry.title,
        "homepage": entry.homepage,
        "way": entry.way,
        "licence": entry.licence,
        "citation": entry.citation,
        "begun": now(),
        "finished": None,
        "files": [],
        "series": [],
    }


def write_terms(folder: Path, entry: Entry) -> None:
    """Write synthoma-data.yaml, unless there is one: the user may have changed it. What is not known is left out."""
    file = folder / TERMS_NAME
    if file.exists():
        return
    terms = {"licence": entry.licence, "citation": entry.citation, "may_release": entry.may_release}
    known = {key: value for key, value in terms.items() if value is not None}
    write_atomically(file, yaml.safe_dump(known, allow_unicode=True, sort_keys=False, width=1000))


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
