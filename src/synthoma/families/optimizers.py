"""Optimizers with rates that follow the clock."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from synthoma.settings import Ramp, Scheduled, TrainingSection, value_at


class Optimizer:
    """A torch optimizer whose rate, and for Adam beta2, are schedules of the clock.

    Where a penalty is computed every k updates only, rate and betas are rescaled by k / (k + 1), as Karras et al. 2020
    (StyleGAN2, appendix B) do, so that the two kinds of update together move the weights as far as before.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], training: TrainingSection, rate: Scheduled, factor: float):
        self.rate, self.beta2, self.factor = rate, training.beta2, factor
        self.total_kimg = training.kimg
        first = value_at(rate, 0, training.kimg) * factor
        # Lowered by a rollback of the health watch; part of the state.
        self.lowered = 1.0
        self.adam = training.optimizer == "adam"
        if self.adam:
            betas = (training.beta1**factor, value_at(training.beta2, 0, training.kimg) ** factor)
            self.inner: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=first, betas=betas, fused=True)
        else:
            # TensorFlow's and the WGAN authors' decay of the squared gradients is torch's default of 0.99.
            self.inner = torch.optim.RMSprop(parameters, lr=first, foreach=True)
        self.fixed = not isinstance(rate, Ramp) and not isinstance(training.beta2, Ramp)

    def set_clock(self, images_seen: int) -> None:
        """Rates and betas for the updates of the iteration that begins at this time."""
        if self.fixed and self.lowered == 1.0:
            return
        for group in self.inner.param_groups:
            group["lr"] = value_at(self.rate, images_seen, self.total_kimg) * self.factor * self.lowered
            if self.adam:
                group["betas"] = (
                    group["betas"][0],
                    value_at(self.beta2, images_seen, self.total_kimg) ** self.factor,
                )

    def step(self) -> None:
        """One update from the gradients that are there."""
        self.inner.step()

    def zero_grad(self) -> None:
        self.inner.zero_grad(set_to_none=True)

    def forget(self) -> None:
        """Begin anew: no moments, no step counts (at a new level of progressive growing)."""
        self.inner.state.clear()


def build_optimizer(
    parameters: Iterable[nn.Parameter], training: TrainingSection, rate: Scheduled, lazy: Mapping[str, int]
) -> Optimizer:
    """The optimizer of one network; `lazy`: periods of the penalties of that network."""
    period = max((k for k in lazy.values()), default=1)
    return Optimizer(parameters, training, rate, period / (period + 1) if period > 1 else 1.0)


def default_gamma(family: str, size: Iterable[int], batch: int) -> Scheduled:
    """Strength of R1 and R2 where a recipe gives none, by the number of pixels N.

    style: 0.0002 N / batch (the heuristic of StyleGAN2-ADA); else 2 N / 64^2, falling to a tenth over the run, after
    R3GAN's schedules. A good first try where it does not fit: four times as much, or a quarter.
    """
    pixels = math.prod(size)
    if family == "style":
        return 0.0002 * pixels / batch
    start = 2.0 * pixels / 64**2
    return Ramp(start=start, end=start / 10)
