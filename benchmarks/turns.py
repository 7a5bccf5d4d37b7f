"""Contestants that take turns: each is a process of its own that waits while another works.

So a busy neighbour hurts all of them. A turn during which other processes took more than a tenth of the cores is kept
in the result but left out of the figures; workers start, and turns begin, when the machine is quiet (or when patience
is at its end).
"""

import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Share of the cores that others may take during a turn that counts.
DISTURBED = 0.1
FIGURES = ("images_per_second_median", "images_per_second_best_round", "images_per_second_fastest_step")


class Contestant:
    """A worker process (see worker.py) and what it has measured so far. images: real images that one step shows."""

    def __init__(self, name: str, command: Sequence[str], images: int) -> None:
        self.name, self.images, self.rounds = name, images, list[dict[str, Any]]()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.description = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The worker '{self.name}' ended with code {self.process.wait()}; its message is above.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def work(self, seconds: float) -> None:
        """One turn; a row of fastest and median images a second, memory, load of the machine."""
        assert self.process.stdin is not None
        before = busy_seconds()
        self.process.stdin.write(json.dumps({"seconds": seconds}) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        steps, wall, processor = answer.pop("seconds"), answer.pop("wall"), answer.pop("processor")
        others = (busy_seconds() - before - processor) / (wall * (os.cpu_count() or 1))
        self.rounds.append(
            {
                "steps": len(steps),
                "images_per_second": round(self.images / statistics.median(steps), 3),
                "images_per_second_fastest_step": round(self.images / min(steps), 3),
                "load": round(os.getloadavg()[0], 2),
                "others_share": round(max(0.0, others), 3),
                **answer,
            }
        )

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    @property
    def quiet(self) -> list[dict[str, Any]]:
        """Turns that nobody disturbed."""
        return [row for row in self.rounds if row["others_share"] <= DISTURBED]

    def summary(self) -> dict[str, Any]:
        """The median turn, the best turn by its median, and the fastest step, of the turns that nobody disturbed.

        Where there was no such turn, of all turns; `quiet_turns` is then 0.
        """
        counted = self.quiet or self.rounds
        medians = [row["images_per_second"] for row in counted]
        result = {
            **self.description,
            "quiet_turns": len(self.quiet),
            "images_per_second_median": round(statistics.median(medians), 3),
            "images_per_second_best_round": max(medians),
            "images_per_second_fastest_step": max(row["images_per_second_fastest_step"] for row in counted),
            "peak_memory_mib": max(row["peak_memory_mib"] for row in self.rounds),
        }
        if "data_wait_share" in self.rounds[0]:
            result["data_wait_share"] = round(statistics.median(row["data_wait_share"] for row in counted), 5)
        return {**result, "rounds": self.rounds}


@contextlib.contextmanager
def started(commands: Mapping[str, Sequence[str]], images: int, patience: float) -> Iterator[list[Contestant]]:
    """All workers, started one after another on a quiet machine (`auto` decides by a stopwatch); ended with the block.

    Ends the program where their networks do not have the same numbers of weights.
    """
    contestants: list[Contestant] = []
    try:
        for name, command in commands.items():
            wait_for_quiet(patience)
            contestants.append(Contestant(name, command, images))
        counts = {contestant.name: contestant.description["parameters"] for contestant in contestants}
        if len({json.dumps(count, sort_keys=True) for count in counts.values()}) != 1:
            raise SystemExit(f"The networks are not the same: {counts}")
        yield contestants
    finally:
        for contestant in contestants:
            contestant.end()


def play(contestants: Sequence[Contestant], wanted: int, most: int, seconds: float, patience: float) -> None:
    """A turn that only warms up, then rounds of one turn each, until all have `wanted` undisturbed ones, or `most` rounds."""
    for contestant in contestants:
        contestant.work(min(seconds, 1.0))
        contestant.rounds.clear()
    for number in range(1, most + 1):
        for contestant in contestants:
            wait_for_quiet(patience)
            contestant.work(seconds)
            row = contestant.rounds[-1]
            print(
                f"round {number}  {contestant.name:24s} {row['images_per_second']:8.2f} images/s  "
                f"load {row['load']}, others took {row['others_share']:.0%}",
                flush=True,
            )
        if all(len(contestant.quiet) >= wanted for contestant in contestants):
            return


def ratios(summaries: Mapping[str, Mapping[str, Any]], ours: str, theirs: Sequence[str]) -> dict[str, float]:
    """Ours / theirs by median turn, best turn and fastest step; theirs is in each figure the faster one."""
    return {
        figure.removeprefix("images_per_second_"): round(
            summaries[ours][figure] / max(summaries[peer][figure] for peer in theirs), 3
        )
        for figure in FIGURES
    }


def busy_seconds() -> float:
    """Processor time that all processes of this machine have used, from Linux's /proc/stat; 0 elsewhere."""
    statistics_file = Path("/proc/stat")
    if not statistics_file.exists():
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, statistics_file.read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience: float) -> None:
    """Wait until others take no more than the tolerated share of the cores for a second, or `patience` seconds."""
    end = time.perf_counter() + patience
    while patience > 0:
        before, start = busy_seconds(), time.perf_counter()
        time.sleep(1.0)
        share = (busy_seconds() - before) / ((time.perf_counter() - start) * (os.cpu_count() or 1))
        if share <= DISTURBED or time.perf_counter() > end:
            return


def restrict_to_cores(count: int) -> None:
    """Keep this process and its workers on `count` cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    os.environ["OMP_NUM_THREADS"] = str(count)
