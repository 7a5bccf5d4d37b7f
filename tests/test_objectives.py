"""Losses against the textbook formula in float64."""

import torch
import torch.nn.functional as F

from synthoma.objectives.adversarial import bce_discriminator, bce_generator


def test_discriminator_loss_is_binary_cross_entropy_with_soft_labels() -> None:
    real, fake = torch.randn(32, dtype=torch.float64), torch.randn(32, dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(
        real, torch.full_like(real, 0.9)
    ) + F.binary_cross_entropy_with_logits(fake, torch.full_like(fake, 0.1))
    torch.testing.assert_close(bce_discriminator(real, fake, 0.9, 0.1), expected, rtol=1e-12, atol=0)


def test_generator_loss_is_non_saturating() -> None:
    fake = torch.randn(32, dtype=torch.float64)
    torch.testing.assert_close(bce_generator(fake), -torch.log(torch.sigmoid(fake)).mean(), rtol=1e-12, atol=0)
    hopeless = torch.tensor([-50.0], requires_grad=True)
    bce_generator(hopeless).backward()
    assert hopeless.grad is not None
    assert abs(float(hopeless.grad) + 1) < 1e-6  # the gradient does not vanish where the discriminator is sure


def test_extreme_logits_stay_finite() -> None:
    huge = torch.tensor([1e4, -1e4])
    assert torch.isfinite(bce_discriminator(huge, huge, 1.0, 0.0))
    assert torch.isfinite(bce_generator(huge))
