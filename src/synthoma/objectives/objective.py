"""The contract between an objective and the training loop, and the objective of the classical GANs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from synthoma.objectives.adversarial import bce_discriminator, bce_generator

Network = Callable[..., Tensor]


@dataclass(frozen=True)
class Batch:
    """All that one update needs; drawn by the loop, so that objectives themselves are deterministic.

    real: [n, c, *spatial] in the recipe's range; labels: int64 [n] of the reals; z: [n, latent]; fake_labels: int64 [n]
    (labels are None for families without classes); soft_real, soft_fake: scalars, the smoothed targets of this batch.
    """

    real: Tensor
    labels: Tensor | None
    z: Tensor
    fake_labels: Tensor | None
    soft_real: Tensor
    soft_fake: Tensor


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
            fake_images = generator(batch.z, batch.fake_labels)
        real = discriminator(batch.real, batch.labels)
        fake = discriminator(fake_images, batch.fake_labels)
        loss = bce_discriminator(real, fake, batch.soft_real, batch.soft_fake)
        watched = {"d_real": real.detach().sigmoid().mean(), "d_fake": fake.detach().sigmoid().mean()}
        return {"adversarial": loss}, watched

    def generator(self, generator: Network, discriminator: Network, batch: Batch) -> dict[str, Tensor]:
        fake = discriminator(generator(batch.z, batch.fake_labels), batch.fake_labels)
        return {"adversarial": bce_generator(fake)}

    def after_discriminator(self, discriminator: nn.Module) -> None:
        """Nothing to clip."""
