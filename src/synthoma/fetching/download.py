"""Files over HTTP: resumed where a connection broke, checked against their sums, put in place only when whole.

pooch checks sums and puts files in place, but starts anew after each broken connection; `ResumingDownloader` is a
downloader for it that keeps what has arrived in `.NAME.part` and asks for the rest (RFC 9110, section 14).
"""

import errno
import hashlib
import time
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

from synthoma.errors import MissingExtraError, SynthomaError
from synthoma.fetching.answers import (
    PassingProblemError,
    connection_words,
    content_length,
    content_range,
    load_requests,
    refuse,
)
from synthoma.fetching.conditions import Conditions, in_words, require_space
from synthoma.fetching.entries import RemoteFile
from synthoma.fetching.failure import FetchError
from synthoma.fetching.zenodo import described_by_zenodo
from synthoma.run import file_sha256, read_json, write_json

_CHUNK = 1 << 16  # a piece that the connection cuts in two is lost, so pieces are small
_PROGRESS_SECONDS = 0.5


def fetch_file(remote: RemoteFile, folder: Path, conditions: Conditions) -> dict[str, Any]:
    """Bring a file into `folder`, unless it is there already with the right sum.

    Returns what was done, for fetched.json: file, url, bytes, sha256, the sum that it was compared with or None.
    Raises `FetchError`: unreachable, refused, absent, no space, a sum that differs (the file is kept as NAME.bad);
    `MissingExtraError` without pooch.
    """
    pooch = _pooch()
    if remote.zenodo is not None:
        remote = described_by_zenodo(remote, conditions)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / remote.name
    if remote.checksum is None and target.exists() and remote.size != target.stat().st_size:
        # Without a sum nothing says that a file which lies here already is the one that is meant.
        raise FetchError(
            f"{target} is there already, and no sum tells whether it is whole. Move it away and try again."
        )
    downloader = ResumingDownloader(target, remote, conditions)
    try:
        pooch.retrieve(remote.url, remote.checksum, fname=remote.name, path=folder, downloader=downloader)
    except OSError as error:
        raise _disk_problem(target, error) from error
    return {
        "file": remote.place,
        "url": remote.url,
        "bytes": target.stat().st_size,
        "sha256": file_sha256(target),
        "compared_with": remote.checksum,
        "sum_from": None if remote.checksum is None else "zenodo" if remote.zenodo else "catalogue",
    }


class ResumingDownloader:
    """A downloader for `pooch.retrieve` that goes on where it stopped, also after the program ended.

    A rest is asked for only if the server says by its entity tag that the file is the same, or if a sum will tell.
    """

    def __init__(self, target: Path, remote: RemoteFile, conditions: Conditions) -> None:
        self.target, self.remote, self.conditions = target, remote, conditions
        self.part = target.with_name(f".{target.name}.part")
        self.note = target.with_name(f".{target.name}.part.json")

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Fetch `url` to `output_file`; `pooch` and `check_only` are of the protocol and not used."""
        # pooch made an empty file under this name, which a kill would leave behind among the data.
        Path(output_file).unlink(missing_ok=True)
        failures = 0
        while True:
            before = self._have()
            try:
                self._transfer(url)
                break
            except PassingProblemError as problem:
                failures = 1 if self._have() > before else failures + 1
                if failures >= self.conditions.attempts:
                    raise FetchError(f"{self._place(url)}: {problem}. {self._go_on()}") from problem
                self.conditions.wait(failures, problem.wait)
        self._check_sum()
        self.part.replace(output_file)
        self.note.unlink(missing_ok=True)

    def _transfer(self, url: str) -> None:
        """One request. Raises `PassingProblemError` where it brought not everything, and `FetchError` for good."""
        requests = load_requests()
        have, tag = self._resumable(url)
        headers = {"User-Agent": "synthoma", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if tag:
                headers["If-Range"] = tag
        try:
            with requests.get(url, headers=headers, stream=True, timeout=self.conditions.timeout) as response:
                self._receive(url, response, have, tag)
        except requests.RequestException as error:
            raise PassingProblemError(connection_words(requests, error)) from error

    def _receive(self, url: str, response: Any, have: int, tag: str | None) -> None:
        if url.startswith("https://") and not response.url.startswith("https://"):
            raise FetchError(f"{self._place(url)} leads to an address without encryption; nothing was fetched.")
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                return
            self._start_anew("what had arrived is not a part of the file on the server")
        refuse(self._place(url), response)
        resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
        if resumed:
            first, total = content_range(response.headers.get("Content-Range", ""))
            # Not every server heeds If-Range.
            if first != have or (tag and response.headers.get("ETag", tag) != tag):
                self._start_anew("the server sent another part than was asked for")
        else:
            have, total = 0, content_length(response)
            self.part.unlink(missing_ok=True)
        if total is not None:
            require_space(self.part.parent, total - have, self.conditions.free)
        sent = response.headers.get("ETag", "")
        # Weak tags do not promise equal bytes, and may not be sent with If-Range.
        write_json(self.note, {"url": url, "tag": sent if sent.startswith('"') else None})
        self._append(response, have, total)
        if total is not None and self._have() != total:
            if self._have() > total:
                self._start_anew("more arrived than the server announced")
            raise PassingProblemError("the connection closed before all had arrived")

    def _append(self, response: Any, have: int, total: int | None) -> None:
        shown = 0.0
        with self.part.open("ab" if have else "wb") as file:
            for piece in response.iter_content(_CHUNK):
                file.write(piece)
                have += len(piece)
                if time.monotonic() - shown > _PROGRESS_SECONDS:
                    shown = time.monotonic()
                    self._show(have, total or 0)
        self._show(have, total or have)

    def _show(self, have: int, total: int) -> None:
        self.conditions.progress(f"{self.remote.name} (kB)", have // 1000, total // 1000)

    def _resumable(self, url: str) -> tuple[int, str | None]:
        """Bytes that are here and may be kept, and the tag that the rest must have."""
        have = self._have()
        if not have or not self.note.exists():
            return 0, None
        try:
            note = read_json(self.note)
        except SynthomaError:
            return 0, None
        tag = note.get("tag")
        same = note.get("url") == url and (tag is not None or self.remote.checksum is not None)
        return (have, tag) if same else (0, None)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _start_anew(self, reason: str) -> None:
        self.part.unlink(missing_ok=True)
        raise PassingProblemError(reason)

    def _check_sum(self) -> None:
        """pooch would delete a file whose sum differs; here it is kept, so that one can see what the server sent."""
        if self.remote.checksum is None:
            return
        algorithm, expected = self.remote.checksum.split(":")
        with self.part.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected:
            bad = self.target.with_name(f"{self.target.name}.bad")
            self.part.replace(bad)
            self.note.unlink(missing_ok=True)
            raise FetchError(
                f"{self._place(self.remote.url)}: the {algorithm.upper()} sum is {found} and should be {expected}: the file "
                f"was damaged on its way, or was replaced by another. It was put aside as {bad}; look at it, delete it, and "
                "try again."
            )

    def _place(self, url: str) -> str:
        return f"{self.remote.name} from {url.split('/')[2]}"

    def _go_on(self) -> str:
        have = self._have()
        return (
            f"{in_words(have)} are kept; the same command goes on from there."
            if have
            else "The same command tries again."
        )


def _disk_problem(target: Path, error: OSError) -> FetchError:
    if error.errno == errno.ENOSPC:
        return FetchError(f"{target.parent} is full. Make room; the same command goes on with what has arrived.")
    return FetchError(f"{target} cannot be written: {error.strerror or 'unknown error'}.")


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError("fetching needs pooch: pip install 'synthoma[fetch]'.") from error
    # It would tell on standard error what the command line tells already.
    pooch.get_logger().setLevel("WARNING")
    return pooch
