"""The commands put together, and what happens when one fails.

Exit codes: 0 fine, 1 an error that is told in words, 2 wrong usage, 3 an audit that found copies, a scan that found synthetic images, a
gate that says no, or a comparison that says worse, 130 interrupted.
"""

import sys

import typer
from rich.markup import escape

from synthoma.cli import (
    audit,
    augment,
    compare,
    ct,
    data,
    detect,
    evaluate,
    fetch,
    gate,
    generate,
    info,
    marks,
    slides,
    train,
    utility,
)
from synthoma.cli.console import error_console
from synthoma.errors import Interrupted, SynthomaError

app = typer.Typer(
    name="synthoma",
    help="From a clinic's own cancer images to synthetic ones, with the evidence that they may be used.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    train,
    fetch,
    data,
    slides,
    ct,
    marks,
    augment,
    generate,
    evaluate,
    detect,
    audit,
    utility,
    gate,
    compare,
    info,
):
    module.register(app)


def main() -> None:
    """Entry point of the `synthoma` command."""
    try:
        app(standalone_mode=True)
    except SynthomaError as error:
        error_console.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except Interrupted as interruption:
        error_console.print(escape(str(interruption)), soft_wrap=True)
        sys.exit(130)
    except KeyboardInterrupt:
        error_console.print("Interrupted.")
        sys.exit(130)
