"""What preparation holds in its hands: an `Item` per image that was read, a `Rejection` per image that was left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from synthoma.records import Record, Unit


@dataclass(frozen=True)
class Item:
    """One image that was read. place: where its pixels lie in the scratch arrays; content: hash of its decoded pixels."""

    place: int
    record: Record
    content: str
    unit: Unit
    spacing: tuple[float, ...] | None
    coloured: bool
    upscaled: bool
    padded: bool = False

    @property
    def label(self) -> str | None:
        return self.record.label

    @property
    def order(self) -> tuple[str, str, str]:
        """Rows are sorted by what they show, so that neither path nor order of files matters."""
        return self.content, self.record.label or "", self.record.key


@dataclass(frozen=True)
class Rejection:
    """One image that was left out. reason: names no file; unreadable: the file is damaged."""

    record: Record
    reason: str
    unreadable: bool = False

    @property
    def kind(self) -> str:
        """The reason without the particulars in brackets, to count by."""
        return self.reason.partition(" (")[0]


def count_reasons(rejections: Sequence[Rejection]) -> dict[str, int]:
    """How often each kind of reason occurs, sorted by name."""
    return dict(sorted(Counter(rejection.kind for rejection in rejections).items()))
