"""What an entry of the catalogue of public data sets says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    checksum: "md5:..." or "sha256:..." as its publisher, or two independent users, state it; None where no sum is known.
    size: bytes; None where nobody says. zenodo: number of the record whose description gives sum, size and address when
    the file is fetched. folder: place below the destination; "" is the destination itself. Archives are unpacked there.
    """

    name: str
    url: str
    checksum: str | None = None
    size: int | None = None
    zenodo: str | None = None
    folder: str = ""

    @property
    def place(self) -> str:
        """Where it lies, relative to the destination."""
        return f"{self.folder}/{self.name}" if self.folder else self.name

    @property
    def is_archive(self) -> bool:
        return self.name.endswith(".zip")


@dataclass(frozen=True)
class Http:
    """Files that are fetched one by one over HTTP."""

    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class Idc:
    """CT series of a collection of the Imaging Data Commons, by idc-index; `extras` come with any part of it.

    by_hand: what the collection needs besides and nobody but the user can fetch.
    """

    collection: str
    extras: tuple[RemoteFile, ...] = ()
    by_hand: str | None = None


@dataclass(frozen=True)
class Kaggle:
    """A data set of kaggle.com ("owner/name"), which asks for an account."""

    dataset: str


Means = Http | Idc | Kaggle


@dataclass(frozen=True)
class Entry:
    """A public data set, or weights of a feature extractor (`is_data` false: no terms are written beside them).

    licence, may_release: None where it is not known. space: bytes that it takes on disk, at most or about, as `size`
    words it. feeds: shipped recipes that it suits. sides: pixels a side that
    there are to choose from, and `side` the one of this entry; none where there is no choice.
    """

    name: str
    title: str
    licence: str | None
    citation: str
    may_release: bool | None
    size: str
    space: int
    feeds: tuple[str, ...]
    means: Means
    homepage: str
    sides: tuple[int, ...] = ()
    side: int | None = None
    is_data: bool = True

    @property
    def way(self) -> str:
        """How it is fetched, in a few words."""
        match self.means:
            case Http(files):
                hosts = sorted({file.url.split("/")[2] for file in files})
                return f"HTTP from {', '.join(hosts)}"
            case Idc():
                return "idc-index (Imaging Data Commons)"
            case Kaggle():
                return "kaggle command, with your account"
