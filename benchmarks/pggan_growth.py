"""PGGAN from 4 to 64 pixels on real lung histology on a CPU: does growth pay, and within an hour?

    python benchmarks/pggan_growth.py --data DATA/lung_histology --out RUN

A whole run from files to report with the shipped recipe at a quarter of its width. The result file gives the validation
KID at the end of each level, always at 64 pixels (coarser images are enlarged), and the evaluation against patients that
training never saw. An unfinished run is gone on with; of a finished one only the figures are taken.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from results import FOLDER, header, write_result
from synthoma.recipe import load_recipe
from synthoma.run import Run, read_json
from synthoma.training.growth import Growth

RECIPE = "lung-histology-pggan"
SETTINGS = (
    "preparation.size=64",
    "model.latent=128",
    "model.generator_widths=[128,128,64,32,16]",
    "model.discriminator_widths=[16,32,64,128,128]",
    "training.kimg=120",
    "training.growth.fade_kimg=10",
    "training.growth.stable_kimg=10",
    "training.growth.batches=[32,32,16,16,16]",
    "training.batch=16",
    "training.ema_kimg=2",
    "training.checkpoint_kimg=10",
    "training.sample_kimg=10",
    "training.tick_kimg=1",
)
HOUR_S = 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with classes and groups.csv")
    parser.add_argument("--out", type=Path, required=True, help="the run folder")
    parser.add_argument("--result", type=Path, default=FOLDER / "pggan_growth.json")
    options = parser.parse_args()
    said = header("pggan_growth")
    command = [sys.executable, "-m", "synthoma", "run", RECIPE, "--out", str(options.out), "--data", str(options.data)]
    command += ["--groups", str(options.data / "groups.csv")]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    subprocess.run(command, check=True)
    result = {**said, "recipe": RECIPE, "settings": list(SETTINGS), **collect(Run(options.out))}
    write_result(options.result, result)
    print(f"KID at the end of each level: {result['kid_at_end_of_level']}; {result['training_minutes']} minutes")


def collect(run: Run) -> dict[str, Any]:
    """The figures of a finished run."""
    recipe = load_recipe(RECIPE, list(SETTINGS))
    schedule = recipe.training.growth
    assert schedule is not None
    assert schedule.batches is not None
    levels = len(recipe.model.generator_widths)
    growth = Growth(
        levels,
        tuple(schedule.batches),
        recipe.training.kimg,
        recipe.training.critic_steps,
        schedule.fade_kimg,
        schedule.stable_kimg,
    )
    validations = [
        {name: row[name] for name in ("images_seen", "kid", "kid_se")}
        for row in run.stats()
        if row["kind"] == "validation"
    ]
    ends = {4 * 2**phase.level: phase.stop for phase in growth.phases if not phase.fading}
    # The last level is trained to the end of the run, whatever the schedule says.
    ends[4 * 2 ** (levels - 1)] = validations[-1]["images_seen"]
    # A validation is due at a number of images, and done after the iteration that reaches it.
    at_end = {
        f"{size} px": [row["kid"] for row in validations if row["images_seen"] <= stop + schedule.batches[0]][-1]
        for size, stop in ends.items()
    }
    training, fidelity = read_json(run.training_file), read_json(run.evaluation / "fidelity.json")
    told = ("seconds", "device", "threads", "precision", "precision_reason", "parameters", "images_seen")
    return {
        "training": {name: training[name] for name in told},
        "run_environment": read_json(run.environment_file),
        "training_minutes": round(training["seconds"] / 60, 1),
        "within_an_hour": training["seconds"] <= HOUR_S,
        "kid_at_end_of_level": at_end,
        "grown_is_better": at_end["64 px"] < at_end["16 px"],
        "validations": validations,
        "kid_test": fidelity["spaces"]["randconv"]["all"]["kid"],
    }


if __name__ == "__main__":
    main()
