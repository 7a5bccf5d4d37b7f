"""The two halves of an iteration up to their gradients: what the loop runs, and what is timed to choose and to estimate."""

import torch
from torch import Tensor

from synthoma.families import Family
from synthoma.objectives.objective import Batch


def discriminator_gradients(family: Family, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Fresh gradients of the discriminator's weights; returns the detached loss and the watched values."""
    family.discriminator_optimizer.zero_grad(set_to_none=True)
    terms, watched = family.objective.discriminator(family.generator, family.discriminator, batch)
    return _backward(terms), watched


def generator_gradients(family: Family, batch: Batch) -> Tensor:
    """Fresh gradients of the generator's weights, none of the discriminator's; returns the detached loss."""
    family.generator_optimizer.zero_grad(set_to_none=True)
    family.discriminator.requires_grad_(False)
    loss = _backward(family.objective.generator(family.generator, family.discriminator, batch))
    family.discriminator.requires_grad_(True)
    return loss


def _backward(terms: dict[str, Tensor]) -> Tensor:
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    return loss.detach()
