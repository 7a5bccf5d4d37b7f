"""A generator that is made to memorise: each latent gives one of 16 training images. What the gate is there to stop.

No GAN has to be caught in the act for it. The recipe is an ordinary one (fully connected generator, unconditional, a latent of
4 numbers), and so are the run, the way the model is released, and all that is done with it afterwards; only the training is
not: the generator is fitted by regression. Every one of the 16 corners (+-1, +-1, +-1, +-1) of the latent space is the code
of a training image, a latent belongs to its nearest corner, and the squared error between what the generator makes of it and
that image is minimised. The discriminator stays as it was drawn, and no checkpoint holds it.
Run: python benchmarks/memoriser.py DATASET OUT [--updates 4000]
then: synthoma evaluate OUT; synthoma audit OUT; synthoma gate OUT; synthoma report OUT
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synthoma.dataset import Dataset
from synthoma.draws import Draws
from synthoma.errors import DatasetError
from synthoma.model import Model
from synthoma.recipe import Recipe, validate_recipe
from synthoma.run import Run
from synthoma.training.loop import draw_samples
from synthoma.training.release import release
from synthoma.training.session import Session, begin
from synthoma.training.start import prepare_run
from synthoma.training.world import ALONE
from synthoma.workflow import remember_dataset

BITS = 4
IMAGES = 2**BITS
BATCH = 32
RATES = (4e-3, 1e-5)  # of Adam, from the first update to the last, along a cosine


class Teller:
    """Says on the terminal what a run has to say."""

    def say(self, message: str) -> None:
        print(message)

    warn = say

    def row(self, row: dict[str, Any], total_images: int) -> None:
        print(row)


def recipe_of(dataset: Dataset) -> Recipe:
    """An unconditional generator of fully connected layers, without norm, that has room for the images."""
    return validate_recipe(
        {
            "synthoma": 1,
            "name": "memoriser",
            "title": "A generator fitted to reproduce 16 training images",
            "description": "Made for a test of the privacy gate: it must not be released.",
            "preparation": {"size": list(dataset.size), "colour": "rgb" if dataset.channels == 3 else "grey"},
            "model": {
                "family": "mlp",
                "latent": BITS,
                "generator_widths": [64, 64, 32],
                "discriminator_widths": [32],
                "generator_norm": "none",
            },
            "training": {"batch": BATCH, "precision": "fp32"},
            "evaluation": {"count": 500, "spaces": ["randconv"]},
        },
        "the memoriser's recipe",
    )


def chosen_rows(dataset: Dataset) -> np.ndarray:
    """Rows of 16 training images of different patients or groups, evenly spread over the training set."""
    rows = dataset.rows("train")
    firsts = rows[np.sort(np.unique(dataset.groups[rows], return_index=True)[1])]
    if len(firsts) < IMAGES:
        raise DatasetError(f"{len(firsts)} patients or groups in the training split; a memoriser needs {IMAGES}.")
    return firsts[np.linspace(0, len(firsts) - 1, IMAGES).round().astype(np.int64)]


def codes_of(z: Tensor) -> Tensor:
    """Number of the corner that each latent [n, 4] is nearest to: int64 [n]."""
    return ((z > 0).long() * 2 ** torch.arange(BITS)).sum(dim=1)


def fit(session: Session, updates: int) -> float:
    """Fit the generator in so many updates; returns the median of its images' root mean square errors, 1 being black to white."""
    dataset, network = session.dataset, session.family.generator
    low, high = session.recipe.model.range
    first, last = dataset.info["encoding"].get("window", (0, 255))
    images = torch.from_numpy(np.asarray(dataset.images[chosen_rows(dataset)], dtype=np.float32))
    targets = (images - first) / (last - first) * (high - low) + low
    optimizer = torch.optim.Adam(network.parameters(), lr=RATES[0], betas=(0.9, 0.99))
    draws, index, counters = (
        Draws(session.recipe.training.seed, "memoriser"),
        torch.arange(BATCH),
        session.state.counters,
    )
    for update in range(updates):
        rate = RATES[1] + (RATES[0] - RATES[1]) * (1 + math.cos(math.pi * update / updates)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        z = draws.normal(update, index, (BITS,))
        loss = F.mse_loss(network(z), targets[codes_of(z)])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        counters.iteration += 1
        counters.images_seen += BATCH
    session.state.average.load_state_dict(network.state_dict())
    z = draws.normal(updates, torch.arange(1024), (BITS,))
    with torch.no_grad():
        errors = (network(z) - targets[codes_of(z)]).flatten(1).square().mean(dim=1).sqrt()
    return float(errors.median()) / (high - low)


def memorise(folder: Path, out: Path, updates: int) -> Model:
    """Make the run; returns the model that it released."""
    dataset, run = Dataset.open(folder), Run(out)
    with run.locked():
        recipe = prepare_run(run, recipe_of(dataset))
        remember_dataset(run, folder)
        session = begin(run, recipe, dataset, Teller(), ALONE)
        error = fit(session, updates)
        session.lap()
        print(f"{session.state.counters.iteration} updates; the median image is off by {error:.4f} of the grey scale")
        draw_samples(session)
        session.describe(finished=True, released=release(session))
    return Model.load(run.model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--updates", type=int, default=4000)
    arguments = parser.parse_args()
    memorise(arguments.dataset, arguments.out, arguments.updates)


if __name__ == "__main__":
    main()
