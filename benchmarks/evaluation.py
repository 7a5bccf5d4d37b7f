"""KID, FD and precision/recall/density/coverage of 2,000 + 2,000 feature vectors of 2,048 dimensions in one pass.

Ours against reference code in numpy and scipy (`sqrtm` for FD, whole kernel matrices for KID, distance matrices by
scipy's `cdist` for PRDC, as the original packages compute them), in one process, in alternating order. Both give the
same numbers; that is checked. Run: python benchmarks/evaluation.py [--repetitions 3]

With --share N: what evaluating N synthetic against N test and 2 N training images of 64 px costs beyond taking their
features, in processor time of one process, and the memory of a streamed FD for N and for 4 N vectors. Features are taken
of all images; at most `MAX_IMAGES` a side enter one metric. A waiting second thread counts as processor time, so
Run: OMP_NUM_THREADS=1 python benchmarks/evaluation.py --share 10000 [--weights FILE]
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import linalg
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from synthoma.evaluation.fidelity import evaluate_fidelity
from synthoma.evaluation.imagesets import ImageSet
from synthoma.metrics.frechet import Moments, fd_from_moments
from synthoma.metrics.pair import Pair
from synthoma.metrics.samples import MAX_IMAGES
from synthoma.recipe import EvaluationSection
from synthoma.run import environment, write_json

RESULTS = Path(__file__).parent / "results" / "evaluation.json"
SHARE = Path(__file__).parent / "results" / "evaluation_share.json"
NEIGHBOURS = 5
Numbers = dict[str, float]


def make_features(n: int, d: int, seed: int, shift: float) -> np.ndarray:
    """Normal vectors with the spectrum 1/k that features of networks have."""
    rng = np.random.default_rng(seed)
    spectrum = np.sqrt(1 / np.arange(1, d + 1))
    return (rng.standard_normal((n, d)) * spectrum + shift * spectrum).astype(np.float32)


def ours(x: np.ndarray, y: np.ndarray) -> Numbers:
    pair = Pair(x, y)
    return {"kid": float(pair.kid()), "fd": pair.fd(), **pair.prdc()._asdict()}


def reference(x: np.ndarray, y: np.ndarray) -> Numbers:
    x, y = x.astype(np.float64), y.astype(np.float64)
    return {"kid": reference_kid(x, y), "fd": reference_fd(x, y), **reference_prdc(x, y)}


def reference_kid(x: np.ndarray, y: np.ndarray) -> float:
    n, m, d = len(x), len(y), x.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def reference_fd(x: np.ndarray, y: np.ndarray) -> float:
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular product: sqrtm warns and is nearly right
        root = linalg.sqrtm(a @ b).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * np.trace(root))


def reference_prdc(fake: np.ndarray, real: np.ndarray) -> Numbers:
    def radii(values: np.ndarray) -> np.ndarray:
        return np.partition(cdist(values, values), NEIGHBOURS, axis=1)[:, NEIGHBOURS]

    radii_real, radii_fake = radii(real), radii(fake)
    between = cdist(real, fake)
    inside = between < radii_real[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((between < radii_fake[None, :]).any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean() / NEIGHBOURS),
        "coverage": float((between.min(axis=1) < radii_real).mean()),
    }


def timed(function: Callable[[np.ndarray, np.ndarray], Numbers], x: np.ndarray, y: np.ndarray) -> tuple[float, Numbers]:
    start = time.perf_counter()
    numbers = function(x, y)
    return time.perf_counter() - start, numbers


def make_images(n: int, seed: int) -> ImageSet:
    """Smoothed noise in three colours, 64 px, two classes, two images a patient."""
    rng = np.random.default_rng(seed)
    images = np.empty((n, 3, 64, 64), dtype=np.uint8)
    for start in range(0, n, 500):
        noise = gaussian_filter(rng.standard_normal((min(500, n - start), 3, 64, 64)), (0, 0, 2, 2), mode="wrap")
        images[start : start + 500] = np.clip(128 + 250 * noise, 0, 255)
    groups = np.array([f"{seed}-{i // 2}" for i in range(n)])
    return ImageSet(images, np.arange(n) // 2 % 2, ["a", "b"], groups, f"benchmark/{seed}/{n}")


def share_beyond_features(n: int, weights: list[Path]) -> dict[str, float]:
    """Processor seconds of a whole evaluation, and of it those that features take: by evaluating twice, with a cache."""
    sets = make_images(n, 0), make_images(n, 1), make_images(2 * n, 2)
    section = EvaluationSection(spaces=["randconv"])
    seconds = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):  # the second time features come from the cache
            start = time.process_time()
            evaluate_fidelity(*sets, section, cache=Path(cache), weights=weights)
            seconds.append(time.process_time() - start)
    whole, rest = seconds
    return {"images": n, "whole": whole, "beyond features": rest, "share": rest / whole}


def streamed_fd_memory(n: int, dimension: int = 512) -> float:
    """Peak MiB that FD of two streams of n vectors takes beyond what was there before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sides = [Moments(dimension), Moments(dimension)]
    for block in range(n // 500):
        for side, moments in enumerate(sides):
            moments.add(make_features(500, dimension, 2 * block + side, 0.0))
    fd_from_moments(*sides)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def measure_share(arguments: argparse.Namespace) -> None:
    n = arguments.share
    # The peak of a process never falls: the smaller one first, then what four times as many take beyond it.
    memory = {f"{count} vectors": streamed_fd_memory(count) for count in (n, 4 * n)}
    found = share_beyond_features(n, arguments.weights or [])
    print(f"whole {found['whole']:.1f} s, beyond features {found['beyond features']:.1f} s: {found['share']:.0%}")
    print("streamed FD, peak beyond what was there: " + ", ".join(f"{k} {v:.0f} MiB" for k, v in memory.items()))
    write_json(
        SHARE,
        {
            "what": "evaluate_fidelity of N + N images (2 N for training) at 64 px; share of processor time beyond features",
            "command": f"python benchmarks/evaluation.py --share {n}",
            "weights files": len(arguments.weights or []),
            "images of a side that enter a metric, at most": MAX_IMAGES,
            "threads": torch.get_num_threads(),
            "seconds": found,
            "streamed fd, MiB": memory,
            "environment": environment(),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--share", type=int, default=0, metavar="N")
    parser.add_argument("--weights", type=Path, action="append")
    arguments = parser.parse_args()
    if arguments.share:
        measure_share(arguments)
        return
    x = make_features(arguments.images, arguments.dimension, 0, shift=0.1)
    y = make_features(arguments.images, arguments.dimension, 1, shift=0.0)
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    numbers: dict[str, Numbers] = {}
    for repetition in range(arguments.repetitions):
        order = [("ours", ours), ("reference", reference)]
        for name, function in order if repetition % 2 == 0 else reversed(order):
            spent, numbers[name] = timed(function, x, y)
            seconds[name].append(spent)
            print(f"{name:10s} {spent:7.2f} s", flush=True)
    for metric, value in numbers["reference"].items():
        if not np.isclose(numbers["ours"][metric], value, rtol=1e-3, atol=1e-9):
            sys.exit(f"{metric}: ours {numbers['ours'][metric]}, reference {value}: not the same computation.")
    summary = {
        name: {"minimum": min(values), "median": statistics.median(values), "all": values}
        for name, values in seconds.items()
    }
    ratio = {key: summary["reference"][key] / summary["ours"][key] for key in ("minimum", "median")}  # type: ignore[operator]
    for name, values in summary.items():
        print(f"{name:10s} minimum {values['minimum']:.2f} s, median {values['median']:.2f} s")
    print(f"ours is {ratio['median']:.1f} times as fast (medians; minima {ratio['minimum']:.1f})")
    write_json(
        RESULTS,
        {
            "what": f"KID + FD + PRDC, {arguments.images} + {arguments.images} vectors of {arguments.dimension} dimensions",
            "command": f"python benchmarks/evaluation.py --repetitions {arguments.repetitions}",
            "reference": "numpy and scipy (sqrtm, cdist)",
            "seconds": summary,
            "ratio": ratio,
            "numbers": numbers,
            "environment": environment(),
        },
    )


if __name__ == "__main__":
    main()
