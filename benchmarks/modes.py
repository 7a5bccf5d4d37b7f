"""Which modes a GAN covers: objectives on points in the plane, families on stacked shapes.

    python benchmarks/modes.py points                            # objectives x (ring of 8, grid of 25), three seeds
    python benchmarks/modes.py images --work SCRATCH             # families at 16 x 16 with 100 modes, three seeds
    python benchmarks/modes.py images --work SCRATCH --families r3 wgan-gp --kimg 400
    python benchmarks/modes.py --table                           # the result file as Markdown

Each run is written into results/modes.json when it is done; those that are there are skipped, so it can be stopped at
any time. One thread; processor time, so that other work on the machine does not count. Its parts: modes_points.py,
modes_images.py, modes_classifier.py.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from modes_classifier import train_classifier
from modes_images import train_images
from modes_points import CONTESTANTS, TARGETS, train_points
from results import FOLDER, header, write_result
from synthoma.families import FAMILIES
from synthoma.run import read_json

RESULTS = FOLDER / "modes.json"
Job = tuple[dict[str, Any], Callable[[], dict[str, Any]]]


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    if options.table:
        print(table(read_json(options.out)))
    elif options.part == "points":
        run_all(options.out, "points", point_jobs(options))
    else:
        run_all(options.out, "images", image_jobs(options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("points", "images"), nargs="?", default="points")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="to share the seeds among processes")
    parser.add_argument("--updates", type=int, default=12_000, help="points: discriminator updates of a run")
    parser.add_argument("--objectives", nargs="*", help="points: these only")
    parser.add_argument("--kimg", type=float, default=200.0, help="images: length of a run in thousands of images")
    parser.add_argument("--families", nargs="*", choices=list(FAMILIES), help="images: these only")
    parser.add_argument("--work", type=Path, help="images: scratch folder for dataset and runs; else a temporary one")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the result file instead")
    return parser.parse_args()


def run_all(out: Path, part: str, jobs: Iterator[Job]) -> None:
    """Do the jobs that are not in the result file, each in turn, and write it after each."""
    result = read_json(out) if out.is_file() else {**header("modes"), "threads": 1, "points": [], "images": []}
    done = [{key: row[key] for key in row["key"]} for row in result[part]]
    for key, job in jobs:
        if key in done:
            continue
        row = {**key, **job(), "key": list(key), "commit": header("modes")["commit"]}
        result[part].append(row)
        write_result(out, result)
        print(
            ", ".join(str(value) for value in key.values()),
            f"-> {row['covered']} of {row['modes']} modes, {row['good']:.0%} good, KL {row['divergence']:.3f}, {row['cpu_seconds']:.0f} s",
            flush=True,
        )


def point_jobs(options: argparse.Namespace) -> Iterator[Job]:
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for contestant in CONTESTANTS:
            if options.objectives and contestant.name not in options.objectives:
                continue
            for target in TARGETS:
                key = {"objective": contestant.name, "target": target.name, "seed": seed, "updates": options.updates}
                yield key, lambda c=contestant, t=target, s=seed: train_points(c, t, s, options.updates)


def image_jobs(options: argparse.Namespace) -> Iterator[Job]:
    """The classifier is trained when the first job wants it; all runs are judged by the same."""
    classify = None
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)

        def judged(family: str, seed: int) -> dict[str, Any]:
            nonlocal classify
            classify = classify or train_classifier()
            return train_images(family, seed, options.kimg, work, classify)

        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for family in options.families or FAMILIES:
                key = {"family": family, "seed": seed, "kimg": options.kimg}
                yield key, lambda f=family, s=seed: judged(f, s)


def table(result: dict[str, Any]) -> str:
    """Two Markdown tables: modes of each seed, medians of the rest."""
    lines = []
    columns = {
        "points": ("objective", "target", "updates"),
        "images": ("family", "kimg"),
    }
    for part, names in columns.items():
        rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in result[part]:
            rows.setdefault(tuple(row[name] for name in names), []).append(row)
        if not rows:
            continue
        good = "samples within 3 sigma" if part == "points" else "samples that show shapes"
        titles = [*names, "seeds", "modes (each seed)", good, "KL to equal shares, nats", "processor seconds"]
        lines += ["", "| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
        for key, runs in rows.items():
            covered = ", ".join(str(run["covered"]) for run in runs) + f" of {runs[0]['modes']}"
            share, divergence, seconds = (
                statistics.median(run[name] for run in runs) for name in ("good", "divergence", "cpu_seconds")
            )
            cells = [*key, len(runs), covered, f"{share:.0%}", f"{divergence:.3f}", f"{seconds:.0f}"]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines).strip()


if __name__ == "__main__":
    main()
