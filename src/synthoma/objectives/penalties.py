"""Penalties on the discriminator, as pure functions. Each returns a mean over the samples, in float32 or wider.

Those on the gradient with respect to the images take what `input_gradients` returns. That is written with
`torch.func.vjp`, because logits and gradient then come from one forward pass, and because it is the one form that
`torch.compile` differentiates once more: `autograd.grad(create_graph=True)` is refused there, and was silently wrong in
older versions.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from synthoma.objectives.adversarial import exact

Network = Callable[..., Tensor]
By = Literal["vjp", "autograd"]
# Added under the square root of a norm: its derivative at zero is then 0 instead of NaN; norms above 1e-6 do not change.
NORM_EPSILON = 1e-20


def judge(discriminator: Network, images: Tensor, conditions: Tensor | None) -> Tensor:
    """Logits of images [n, c, *spatial]: [n], or [n, scales] with at least two scales.

    Raises ValueError for another shape: [n, 1] against [n] would broadcast to [n, n] without a word.
    """
    logits = discriminator(images, conditions)
    if logits.shape[:1] != images.shape[:1] or logits.ndim > 2 or (logits.ndim == 2 and logits.shape[1] == 1):
        n = len(images)
        raise ValueError(
            f"the discriminator returned logits of shape {list(logits.shape)} for {n} images; it must be [{n}], "
            f"or [{n}, scales] with at least two scales. Squeeze a last axis of length 1."
        )
    return logits


def input_gradients(
    discriminator: Network, images: Tensor, conditions: Tensor | None = None, *, by: By = "vjp"
) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of each image's logit with respect to that image [n, c, *spatial].

    Both can be differentiated in the discriminator's weights. Where there are several scales, it is the gradient of
    their mean. It is computed as the gradient of the sum over the batch: that is the same only where the discriminator
    couples no samples (no batch norm, no minibatch deviation; with the latter, one penalises what PGGAN penalises).

    by: "vjp" fails where the forward pass writes into buffers (batch norm in training) or saves tensors through hooks
    (activation checkpointing). "autograd" takes the latter, but does not compile.
    """
    if by == "vjp":
        logits, pull, *_ = torch.func.vjp(lambda x: judge(discriminator, x, conditions), images)
        (gradients,) = pull(_mean_over_scales(logits))
    elif by == "autograd":
        leaf = images.detach().requires_grad_(True)
        logits = judge(discriminator, leaf, conditions)
        (gradients,) = torch.autograd.grad(logits, leaf, _mean_over_scales(logits), create_graph=True)
    else:
        raise ValueError(f"gradients by '{by}'; known: vjp, autograd")
    return logits, gradients


def squared_norms(gradients: Tensor) -> Tensor:
    """Squared Euclidean norm of each sample's gradient, over all of its axes: [n, ...] -> [n]."""
    return exact(gradients).square().sum(dim=tuple(range(1, gradients.ndim)))


def norms(gradients: Tensor) -> Tensor:
    """Euclidean norm of each sample's gradient: [n, ...] -> [n]; differentiable at zero."""
    return (squared_norms(gradients) + NORM_EPSILON).sqrt()


def gradient_penalty(gradients: Tensor) -> Tensor:
    """E (|grad| - 1)^2 at the images of `interpolate` (WGAN-GP: Gulrajani et al. 2017, equation 3)."""
    return (norms(gradients) - 1).square().mean()


def interpolate(real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """alpha * real + (1 - alpha) * fake, one alpha for each sample: [n, c, *spatial] twice and [n] (Gulrajani et al. 2017)."""
    if alpha.shape != real.shape[:1] or real.shape != fake.shape:
        raise ValueError(f"{list(alpha.shape)} numbers do not interpolate {list(real.shape)} and {list(fake.shape)}")
    alpha = alpha.to(real.dtype).reshape(-1, *[1] * (real.ndim - 1))
    return fake + alpha * (real - fake)


def zero_centred(gradients: Tensor) -> Tensor:
    """E |grad|^2: R1 at real images, R2 at fakes (Mescheder et al. 2018, equations 9 and 10, without gamma / 2)."""
    return squared_norms(gradients).mean()


def drift(real: Tensor) -> Tensor:
    """E D(x)^2, which keeps a Wasserstein critic near zero (Karras et al. 2018, appendix A.1); logits of reals."""
    return exact(real).square().mean()


def finite_difference(logits: Tensor, noisy: Tensor, sigma: float) -> Tensor:
    """E ((D(x + sigma n) - D(x)) / sigma)^2 with n ~ N(0, 1) in each pixel, which tends to E |grad D|^2 for small sigma.

    A stand-in for R1 and R2 without a second derivative (approximated R1 of Lin et al. 2025, "Seaweed-APT"); for the
    same strength it is noisier. Logits [n] or [n, scales], of whose scales the mean is taken, as for the gradient.
    """
    return slopes(logits, noisy, sigma).square().mean()


def slopes(logits: Tensor, noisy: Tensor, sigma: float) -> Tensor:
    """Slope of each sample's logit along its noise: [n]."""
    if logits.shape != noisy.shape:
        raise ValueError(f"logits {list(logits.shape)} and noisy ones {list(noisy.shape)} do not pair up")
    difference = exact(noisy) - exact(logits)
    return (difference.mean(1) if difference.ndim == 2 else difference) / sigma


@torch.no_grad()
def clip_weights(network: nn.Module, limit: float) -> None:
    """Clip all trained weights to [-limit, limit] (WGAN: Arjovsky et al. 2017, algorithm 1); frozen ones stay."""
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.clamp_(-limit, limit)


def _mean_over_scales(logits: Tensor) -> Tensor:
    """Weight of each logit in the number whose gradient is taken."""
    return torch.full_like(logits, 1.0 if logits.ndim == 1 else 1.0 / logits.shape[1])
