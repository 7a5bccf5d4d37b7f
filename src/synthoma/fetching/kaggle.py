"""Data sets of kaggle.com by the user's own `kaggle` command and account; nothing is taken from its pages."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from synthoma.fetching.entries import Entry, Kaggle
from synthoma.fetching.failure import FetchError

Run = Callable[[list[str]], "subprocess.CompletedProcess[str]"]


def run_command(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command; its standard output is shown, its errors are kept."""
    return subprocess.run(arguments, stderr=subprocess.PIPE, text=True, check=False)


def require_command(entry: Entry, out: Path) -> None:
    """Raises `FetchError` with what to do by hand where there is no `kaggle` command."""
    if shutil.which("kaggle") is None:
        raise FetchError(f"{entry.name} is on kaggle.com, which asks for an account. {by_hand(entry, out)}")


def fetch_archive(entry: Entry, means: Kaggle, out: Path, run: Run = run_command) -> Path:
    """The data set's ZIP archive in `out`. Raises `FetchError` with the command's last words and what to do by hand."""
    archive = out / archive_name(means)
    result = run(["kaggle", "datasets", "download", "-d", means.dataset, "-p", str(out)])
    if result.returncode != 0 or not archive.exists():
        said = [line for line in (result.stderr or "").splitlines() if line.strip()]
        reason = f"it says: {said[-1].strip()}" if said else f"it ended with code {result.returncode}"
        raise FetchError(f"the kaggle command brought no {archive.name}; {reason}. {by_hand(entry, out)}")
    return archive


def archive_name(means: Kaggle) -> str:
    """The file that the kaggle command writes."""
    return f"{means.dataset.rpartition('/')[2]}.zip"


def by_hand(entry: Entry, out: Path) -> str:
    """How a person gets the data set without us."""
    return (
        f"By hand: sign in at {entry.homepage}, read the terms, press Download, and unpack the archive into {out}. "
        "Or: pip install kaggle, create an API token in your account's settings there, and give this command again."
    )
