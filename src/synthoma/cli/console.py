"""What a person sees while something runs: a live bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# In a pipe or a log nobody sees where a screen would end: tables keep their columns.
WIDTH_OF_FILES = 160
console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH_OF_FILES)
error_console = Console(stderr=True, highlight=False)

# A line of progress at most this often where there is no terminal (a log file, a cluster's scheduler).
PLAIN_SECONDS = 10.0


class ConsoleObserver:
    """Shows a workflow. With `quiet` only warnings are shown, on standard error (`--json` keeps standard output clean)."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        self.printed = 0.0

    def __enter__(self) -> "ConsoleObserver":
        if console.is_terminal and not self.quiet:
            self.live = Progress(
                SpinnerColumn(),
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def say(self, message: str) -> None:
        """A line of information."""
        if not self.quiet:
            console.print(escape(message), soft_wrap=True)

    def warn(self, message: str) -> None:
        """A line that should not be overlooked."""
        # Beside a live bar it goes through the bar's own console, which else would be torn.
        target = console if self.live else error_console
        target.print(f"[yellow]Warning:[/] {escape(message)}", soft_wrap=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """A stage that counts files or features."""
        self._show(what, done, total, f"{done}/{total}" if total else "")

    def row(self, row: dict[str, Any], total_images: int) -> None:
        """A row of stats.jsonl."""
        if row["kind"] == "validation":
            self.say(
                f"{row['images_seen'] / 1000:8.1f} kimg  validation KID {row['kid']:.4f} (standard error {row['kid_se']:.4f})"
            )
            return
        seen = row["images_seen"]
        left = (total_images - seen) / max(row["images_per_second"], 1e-9)
        detail = (
            f"{seen / 1000:.1f}/{total_images / 1000:g} kimg, {row['images_per_second']:.0f} img/s, "
            f"D {row['loss_discriminator']:.2f}, G {row['loss_generator']:.2f}"
        )
        self._show("Training", seen, total_images, detail + ("" if self.live else f", {_duration(left)} left"))

    def _show(self, what: str, done: int, total: int, detail: str) -> None:
        if self.quiet:
            return
        if self.live:
            if what not in self.tasks:
                for other in self.tasks.values():
                    self.live.update(other, visible=False)
                self.tasks[what] = self.live.add_task(what, total=total or None, detail=detail)
            self.live.update(self.tasks[what], completed=done, total=total or None, detail=detail)
            return
        now = time.monotonic()
        if total and (now - self.printed >= PLAIN_SECONDS or done >= total):
            self.printed = now
            print(f"{what}: {detail}", flush=True)


def _duration(seconds: float) -> str:
    """Time left in words short enough for a line."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_json(value: object) -> None:
    """One JSON document on standard output, for scripts."""
    import json

    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
