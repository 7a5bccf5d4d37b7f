"""One run of the bake-off: train for a number of processor seconds, release, measure."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from bakeoff_contestants import make_recipe
from synthoma.dataset import Dataset
from synthoma.errors import SynthomaError
from synthoma.evaluation.fidelity import evaluate_fidelity
from synthoma.evaluation.imagesets import image_set_from_dataset
from synthoma.families import family_entry
from synthoma.model import Model
from synthoma.recipe import Recipe
from synthoma.run import Run
from synthoma.training.iteration import one_iteration
from synthoma.training.release import release
from synthoma.training.session import Session, begin
from synthoma.training.start import prepare_run
from synthoma.training.world import ALONE
from synthoma.workflow import synthetic_set

# The rate is measured over so many iterations (of each phase, where a family grows): a multiple of all lazy periods.
MEASURED = 16


class Silent:
    """Shows nothing; warnings of small data are known here."""

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def row(self, row: dict[str, Any], total_images: int) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...


def start(recipe: Recipe, dataset: Dataset, folder: Path) -> Session:
    """A session of the real training code on a fresh run folder."""
    run = Run(folder)
    prepare_run(run, recipe)
    return begin(run, recipe, dataset, Silent(), ALONE)


def seconds_per_image(name: str, images: str, dataset: Dataset, folder: Path) -> float:
    """Processor seconds an image of the clock, as a mean over the phases of growth, which get equal shares of a run.

    The first iteration of each phase is left out: it fills caches that all later ones use.
    """
    probe = make_recipe(name, images, 0, 1e9)
    training, levels = probe.training, _levels(probe)
    phases = 2 * levels - 1
    images_a_phase = (MEASURED + 1) * training.critic_steps * training.batch
    session = start(make_recipe(name, images, 0, phases * images_a_phase / 1000), dataset, folder)
    spent = 0.0
    for number in range(phases * (MEASURED + 1)):
        before = time.process_time()
        one_iteration(session)
        if number % (MEASURED + 1):
            spent += time.process_time() - before
    return spent / (phases * MEASURED * training.critic_steps * training.batch)


def _levels(recipe: Recipe) -> int:
    return len(recipe.model.generator_widths) if family_entry(recipe.model.family).grows else 1


def train_for(session: Session, budget: float) -> dict[str, Any]:
    """Iterations until `budget` processor seconds are used up, at least one; what they came to.

    Batch, updates, average of the generator and watched values are in it, as in the loop; checkpoints, validation and
    grids of samples are left out.
    """
    counters, begun, first = session.state.counters, time.perf_counter(), time.process_time()
    while counters.iteration == 0 or time.process_time() - first < budget:
        one_iteration(session)
    watched = session.sums.tolist()
    critic_steps = session.family.objective.critic_steps
    return {
        "images": counters.images_seen,
        "updates_discriminator": counters.iteration * critic_steps,
        "updates_generator": counters.iteration,
        "seconds": round(time.process_time() - first, 2),
        "wall_seconds": round(time.perf_counter() - begun, 2),
        "schedule_done": round(counters.images_seen / (session.recipe.training.kimg * 1000), 3),
        "finite": all(math.isfinite(value) for value in watched),
    }


def train_contestant(
    name: str, images: str, seed: int, dataset: Dataset, folder: Path, budget: float, rate: float | None = None
) -> tuple[Session, dict[str, Any]]:
    """Measure the rate, set the length of the schedules by it, train for the budget."""
    cost = seconds_per_image(name, images, dataset, folder / "probe")
    recipe = make_recipe(name, images, seed, max(budget / cost, 1.0) / 1000, rate)
    session = start(recipe, dataset, folder / "run")
    parameters = [
        sum(p.numel() for p in network.parameters())
        for network in (session.family.generator, session.family.discriminator)
    ]
    row = {"contestant": name, "set": images, "seed": seed, "kimg_planned": round(recipe.training.kimg, 3)}
    return session, {**row, "parameters": parameters, **train_for(session, budget)}


def measure(session: Session, dataset: Dataset, cache: Path) -> dict[str, Any]:
    """Release the averaged generator, and what the project's evaluation says of it against the test split.

    All classes together: with the labels left away the numbers by class are not computed.
    """
    release(session)
    model, section = Model.load(session.run.model), session.recipe.evaluation
    synthetic = synthetic_set(model, dataset, section.count, section.seed)
    synthetic = dataclasses.replace(synthetic, labels=np.full(len(synthetic), -1, dtype=np.int64))
    test, train = image_set_from_dataset(dataset, "test"), image_set_from_dataset(dataset, "train")
    result = evaluate_fidelity(synthetic, test, train, section, cache=cache)
    found = result["spaces"]["randconv"]["all"]
    return {"protocol": result["protocol"]["hash"], "counts": result["counts"]} | {
        metric: found[metric] for metric in ("kid", "precision", "recall")
    }


def one_run(name: str, images: str, seed: int, dataset: Dataset, work: Path, budget: float) -> dict[str, Any]:
    """The row of one run; `failed` says why there is no number."""
    session, row = train_contestant(name, images, seed, dataset, work, budget)
    try:
        return row | measure(session, dataset, work.parent / "features")
    except SynthomaError as error:
        return row | {"failed": str(error)}


def one_trial(
    name: str, images: str, seed: int, rate: float, dataset: Dataset, work: Path, budget: float
) -> dict[str, Any]:
    """As `one_run`, with another learning rate, judged by the validation split: the test images are kept for the end."""
    session, row = train_contestant(name, images, seed, dataset, work, budget, rate)
    row |= {"rate": rate}
    try:
        return row | {"validation": session.validator.measure(session.sampler())}
    except SynthomaError as error:
        return row | {"failed": str(error)}
