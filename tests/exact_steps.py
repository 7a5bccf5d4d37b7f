"""A few plain gradient steps in float64, by one process or by several: what accumulation and processes must agree on.

As a program (`python exact_steps.py DATASET FAMILY OUT`, started with RANK and WORLD_SIZE set) it is one of the
processes, and the first of them writes the gradients and weights.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from family_fixture import small_family
from synthoma.conditions import Conditions
from synthoma.dataset import Dataset
from synthoma.families import Family, ImageSpace, build_family
from synthoma.objectives.batch import Batch
from synthoma.training.batches import BatchStream
from synthoma.training.images import RealImages
from synthoma.training.iteration import due_terms
from synthoma.training.schedules import Schedules
from synthoma.training.updates import discriminator_gradients, generator_gradients
from synthoma.training.world import ALONE, World, join_world

CPU = torch.device("cpu")
RATE = 0.01
# Families whose networks couple no samples, with what makes them so.
MODELS = {
    "r3": {},
    "wgan-gp": {"generator_norm": "group"},
    "dcgan": {"generator_norm": "instance", "discriminator_norm": "group", "spectral_norm": True},
    "pggan": {"minibatch_stddev": 0},
    "style": {"minibatch_stddev": 0},
    "mlp": {"generator_norm": "none"},
}
AUGMENT = {"policy": ["colour", "translation", "cutout"], "strength": 0.7}


def steps(path: Path, family_name: str, world: World = ALONE, micro: int | None = None) -> dict[str, np.ndarray]:
    """Gradients of the first discriminator and generator update, and all weights after five plain SGD steps of each."""
    dataset = Dataset.open(path)
    recipe = small_family(
        family_name, dataset.size, dataset.channels, model={**MODELS[family_name], "conditions": ["class"]},
        batch=12, augment=AUGMENT,
    )  # fmt: skip
    conditions, _ = Conditions.fit(dataset, ["class"], None, "error")
    codes = torch.as_tensor(conditions.encode_dataset(dataset, dataset.rows("train")))
    reals = RealImages(dataset, CPU, recipe.model)
    family = build_family(recipe.model, recipe.training, ImageSpace(dataset.size, reals.channels, codes.shape[1]), CPU)
    for network in (family.generator, family.discriminator):
        network.double()
        network.compute_dtype = torch.float64
    stream = BatchStream(reals, recipe, codes, family.levels, world.rank, world.count)
    moment = Schedules(recipe, family.levels, dataset.size).at_top()
    found: dict[str, np.ndarray] = {}
    for number in range(5):
        due = due_terms(recipe.training.lazy, number, of_generator=False)
        discriminator_gradients(family, exact(stream.batch(2 * number, moment, due)), None, micro, world)
        if number == 0:
            found["discriminator gradient"] = gradients(family.discriminator)
        descend(family.discriminator)
        due = due_terms(recipe.training.lazy, number, of_generator=True)
        _, watched = generator_gradients(family, exact(stream.batch(2 * number + 1, moment, due)), None, micro, world)
        family.objective.after_generator(watched)
        if number == 0:
            found["generator gradient"] = gradients(family.generator)
        descend(family.generator)
    return found | {"weights": weights(family)}


def exact(batch: Batch) -> Batch:
    """The batch in float64."""
    wide = {
        field.name: value.double()
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), Tensor) and value.is_floating_point()
    }
    return dataclasses.replace(batch, **wide)


def gradients(network: nn.Module) -> np.ndarray:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).numpy()


@torch.no_grad()
def descend(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter -= RATE * parameter.grad


def weights(family: Family) -> np.ndarray:
    networks = (family.generator, family.discriminator)
    return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()]).numpy()


if __name__ == "__main__":
    torch.set_num_threads(1)
    together = join_world()
    result = steps(Path(sys.argv[1]), sys.argv[2], together)
    if together.first:
        np.savez(sys.argv[3], **result)
    together.wait()
