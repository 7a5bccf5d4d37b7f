"""Adversarial losses on logits, as pure functions. Each returns the mean over all logits, in float32 or wider.

Logits have shape [n], or [n, scales] where several discriminators judge each image; then a loss is the mean over both.
`LOSSES` names them. What they reward: the discriminator to give high logits to reals and low ones to fakes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Label = Tensor | float


def bce_discriminator(real: Tensor, fake: Tensor, real_label: Label, fake_label: Label) -> Tensor:
    """Binary cross-entropy of the discriminator (Goodfellow et al. 2014, equation 1), with soft labels.

    labels: scalars in [0, 1], 1 and 0 without smoothing. The sum of the two means.
    """
    return _bce(exact(real), real_label) + _bce(exact(fake), fake_label)


def bce_generator(fake: Tensor) -> Tensor:
    """Non-saturating generator loss -log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-exact(fake)).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor, real_label: Label, fake_label: Label) -> Tensor:
    """Half the squared distances from the labels (Mao et al. 2017, equations 2 and 9: labels 1 and 0)."""
    return 0.5 * (exact(real) - real_label).square().mean() + 0.5 * (exact(fake) - fake_label).square().mean()


def least_squares_generator(fake: Tensor) -> Tensor:
    """Half the squared distance of the fakes' logits from 1 (Mao et al. 2017, equation 9)."""
    return 0.5 * (exact(fake) - 1).square().mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss (Lim and Ye 2017; Miyato et al. 2018, equation 16): no gradient from images beyond the margin."""
    return F.relu(1 - exact(real)).mean() + F.relu(1 + exact(fake)).mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E D(fake) - E D(real): minus the estimate of the distance (Arjovsky et al. 2017, equation 2).

    It is bounded only where something bounds the critic's slope: clipping, a gradient penalty or spectral norm.
    """
    return exact(fake).mean() - exact(real).mean()


def mean_score_generator(fake: Tensor) -> Tensor:
    """-E D(G(z)): the generator's loss for the hinge and the Wasserstein critic."""
    return -exact(fake).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Each real is to score higher than the fake it is paired with: softplus(-(D(x) - D(G(z)))).

    RpGAN (Jolicoeur-Martineau 2019), as in R3GAN (Huang et al. 2024, equation 2). Pairs are those of the same place in
    the batch; raises ValueError where the shapes differ, because broadcasting would pair all with all.
    """
    return F.softplus(exact(fake) - exact(_paired(real, fake))).mean()


def relativistic_generator(fake: Tensor, real: Tensor | None) -> Tensor:
    """The same with the roles exchanged: softplus(-(D(G(z)) - D(x)))."""
    if real is None:
        raise ValueError("the relativistic loss of the generator needs the logits of real images")
    return F.softplus(exact(_paired(real, fake)) - exact(fake)).mean()


def exact(logits: Tensor) -> Tensor:
    """At least float32: means of many logits in eight bits of mantissa are no means."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _bce(logits: Tensor, label: Label) -> Tensor:
    # -(t log s(x) + (1 - t) log(1 - s(x))) = softplus(x) - t x
    return (F.softplus(logits) - label * logits).mean()


def _paired(real: Tensor, fake: Tensor) -> Tensor:
    if real.shape != fake.shape:
        raise ValueError(f"logits of reals {list(real.shape)} and fakes {list(fake.shape)} do not pair up")
    return real


@dataclass(frozen=True)
class Loss:
    """The two sides of a loss.

    discriminator: (real, fake, soft_real, soft_fake) -> scalar; generator: (fake, real or None) -> scalar.
    pairs: the generator's side needs the logits of reals. smooths: the labels enter; the others ignore them.
    scores: what the logits are, so that one knows what to log: "probability" (after a sigmoid), or "raw".
    """

    discriminator: Callable[[Tensor, Tensor, Label, Label], Tensor]
    generator: Callable[[Tensor, Tensor | None], Tensor]
    pairs: bool = False
    smooths: bool = False
    scores: Literal["probability", "raw"] = "raw"


LOSSES: dict[str, Loss] = {
    "non-saturating": Loss(
        bce_discriminator, lambda fake, real: bce_generator(fake), smooths=True, scores="probability"
    ),
    "least-squares": Loss(least_squares_discriminator, lambda fake, real: least_squares_generator(fake), smooths=True),
    "hinge": Loss(
        lambda real, fake, soft_real, soft_fake: hinge_discriminator(real, fake),
        lambda fake, real: mean_score_generator(fake),
    ),
    "wasserstein": Loss(
        lambda real, fake, soft_real, soft_fake: wasserstein_critic(real, fake),
        lambda fake, real: mean_score_generator(fake),
    ),
    "relativistic": Loss(
        lambda real, fake, soft_real, soft_fake: relativistic_discriminator(real, fake),
        relativistic_generator,
        pairs=True,
    ),
}
