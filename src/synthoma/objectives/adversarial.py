"""Adversarial losses on logits, as pure functions. Each returns the mean over the samples, float32."""

import torch.nn.functional as F
from torch import Tensor


def bce_discriminator(real: Tensor, fake: Tensor, real_label: Tensor | float, fake_label: Tensor | float) -> Tensor:
    """Binary cross-entropy of the discriminator (Goodfellow et al. 2014, equation 1), with soft labels.

    real, fake: logits [n]; labels: scalars in [0, 1], 1 and 0 without smoothing. The sum of the two means.
    """
    return _bce(real, real_label) + _bce(fake, fake_label)


def bce_generator(fake: Tensor) -> Tensor:
    """Non-saturating generator loss -log D(G(z)) (Goodfellow et al. 2014, section 3); logits [n]."""
    return F.softplus(-fake).mean()


def _bce(logits: Tensor, label: Tensor | float) -> Tensor:
    # -(t log s(x) + (1 - t) log(1 - s(x))) = softplus(x) - t x
    return (F.softplus(logits) - label * logits).mean()
