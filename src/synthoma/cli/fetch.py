"""`fetch`: public data sets, when asked for in so many words."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from synthoma.cli.console import ConsoleObserver, console, error_console, print_json
from synthoma.cli.options import Json

if TYPE_CHECKING:
    from synthoma.fetching import Entry, Plan


def register(app: typer.Typer) -> None:
    app.command()(fetch)


def fetch(
    name: Annotated[str | None, typer.Argument(help="A data set of the list; without one, the list.")] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder, or one that an earlier fetch began.")] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Show what there is, and stop.")] = False,
    size: Annotated[int | None, typer.Option(help="MedMNIST: pixels a side (28, 64, 128 or 224).")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Just this file of the set. Repeatable.")] = None,
    patients: Annotated[
        int | None, typer.Option(min=1, help="CT collections: only the first so many patients.")
    ] = None,
    series: Annotated[list[str] | None, typer.Option(help="CT collections: just this series UID. Repeatable.")] = None,
    keep_archives: Annotated[bool, typer.Option(help="Keep ZIP files after they are unpacked.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask (for scripts).")] = False,
    as_json: Json = False,
) -> None:
    """Fetch a public data set, after showing its licence and size and asking. Broken downloads go on where they stopped.

    Example: `synthoma fetch lidc --patients 20 --out lidc`
    """
    from synthoma.fetching import Conditions, FetchError, catalogue, find_entry, free_bytes, plan_fetch
    from synthoma.fetching import fetch as run_fetch

    if name is None or show_list:
        _show_list(catalogue(), as_json)
        return
    entry = find_entry(name, size)
    if out is None:
        raise typer.BadParameter(f"say where {name} goes: --out DIR", param_hint="--out")
    plan = plan_fetch(entry, out, only=only or (), patients=patients, series=series or ())
    _describe(plan, free_bytes(out))
    if not yes:
        if not _on_a_terminal():
            raise FetchError("nothing is fetched without a yes, and this is no terminal to ask on; scripts give --yes.")
        if not typer.confirm("Fetch it?", default=False, err=True):
            error_console.print("Nothing was fetched.")
            raise typer.Exit(1)
    with ConsoleObserver(quiet=as_json) as observer:
        ledger = run_fetch(
            plan,
            keep_archives=keep_archives,
            conditions=Conditions(progress=observer.progress),
            show_progress=not as_json,
        )
    if as_json:
        print_json(ledger)
        return
    console.print(f"{name} is in {out}; fetched.json there says what came from where.", markup=False, soft_wrap=True)


def _on_a_terminal() -> bool:
    return sys.stdin.isatty()


def _describe(plan: "Plan", free: int) -> None:
    # On standard error, so that --json keeps standard output clean.
    for line in plan.describe(free):
        error_console.print(line, markup=False, soft_wrap=True)


def _show_list(entries: "tuple[Entry, ...]", as_json: bool) -> None:
    if as_json:
        print_json([_as_json(entry) for entry in entries])
        return
    table = Table("name", "what", "licence", "size", "for recipes", "fetched by", box=None, pad_edge=False)
    for entry in entries:
        sides = f" ({', '.join(map(str, entry.sides))} px)" if entry.sides else ""
        feeds = ", ".join(entry.feeds) or "-"
        table.add_row(entry.name, entry.title, entry.licence or "not known", entry.size + sides, feeds, entry.way)
    console.print(table)


def _as_json(entry: "Entry") -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "licence": entry.licence,
        "citation": entry.citation,
        "may_release": entry.may_release,
        "size": entry.size,
        "sizes_px": list(entry.sides),
        "recipes": list(entry.feeds),
        "way": entry.way,
        "homepage": entry.homepage,
    }
