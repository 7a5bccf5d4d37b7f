"""The contract between an objective and the training loop, and the objective of the classical GANs."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from synthoma.objectives.adversarial import bce_discriminator, bce_generator
from synthoma.objectives.batch import Batch

Network = Callable[..., Tensor]


class Objective(Protocol):
    """Losses of one family. Returned terms are sample means; the loop adds them up and calls backward.

    `watch` names what else is logged: detached scalars under names that start with "d_".
    """

    critic_steps: int
    lazy: dict[str, int]

    def discriminator(
        self, generator: Network, discriminator: Network, batch: Batch
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(terms, watched) of a discriminator update."""
        ...

    def generator(self, generator: Network, discriminator: Network, batch: Batch) -> dict[str, Tensor]:
        """Terms of a generator update."""
        ...

    def after_discriminator(self, discriminator: nn.Module) -> None:
        """Called after each discriminator update (weight clipping)."""
        ...


class NonSaturating:
    """Binary cross-entropy for the discriminator, -log D(G(z)) for the generator.

    Real and fake go through the discriminator in separate passes: batch norm couples the samples of a pass, and mixed
    statistics would tell the two apart by themselves.
    """

    critic_steps = 1

    def __init__(self) -> None:
        self.lazy: dict[str, int] = {}

    def discriminator(
        self, generator: Network, discriminator: Network, batch: Batch
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        with torch.no_grad():
            fake_images = generator(batch.z, batch.fake_conditions)
        real = discriminator(batch.real, batch.conditions)
        fake = discriminator(fake_images, batch.fake_conditions)
        loss = bce_discriminator(real, fake, batch.soft_real, batch.soft_fake)
        watched = {"d_real": real.detach().sigmoid().mean(), "d_fake": fake.detach().sigmoid().mean()}
        return {"adversarial": loss}, watched

    def generator(self, generator: Network, discriminator: Network, batch: Batch) -> dict[str, Tensor]:
        fake = discriminator(generator(batch.z, batch.fake_conditions), batch.fake_conditions)
        return {"adversarial": bce_generator(fake)}

    def after_discriminator(self, discriminator: nn.Module) -> None:
        """Nothing to clip."""
