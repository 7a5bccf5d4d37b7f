"""The search for the nearest image: n x n images, 8 positions, against the plain matrix product that this machine can do.

The search compares every pair in 8 positions and 5 moves at the reduced resolution (16 x 16 in grey) by matrix products, and
the best of them pixel by pixel. Its rate counts the arithmetic of these products only, over the time of the whole search,
so that the ratio says what share of the machine's peak is left after all else. The peak is the best of several
products of 2,048 x 2,048 matrices, measured before and after, in the same process.
Run: python benchmarks/privacy.py [--images 10000] [--size 64] [--channels 3]
"""

import argparse
import math
import resource
import sys
import time

import numpy as np
import torch

from results import FOLDER, header, write_result
from synthoma.metrics.correlation import positions
from synthoma.metrics.similarity import REDUCED, Search, nearest_images

RESULT = FOLDER / "privacy.json"
SIDE, PRODUCTS = 2048, 5
MOVES = 5  # as it is, and by a pixel towards each corner


def draw(n: int, channels: int, size: int, seed: int) -> np.ndarray:
    """Smooth random pictures: uint8 [n, c, size, size]."""
    coarse = torch.rand(n, channels, 9, 9, generator=torch.Generator().manual_seed(seed))
    blocks = [
        torch.nn.functional.interpolate(part, (size, size), mode="bilinear", align_corners=False).mul(255).byte()
        for part in coarse.split(500)
    ]
    return torch.cat(blocks).numpy()


def peak() -> float:
    """Operations a second of a plain float32 matrix product, the best of several."""
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    best = math.inf
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    n, size, channels = arguments.images, arguments.size, arguments.channels
    a, b = draw(n, channels, size, 0), draw(n, channels, size, 1)
    planted = np.arange(0, n, 10)
    a[planted] = np.flip(b[planted], -1)
    search = Search()
    nearest_images(a[:64], b[:64], (0.0, 255.0))  # first calls choose kernels
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks = [peak()]
    start = time.perf_counter()
    found = nearest_images(a, b, (0.0, 255.0), search=search)
    seconds = time.perf_counter() - start
    peaks.append(peak())
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    recall = float((found.rows[planted] == planted).mean())
    if recall < 1:
        sys.exit(f"only {recall:.2%} of the flipped copies were found: not the search that is to be timed.")
    products = 2.0 * n * n * len(positions((size, size))) * MOVES * min(size, REDUCED[2]) ** 2
    share = products / seconds / max(peaks)
    print(
        f"search {seconds:.1f} s, {products / seconds / 1e9:.1f} GFLOP/s of products; peak {max(peaks) / 1e9:.1f} GFLOP/s"
    )
    print(f"{share:.0%} of the peak; memory grew by {memory / 2**20:.0f} MiB")
    write_result(
        RESULT,
        {
            **header("privacy"),
            "what": f"nearest of {n} images for each of {n}, {channels} x {size} x {size}, 8 positions, shifts up to 2 px",
            "command": f"python benchmarks/privacy.py --images {n} --size {size} --channels {channels} --threads {arguments.threads}",
            "threads": arguments.threads,
            "seconds": seconds,
            "products": products,
            "peak_before_and_after": peaks,
            "share_of_peak": share,
            "memory_growth_bytes": memory,
            "recall_of_flipped_copies": recall,
        },
    )


if __name__ == "__main__":
    main()
