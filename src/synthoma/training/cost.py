"""What a recipe costs, before it is run: parameters, memory, disk, and time from a few measured steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from synthoma.draws import StepDraws
from synthoma.families import Family, ImageSpace, build_family
from synthoma.networks.layers import CHANNELS_LAST
from synthoma.objectives.batch import Batch
from synthoma.objectives.objective import Adversarial
from synthoma.recipe import Recipe
from synthoma.training.precision import choose_device, choose_precision, quick_part
from synthoma.training.schedules import Moment, Schedules
from synthoma.training.state import State
from synthoma.training.updates import discriminator_gradients, generator_gradients

TIMED_STEPS = 3
# Large steps are timed on a part of their batch: a dry run is to take seconds.
SECONDS_A_STEP = 2.0
ASSUMED_CLASSES = 9


@dataclass(frozen=True)
class Cost:
    """Estimates for one run. Memory and disk in MiB, time in seconds; without the images themselves."""

    generator_parameters: int
    discriminator_parameters: int
    device: str
    precision: str
    images_per_second: float
    training_seconds: float
    memory_mib: float
    checkpoint_mib: float
    disk_mib: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate_cost(recipe: Recipe, classes: int | None = None, dim: int = 2) -> Cost:
    """Build the networks, time a few updates on noise (a few seconds), and add up.

    classes: number of classes, 9 where they are not known yet; dim: 2 or 3 where `preparation.size` is one number.
    """
    size = recipe.preparation.size
    axes = tuple(size) if isinstance(size, list) else (size,) * dim
    channels = (3 if recipe.preparation.colour == "rgb" else 1) + (recipe.model.masks != "none")
    space = ImageSpace(axes, channels, assumed_conditions(recipe, classes))
    device = choose_device(recipe.training.device)
    family = build_family(recipe.model, recipe.training, space, device)
    moment = Schedules(recipe, family.levels, axes).at_top()
    batch = _noise(recipe, space, moment, device)
    precision = choose_precision(recipe.training.precision, family, batch, device)
    part = quick_part(family, batch, SECONDS_A_STEP)
    seconds = min(_step_seconds(family, part) for _ in range(TIMED_STEPS))
    rate = len(part) * family.objective.critic_steps / seconds
    micro = min(recipe.training.batch_per_device or moment.batch, moment.batch)
    saved = _saved_bytes(family, part) * micro / len(part)
    checkpoint = sum(tensor.nbytes for part in State(family).tensors().values() for tensor in part.values())
    gradients = sum(p.nbytes for network in (family.generator, family.discriminator) for p in network.parameters())
    mib = 1 / 2**20
    return Cost(
        sum(p.numel() for p in family.generator.parameters()),
        sum(p.numel() for p in family.discriminator.parameters()),
        str(device),
        precision.name,
        rate,
        recipe.training.kimg * 1000 / rate,
        (checkpoint + gradients + saved) * mib,
        checkpoint * mib,
        checkpoint * mib * (recipe.training.keep + 1),
    )


def _step_seconds(family: Family, batch: Batch) -> float:
    """Time of one iteration."""
    start = time.perf_counter()
    for _ in range(family.objective.critic_steps):
        discriminator_gradients(family, batch)
        family.discriminator_optimizer.step()
    generator_gradients(family, batch)
    family.generator_optimizer.step()
    float(next(family.generator.parameters()).detach().flatten()[0])  # waits for a GPU
    return time.perf_counter() - start


def _saved_bytes(family: Family, batch: Batch) -> int:
    """Bytes that autograd keeps for the backward pass of the larger of the two updates."""
    kept = []
    for gradients in (discriminator_gradients, generator_gradients):
        total = [0]

        def count(tensor: torch.Tensor, total: list[int] = total) -> torch.Tensor:
            total[0] += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), _by_autograd(family):
            gradients(family, batch)
        kept.append(total[0])
    return max(kept)


@contextmanager
def _by_autograd(family: Family) -> Iterator[None]:
    """Penalties by `autograd.grad`: tensors that torch.func keeps cannot be counted."""
    objective = family.objective
    if not isinstance(objective, Adversarial):
        yield
        return
    before, objective.gradients_by = objective.gradients_by, "autograd"
    try:
        yield
    finally:
        objective.gradients_by = before


def assumed_conditions(recipe: Recipe, classes: int | None) -> int:
    """Length of the conditions that a recipe asks for, before the data are known."""
    classes = classes or ASSUMED_CLASSES
    of_class = classes - 1 if recipe.model.class_order else classes
    return sum(of_class if name == "class" else 2 for name in recipe.model.conditions)


def _noise(recipe: Recipe, space: ImageSpace, moment: Moment, device: torch.device) -> Batch:
    """A batch of noise in the recipe's shapes, at the full size."""
    n = moment.batch
    images = torch.randn(n, space.channels, *space.size, device=device).contiguous(
        memory_format=CHANNELS_LAST[len(space.size)]
    )
    conditions = (
        torch.eye(space.conditions, device=device)[torch.arange(n) % space.conditions] if space.conditions else None
    )
    return Batch(
        real=images,
        z=torch.randn(n, recipe.model.latent, device=device),
        draw=StepDraws(0, 0, torch.arange(n, device=device)),
        conditions=conditions,
        fake_conditions=conditions,
        gamma=moment.gamma,
    )
