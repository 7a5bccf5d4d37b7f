"""The averaged generator made ready for use: its batch-norm statistics are measured, not averaged."""

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from synthoma.draws import Draws, StepDraws
from synthoma.networks.sampling import sample

BATCHES, BATCH = 16, 64
NORMS = nn.modules.batchnorm._BatchNorm


class Sampler(Protocol):
    """(draws of n samples, purpose of the streams, conditions [n, k] or None) -> images [n, c, *size]."""

    def __call__(self, draws: StepDraws, purpose: str, conditions: Tensor | None) -> Tensor: ...


def with_measured_statistics(average: nn.Module, codes: Tensor | None, device: torch.device) -> nn.Module:
    """A copy of the generator in evaluation mode, with batch-norm statistics over 1,024 fixed seeded latents.

    Averaged weights never produced the running statistics that came with them, so those are measured anew (as
    stochastic weight averaging does, Izmailov et al. 2018). codes: conditions of the training images to draw from, or
    None.
    """
    network = copy.deepcopy(average)
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    latents, places = Draws(0, "statistics latents"), Draws(0, "statistics labels")
    with torch.no_grad():
        for number in range(BATCHES if norms else 0):
            index = torch.arange(BATCH, device=device)
            z = latents.normal(number, index, (int(network.latent),))  # type: ignore[arg-type]
            network(z, None if codes is None else codes[places.integers(number, index, len(codes))])
    for norm in norms:
        norm.momentum = 0.1
    return network.eval().requires_grad_(False)


def make_sampler(
    average: nn.Module,
    codes: Tensor | None,
    device: torch.device,
    size: Sequence[int],
    level: int | None = None,
    fade: float = 1.0,
) -> Sampler:
    """The averaged generator as a function; images of a lower level of growth are brought to the full size."""
    network = with_measured_statistics(average, codes, device)
    growth = {} if level is None else {"level": level, "fade": fade}

    def sampler(draws: StepDraws, purpose: str, conditions: Tensor | None) -> Tensor:
        return sample(network, draws, purpose, conditions, size, **growth)

    return sampler
