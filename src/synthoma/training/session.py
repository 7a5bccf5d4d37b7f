"""What one call of `train` works with, from the run folder to networks that are ready for the next iteration."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from synthoma.conditions import Conditions
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError
from synthoma.families import Family, ImageSpace, build_family
from synthoma.memory import keep_freed_memory
from synthoma.objectives.batch import Batch
from synthoma.recipe import Recipe, recipe_of_dimension
from synthoma.run import Run, environment, read_json, write_json
from synthoma.training import checkpoint, samples
from synthoma.training.adaptive import AdaptiveStrength
from synthoma.training.averaging import Sampler, make_sampler
from synthoma.training.batches import BatchStream
from synthoma.training.canaries import canary_rows
from synthoma.training.compiled import compile_steps
from synthoma.training.health import Finding, Health, small_data_warning
from synthoma.training.images import RealImages
from synthoma.training.precision import (
    Precision,
    choose_device,
    choose_precision,
    set_precision,
    use_deterministic_algorithms,
)
from synthoma.training.schedules import Moment, Schedules
from synthoma.training.state import State
from synthoma.training.tracking import Events
from synthoma.training.transfer import begin_from
from synthoma.training.validation import LEAST_FOR_BEST, Validator
from synthoma.training.world import World

# Fewer held-out images tell too little of a discriminator to steer by.
LEAST_FOR_ADAPTIVE = 32


class Observer(Protocol):
    """What a face shows while training runs."""

    def say(self, message: str) -> None:
        """A line for the user."""
        ...

    def warn(self, message: str) -> None:
        """A line that the user should not miss."""
        ...

    def row(self, row: dict[str, Any], total_images: int) -> None:
        """A row of stats.jsonl, as it is written."""
        ...


class Unheard:
    """The observer of processes beside the first, which speaks for all."""

    def say(self, message: str) -> None:
        """Said by the first process."""

    def warn(self, message: str) -> None:
        """Said by the first process."""

    def row(self, row: dict[str, Any], total_images: int) -> None:
        """Shown by the first process."""


@dataclass
class Session:
    """Networks, streams and clocks of a running training. `sums` collects the watched values on the device.

    codes: conditions of the training images, float32 [n, k], or None. held_out: what an adaptive augmentation compares
    with. health: the watch over the run.
    """

    run: Run
    recipe: Recipe
    dataset: Dataset
    device: torch.device
    world: World
    precision: Precision
    steps: str
    state: State
    schedules: Schedules
    conditions: Conditions
    codes: Tensor | None
    batches: BatchStream
    held_out: BatchStream | None
    validator: Validator
    health: Health
    adaptive: AdaptiveStrength | None
    observer: Observer
    sums: Tensor
    events: Events | None
    waited: float = 0.0
    images_since_tick: int = 0
    findings: list[Finding] = field(default_factory=list)
    clock: float = field(default_factory=time.perf_counter)

    @property
    def family(self) -> Family:
        return self.state.family

    @property
    def classes(self) -> list[str]:
        """Class names, where the images are conditioned on the class."""
        return list(self.conditions.classes)

    def moment(self) -> Moment:
        """What the schedules say now."""
        return self.schedules.at(self.state.counters.images_seen, self.adaptive.strength if self.adaptive else 0.0)

    def batch(self, update: int, moment: Moment, due: dict[str, float]) -> Batch:
        """The batch of an update; the time spent here is what the loop waits for data."""
        start = time.perf_counter()
        batch = self.batches.batch(update, moment, due)
        self.waited += time.perf_counter() - start
        return batch

    def sampler(self) -> Sampler:
        """The averaged generator as it is now, ready to make images of the full size."""
        self.state.copy_buffers()
        moment = self.moment()
        return make_sampler(self.state.average, self.codes, self.device, self.dataset.size, moment.level, moment.fade)

    def log(self, row: dict[str, Any], target: int) -> None:
        """Write a row of stats.jsonl, show it, and let the health watch see it; what it finds waits in `findings`."""
        if self.world.first:
            self.run.append_stats(row)
            if self.events:
                self.events.write(row)
            # A finding has words of its own, which the observer is told as a warning.
            if row["kind"] != "health":
                self.observer.row(row, target)
        if row["kind"] in ("tick", "validation"):
            self.findings += self.health.observe(row)

    def restart_watches(self) -> None:
        """Take sums, health and adaptive strength from the counters, after a checkpoint was loaded."""
        counters = self.state.counters
        self.sums.copy_(torch.tensor(counters.sums, dtype=torch.float64))
        self.health = Health(self.recipe.training.health, scores_of(self.recipe), counters.health)
        if self.adaptive:
            self.adaptive = AdaptiveStrength.begin(self.recipe.training.augment, counters.adaptive)
        self.waited, self.images_since_tick, self.findings = 0.0, 0, []
        self.lap()

    def lap(self) -> float:
        """Seconds since the last call, added to the run's own clock."""
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        self.state.counters.seconds += seconds
        return seconds

    def describe(self, finished: bool, released: dict[str, Any] | None = None) -> None:
        """Write training.json: what was decided, how far it is, and on which data."""
        if not self.world.first:
            return
        counters, family = self.state.counters, self.family
        write_json(
            self.run.training_file,
            {
                "finished": finished,
                "ended": counters.ended,
                "images_seen": counters.images_seen,
                "iteration": counters.iteration,
                "seconds": counters.seconds,
                "precision": self.precision.name,
                "precision_reason": self.precision.reason,
                "steps": self.steps,
                "device": str(self.device),
                "processes": self.world.count,
                "threads": torch.get_num_threads(),
                "scores": scores_of(self.recipe),
                "parameters": {
                    "generator": sum(p.numel() for p in family.generator.parameters()),
                    "discriminator": sum(p.numel() for p in family.discriminator.parameters()),
                },
                "dataset": {
                    "content": self.dataset.content_hash,
                    "cohort": self.dataset.cohort_hash,
                    "name": self.dataset.info.get("name"),
                },
                "best": counters.best,
                "released": released,
            },
        )


def scores_of(recipe: Recipe) -> str:
    """What D(real) and D(fake) in the log are: probabilities, or raw scores without a scale."""
    return "probability" if recipe.training.loss == "non-saturating" else "raw"


def begin(run: Run, recipe: Recipe, dataset: Dataset, observer: Observer, world: World) -> Session:
    """Build networks and streams, load the newest checkpoint, decide precision; cut off what was logged after it."""
    observer = observer if world.first else Unheard()
    check_fit(recipe, dataset)
    known = read_json(run.training_file) if run.training_file.exists() else None
    check_same_data(run, dataset, known)
    device = choose_device(recipe.training.device)
    if device.type == "cpu":
        keep_freed_memory()
    use_deterministic_algorithms(device)
    conditions, notes = Conditions.fit(
        dataset, recipe.model.conditions, recipe.model.class_order, recipe.model.when_absent
    )
    reals = RealImages(dataset, device, recipe.model)
    family = build_family(
        recipe.model, recipe.training, ImageSpace(dataset.size, reals.channels, conditions.width), device
    )
    schedules = Schedules(recipe, family.levels, dataset.size)
    state = State(family)
    codes = _codes(conditions, dataset, "train", device)
    canaries = np.flatnonzero(np.isin(dataset.rows("train"), canary_rows(dataset, recipe)))
    batches = BatchStream(
        reals,
        recipe,
        codes,
        family.levels,
        world.rank,
        world.count,
        torch.from_numpy(canaries) if len(canaries) else None,
    )
    loaded = checkpoint.load_newest(run.checkpoints, state, observer.say)
    if recipe.training.init_from:
        begin_from(recipe, state, load_weights=loaded is None)
    threads = torch.get_num_threads()
    if loaded and known:
        precision = Precision(known["precision"], known["precision_reason"])
        set_precision(family, precision)
        if known["threads"] != threads or known.get("processes", 1) != world.count:
            observer.say(
                f"The run was begun by {known.get('processes', 1)} process(es) of {known['threads']} thread(s) and goes on with "
                f"{world.count} of {threads}: it will be as good, but not bit-identical to an uninterrupted one."
            )
    else:
        batch = batches.batch(0, schedules.at_top(), {})
        precision = choose_precision(recipe.training.precision, family, batch, device)
        # A stopwatch may decide differently in each process; the first one's word counts.
        precision = Precision(*world.told_by_first([precision.name, precision.reason]))
        set_precision(family, precision)
    images_seen = state.counters.images_seen
    if world.first:
        checkpoint.remove_later(run.checkpoints, images_seen)
        samples.remove_later(run.samples, images_seen)
        run.cut_stats(images_seen)
        write_json(run.environment_file, environment())
    batch = batches.batch(0, schedules.at_top(), {})
    steps = compile_steps(family, batch, precision, recipe.training.compile, device)
    validator = Validator(recipe, dataset, conditions, codes, device)
    session = Session(
        run,
        recipe,
        dataset,
        device,
        world,
        precision,
        steps,
        state,
        schedules,
        conditions,
        codes,
        batches,
        _held_out(recipe, dataset, conditions, device, family, schedules, world),
        validator,
        Health(recipe.training.health, scores_of(recipe), state.counters.health),
        AdaptiveStrength.begin(recipe.training.augment, state.counters.adaptive) if schedules.adaptive else None,
        observer,
        torch.tensor(state.counters.sums, dtype=torch.float64, device=device),
        Events(run.path / "tensorboard", images_seen) if recipe.training.tensorboard and world.first else None,
    )
    session.describe(finished=False)
    _introduce(session, loaded.name if loaded else None, notes)
    return session


def _codes(conditions: Conditions, dataset: Dataset, split: str, device: torch.device) -> Tensor | None:
    if not conditions.width:
        return None
    return torch.as_tensor(conditions.encode_dataset(dataset, dataset.rows(split))).to(device)


def _held_out(
    recipe: Recipe,
    dataset: Dataset,
    conditions: Conditions,
    device: torch.device,
    family: Family,
    schedules: Schedules,
    world: World,
) -> BatchStream | None:
    """Batches of the validation split, where augmentation adapts to them."""
    if not schedules.adaptive:
        return None
    reals = RealImages(dataset, device, recipe.model, "val")
    if reals.count < LEAST_FOR_ADAPTIVE:
        raise DatasetError(
            f"training.augment.strength: adaptive compares with held-out images, and {reals.count} validation images are too few "
            f"({LEAST_FOR_ADAPTIVE} are needed); give a fixed strength such as 0.8."
        )
    codes = _codes(conditions, dataset, "val", device)
    return BatchStream(reals, recipe, codes, family.levels, world.rank, world.count)


def _introduce(session: Session, loaded: str | None, notes: list[str]) -> None:
    """Tell the user what this training is."""
    observer, count = session.observer, session.batches.reals.count
    images_seen = session.state.counters.images_seen
    if loaded:
        observer.say(f"Going on from {images_seen / 1000:g} kimg (checkpoint {loaded}).")
    devices = f"{session.world.count} processes on {session.device}" if session.world.count > 1 else session.device
    observer.say(
        f"Training on {devices} in {session.precision.name} ({session.precision.reason}); {count} training images."
        + (f" Steps {session.steps}." if session.device.type == "cuda" else "")
    )
    for note in notes:
        observer.say(note)
    warning = small_data_warning(count)
    if warning and not loaded:
        observer.warn(warning)
    if not session.validator.chooses:
        observer.say(
            f"{len(session.validator.rows)} validation images are too few to choose a best checkpoint ({LEAST_FOR_BEST} are "
            "needed): the last average is released."
        )


def check_fit(recipe: Recipe, dataset: Dataset) -> None:
    """Refuse a dataset of another size or colour than the recipe's, or without training images."""
    wanted = recipe.preparation
    axes = tuple(wanted.size) if isinstance(wanted.size, list) else (wanted.size,) * len(dataset.size)
    channels = 3 if wanted.colour == "rgb" else 1
    # Channels that are no colours (made by other means than `prepare`) are what they are.
    if dataset.unit == "unknown":
        channels = dataset.channels
    if isinstance(wanted.size, list) and len(wanted.size) != len(dataset.size):
        raise DatasetError(
            f"the recipe is for {len(wanted.size)}D images (preparation.size {wanted.size}), and {dataset.path} holds "
            f"{len(dataset.size)}D ones ({'x'.join(map(str, dataset.size))}). Take a "
            f"{len(dataset.size)}D recipe, such as {recipe_of_dimension(len(dataset.size))}, or other data."
        )
    if axes != dataset.size or channels != dataset.channels:
        raise DatasetError(
            f"{dataset.path} holds images of {'x'.join(map(str, dataset.size))} with {dataset.channels} channel(s), the recipe "
            f"asks for {'x'.join(map(str, axes))} with {channels}. Prepare again, or set preparation.size and preparation.colour."
        )
    if not len(dataset.rows("train")):
        raise DatasetError(f"{dataset.path} has no training images.")


def is_same_data(dataset: Dataset, known: dict[str, Any]) -> bool:
    """Whether a dataset, and its split, are those that training.json (`known`) names."""
    begun = known["dataset"]
    return (begun["content"], begun["cohort"]) == (dataset.content_hash, dataset.cohort_hash)


def check_same_data(run: Run, dataset: Dataset, known: dict[str, Any] | None) -> None:
    """Refuse to go on with a run on other data, or on another split of the same data."""
    if known is None or not checkpoint.checkpoint_folders(run.checkpoints):
        return
    if not is_same_data(dataset, known):
        raise DatasetError(
            f"{run.path} was begun on another dataset, or on another split of it. Going on would mix training and test images; "
            "use another --out, or the dataset that the run was begun with."
        )
