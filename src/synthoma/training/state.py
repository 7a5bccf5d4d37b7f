"""All that changes during training, and nothing else: what a checkpoint holds."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from synthoma.families import Family
from synthoma.recipe import TrainingSection

# What is summed on the device every iteration and logged every tick.
WATCHED = ("loss_discriminator", "loss_generator", "d_real", "d_fake")


@dataclass
class Counters:
    """The scalars of the state; JSON in a checkpoint.

    sums: of the watched values since the last tick, over `sum_count` iterations. best: of the validation, or None.
    """

    images_seen: int = 0
    iteration: int = 0
    seconds: float = 0.0
    sums: list[float] = field(default_factory=list)
    sum_count: int = 0
    best: dict[str, Any] | None = None


class State:
    """G, D, the averaged G, both optimizers and the counters."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.average = copy.deepcopy(family.generator).requires_grad_(False)
        self.counters = Counters()

    def update_average(self, training: TrainingSection) -> None:
        """Exponential average of the generator's weights with a half-life in images, independent of the batch size.

        The half-life grows with the run (`ema_rampup`), so that early averages do not drag the initial weights along
        (Karras et al. 2020, StyleGAN2-ADA). Batch-norm statistics are not averaged: they are re-estimated before use.
        """
        half_life = training.ema_kimg * 1000
        if training.ema_rampup is not None:
            half_life = min(half_life, self.counters.images_seen * training.ema_rampup)
        keep = 0.5 ** (training.batch / max(half_life, 1e-8))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.family.generator.parameters()), 1.0 - keep)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """File name -> tensors, on the CPU: the weights and buffers of three networks, and the optimizers' moments."""
        return {
            "generator": _network_tensors(self.family.generator),
            "discriminator": _network_tensors(self.family.discriminator),
            "average": _network_tensors(self.average),
            "generator_optimizer": _optimizer_tensors(self.family.generator, self.family.generator_optimizer),
            "discriminator_optimizer": _optimizer_tensors(
                self.family.discriminator, self.family.discriminator_optimizer
            ),
        }

    def load(self, tensors: dict[str, dict[str, Tensor]], counters: dict[str, Any]) -> None:
        """Take over what `tensors` and a checkpoint's JSON hold; shapes and names must fit exactly."""
        self.family.generator.load_state_dict(tensors["generator"])
        self.family.discriminator.load_state_dict(tensors["discriminator"])
        self.average.load_state_dict(tensors["average"])
        _load_optimizer(self.family.generator, self.family.generator_optimizer, tensors["generator_optimizer"])
        _load_optimizer(
            self.family.discriminator, self.family.discriminator_optimizer, tensors["discriminator_optimizer"]
        )
        self.counters = Counters(**counters)


def _network_tensors(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def _optimizer_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`parameter/moment` -> tensor, with names instead of the optimizer's numbers."""
    return {
        f"{name}/{key}": value.detach().to("cpu", memory_format=torch.contiguous_format)
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _load_optimizer(network: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(network.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[name]
        # Moments take the memory format of their parameter, as the optimizer would have made them.
        laid_out = (
            torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.to(parameter.device)
        )
        optimizer.state[parameter][moment] = laid_out if moment != "step" else value.to(parameter.device)
