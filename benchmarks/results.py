"""What every result file says beside its figures: when, where, with which versions, and of which commit."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from synthoma.run import environment

HERE = Path(__file__).parent
FOLDER = HERE / "results"


def header(benchmark: str) -> dict[str, Any]:
    """The first fields of a result file."""
    return {
        "benchmark": benchmark,
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "load_at_start": [round(value, 2) for value in os.getloadavg()],
        "environment": environment(),
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result file; a long benchmark does so after each of its rows, so that a kill loses only one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


def commit() -> str | None:
    """The commit that is checked out, marked where files of the package were changed since; None outside of git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/src", ":/benchmarks/*.py")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head} with changes" if changed else head


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(HERE.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
