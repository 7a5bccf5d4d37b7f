"""Worker for train_step.py: `one_iteration` of the training loop on a real session of the `skin-cgan` recipe.

python our_step.py --precision auto|fp32|bf16 --work FOLDER
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from noise_dataset import write_noise_dataset
from synthoma.recipe import load_recipe
from synthoma.run import Run
from synthoma.training.loop import one_iteration
from synthoma.training.session import Session, begin
from synthoma.training.start import prepare_run
from worker import serve, timed_steps


class Quiet:
    """An observer that shows nothing."""

    def say(self, message: str) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""

    def row(self, row: dict[str, Any], total_images: int) -> None:
        """Nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""


def open_session(work: Path, settings: list[str]) -> Session:
    """A session of `skin-cgan` as `train` begins it, on a dataset of noise that is written into `work`."""
    dataset = write_noise_dataset(work / "dataset")
    recipe = load_recipe("skin-cgan", settings)
    run = Run(work / "run")
    prepare_run(run, recipe)
    return begin(run, recipe, dataset, Quiet())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    session = open_session(options.work, [f"training.precision={options.precision}", "training.device=cpu"])
    one_iteration(session)

    def measure(seconds: float) -> dict[str, Any]:
        session.waited, start = 0.0, time.perf_counter()
        times = timed_steps(lambda: one_iteration(session), seconds)
        return {"seconds": times, "data_wait_share": session.waited / (time.perf_counter() - start)}

    family = session.family
    serve(
        {
            "parameters": {
                "generator": sum(p.numel() for p in family.generator.parameters()),
                "discriminator": sum(p.numel() for p in family.discriminator.parameters()),
            },
            "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
            "precision": session.precision.name,
            "reason": session.precision.reason,
        },
        measure,
    )


if __name__ == "__main__":
    main()
