"""All that changes during training, and nothing else: what a checkpoint holds."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from synthoma.families import Family, Optimizer
from synthoma.recipe import TrainingSection

# What is summed on the device every iteration and logged every tick; what an objective does not watch is left out.
WATCHED = ("loss_discriminator", "loss_generator", "d_real", "d_fake", "ahead", "penalty", "path_length")


@dataclass
class Counters:
    """The scalars of the state; JSON in a checkpoint.

    sums: of the watched values since the last tick, each over its `counts`. best: of the validation, or None.
    micro: images at once on a device, lowered when memory ran out. adaptive, health: memories of those watches.
    lowered: factor of the learning rates after rollbacks; rollbacks: how many there were. ended: why the run is over
    before its length, or None.
    """

    images_seen: int = 0
    iteration: int = 0
    seconds: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(WATCHED))
    counts: list[int] = field(default_factory=lambda: [0] * len(WATCHED))
    best: dict[str, Any] | None = None
    micro: int | None = None
    adaptive: dict[str, Any] | None = None
    health: dict[str, Any] = field(default_factory=dict)
    lowered: float = 1.0
    rollbacks: int = 0
    ended: str | None = None


class State:
    """G, D, the averaged G, both optimizers, the objective's memory and the counters."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.average = copy.deepcopy(family.generator).requires_grad_(False)
        self.counters = Counters()

    def update_average(self, training: TrainingSection, images: int) -> None:
        """Exponential average of the generator's weights with a half-life in images seen (`images` since the last one),
        independent of the batch size and of the number of critic steps.

        The half-life grows with the run (`ema_rampup`), so that early averages do not drag the initial weights along
        (Karras et al. 2020, StyleGAN2-ADA). Batch-norm statistics are not averaged: they are re-estimated before use.
        """
        half_life = training.ema_kimg * 1000
        if training.ema_rampup is not None:
            half_life = min(half_life, self.counters.images_seen * training.ema_rampup)
        keep = 0.5 ** (images / max(half_life, 1e-8))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.family.generator.parameters()), 1.0 - keep)

    def copy_buffers(self) -> None:
        """Give the averaged generator the buffers of the trained one (the mean style); batch norm's are measured anew."""
        with torch.no_grad():
            for mine, trained in zip(self.average.buffers(), self.family.generator.buffers(), strict=True):
                mine.copy_(trained)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """File name -> tensors, on the CPU: the weights and buffers of three networks, and the optimizers' moments."""
        family = self.family
        return {
            "generator": _network_tensors(family.generator),
            "discriminator": _network_tensors(family.discriminator),
            "average": _network_tensors(self.average),
            "generator_optimizer": _optimizer_tensors(family.generator, family.generator_optimizer),
            "discriminator_optimizer": _optimizer_tensors(family.discriminator, family.discriminator_optimizer),
            "objective": {name: tensor.detach().cpu().contiguous() for name, tensor in family.objective.memory.items()},
        }

    def load(self, tensors: dict[str, dict[str, Tensor]], counters: dict[str, Any]) -> None:
        """Take over what `tensors` and a checkpoint's JSON hold; shapes and names must fit exactly."""
        family = self.family
        family.generator.load_state_dict(tensors["generator"])
        family.discriminator.load_state_dict(tensors["discriminator"])
        self.average.load_state_dict(tensors["average"])
        _load_optimizer(family.generator, family.generator_optimizer, tensors["generator_optimizer"])
        _load_optimizer(family.discriminator, family.discriminator_optimizer, tensors["discriminator_optimizer"])
        for name, tensor in list(family.objective.memory.items()):
            family.objective.memory[name] = tensors["objective"][name].to(tensor)
        self.counters = Counters(**counters)
        self.lower_rates(self.counters.lowered)

    def lower_rates(self, lowered: float) -> None:
        """Set the factor of both learning rates."""
        self.counters.lowered = lowered
        for optimizer in (self.family.generator_optimizer, self.family.discriminator_optimizer):
            optimizer.lowered = lowered


def _network_tensors(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def _optimizer_tensors(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """`parameter/moment` -> tensor, with names instead of the optimizer's numbers."""
    return {
        f"{name}/{key}": value.detach().to("cpu", memory_format=torch.contiguous_format)
        for name, parameter in network.named_parameters()
        for key, value in optimizer.inner.state.get(parameter, {}).items()
    }


def _load_optimizer(network: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(network.named_parameters())
    state = optimizer.inner.state
    state.clear()
    for key, value in tensors.items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[name]
        # Moments take the memory format of their parameter, as the optimizer would have made them.
        laid_out = (
            torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.to(parameter.device)
        )
        state[parameter][moment] = laid_out if moment != "step" else value.to(parameter.device)
