"""The training loop. One clock, `images_seen`; everything that happens, happens at a number of images, never at a time.

A run that is killed at any moment and resumed ends bit-identical to one that was not (CPU): all draws are functions of
the number of the update, all state is in the checkpoint, and what was logged after it is cut off again.
"""

import math
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from synthoma.dataset import Dataset
from synthoma.errors import Interrupted, TrainingError
from synthoma.model import Model
from synthoma.run import Run
from synthoma.training import checkpoint
from synthoma.training.averaging import with_measured_statistics
from synthoma.training.release import release
from synthoma.training.samples import write_progress, write_samples
from synthoma.training.session import Observer, Session, begin
from synthoma.training.start import read_recipe
from synthoma.training.state import WATCHED
from synthoma.training.updates import discriminator_gradients, generator_gradients
from synthoma.training.validation import better


def train(run: Run, dataset: Dataset, observer: Observer) -> Model:
    """Train the run's recipe on a dataset to its end, from its newest whole checkpoint where there is one.

    Leaves checkpoints, stats, samples and the released model in the run. Raises `Interrupted` after Ctrl-C or SIGTERM,
    `TrainingError` when a loss is no number any more.
    """
    recipe = read_recipe(run)
    with run.locked(), _stop_on_signals() as stopped:
        session = begin(run, recipe, dataset, observer)
        iterate(session, stopped)
        released = release(session)
        write_progress(run.samples)
        session.describe(finished=True, released=released)
    return Model.load(run.model)


def iterate(session: Session, stopped: threading.Event) -> None:
    """Iterations to the first border at or after `training.kimg`, at least one, with the events on the way."""
    training, counters = session.recipe.training, session.state.counters
    target = math.ceil(training.kimg * 1000)
    if counters.images_seen == 0:
        draw_samples(session)
    while counters.images_seen < target or counters.iteration == 0:
        before = counters.images_seen
        one_iteration(session)
        last = counters.images_seen >= target
        if last or _crossed(before, counters.images_seen, training.tick_kimg):
            tick(session, target)
        if last or _crossed(before, counters.images_seen, training.sample_kimg):
            draw_samples(session)
        if last or _crossed(before, counters.images_seen, training.checkpoint_kimg):
            validate(session, target)
            save(session)
        elif stopped.is_set():
            save(session)
        if stopped.is_set() and not last:
            raise Interrupted(
                f"Stopped at {counters.images_seen / 1000:g} kimg; everything is saved. "
                f"Go on with the same command, or: synthoma train {session.run.path} --resume"
            )


def one_iteration(session: Session) -> None:
    """`critic_steps` updates of the discriminator and one of the generator; moves the clock."""
    family, counters, training = session.family, session.state.counters, session.recipe.training
    steps = family.objective.critic_steps
    first = counters.iteration * (steps + 1)
    for step in range(steps):
        loss_discriminator, watched = discriminator_gradients(family, session.batch(first + step))
        family.discriminator_optimizer.step()
        family.objective.after_discriminator(family.discriminator)
    loss_generator = generator_gradients(family, session.batch(first + steps))
    family.generator_optimizer.step()
    counters.iteration += 1
    counters.images_seen += steps * training.batch
    session.state.update_average(training)
    session.sums += torch.stack([loss_discriminator, loss_generator, watched["d_real"], watched["d_fake"]])
    counters.sum_count += 1


def tick(session: Session, target: int) -> None:
    """Read the watched values (the one synchronisation with the device), log them, and stop at a loss that is no number."""
    counters = session.state.counters
    means = (session.sums / counters.sum_count).tolist()
    if not all(map(math.isfinite, means)):
        saved = checkpoint.checkpoint_folders(session.run.checkpoints)
        kept = (
            f"The last good checkpoint is {saved[-1].name} ({int(saved[-1].name) / 1000:g} kimg)"
            if saved
            else "There is no checkpoint yet"
        )
        named = ", ".join(
            f"{name} = {value}" for name, value in zip(WATCHED, means, strict=True) if not math.isfinite(value)
        )
        raise TrainingError(
            f"The loss is no number any more at {counters.images_seen / 1000:g} kimg (iteration {counters.iteration}: {named}). {kept}. "
            "Lower training.learning_rate (half of it is a good try), or use training.precision=fp32, in a new --out."
        )
    images = counters.sum_count * session.family.objective.critic_steps * session.recipe.training.batch
    seconds = session.lap()
    row = {"kind": "tick", "images_seen": counters.images_seen, "iteration": counters.iteration}
    row |= {"seconds": round(counters.seconds, 3), "images_per_second": round(images / seconds, 2)}
    row |= dict(zip(WATCHED, means, strict=True))
    row |= {"data_wait_share": round(session.waited / seconds, 5), "memory_mib": _peak_memory(session.device)}
    session.sums.zero_()
    session.waited, counters.sum_count = 0.0, 0
    _log(session, row, target)


def validate(session: Session, target: int) -> None:
    """Measure the validation KID, and move `best` where it improved by more than its standard error."""
    counters = session.state.counters
    if not session.validator.enabled:
        return
    measured = session.validator.measure(ready_average(session))
    if session.validator.chooses and better(measured, counters.best):
        counters.best = {
            "images_seen": counters.images_seen,
            **measured,
            "why": "lowest validation KID by more than its standard error",
        }
    _log(session, {"kind": "validation", "images_seen": counters.images_seen, **measured}, target)


def save(session: Session) -> None:
    """Write a checkpoint, unless a weight is no number; then remove old ones."""
    counters = session.state.counters
    session.lap()
    counters.sums = session.sums.tolist()
    for name, network in (("generator", session.family.generator), ("discriminator", session.family.discriminator)):
        if not all(bool(p.isfinite().all()) for p in network.parameters()):
            raise TrainingError(
                f"A weight of the {name} is no number at {counters.images_seen / 1000:g} kimg; no checkpoint was written, the earlier "
                "ones are whole. Lower training.learning_rate, or use training.precision=fp32, in a new --out."
            )
    checkpoint.save_checkpoint(session.run.checkpoints, session.state)
    best = counters.best["images_seen"] if counters.best else None
    checkpoint.remove_old(session.run.checkpoints, session.recipe.training.keep, best)
    session.describe(finished=False)


def draw_samples(session: Session) -> None:
    """A grid of samples of the averaged generator."""
    write_samples(
        session.run.samples,
        session.state.counters.images_seen,
        ready_average(session),
        session.recipe,
        session.classes,
        session.device,
    )


def ready_average(session: Session) -> nn.Module:
    """The averaged generator with measured batch-norm statistics, in evaluation mode."""
    return with_measured_statistics(session.state.average, session.recipe.model.latent, session.labels, session.device)


def _crossed(before: int, after: int, period_kimg: float) -> bool:
    """Whether a multiple of the period lies in (before, after]."""
    period = period_kimg * 1000
    return math.floor(after / period) > math.floor(before / period)


def _log(session: Session, row: dict[str, Any], target: int) -> None:
    session.run.append_stats(row)
    if session.events:
        session.events.write(row)
    session.observer.row(row, target)


def _peak_memory(device: torch.device) -> int:
    """Largest memory so far in MiB: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) // 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C stops at once. Only the main thread can listen."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def request(number: int, frame: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
