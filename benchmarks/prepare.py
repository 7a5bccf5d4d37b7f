"""Images a second of preparing a folder: decoding, hashing, resizing, near-duplicates, split, label errors, writing.

    python benchmarks/prepare.py [--data FOLDER] [--size 64] [--workers 2] [--repeats 3] [--out benchmarks/results]

The default folder is $SYNTHOMA_DATA/skin9 (1,834 dermoscopic JPEGs of 180 x 180 pixels). The whole of `prepare` is timed,
worker start included, from the listing of files to the checked dataset; the first pass also fills the file cache.
`load_average` tells how busy the machine was with other things.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from synthoma.preparation import prepare
from synthoma.recipe import load_recipe
from synthoma.run import processor_name, write_json
from synthoma.sources import open_source

TARGET = 400.0


def measure(data: Path, settings: list[str], workers: int) -> dict[str, float]:
    """One preparation of `data` into a folder that is thrown away."""
    recipe = load_recipe("skin-cgan", settings)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = prepare(open_source(data, recipe.source), recipe, Path(folder) / "dataset", workers=workers)
        seconds = time.perf_counter() - started
    found = result.dataset.info["preparation"]["found"]
    return {
        "images": found,
        "seconds": round(seconds, 3),
        "images_per_second": round(found / seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("SYNTHOMA_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "skin9"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    settings = [f"preparation.size={arguments.size}"]
    measure(arguments.data, settings, arguments.workers)
    passes = [measure(arguments.data, settings, arguments.workers) for _ in range(arguments.repeats)]
    plain = measure(arguments.data, [*settings, "preparation.label_errors=false"], arguments.workers)
    result = {
        "benchmark": "prepare",
        "data": arguments.data.name,
        "size": arguments.size,
        "workers": arguments.workers,
        "processor": processor_name(),
        "processors": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "target_images_per_second": TARGET,
        "images_per_second": statistics.median(one["images_per_second"] for one in passes),
        "best_images_per_second": max(one["images_per_second"] for one in passes),
        "passes": passes,
        "without_label_errors": plain,
    }
    write_json(arguments.out / "prepare.json", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
