"""What servers answer, and what it means for the next try."""

from types import ModuleType
from typing import Any

from synthoma.errors import MissingExtraError
from synthoma.fetching.failure import FetchError

_PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers after which another try may succeed


class PassingProblemError(Exception):
    """Another try may succeed. `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def refuse(place: str, response: Any) -> None:
    """Raises for answers that bring no file."""
    code = response.status_code
    if code < 400:
        return
    if code in _PASSING:
        wait = response.headers.get("Retry-After", "")
        raise PassingProblemError(f"the server answers {code}", float(wait) if wait.isdigit() else None)
    if code in (404, 410):
        raise FetchError(f"{place} is not there (any more): the server answers {code}. Its page may say where it went.")
    raise FetchError(f"{place} is refused: the server answers {code}.")


def content_length(response: Any) -> int | None:
    """Bytes that will arrive; None where the server does not say, or packs them on the way."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() and "Content-Encoding" not in response.headers else None


def content_range(header: str) -> tuple[int | None, int | None]:
    """'bytes 100-199/200' -> (100, 200); None for what it does not say."""
    span, _, total = header.removeprefix("bytes ").partition("/")
    first = span.partition("-")[0]
    return (int(first) if first.isdigit() else None), (int(total) if total.isdigit() else None)


def connection_words(requests: ModuleType, error: Exception) -> str:
    """An error of requests in words for a person; without the address, which may hold a user's proxy and password."""
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "the server's certificate cannot be checked (a proxy in between? REQUESTS_CA_BUNDLE names its certificate)"
        )
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection closed before all had arrived"
    return "the server cannot be reached (is there a network? a proxy is named by HTTPS_PROXY)"


def load_requests() -> ModuleType:
    """The package requests. Raises `MissingExtraError` without it."""
    try:
        import requests
    except ImportError as error:
        raise MissingExtraError(
            "fetching needs requests, which comes with pooch: pip install 'synthoma[fetch]'."
        ) from error
    return requests
