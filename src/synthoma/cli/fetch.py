"""`fetch`: public data sets and weights, when asked for in so many words."""

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
    name: Annotated[
        str | None, typer.Argument(help="A data set of the list, or `weights`; without one, the list.")
    ] = None,
    which: Annotated[str | None, typer.Argument(help="After `weights`: which, such as `inception`.")] = None,
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

    `synthoma fetch weights inception` fetches the network of FID into synthoma's cache folder, where `evaluate --weights
    inception` finds it.

    Example: `synthoma fetch lidc --patients 20 --out lidc`
    """
    from synthoma.fetching import WEIGHTS, catalogue, find_entry, plan_fetch

    if name == "weights":
        if show_list or which is None:
            _show_list(tuple(WEIGHTS.values()), as_json)
        else:
            _reject_choices(only=only, patients=patients, series=series, size=size)
            _fetch_weights(which, out, yes, as_json)
        return
    if which is not None:
        raise typer.BadParameter(f"one thing at a time: leave '{which}' out (only `weights` takes a second name).")
    if name is None or show_list:
        _show_list(catalogue(), as_json)
        return
    entry = find_entry(name, size)
    if out is None:
        raise typer.BadParameter(f"say where {name} goes: --out DIR", param_hint="--out")
    plan = plan_fetch(entry, out, only=only or (), patients=patients, series=series or ())
    _ask(plan, yes)
    ledger = _run(plan, as_json, keep_archives)
    if as_json:
        print_json(ledger)
        return
    console.print(f"{name} is in {out}; fetched.json there says what came from where.", markup=False, soft_wrap=True)


def _fetch_weights(name: str, out: Path | None, yes: bool, as_json: bool) -> None:
    """Fetch weights by name into the cache folder (or `out`); says how `evaluate` is given them."""
    from synthoma.fetching import FetchError, find_weights_entry, plan_fetch, weights_folder, weights_remote

    entry = find_weights_entry(name)
    folder = weights_folder(name) if out is None else out
    plan = plan_fetch(entry, folder)
    _ask(plan, yes)
    try:
        ledger = _run(plan, as_json)
    except FetchError as error:
        remote = weights_remote(entry)
        raise FetchError(
            f"{error} Where this machine has no network, bring {remote.name} from elsewhere and give "
            "`synthoma evaluate --weights FILE`."
        ) from error
    if as_json:
        print_json(ledger)
        return
    file = folder / weights_remote(entry).name
    console.print(
        f"{file} is there. `synthoma evaluate RUN --weights {name if out is None else file}` uses it.",
        markup=False,
        soft_wrap=True,
    )


def _reject_choices(**choices: object) -> None:
    for option, value in choices.items():
        if value:
            raise typer.BadParameter(f"--{option} chooses among data; weights are one file.")


def _ask(plan: "Plan", yes: bool) -> None:
    """Show what would be fetched, and ask unless `yes`; exit code 1 for a no."""
    from synthoma.fetching import FetchError, free_bytes

    _describe(plan, free_bytes(plan.out))
    if yes:
        return
    if not _on_a_terminal():
        raise FetchError("nothing is fetched without a yes, and this is no terminal to ask on; scripts give --yes.")
    if not typer.confirm("Fetch it?", default=False, err=True):
        error_console.print("Nothing was fetched.")
        raise typer.Exit(1)


def _run(plan: "Plan", as_json: bool, keep_archives: bool = False) -> dict[str, Any]:
    """Fetch what was agreed to. Returns fetched.json."""
    from synthoma.fetching import Conditions
    from synthoma.fetching import fetch as run_fetch

    with ConsoleObserver(quiet=as_json) as observer:
        return run_fetch(
            plan,
            keep_archives=keep_archives,
            conditions=Conditions(progress=observer.progress),
            show_progress=not as_json,
        )


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
