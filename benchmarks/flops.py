"""Achieved FLOP/s of each family's iteration over what the same machine reaches in a plain matrix product.

The floating-point operations of `one_iteration` are counted as torch executes them (operations.py): convolutions and
matrix products of all passes, second-order ones included; a multiplication and an addition are two. Interpolation,
norms, activations, optimizer and averaging are not counted, though they take time. The peak is the fastest of several
products of two square matrices in the same number format and with the same threads, timed before and after each family,
through the library for matrices and through that for convolutions.

    python benchmarks/flops.py [--families r3] [--sizes 64 32x32x32] [--precisions fp32 bf16]
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from family_recipes import NARROW, WIDTHS, family_recipe, name_of
from operations import OperationCount
from our_step import open_session, parameter_counts
from plain_loop import BATCH, parse_size
from results import FOLDER, header, write_result
from synthoma.families import FAMILIES
from synthoma.recipe import Recipe
from synthoma.training.iteration import one_iteration
from synthoma.training.session import Session
from turns import restrict_to_cores
from worker import timed_steps

MATRIX = 2048


def count_flops(session: Session) -> int:
    """Operations of one iteration; lazy terms with the share that they have on the average."""
    lazy = session.recipe.training.lazy
    period = max(lazy.values(), default=1)
    with OperationCount() as counter:
        for _ in range(period):
            one_iteration(session)
    return round(counter.total / period)


def peak_flops(dtype: torch.dtype, device: torch.device, size: int = MATRIX, seconds: float = 1.0) -> float:
    """FLOP/s of the fastest product of two [size, size] matrices within about `seconds`.

    Asked for in two ways: as a matrix product, and as a convolution of kernel 1 over as many pixels. On a CPU that is two
    libraries, and on some processors that of the first (MKL) stays far below that of the second (oneDNN) in float32.
    """
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    pixels = left.reshape(1, size, 1, size).permute(0, 3, 2, 1)  # channels last
    kernel = right.reshape(size, size, 1, 1)

    def multiply() -> None:
        float((left @ right)[0, 0])  # waits for a GPU

    def convolve() -> None:
        float(torch.nn.functional.conv2d(pixels, kernel)[0, 0, 0, 0])

    fastest = []
    for way in (multiply, convolve):
        way()
        fastest.append(min(timed_steps(way, seconds / 2)))
    return 2 * size**3 / min(fastest)


def measure(recipe: Recipe, seconds: float, images: int, matrix: int = MATRIX) -> dict[str, Any]:
    """Operations, rate and share of the peak for one recipe as it stands."""
    with tempfile.TemporaryDirectory() as work:
        session = open_session(Path(work), recipe, images)
    dtype, device = session.precision.dtype, session.device
    peak = peak_flops(dtype, device, matrix, seconds / 4)
    flops = count_flops(session)
    period = max(recipe.training.lazy.values(), default=1)

    def some_iterations() -> None:
        for _ in range(period):
            one_iteration(session)

    fastest = min(timed_steps(some_iterations, seconds)) / period
    peak = max(peak, peak_flops(dtype, device, matrix, seconds / 4))
    shown = recipe.training.batch * recipe.training.critic_steps
    return {
        "family": recipe.model.family,
        "size": name_of(session.dataset.size),
        "precision": session.precision.name,
        "precision_reason": session.precision.reason,
        "batch": recipe.training.batch,
        "critic_steps": recipe.training.critic_steps,
        "parameters": parameter_counts(session),
        "gflop_per_image": round(flops / shown / 1e9, 3),
        "images_per_second_fastest": round(shown / fastest, 2),
        "gflops_achieved": round(flops / fastest / 1e9, 1),
        "gflops_peak": round(peak / 1e9, 1),
        "share_of_peak": round(flops / fastest / peak, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=[(64, 64), (32, 32, 32)])
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--widths", choices=("narrow", "shipped"), default="shipped")
    parser.add_argument("--seconds", type=float, default=6.0, help="time for each family, size and precision")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=FOLDER / "flops.json")
    options = parser.parse_args()
    restrict_to_cores(options.threads)
    torch.set_num_threads(options.threads)
    widths = NARROW if options.widths == "narrow" else WIDTHS
    result: dict[str, Any] = {
        **header("flops"),
        "threads": options.threads,
        "widths": options.widths,
        "note": "Counted: convolutions and matrix products of all passes. The fastest iteration and product are compared.",
        "rows": [],
    }
    for size in options.sizes:
        for family in options.families:
            for precision in options.precisions:
                batch = BATCH[len(size)]
                recipe = family_recipe(family, size, batch, widths=widths, precision=precision, device="cpu")
                start = time.perf_counter()
                row = measure(recipe, options.seconds, images=64)
                result["rows"].append(row)
                write_result(options.out, result)
                print(
                    f"{family:8s} {row['size']:9s} {precision}: {row['gflop_per_image']:8.2f} GFLOP/image, "
                    f"{row['gflops_achieved']:7.1f} of {row['gflops_peak']:7.1f} GFLOP/s = {row['share_of_peak']:.0%} "
                    f"({time.perf_counter() - start:.0f} s)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
