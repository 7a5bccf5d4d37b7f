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

import torch

from synthoma.dataset import Dataset
from synthoma.errors import Interrupted
from synthoma.model import Model
from synthoma.run import Run
from synthoma.training import care, checkpoint
from synthoma.training.iteration import one_iteration
from synthoma.training.release import release
from synthoma.training.samples import write_progress, write_samples
from synthoma.training.session import Observer, Session, begin
from synthoma.training.start import read_recipe
from synthoma.training.state import WATCHED
from synthoma.training.updates import gradient_norm
from synthoma.training.validation import better
from synthoma.training.world import ALONE, World


def train(run: Run, dataset: Dataset, observer: Observer, world: World = ALONE) -> Model:
    """Train the run's recipe on a dataset to its end, from its newest whole checkpoint where there is one.

    Leaves checkpoints, stats, samples and the released model in the run. Raises `Interrupted` after Ctrl-C or SIGTERM,
    `TrainingError` when a loss is no number any more. world: the processes that train together.
    """
    recipe = read_recipe(run)
    with world.locked(run), _stop_on_signals() as stopped:
        session = begin(run, recipe, dataset, observer, world)
        care.reconsider(session)
        iterate(session, stopped)
        if world.first:
            released = release(session)
            write_progress(run.samples)
            session.describe(finished=True, released=released)
        world.wait()
    return Model.load(run.model)


def iterate(session: Session, stopped: threading.Event) -> None:
    """Iterations to the first border at or after `training.kimg`, at least one, with the events on the way."""
    training = session.recipe.training
    target = math.ceil(training.kimg * 1000)
    if session.state.counters.images_seen == 0:
        draw_samples(session)
    while not is_over(session, target):
        before = session.state.counters.images_seen
        one_iteration(session)
        now = session.state.counters.images_seen
        last = now >= target
        if (last or _crossed(before, now, training.tick_kimg)) and not tick(session, target):
            continue
        sampled = last or _crossed(before, now, training.sample_kimg)
        saved = last or _crossed(before, now, training.checkpoint_kimg)
        if (sampled or saved) and not weights_are_numbers(session):
            continue
        if sampled:
            draw_samples(session)
        if saved:
            validate(session, target)
            save(session)
        if care.act(session):
            continue
        if session.state.counters.ended:
            save(session)
        if _stop_is_wanted(session, stopped, before, now) and not is_over(session, target):
            if not saved and weights_are_numbers(session):
                save(session)
            raise Interrupted(
                f"Stopped at {now / 1000:g} kimg; everything is saved. "
                f"Go on with the same command, or: synthoma train {session.run.path} --resume"
            )


def is_over(session: Session, target: int) -> bool:
    """Whether the run has its length, or was ended before it."""
    counters = session.state.counters
    return counters.ended is not None or (counters.images_seen >= target and counters.iteration > 0)


def tick(session: Session, target: int) -> bool:
    """Read the watched values (the one synchronisation with the device), log them, and look at them.

    False where one is no number, and the run went back to an earlier checkpoint.
    """
    counters, family = session.state.counters, session.family
    norms = torch.stack([gradient_norm(family.generator).double(), gradient_norm(family.discriminator).double()])
    sums = session.sums.tolist()
    means = {name: total / n for name, total, n in zip(WATCHED, sums, counters.counts, strict=True) if n}
    means |= dict(zip(("gradient_generator", "gradient_discriminator"), norms.tolist(), strict=True))
    broken = {name: value for name, value in means.items() if not math.isfinite(value)}
    if broken:
        care.not_a_number(session, "The loss", broken)
        return False
    moment = session.moment()
    seconds = session.lap()
    images = session.images_since_tick
    row = {"kind": "tick", "images_seen": counters.images_seen, "iteration": counters.iteration}
    row |= {"seconds": round(counters.seconds, 3), "images_per_second": round(images / seconds, 2)}
    row |= means
    row |= {"data_wait_share": round(session.waited / seconds, 5), "memory_mib": peak_memory(session.device)}
    if moment.level is not None:
        row |= {"level": moment.level, "fade": moment.fade, "batch": moment.batch}
    if session.recipe.training.augment.policy:
        row |= {"strength": moment.strength}
    session.sums.zero_()
    session.waited, session.images_since_tick = 0.0, 0
    counters.counts = [0] * len(WATCHED)
    session.log(row, target)
    return True


def weights_are_numbers(session: Session) -> bool:
    """Whether all weights are finite; False where one is not, and the run went back. Neither samples nor checkpoints of such."""
    family = session.family
    for name, network in (("generator", family.generator), ("discriminator", family.discriminator)):
        if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
            care.not_a_number(session, f"A weight of the {name}")
            return False
    return True


def validate(session: Session, target: int) -> None:
    """Measure the validation KID, and move `best` where it improved by more than its standard error."""
    counters = session.state.counters
    if not session.validator.enabled:
        return
    measured = session.world.told_by_first(
        session.validator.measure(session.sampler()) if session.world.first else None
    )
    if session.validator.chooses and better(measured, counters.best):
        counters.best = {
            "images_seen": counters.images_seen,
            "kid": measured["kid"],
            "kid_se": measured["kid_se"],
            "count": measured["count"],
            "why": "lowest validation KID by more than its standard error",
        }
    session.log({"kind": "validation", "images_seen": counters.images_seen, **measured}, target)


def save(session: Session) -> None:
    """Write a checkpoint, then remove old ones."""
    counters, world = session.state.counters, session.world
    session.lap()
    session.state.copy_buffers()
    counters.sums = session.sums.tolist()
    counters.health = session.health.memory
    counters.adaptive = session.adaptive.to_json() if session.adaptive else None
    if world.first:
        checkpoint.save_checkpoint(session.run.checkpoints, session.state)
        best = counters.best["images_seen"] if counters.best else None
        checkpoint.remove_old(session.run.checkpoints, session.recipe.training.keep, best)
        session.describe(finished=False)
    world.wait()


def draw_samples(session: Session) -> None:
    """A grid of samples of the averaged generator."""
    if session.world.first:
        write_samples(
            session.run.samples,
            session.state.counters.images_seen,
            session.sampler(),
            session.recipe,
            session.conditions,
            session.device,
            session.dataset.channels,
        )


def _stop_is_wanted(session: Session, stopped: threading.Event, before: int, now: int) -> bool:
    """Whether a signal asked to stop; several processes agree on it once a tick."""
    if session.world.count == 1:
        return stopped.is_set()
    if not _crossed(before, now, session.recipe.training.tick_kimg):
        return False
    wanted = torch.tensor([float(stopped.is_set())], device=session.device)
    session.world.add_up([wanted])
    return bool(wanted > 0)


def _crossed(before: int, after: int, period_kimg: float) -> bool:
    """Whether a multiple of the period lies in (before, after]."""
    period = period_kimg * 1000
    return math.floor(after / period) > math.floor(before / period)


def peak_memory(device: torch.device) -> int:
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
