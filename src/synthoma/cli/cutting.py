"""What the commands of slides and of CT share: a share of the work, and tables of what came of it."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Protocol

import typer
from rich.table import Table

from synthoma.errors import RecipeError

Shard = Annotated[
    str,
    typer.Option("--shard", help="I/N: every N-th slide or volume from number I (1 .. N) on; to share them out."),
]


class Pieces(Protocol):
    """What came of a slide or volume: how many pieces, by class, why others were not taken, why there is none at all."""

    @property
    def taken(self) -> int: ...
    @property
    def classes(self) -> Mapping[str, int]: ...
    @property
    def rejected(self) -> Mapping[str, int]: ...
    @property
    def problem(self) -> str: ...


def pieces_table(source: str, pieces: str, rows: Iterable[tuple[str, Pieces]]) -> Table:
    """A row a slide or volume by name; those that gave nothing are bold."""
    table = folding_table(source, pieces, "by class", "not taken")
    for name, row in rows:
        table.add_row(
            name,
            str(row.taken),
            ", ".join(f"{label or 'no class'} {n}" for label, n in row.classes.items()),
            row.problem or ", ".join(f"{reason} {n}" for reason, n in row.rejected.items()),
            style=None if row.taken else "bold",
        )
    return table


def folding_table(*columns: str) -> Table:
    """A table in which nothing is cut: the last two columns fold, on a narrow screen the others too."""
    table = Table(box=None)
    for number, name in enumerate(columns):
        table.add_column(name, no_wrap=number == 0, overflow="fold")
    return table


def parse_shard(text: str) -> tuple[int, int]:
    """'I/N' with 1 <= I <= N as (I - 1, N)."""
    part, _, whole = text.partition("/")
    if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
        raise RecipeError(f"--shard {text}: I/N is expected with I from 1 to N, such as 1/8.")
    return int(part) - 1, int(whole)
