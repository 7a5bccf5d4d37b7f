"""Whole runs of `cut_slides`: two workers against one, and how much memory they take however large the slides are.

Called by slides.py; by itself it is the process whose memory is measured: `slides_whole.py SLIDES OUT WORKERS`.
"""

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from synthoma.phantoms.slides import MPP, make_scene, write_slide
from synthoma.preparation.slides.tiles import TilesResult, cut_slides, find_slides
from synthoma.recipe import load_recipe
from turns import busy_seconds, wait_for_quiet

WANTED_SPEED_UP, MOST_GROWTH, MOST_MIB = 1.6, 1.2, 1536
# Sides in pixels: one and ten gigabytes of pixels.
SIDES = {"1 GB": 18_432, "10 GB": 57_856}
_EVERY_S = 0.1
# Share of two cores that one worker and the process that waits for it keep busy, and a little more.
_BUSY_WITH_ONE = 0.6


def write_slides(folder: Path, count: int, side: int, seed: int = 3) -> None:
    """Slides of `side` x `side` pixels without anything beside; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        scene = make_scene(seed, number, number, (side, side))
        path = folder / f"{scene.name}.tif"
        if not path.exists():
            aside = path.with_suffix(".part")
            write_slide(aside, scene)
            aside.rename(path)


def cut(data: Path, out: Path, workers: int, tile: int = 256, mpp: float = MPP) -> TilesResult:
    """All tissue of all slides, as shipped."""
    recipe = load_recipe("lung-histology-pggan", [f"slides.tile={tile}", f"slides.mpp={mpp}"])
    shutil.rmtree(out, ignore_errors=True)
    return cut_slides(find_slides(data, recipe), recipe, out, workers=workers)


def tiles_read(result: TilesResult) -> int:
    """Tiles whose pixels were read: taken ones and those that were rejected by what they look like."""
    from synthoma.preparation.slides.places import NO_TISSUE, OUTSIDE, SPARED, UNDECIDED

    unread = (OUTSIDE, UNDECIDED, NO_TISSUE, SPARED)
    return sum(
        info["taken"] + sum(n for reason, n in info["rejected"].items() if reason not in unread)
        for info in result.done.values()
    )


def two_workers(work: Path, slides: int, side: int, rounds: int, most_rounds: int, patience: float) -> dict[str, Any]:
    """Seconds of the same slides with one worker and with two, which take turns.

    A round during whose turn of one worker more than six tenths of two cores were busy was disturbed, and does not count.
    """
    data = work / f"slides-{side}"
    write_slides(data, slides, side)
    rows: list[dict[str, Any]] = []
    read = 0
    # The first round fills the file cache.
    for number in range(most_rounds + 1):
        row: dict[str, Any] = {}
        for workers in (1, 2):
            wait_for_quiet(patience)
            busy, start = busy_seconds(), time.perf_counter()
            read = tiles_read(cut(data, work / "out", workers))
            seconds = time.perf_counter() - start
            row[f"seconds_{workers}"] = round(seconds, 3)
            row[f"busy_share_{workers}"] = round((busy_seconds() - busy) / seconds / (os.cpu_count() or 1), 3)
        row["ratio"] = round(row["seconds_1"] / row["seconds_2"], 3)
        print(f"round {number}: {row}", flush=True)
        rows += [row] if number else []
        if len(_undisturbed(rows)) >= rounds:
            break
    shutil.rmtree(work / "out", ignore_errors=True)
    counted = _undisturbed(rows) or rows
    best = min(row["seconds_1"] for row in counted) / min(row["seconds_2"] for row in counted)
    return {
        "slides": slides,
        "side": side,
        "tiles_read": read,
        "wanted": WANTED_SPEED_UP,
        "quiet_rounds": len(_undisturbed(rows)),
        "ratio": {"median": round(statistics.median(row["ratio"] for row in counted), 3), "best_times": round(best, 3)},
        "tiles_per_second_one_worker": round(read / min(row["seconds_1"] for row in counted), 1),
        "rounds": rows,
    }


def _undisturbed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["busy_share_1"] <= _BUSY_WITH_ONE]


def memory(work: Path, workers: int = 2) -> dict[str, Any]:
    """Peak memory of cutting two slides of one and of ten gigabytes side by side."""
    result: dict[str, Any] = {"workers": workers, "wanted": {"growth": MOST_GROWTH, "mib": MOST_MIB}}
    for name, side in SIDES.items():
        data = work / f"slides-{side}"
        write_slides(data, workers, side)
        result[name] = {"side": side, "uncompressed_gb": round(side * side * 3 / 1e9, 2)}
        result[name] |= {"file_mb": round(sum(file.stat().st_size for file in data.iterdir()) / workers / 1e6, 1)}
        result[name] |= peak_memory([sys.executable, __file__, str(data), str(work / "out"), str(workers)])
        shutil.rmtree(work / "out", ignore_errors=True)
        print(name, result[name], flush=True)
    small, large = (result[name]["peak_mib"] for name in SIDES)
    return result | {"growth": round(large / small, 3)}


def peak_memory(command: list[str]) -> dict[str, float]:
    """Run a command; the most memory that it and all processes below it had at a time, shared pages counted once (PSS).

    peak_process_mib: the most that a single process had resident at any time (VmHWM).
    """
    process = subprocess.Popen(command)
    peak, largest, seen = 0.0, 0.0, 0
    ended = threading.Event()
    threading.Thread(target=lambda: (process.wait(), ended.set()), daemon=True).start()
    start = time.perf_counter()
    while not ended.wait(_EVERY_S):
        processes = _below(process.pid)
        peak = max(peak, sum(_kib(pid, "smaps_rollup", "Pss:") for pid in processes) / 1024)
        largest = max(largest, *(_kib(pid, "status", "VmHWM:") / 1024 for pid in processes), 0.0)
        seen = max(seen, len(processes))
    if process.returncode:
        raise SystemExit(f"{command} ended with code {process.returncode}")
    return {
        "peak_mib": round(peak, 1),
        "peak_process_mib": round(largest, 1),
        "processes": seen,
        "seconds": round(time.perf_counter() - start, 1),
    }


def _below(root: int) -> list[int]:
    """A process and all below it, from Linux's /proc."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The name of a process, in brackets, may hold anything.
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _kib(pid: int, file: str, name: str) -> int:
    """A line of /proc/PID/FILE in KiB; 0 for a process that has ended meanwhile."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


if __name__ == "__main__":
    cut(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
