"""The averaged generator made ready for use: its batch-norm statistics are measured, not averaged."""

import copy

import torch
from torch import Tensor, nn

from synthoma.draws import Draws

BATCHES, BATCH = 16, 64
NORMS = nn.modules.batchnorm._BatchNorm


def with_measured_statistics(average: nn.Module, latent: int, labels: Tensor | None, device: torch.device) -> nn.Module:
    """A copy of the generator in evaluation mode, with batch-norm statistics over 1,024 fixed seeded latents.

    Averaged weights never produced the running statistics that came with them, so those are measured anew (as
    stochastic weight averaging does, Izmailov et al. 2018). labels: int64, the training labels to draw from, or None.
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
            z = latents.normal(number, index, (latent,))
            network(z, None if labels is None else labels[places.integers(number, index, len(labels))])
    for norm in norms:
        norm.momentum = 0.1
    return network.eval().requires_grad_(False)
