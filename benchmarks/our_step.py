"""Worker for train_step.py and plain_loop.py: `one_iteration` of the training loop on a real session of a recipe.

    python our_step.py --recipe skin-cgan --set training.precision=bf16 --work FOLDER

Datasets are of noise. Networks that grow are measured at their last level.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from noise_dataset import SKIN_IMAGES, write_noise_dataset
from synthoma.recipe import Recipe, load_recipe
from synthoma.run import Run
from synthoma.training.iteration import one_iteration
from synthoma.training.session import Session, begin
from synthoma.training.start import prepare_run
from synthoma.training.world import ALONE
from worker import serve, timed_steps

# Cubes are larger than pictures; as many as the nodule project had.
VOLUMES = 200


class Quiet:
    """An observer that shows nothing."""

    def say(self, message: str) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""

    def row(self, row: dict[str, Any], total_images: int) -> None:
        """Nothing."""


def open_session(work: Path, recipe: Recipe, images: int | None = None) -> Session:
    """A session as `train` begins it, on a dataset of noise in the recipe's shape that is written into `work`.

    images: how many there are to train on. A growing network stands at its last level, which is fully faded in.
    """
    size = recipe.preparation.size
    axes = tuple(size) if isinstance(size, list) else (size, size)
    channels = 3 if recipe.preparation.colour == "rgb" else 1
    count = images or (SKIN_IMAGES if len(axes) == 2 else VOLUMES)
    dataset = write_noise_dataset(work / "dataset", count, axes, channels)
    run = Run(work / "run")
    prepare_run(run, recipe)
    session = begin(run, recipe, dataset, Quiet(), ALONE)
    if session.schedules.growth:
        session.state.counters.images_seen = session.schedules.growth.phases[-1].start
    return session


def parameter_counts(session: Session) -> dict[str, int]:
    """Trained weights of both networks."""
    networks = {"generator": session.family.generator, "discriminator": session.family.discriminator}
    return {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, help="a shipped recipe's name, or a file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="changes to the recipe")
    parser.add_argument("--work", type=Path, required=True, help="folder for dataset and run, must not exist")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    session = open_session(options.work, load_recipe(options.recipe, [*options.set, "training.device=cpu"]))
    one_iteration(session)

    def measure(seconds: float) -> dict[str, Any]:
        session.waited, start = 0.0, time.perf_counter()
        times = timed_steps(lambda: one_iteration(session), seconds)
        return {"seconds": times, "data_wait_share": session.waited / (time.perf_counter() - start)}

    serve(
        {
            "parameters": parameter_counts(session),
            "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
            "precision": session.precision.name,
            "reason": session.precision.reason,
        },
        measure,
    )


if __name__ == "__main__":
    main()
