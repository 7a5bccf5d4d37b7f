"""KID, FD and precision/recall/density/coverage of 2,000 + 2,000 feature vectors of 2,048 dimensions in one pass.

Ours against reference code in numpy and scipy (`sqrtm` for FD, whole kernel matrices for KID, distance matrices by
scipy's `cdist` for PRDC, as the original packages compute them), in one process, in alternating order. Both give the
same numbers; that is checked. Run: python benchmarks/evaluation.py [--repetitions 3]
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import linalg
from scipy.spatial.distance import cdist

from synthoma.metrics.pair import Pair
from synthoma.run import environment, write_json

RESULTS = Path(__file__).parent / "results" / "evaluation.json"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--dimension", type=int, default=2048)
    arguments = parser.parse_args()
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
