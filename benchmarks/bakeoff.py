"""The bake-off: every family on real images at 32 pixels, at an equal budget of processor seconds, three seeds each.

Each run goes through the real training code with one thread until its processor seconds are used up (`process_time`, so
that a busy neighbour costs wall time, not updates); then the averaged generator is released and measured against the
test split by the project's own evaluation. Schedules that follow the length of the run are set by a rate that is
measured just before. Settings: bakeoff_contestants.py. Needs the folders `pap_smear` and `lung_histology` in --data.

    python benchmarks/bakeoff.py --data FOLDER --work SCRATCH              # all runs; those in the result file are skipped
    python benchmarks/bakeoff.py --data FOLDER --work SCRATCH --trials 1 4 # factors on the rates, judged by validation KID
    python benchmarks/bakeoff.py --data FOLDER --work SCRATCH --seconds 450 --out FILE --only cgan r3   # a longer one
    python benchmarks/bakeoff.py --table                                   # the result file as a table
    python benchmarks/bakeoff.py --work SCRATCH --picture docs/images/bakeoff.png   # synthetic images side by side

For steady rates pin it to one core: OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/bakeoff.py ...
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bakeoff_contestants import CONTESTANTS, SETS, make_recipe
from bakeoff_run import Silent, one_run, one_trial
from bakeoff_table import describe, draw_picture, table
from synthoma.dataset import Dataset
from synthoma.preparation.raw import prepare_dataset
from synthoma.recipe import content_hash
from synthoma.run import environment, read_json, write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "bakeoff.json"
TRIALS = HERE / "results" / "bakeoff_trials.json"
# Trials have a seed of their own, so that no number in the table was chosen by.
TRIAL_SEED = 100
KEYS = ("set", "contestant", "seed", "rate")


def main() -> None:
    arguments = parse(sys.argv[1:])
    torch.set_num_threads(1)
    if arguments.table:
        print(table(read_json(arguments.out or RESULTS)))
    elif arguments.picture:
        draw_picture(arguments.work, arguments.picture_set, arguments.picture)
    elif arguments.trials:
        # Which factor a contestant has by default has no part in trials.
        results = begin_results(arguments.out or TRIALS, arguments.seconds, None)
        run_all(arguments, arguments.out or TRIALS, results, trials(arguments))
    else:
        results = begin_results(arguments.out or RESULTS, arguments.seconds, settings_hash())
        run_all(arguments, arguments.out or RESULTS, results, runs(arguments))


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SYNTHOMA_DATA"), help="else $SYNTHOMA_DATA")
    parser.add_argument("--work", type=Path, default=Path("bakeoff-work"), help="scratch: prepared images, run folders")
    parser.add_argument("--out", type=Path, help="the result file")
    parser.add_argument("--seconds", type=float, default=45.0, help="processor seconds of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--trials", type=float, nargs="+", help="try these factors on the learning rates instead")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--picture-set", choices=SETS, default="pap_smear")
    arguments = parser.parse_args(words)
    if arguments.seconds <= 0:
        parser.error("--seconds is more than 0.")
    if arguments.data is None and not (arguments.table or arguments.picture):
        parser.error("--data or $SYNTHOMA_DATA names the folder with the images.")
    return arguments


Job = tuple[dict[str, Any], Callable[[Dataset, Path], dict[str, Any]]]


def runs(arguments: argparse.Namespace) -> list[Job]:
    """What the table needs. A seed of everything comes before the next seed, so that a disturbance meets all alike."""

    def job(seed: int, images: str, name: str) -> Job:
        key = {"set": images, "contestant": name, "seed": seed}
        return key, lambda dataset, work: one_run(name, images, seed, dataset, work, arguments.seconds)

    return [job(*which) for which in itertools.product(arguments.seeds, arguments.sets, arguments.only)]


def trials(arguments: argparse.Namespace) -> list[Job]:
    """Each contestant with each factor on its learning rate."""

    def job(images: str, name: str, rate: float) -> Job:
        key = {"set": images, "contestant": name, "seed": TRIAL_SEED, "rate": rate}
        return key, lambda dataset, work: one_trial(name, images, TRIAL_SEED, rate, dataset, work, arguments.seconds)

    return [job(*which) for which in itertools.product(arguments.sets, arguments.only, arguments.trials)]


def run_all(arguments: argparse.Namespace, out: Path, results: dict[str, Any], jobs: list[Job]) -> None:
    """Run what the results do not hold yet, and write each row to `out` as soon as it is there."""
    known = {key_of(row) for row in results["rows"]}
    datasets = {name: prepared(arguments.data, arguments.work, name) for name in arguments.sets}
    for key, work in jobs:
        if key_of(key) in known:
            continue
        folder = arguments.work / "-".join(str(value).replace(" + ", "-") for value in key.values())
        shutil.rmtree(folder, ignore_errors=True)
        row = {**key, **work(datasets[key["set"]], folder), "commit": commit(), "time": now()}
        results["rows"].append(row)
        write_json(out, results)
        print(describe(row), flush=True)


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in KEYS)


def begin_results(out: Path, seconds: float, settings: str | None) -> dict[str, Any]:
    """The result file, or a new one; refused where it was made in another way, as its numbers would not compare."""
    fresh = {"budget_seconds": seconds, "settings": settings, "environment": environment(), "rows": []}
    if not out.exists():
        return fresh
    found: dict[str, Any] = read_json(out)
    differing = [name for name in ("budget_seconds", "settings", "environment") if found[name] != fresh[name]]
    if differing:
        raise SystemExit(f"{out} was made with another {', another '.join(differing)}: give another --out.")
    return found


def settings_hash() -> str:
    """Hash of all recipes but for what differs between runs: seed and length."""
    return content_hash(
        [make_recipe(name, images, 0, 1.0).model_dump(mode="json") for name in CONTESTANTS for images in SETS]
    )


def prepared(data: Path, work: Path, name: str) -> Dataset:
    """The set at 32 pixels with its frozen split, prepared once in the scratch folder."""
    folder = work / f"dataset-{name}"
    if not (folder / "dataset.json").exists():
        prepare_dataset(make_recipe("dcgan", name, 0, 1.0), Path(data) / name, folder, Silent(), workers=1)
    return Dataset.open(folder)


def commit() -> str:
    """The commit of this code, with a plus where files were changed since."""
    words = ("git", "-C", str(HERE), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+")
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


if __name__ == "__main__":
    main()
