"""What a GPU reaches: images a second and peak memory of every family, and how long three whole trainings take.

Parts (`--parts`):
  families  every family at several sizes in bf16, eager and compiled (`training.compile` off and auto)
  r3        `r3` at 128 and 256 pixels, with the shipped widths and with about 24 million weights a net
  nodules   `lung-nodule-wgan-gp` for the original's schedule: 62,500 critic and 12,500 generator updates at batch 16
  skin      `skin-cgan` for the original's 100,000 steps at batch 16

All measure `one_iteration` of the training loop on images of noise that lie on the device, after a warm-up that is not
counted; checkpoints, sample grids and validation are no part of it. The two schedules are the rate over at least
`--long-seconds`, times the exact count. Images are real ones shown to the discriminator.

    python benchmarks/gpu.py --parts nodules skin r3            # about 9 minutes; results to $OUT, or to results/
    python benchmarks/gpu.py --device cpu --seconds 1 --long-seconds 1 --parts r3 --sizes 16     # the script's own logic
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from family_recipes import LARGE, WIDTHS, family_recipe, name_of
from flops import count_flops, peak_flops
from our_step import open_session, parameter_counts
from plain_loop import parse_size
from results import FOLDER, header, write_result
from synthoma.families import FAMILIES
from synthoma.recipe import Recipe, load_recipe
from synthoma.training.iteration import one_iteration

PARTS = ("families", "r3", "nodules", "skin")
SIZES = [(64, 64), (128, 128), (256, 256), (32, 32, 32), (64, 64, 64)]
# Images of a batch by number of pixels or voxels: large enough to fill a GPU, small enough for 40 GB.
BATCHES = {64**2: 64, 128**2: 32, 256**2: 32, 64**3: 16}


@dataclass(frozen=True)
class Schedule:
    """An original project's whole training: its iterations, its time if known, and the time that is wanted here."""

    recipe: str
    iterations: int
    updates: str
    original_seconds: float
    wanted_seconds: float


SCHEDULES = {
    "nodules": Schedule(
        "lung-nodule-wgan-gp",
        12_500,
        "62,500 critic and 12,500 generator updates at batch 16 (1,000 epochs of 200 nodules)",
        48 * 3600,
        15 * 60,
    ),
    "skin": Schedule("skin-cgan", 100_000, "100,000 updates of each network at batch 16", 8.75 * 3600, 5 * 60),
}
# Of r3 at these sizes, in images a second.
WANTED_RATES = {(128, 128): 300, (256, 256): 160}
# StyleGAN2-ADA, about 24 million weights a net, on an A100 (its own documentation).
PEER_RATES = {(128, 128): 147, (256, 256): 80}


@dataclass(frozen=True)
class Case:
    """One measurement: what it is called, its recipe, how long it is measured, and what is known of its aim."""

    name: str
    recipe: Recipe
    seconds: float
    facts: dict[str, Any]


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """All measurements of the parts that are asked for, the aims of the issue first."""
    common = {"device": options.device, "precision": options.precision}
    settings = [f"training.{key}={value}" for key, value in common.items()]
    for part in ("nodules", "skin"):
        if part in options.parts:
            schedule = SCHEDULES[part]
            for compiled in options.compile:
                recipe = load_recipe(schedule.recipe, [*settings, f"training.compile={compiled}"])
                yield Case(f"{part} {compiled}", recipe, options.long_seconds, {"schedule": part})
    if "r3" in options.parts:
        for size in options.sizes or list(WANTED_RATES):
            for label, widths in (("shipped widths", WIDTHS), ("large", LARGE)):
                if len(size) not in widths:
                    continue
                for compiled in options.compile:
                    recipe = family_recipe("r3", size, batch_of(size), widths=widths, compile=compiled, **common)
                    facts = {"wanted": WANTED_RATES.get(size), "stylegan2_ada_a100": PEER_RATES.get(size)}
                    yield Case(f"r3 {label} {name_of(size)} {compiled}", recipe, options.seconds, facts)
    if "families" in options.parts:
        for size in options.sizes or SIZES:
            for family in options.families:
                for compiled in options.compile:
                    recipe = family_recipe(family, size, batch_of(size), widths=WIDTHS, compile=compiled, **common)
                    yield Case(f"{family} {name_of(size)} {compiled}", recipe, options.seconds, {})


def batch_of(size: tuple[int, ...]) -> int:
    """Images of a batch at this size."""
    pixels = 1
    for n in size:
        pixels *= n
    return next((batch for most, batch in BATCHES.items() if pixels <= most), 8)


def measure(case: Case, warm_up: float) -> dict[str, Any]:
    """The steady rate of a case, its memory and its operations."""
    cuda = case.recipe.training.device.startswith("cuda")
    gc.collect()
    # Else the steps of earlier cases count towards the number after which nothing is compiled any more.
    torch.compiler.reset()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as work:
        # The original's number of images where its schedule is meant; else as many as keep the set-up short.
        session = open_session(Path(work), case.recipe, None if "schedule" in case.facts else 256)
    training = case.recipe.training
    shown = training.batch * training.critic_steps
    run_for(warm_up, session, cuda)
    windows = run_for(case.seconds, session, cuda)
    if not bool(session.sums.isfinite().all()):
        raise SystemExit(f"{case.name}: a loss is no number after {session.state.counters.iteration} iterations.")
    iterations, seconds = sum(count for count, _ in windows), sum(time for _, time in windows)
    memory = torch.cuda.max_memory_allocated() // 2**20 if cuda else None
    reserved = torch.cuda.max_memory_reserved() // 2**20 if cuda else None
    rates = [count / time * shown for count, time in windows]
    # Counted eagerly: a compiled step executes other operations.
    flops = None if session.steps.startswith("compiled") else count_flops(session)
    row = {
        "case": case.name,
        "family": case.recipe.model.family,
        "size": name_of(session.dataset.size),
        "precision": session.precision.name,
        "precision_reason": session.precision.reason,
        "steps": session.steps,
        "batch": training.batch,
        "critic_steps": training.critic_steps,
        "parameters": parameter_counts(session),
        "measured_iterations": iterations,
        "measured_seconds": round(seconds, 2),
        "images_per_second": round(iterations * shown / seconds, 2),
        "images_per_second_slowest_window": round(min(rates), 2),
        "images_per_second_median_window": round(statistics.median(rates), 2),
        "peak_memory_mib": memory,
        "peak_memory_reserved_mib": reserved,
        "gflop_per_image": None if flops is None else round(flops / shown / 1e9, 3),
        "tflops_achieved": None if flops is None else round(flops * iterations / seconds / 1e12, 3),
        **case.facts,
    }
    if "schedule" in case.facts:
        row |= extrapolate(SCHEDULES[case.facts["schedule"]], iterations / seconds)
    return row


def extrapolate(schedule: Schedule, iterations_per_second: float) -> dict[str, Any]:
    """How long the whole schedule takes at a steady rate, and what that is beside the original and the aim."""
    seconds = schedule.iterations / iterations_per_second
    return {
        "what": schedule.updates,
        "extrapolated_iterations": schedule.iterations,
        "extrapolated_seconds": round(seconds, 1),
        "wanted_seconds": schedule.wanted_seconds,
        "original_seconds": schedule.original_seconds,
        "times_the_original": round(schedule.original_seconds / seconds, 1),
    }


def run_for(seconds: float, session: Any, cuda: bool, window: float = 1.0) -> list[tuple[int, float]]:
    """Iterations for about `seconds`, at least one: (number, time) of windows between synchronisations."""
    windows: list[tuple[int, float]] = []
    count, end = 1, time.perf_counter() + seconds
    while not windows or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(count):
            one_iteration(session)
        if cuda:
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - start
        windows.append((count, elapsed))
        count = max(1, min(1000, round(count * min(window, seconds) / elapsed)))
    return windows


def device_facts(device: torch.device) -> dict[str, Any]:
    """Name of the device, and its speed in a matrix product in both formats."""
    cuda = device.type == "cuda"
    matrix = 8192 if cuda else 512
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "matmul_tflops": {name: round(peak_flops(dtype, device, matrix) / 1e12, 3) for name, dtype in formats.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--sizes", nargs="+", type=parse_size, help="of the parts families and r3; 128 or 64x64x64")
    parser.add_argument("--compile", nargs="+", choices=("off", "auto"), default=["off", "auto"])
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="bf16")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each family and size")
    parser.add_argument("--long-seconds", type=float, default=60.0, help="time for each schedule")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before the clock starts")
    parser.add_argument("--budget", type=float, help="begin nothing more after so many seconds")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", str(FOLDER))) / "gpu.json")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("There is no GPU that this torch can use; `--device cpu --seconds 1` tries the script.")
    begun = time.perf_counter()
    facts = device_facts(torch.device(options.device))
    result: dict[str, Any] = {**header("gpu"), **facts, "rows": [], "failed": []}
    for case in cases(options):
        if options.budget is not None and time.perf_counter() - begun > options.budget:
            result["failed"].append({"case": case.name, "error": "left out: the time was over"})
            write_result(options.out, result)
            continue
        try:
            row = measure(case, options.warm_up)
        except Exception as error:  # one family out of memory must not cost the others' figures
            traceback.print_exc()
            result["failed"].append({"case": case.name, "error": f"{type(error).__name__}: {error}"[:500]})
        else:
            result["rows"].append(row)
            print(
                f"{case.name}: {row['images_per_second']} images/s in {row['precision']}, {row['peak_memory_mib']} MiB"
                + (f"; whole schedule {row['extrapolated_seconds'] / 60:.1f} min" if "what" in row else ""),
                flush=True,
            )
        write_result(options.out, result)


if __name__ == "__main__":
    main()
