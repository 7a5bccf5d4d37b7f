"""The commands put together, and what happens when one fails.

Exit codes: 0 fine, 1 an error that is told in words, 2 wrong usage, 130 interrupted.
"""

import sys

import typer

from synthoma.cli import data, evaluate, generate, info, train
from synthoma.cli.console import error_console
from synthoma.errors import SynthomaError

app = typer.Typer(
    name="synthoma",
    help="From a clinic's own cancer images to synthetic ones, with the evidence that they may be used.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (train, data, generate, evaluate, info):
    module.register(app)


def main() -> None:
    """Entry point of the `synthoma` command."""
    # Imported here: a name for the exception is all that is needed, and `--help` shall not wait for torch.
    try:
        app(standalone_mode=True)
    except SynthomaError as error:
        error_console.print(f"[bold red]Error:[/] {_plain(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        error_console.print("Interrupted.")
        sys.exit(130)
    except Exception as error:
        if type(error).__name__ != "Interrupted":
            raise
        error_console.print(_plain(str(error)), soft_wrap=True)
        sys.exit(130)


def _plain(text: str) -> str:
    """File names may hold brackets: they are no markup."""
    return text.replace("[", r"\[")
