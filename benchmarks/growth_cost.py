"""How the cost of training grows with the resolution: time and peak memory of `pggan` and `r3`, each in its own process.

One row a family and size: seconds for each real image shown (a whole iteration over its batch), peak memory of the
process, and what of it came on top of the imports and the data. Widths belong to a resolution (family_recipes.py), so
that a larger net is the smaller one with finer layers; the batch is the same at all sizes of a dimension.

    python benchmarks/growth_cost.py [--families pggan r3] [--sizes 32 64 128 256 32x32x32 64x64x64] [--precision fp32]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from family_recipes import WIDTHS, family_recipe, name_of
from flops import count_flops
from our_step import open_session, parameter_counts
from plain_loop import parse_size
from results import FOLDER, header, write_result
from synthoma.training.iteration import one_iteration
from turns import busy_seconds, restrict_to_cores, wait_for_quiet
from worker import timed_steps

BATCH = {2: 8, 3: 2}
IMAGES = 16
SIZES = [(n, n) for n in (32, 64, 128, 256)] + [(n, n, n) for n in (32, 64)]


def peak_memory() -> int:
    """The most memory that this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(family: str, size: tuple[int, ...], precision: str, seconds: float) -> dict[str, Any]:
    """One row; meant for a process of its own, for the peak is that of the process."""
    recipe = family_recipe(family, size, BATCH[len(size)], widths=WIDTHS, precision=precision, device="cpu")
    before = peak_memory()
    with tempfile.TemporaryDirectory() as work:
        session = open_session(Path(work), recipe, IMAGES)
    one_iteration(session)
    busy = busy_seconds()
    own = resource.getrusage(resource.RUSAGE_SELF)
    times = timed_steps(lambda: one_iteration(session), seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    mine = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
    memory = peak_memory()
    return {
        "family": family,
        "size": name_of(size),
        "precision": session.precision.name,
        "batch": recipe.training.batch,
        "parameters": parameter_counts(session),
        "iterations": len(times),
        "seconds_per_image_median": round(statistics.median(times) / recipe.training.batch, 5),
        "seconds_per_image_fastest": round(min(times) / recipe.training.batch, 5),
        "others_seconds": round(max(0.0, busy_seconds() - busy - mine), 2),
        "measured_seconds": round(sum(times), 2),
        "peak_memory_mib": memory,
        "peak_memory_on_top_mib": memory - before,
        "gflop_per_image": round(count_flops(session) / recipe.training.batch / 1e9, 3),
    }


def in_own_process(family: str, size: tuple[int, ...], options: argparse.Namespace) -> dict[str, Any]:
    """The row of `measure`, from a fresh process."""
    command = [sys.executable, __file__, "--one", family, name_of(size), "--precision", options.precision]
    command += ["--seconds", str(options.seconds), "--threads", str(options.threads)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    row: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=("pggan", "r3"), default=["pggan", "r3"])
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES)
    parser.add_argument("--precision", choices=("fp32", "bf16", "auto"), default="fp32")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each row; at least three iterations")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for a quiet machine before a row")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=FOLDER / "growth_cost.json")
    parser.add_argument("--one", nargs=2, metavar=("FAMILY", "SIZE"), help="measure this in this process, and print it")
    options = parser.parse_args()
    restrict_to_cores(options.threads)
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(measure(options.one[0], parse_size(options.one[1]), options.precision, options.seconds)))
        return
    result: dict[str, Any] = {**header("growth_cost"), "threads": options.threads, "rows": []}
    for family in options.families:
        for size in options.sizes:
            wait_for_quiet(options.patience)
            row = in_own_process(family, size, options)
            result["rows"].append(row)
            write_result(options.out, result)
            print(
                f"{family:6s} {row['size']:9s} {row['precision']}: {row['seconds_per_image_median']:.4f} s/image, "
                f"peak {row['peak_memory_mib']} MiB, {row['gflop_per_image']} GFLOP/image",
                flush=True,
            )


if __name__ == "__main__":
    main()
