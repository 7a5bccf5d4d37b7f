"""What a recipe costs, before it is run: parameters, memory, disk, and time from a few measured steps."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from synthoma.draws import StepDraws
from synthoma.families import ImageSpace, build_family
from synthoma.networks.layers import CHANNELS_LAST
from synthoma.objectives.batch import Batch
from synthoma.recipe import Recipe
from synthoma.training.precision import choose_device, choose_precision
from synthoma.training.schedules import Moment, Schedules
from synthoma.training.state import State
from synthoma.training.updates import discriminator_gradients, generator_gradients

TIMED_STEPS = 3
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
    micro = recipe.training.batch_per_device
    precision = choose_precision(recipe.training.precision, family, batch, device)
    saved = [0]

    def count(tensor: torch.Tensor) -> torch.Tensor:
        saved[0] += tensor.nbytes
        return tensor

    seconds = []
    for step in range(TIMED_STEPS + 1):
        start = time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(
            count if step == 0 else lambda tensor: tensor, lambda tensor: tensor
        ):
            for _ in range(family.objective.critic_steps if step else 1):
                discriminator_gradients(family, batch, micro=micro)
            generator_gradients(family, batch, micro=micro)
        family.discriminator_optimizer.step()
        family.generator_optimizer.step()
        float(next(family.generator.parameters()).detach().flatten()[0])  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    rate = moment.batch * family.objective.critic_steps / min(seconds[1:])
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
        (checkpoint + gradients + saved[0]) * mib,
        checkpoint * mib,
        checkpoint * mib * (recipe.training.keep + 1),
    )


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
