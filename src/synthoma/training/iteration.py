"""One iteration: `critic_steps` updates of the discriminator and one of the generator; moves the clock."""

import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from synthoma.errors import TrainingError
from synthoma.objectives.batch import Batch
from synthoma.settings import GENERATOR_TERMS
from synthoma.training.adaptive import overfitting
from synthoma.training.schedules import Moment, is_due
from synthoma.training.session import Session
from synthoma.training.state import WATCHED
from synthoma.training.updates import Watched, discriminator_gradients, generator_gradients, networks_at

# How often an adaptive augmentation compares training images, held-out images and fakes, in iterations.
ADAPT_EVERY = 8

# What torch's CPU allocator, CUDA, cuBLAS and cuDNN say; only the caching allocator of a GPU has an exception of its own.
OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def one_iteration(session: Session) -> None:
    """Train both networks once, average the generator, and add up what is watched."""
    family, counters, training = session.family, session.state.counters, session.recipe.training
    moment = session.moment()
    if session.schedules.begins_level(counters.images_seen):
        family.generator_optimizer.forget()
        family.discriminator_optimizer.forget()
    for optimizer in (family.generator_optimizer, family.discriminator_optimizer):
        optimizer.set_clock(counters.images_seen)
    steps = family.objective.critic_steps
    first = counters.iteration * (steps + 1)
    for step in range(steps):
        due = due_terms(training.lazy, counters.iteration * steps + step, of_generator=False)
        batch = session.batch(first + step, moment, due)
        loss, watched = _within_memory(session, discriminator_gradients, batch, moment)
        family.discriminator_optimizer.step()
        family.objective.after_discriminator(family.discriminator)
    _note(session, {"loss_discriminator": loss, **watched})
    due = due_terms(training.lazy, counters.iteration, of_generator=True)
    loss, watched = _within_memory(session, generator_gradients, session.batch(first + steps, moment, due), moment)
    family.generator_optimizer.step()
    family.objective.after_generator(watched)
    _note(session, {"loss_generator": loss, **watched})
    if session.adaptive and counters.iteration % ADAPT_EVERY == 0:
        _adapt(session, first, moment, steps * moment.batch * ADAPT_EVERY)
    counters.iteration += 1
    counters.images_seen += steps * moment.batch
    session.images_since_tick += steps * moment.batch
    session.state.update_average(training, steps * moment.batch)


def due_terms(lazy: Mapping[str, int], update: int, of_generator: bool) -> dict[str, float]:
    """Lazy terms of one network that are computed in its update of this number -> the factor that makes up for the rest."""
    mine = {name: period for name, period in lazy.items() if (name in GENERATOR_TERMS) == of_generator}
    return {name: float(period) for name, period in mine.items() if is_due(update, period)}


def _within_memory(
    session: Session, gradients: Callable[..., tuple[Tensor, Watched]], batch: Batch, moment: Moment
) -> tuple[Tensor, Watched]:
    """The gradients of an update; where memory runs out, in smaller parts, if the recipe allows."""
    counters, family = session.state.counters, session.family
    networks = networks_at(family, moment.level, moment.fade)
    while True:
        now = at_once(counters.micro, session.recipe.training.batch_per_device, len(batch))
        try:
            return gradients(family, batch, networks, now, session.world)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            advice = "use a smaller training.batch_per_device, training.precision=bf16, or fewer widths"
            if session.recipe.training.on_out_of_memory == "stop" or now == 1 or session.world.count > 1:
                raise TrainingError(
                    f"out of memory with {now} images at once on {session.device} (batch {moment.batch}); {advice}."
                ) from error
        # Outside the handler, where the failed update's tensors are no longer held.
        counters.micro = (now + 1) // 2
        gc.collect()
        if session.device.type == "cuda":
            torch.cuda.empty_cache()
        coupled = (
            " These networks couple the samples of a pass, so results are not those of the whole batch at once."
            if family.couples_samples
            else ""
        )
        session.observer.warn(
            f"Out of memory with {now} images at once; going on with {counters.micro}, accumulated to batches of {moment.batch}. "
            f"To avoid it, {advice}.{coupled}"
        )


def at_once(found: int | None, wished: int | None, batch: int) -> int:
    """Images at once on a device: what memory was found to hold, and what the recipe wishes now, whichever is less."""
    return min(part for part in (found, wished, batch) if part is not None)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for want of memory, on a GPU (its libraries have words of their own) or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def _note(session: Session, watched: Mapping[str, Tensor]) -> None:
    """Add watched values to the sums on the device; nothing is read back here."""
    counts = session.state.counters.counts
    row = [watched.get(name) for name in WATCHED]
    zero = torch.zeros((), dtype=torch.float64, device=session.device)
    session.sums += torch.stack([zero if value is None else value.double() for value in row])
    for place, value in enumerate(row):
        counts[place] += value is not None


@torch.no_grad()
def _adapt(session: Session, update: int, moment: Moment, images: int) -> None:
    """Move the strength of augmentation by how differently the discriminator scores training and held-out images."""
    assert session.held_out is not None
    assert session.adaptive is not None
    generator, discriminator = networks_at(session.family, moment.level, moment.fade)
    seen = session.batches.batch(update, moment, {})
    # The same update number in both streams: draws of the augmentation are shared, so only the images differ.
    held_out = session.held_out.batch(update, moment, {})
    fakes = session.family.objective.make(generator, seen)
    scores = [
        discriminator(batch.augment(pictures, "real"), conditions).double().mean()
        for batch, pictures, conditions in (
            (seen, seen.real, seen.conditions),
            (held_out, held_out.real, held_out.conditions),
            (replace(seen, real=fakes), fakes, seen.fake_conditions),
        )
    ]
    session.world.add_up(scores)
    means = [float(score) / session.world.count for score in scores]
    # Where a score is no number the next tick says so, and does what the recipe wants to be done about it.
    if all(map(math.isfinite, means)):
        session.adaptive.update(overfitting(*means), images)
