"""The two halves of an iteration up to their gradients: what the loop runs, and what is timed to choose and to estimate."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from synthoma.families import Family
from synthoma.networks.layers import advance_spectral_norm
from synthoma.objectives.batch import Batch
from synthoma.objectives.objective import Network
from synthoma.training.world import ALONE, World

Watched = dict[str, Tensor]
Losses = Callable[[Batch], tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]


def networks_at(family: Family, level: int | None = None, fade: float = 1.0) -> tuple[Network, Network]:
    """Generator and discriminator as the objective calls them: at a level of growth, where the family grows."""
    if family.levels is None or level is None:
        return family.generator, family.discriminator
    growth = {"level": level, "fade": fade}
    return partial(family.generator, **growth), partial(family.discriminator, **growth)


def discriminator_gradients(
    family: Family,
    batch: Batch,
    networks: tuple[Network, Network] | None = None,
    micro: int | None = None,
    world: World = ALONE,
) -> tuple[Tensor, Watched]:
    """Fresh gradients of the discriminator's weights; returns the detached loss and the watched values.

    micro: images at once; the gradients are accumulated from such parts, and summed over the processes of `world`. All
    terms are means over samples, so each part counts with its share of the whole batch.
    """
    family.discriminator_optimizer.zero_grad()
    advance_spectral_norm(family.discriminator)
    generator, discriminator = networks or networks_at(family)
    loss, watched = _accumulate(
        lambda part: family.objective.discriminator(generator, discriminator, part), batch, micro, world
    )
    _add_up(family.discriminator, loss, watched, world)
    return loss, watched


def generator_gradients(
    family: Family,
    batch: Batch,
    networks: tuple[Network, Network] | None = None,
    micro: int | None = None,
    world: World = ALONE,
) -> tuple[Tensor, Watched]:
    """Fresh gradients of the generator's weights, none of the discriminator's; otherwise as above."""
    family.generator_optimizer.zero_grad()
    generator, discriminator = networks or networks_at(family)
    learning = [parameter for parameter in family.discriminator.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        loss, watched = _accumulate(
            lambda part: family.objective.generator(generator, discriminator, part), batch, micro, world
        )
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
    _add_up(family.generator, loss, watched, world)
    return loss, watched


def _accumulate(losses: Losses, batch: Batch, micro: int | None, world: World) -> tuple[Tensor, Watched]:
    """Backward through all parts of the batch; the sums of their losses and watched values, weighted by their shares."""
    total: Tensor | None = None
    watched: Watched = {}
    for part in _parts(batch, micro):
        share = len(part) / (len(batch) * world.count)
        terms, seen = losses(part)
        loss = torch.stack([batch.due.get(name, 1.0) * term for name, term in terms.items()]).sum() * share
        loss.backward()
        total = loss.detach() if total is None else total + loss.detach()
        for name, value in seen.items():
            weighted = value.detach() * share
            watched[name] = watched[name] + weighted if name in watched else weighted
    assert total is not None
    return total, watched


def _parts(batch: Batch, micro: int | None) -> Iterator[Batch]:
    if micro is None or micro >= len(batch):
        yield batch
        return
    for start in range(0, len(batch), micro):
        yield batch.part(start, min(start + micro, len(batch)))


def _add_up(network: nn.Module, loss: Tensor, watched: Mapping[str, Tensor], world: World) -> None:
    if world.count > 1:
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        world.add_up([*gradients, loss, *watched.values()])


def gradient_norm(network: nn.Module) -> Tensor:
    """Length of the gradient of all weights of a network; 0 where there is none yet."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    return torch.stack(torch._foreach_norm(gradients)).norm()
