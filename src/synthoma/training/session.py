"""What one call of `train` works with, from the run folder to networks that are ready for the next iteration."""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from synthoma.dataset import Dataset
from synthoma.errors import DatasetError
from synthoma.families import Family, ImageSpace, build_family
from synthoma.objectives.objective import Batch
from synthoma.recipe import Recipe
from synthoma.run import Run, environment, read_json, write_json
from synthoma.training import checkpoint, samples
from synthoma.training.batches import BatchStream, RealImages
from synthoma.training.precision import (
    Precision,
    choose_device,
    choose_precision,
    set_precision,
    use_deterministic_algorithms,
)
from synthoma.training.state import WATCHED, State
from synthoma.training.tracking import Events
from synthoma.training.validation import LEAST_FOR_BEST, Validator


class Observer(Protocol):
    """What a face shows while training runs."""

    def say(self, message: str) -> None:
        """A line for the user."""
        ...

    def row(self, row: dict[str, Any], total_images: int) -> None:
        """A row of stats.jsonl, as it is written."""
        ...


@dataclass
class Session:
    """Networks, streams and clocks of a running training. `sums` collects the watched values on the device."""

    run: Run
    recipe: Recipe
    dataset: Dataset
    device: torch.device
    precision: Precision
    state: State
    batches: BatchStream
    validator: Validator
    observer: Observer
    sums: Tensor
    events: Events | None
    waited: float = 0.0
    clock: float = field(default_factory=time.perf_counter)

    @property
    def family(self) -> Family:
        return self.state.family

    @property
    def labels(self) -> Tensor | None:
        """Labels of the training images, where the family has classes."""
        return self.batches.reals.labels if self.family.conditional else None

    @property
    def classes(self) -> list[str]:
        """Class names, where the family has classes."""
        return self.dataset.classes if self.family.conditional else []

    def batch(self, update: int) -> Batch:
        """The batch of an update; the time spent here is what the loop waits for data."""
        start = time.perf_counter()
        batch = self.batches[update]
        self.waited += time.perf_counter() - start
        return batch

    def lap(self) -> float:
        """Seconds since the last call, added to the run's own clock."""
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        self.state.counters.seconds += seconds
        return seconds

    def describe(self, finished: bool, released: dict[str, Any] | None = None) -> None:
        """Write training.json: what was decided, how far it is, and on which data."""
        counters, family = self.state.counters, self.family
        write_json(
            self.run.training_file,
            {
                "finished": finished,
                "images_seen": counters.images_seen,
                "iteration": counters.iteration,
                "seconds": counters.seconds,
                "precision": self.precision.name,
                "precision_reason": self.precision.reason,
                "device": str(self.device),
                "threads": torch.get_num_threads(),
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


def begin(run: Run, recipe: Recipe, dataset: Dataset, observer: Observer) -> Session:
    """Build networks and streams, load the newest checkpoint, decide precision; cut off what was logged after it."""
    check_fit(recipe, dataset)
    known = read_json(run.training_file) if run.training_file.exists() else None
    check_same_data(run, dataset, known)
    device = choose_device(recipe.training.device)
    use_deterministic_algorithms(device)
    family = build_family(
        recipe.model, recipe.training, ImageSpace(dataset.size, dataset.channels, len(dataset.classes)), device
    )
    state = State(family)
    reals = RealImages(dataset, device, *recipe.model.range)
    batches = BatchStream(reals, recipe, family.conditional)
    loaded = checkpoint.load_newest(run.checkpoints, state, observer.say)
    if loaded and known:
        precision = Precision(known["precision"], known["precision_reason"])
        set_precision(family, precision)
        if known["threads"] != torch.get_num_threads():
            observer.say(
                f"The run was begun on {known['threads']} thread(s) and goes on on {torch.get_num_threads()}: it will be as good, "
                "but not bit-identical to an uninterrupted one."
            )
    else:
        precision = choose_precision(recipe.training.precision, family, batches[0], device)
    images_seen = state.counters.images_seen
    checkpoint.remove_later(run.checkpoints, images_seen)
    samples.remove_later(run.samples, images_seen)
    run.cut_stats(images_seen)
    write_json(run.environment_file, environment())
    validator = Validator(recipe, dataset, reals.labels if family.conditional else None, device)
    sums = torch.tensor(state.counters.sums or [0.0] * len(WATCHED), dtype=torch.float64, device=device)
    events = Events(run.path / "tensorboard", images_seen) if recipe.training.tensorboard else None
    session = Session(run, recipe, dataset, device, precision, state, batches, validator, observer, sums, events)
    session.describe(finished=False)
    if loaded:
        observer.say(f"Going on from {images_seen / 1000:g} kimg (checkpoint {loaded.name}).")
    observer.say(f"Training on {device} in {precision.name} ({precision.reason}); {reals.count} training images.")
    if not validator.chooses:
        observer.say(
            f"{len(validator.rows)} validation images are too few to choose a best checkpoint ({LEAST_FOR_BEST} are needed): "
            "the last average is released."
        )
    return session


def check_fit(recipe: Recipe, dataset: Dataset) -> None:
    """Refuse a dataset of another size or colour than the recipe's, or without training images."""
    wanted = recipe.preparation
    axes = tuple(wanted.size) if isinstance(wanted.size, list) else (wanted.size,) * len(dataset.size)
    channels = 3 if wanted.colour == "rgb" else 1
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
