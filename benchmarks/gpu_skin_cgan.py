"""How long the skin cGAN's 100,000 steps at batch 16 take on one GPU (the original: 8 h 45 min on a P100).

The rate of `one_iteration` of the training loop is measured over at least a minute after warm-up, on 1,284 training
images of noise that lie on the device, and multiplied to the exact count; both are in the result. With `--modes graph`
the whole iteration is captured once in a CUDA graph and replayed; its losses are first held against the eager ones.
Checkpoints, sample grids and validation are no part of the rate.

    python benchmarks/gpu_skin_cgan.py [--modes eager graph] [--seconds 60] [--out FILE]
    python benchmarks/gpu_skin_cgan.py --device cpu --modes eager --seconds 2      # the script's own logic, without a GPU
"""

import argparse
import dataclasses
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from our_step import open_session
from synthoma.objectives.objective import Batch
from synthoma.run import environment
from synthoma.training.loop import one_iteration
from synthoma.training.session import Session

STEPS, ORIGINAL_SECONDS = 100_000, 8.75 * 3600
WINDOW = 200  # iterations between two synchronisations
# Atomic sums on a GPU differ in their order from run to run, and two nets drift apart from that; a graph that reads
# wrong memory is off by the size of the losses (about 1).
LOSS_TOLERANCE = 0.02


class StaticBatches:
    """Batches at fixed addresses, one for each update of an iteration: what a graph reads."""

    def __init__(self, examples: list[Batch]) -> None:
        self.batches = [Batch(*(None if t is None else t.clone() for t in tensors(batch))) for batch in examples]

    def __getitem__(self, update: int) -> Batch:
        return self.batches[update % len(self.batches)]

    def fill(self, place: int, batch: Batch) -> None:
        """Copy a batch to the addresses of the update at `place` of the iteration."""
        for target, source in zip(tensors(self.batches[place]), tensors(batch), strict=True):
            if target is not None and source is not None:
                target.copy_(source)


def tensors(batch: Batch) -> list[Tensor | None]:
    """The fields of a batch in order."""
    return [getattr(batch, field.name) for field in dataclasses.fields(batch)]


class GraphedIteration:
    """`one_iteration` captured in a CUDA graph. The session goes on from where it is.

    Batches are drawn eagerly and copied to where the graph reads them. The average of the generator stays outside, for
    its factor is a Python number that grows with the run and would be frozen at its value of the capture.
    """

    def __init__(self, session: Session, warm_up: int = 5) -> None:
        self.session, state = session, session.state
        self.updates = session.family.objective.critic_steps + 1
        self.average = state.update_average
        for optimizer in (session.family.generator_optimizer, session.family.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["capturable"] = True
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warm_up):
                one_iteration(session)
        torch.cuda.current_stream().wait_stream(side)
        self.static = StaticBatches([session.batch(update) for update in range(self.updates)])
        captured = dataclasses.replace(session, batches=self.static)  # type: ignore[arg-type]
        counters = dataclasses.replace(state.counters)
        self.graph = torch.cuda.CUDAGraph()
        state.update_average = lambda training: None  # type: ignore[method-assign]
        try:
            with torch.cuda.graph(self.graph):
                one_iteration(captured)
        finally:
            state.update_average = self.average  # type: ignore[method-assign]
        # The capture ran nothing on the device; only the Python counters moved.
        state.counters = counters

    def __call__(self) -> None:
        state, training = self.session.state, self.session.recipe.training
        first = state.counters.iteration * self.updates
        for place in range(self.updates):
            self.static.fill(place, self.session.batch(first + place))
        self.graph.replay()
        state.counters.iteration += 1
        state.counters.images_seen += (self.updates - 1) * training.batch
        state.counters.sum_count += 1
        self.average(training)


def iteration_of(session: Session, mode: str) -> Callable[[], None]:
    """One training iteration as the mode runs it."""
    return GraphedIteration(session) if mode == "graph" else lambda: one_iteration(session)


def losses(session: Session, iteration: Callable[[], None], until: int) -> dict[int, list[float]]:
    """Number of the iteration -> the watched values (losses of D and G, two probabilities), up to iteration `until`."""
    values = {}
    while session.state.counters.iteration < until:
        before = session.sums.clone()
        iteration()
        values[session.state.counters.iteration] = (session.sums - before).tolist()
    return values


def check_graph(settings: list[str], count: int = 12) -> dict[str, Any]:
    """Losses of a graph against those of eager iterations from the same seed. Raises `SystemExit` where they differ."""
    results = []
    for mode in ("eager", "graph"):
        with tempfile.TemporaryDirectory() as work:
            session = open_session(Path(work), settings)
            results.append(losses(session, iteration_of(session, mode), count))
    eager, graphed = results
    difference = max(abs(a - b) for number in graphed for a, b in zip(eager[number], graphed[number], strict=True))
    if not difference < LOSS_TOLERANCE:
        raise SystemExit(
            f"The graph computes something else: its losses are off by {difference:.3g} (at most {LOSS_TOLERANCE})."
        )
    return {"iterations_compared": len(graphed), "largest_difference": difference, "tolerance": LOSS_TOLERANCE}


def measure(settings: list[str], mode: str, seconds: float, warm_up: int) -> dict[str, Any]:
    """Steady rate of a mode over at least `seconds`, and the time of the exact count at that rate."""
    with tempfile.TemporaryDirectory() as work:
        session = open_session(Path(work), settings)
        cuda = session.device.type == "cuda"
        wait: Callable[[], None] = torch.cuda.synchronize if cuda else lambda: None
        window = WINDOW if cuda else 4
        iteration = iteration_of(session, mode)
        for _ in range(warm_up):
            iteration()
        wait()
        session.waited, windows, start = 0.0, list[float](), time.perf_counter()
        while time.perf_counter() - start < seconds:
            begun = time.perf_counter()
            for _ in range(window):
                iteration()
            wait()
            windows.append(time.perf_counter() - begun)
        elapsed = time.perf_counter() - start
        finite = bool(session.sums.isfinite().all())
        if not finite:
            raise SystemExit(f"{mode}: a loss is no number after {session.state.counters.iteration} iterations.")
        done = len(windows) * window
        total = STEPS * elapsed / done
        return {
            "mode": mode,
            "precision": session.precision.name,
            "precision_reason": session.precision.reason,
            "measured_iterations": done,
            "measured_seconds": round(elapsed, 2),
            "iterations_per_second": round(done / elapsed, 2),
            "images_per_second": round(done * session.recipe.training.batch / elapsed, 1),
            "window_iterations": window,
            "slowest_window_iterations_per_second": round(window / max(windows), 2),
            "median_window_iterations_per_second": round(window / statistics.median(windows), 2),
            "batch_share": round(session.waited / elapsed, 4),
            "memory_mib": torch.cuda.max_memory_allocated() // 2**20 if cuda else None,
            "steps": STEPS,
            "extrapolated_seconds": round(total, 1),
            "original_seconds": ORIGINAL_SECONDS,
            "times_the_original": round(ORIGINAL_SECONDS / total, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--modes", nargs="+", choices=("eager", "graph"), default=["eager", "graph"])
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--warm-up", type=int, default=None, help="iterations before the clock starts; 300 on a GPU, else 3"
    )
    default = Path(os.environ.get("OUT", str(Path(__file__).parent / "results"))) / "gpu_skin_cgan.json"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        raise SystemExit(
            "There is no GPU that this torch can use. `--device cpu --modes eager --seconds 2` tries the script."
        )
    if "graph" in options.modes and not cuda:
        raise SystemExit("A CUDA graph needs a GPU; leave graph out of --modes.")
    settings = [f"training.device={options.device}", f"training.precision={options.precision}"]
    warm_up = options.warm_up if options.warm_up is not None else (300 if cuda else 3)
    result: dict[str, Any] = {
        "benchmark": "gpu_skin_cgan",
        "date": time.strftime("%Y-%m-%d"),
        "what": f"skin-cgan, {STEPS} steps at batch 16: measured rate, and that rate times the count (extrapolated)",
        "environment": environment(),
        "modes": [],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for mode in options.modes:
        check = check_graph(settings) if mode == "graph" else None
        gc.collect()
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        row = measure(settings, mode, options.seconds, warm_up)
        result["modes"].append({**row, "losses_equal_eager": check} if check else row)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
        print(
            f"{mode}: {row['iterations_per_second']} iterations/s over {row['measured_seconds']} s in {row['precision']}; "
            f"{STEPS} steps take {row['extrapolated_seconds'] / 60:.1f} min at that rate",
            flush=True,
        )


if __name__ == "__main__":
    main()
