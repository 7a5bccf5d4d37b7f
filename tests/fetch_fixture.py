"""A file server on this machine that breaks in the ways that servers break."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from synthoma.fetching import Entry
from synthoma.fetching.entries import Http, RemoteFile

CONTENT = random.Random(7).randbytes(3_000_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()  # noqa: S324 - as MedMNIST publishes them


class FileServer(ThreadingHTTPServer):
    """Serves `files` by path.

    cuts: bytes after which the connection closes, for one request each. answers: status codes that are given first.
    ranges, tags: whether a part may be asked for, and whether entity tags are sent. heeds: whether If-Range counts. seen: (path, Range, If-Range).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.answers: list[int] = []
        self.ranges = self.tags = self.heeds = True
        self.seen: list[tuple[str, str | None, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server, asked, condition = self.server, self.headers["Range"], self.headers["If-Range"]
        server.seen.append((self.path, asked, condition))
        if server.answers:
            self.send_response(server.answers.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        tag = f'"{hashlib.sha1(content).hexdigest()}"'  # noqa: S324 - a name, not a secret
        first = 0
        if asked and server.ranges and (condition in (None, tag) or not server.heeds):
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        if first >= len(content) and first:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if server.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        body = content[first:]
        if server.cuts:
            body = body[: server.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


@contextmanager
def file_server() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def remote(server: FileServer, **changes: object) -> RemoteFile:
    return replace(RemoteFile("set.npz", f"{server.url}/set.npz", MD5), **changes)  # type: ignore[arg-type]


def entry_of(*files: RemoteFile) -> Entry:
    return Entry(
        "local", "A set of a test", "CC BY 4.0", "Nobody, 2026", True, "3 MB", 3 << 20, (), Http(files), "http://x"
    )
