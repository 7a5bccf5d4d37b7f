"""The contract between an objective and the training loop, and the objective that is put together from losses and penalties."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from synthoma.errors import RecipeError, nearest_name_hint
from synthoma.objectives.adversarial import LOSSES, exact
from synthoma.objectives.batch import Batch
from synthoma.objectives.penalties import (
    By,
    Network,
    clip_weights,
    drift,
    finite_difference,
    gradient_penalty,
    input_gradients,
    interpolate,
    judge,
    norms,
    slopes,
    squared_norms,
)

__all__ = ["Adversarial", "Batch", "Make", "Network", "Objective", "Shown", "Terms", "plain_images"]

# (terms, watched): sample means to be added up, and detached scalars to be logged.
Terms = tuple[dict[str, Tensor], dict[str, Tensor]]
# (generator, batch) -> images [n, c, *spatial].
Make = Callable[[Network, Batch], Tensor]

PENALTIES = ("gradient", "r1", "r2", "drift", "finite_difference")


class Objective(Protocol):
    """Losses of one family. Returned terms are sample means; the loop adds them up and calls backward.

    critic_steps: discriminator updates for one of the generator. lazy: term -> it is computed every so many updates
    only, when it is in `batch.due`. memory: tensors that change with the updates; they are saved in checkpoints. make: how
    the discriminator's fakes come from the generator and a batch.
    """

    make: Make
    critic_steps: int
    lazy: dict[str, int]
    memory: dict[str, Tensor]

    def discriminator(self, generator: Network, discriminator: Network, batch: Batch) -> Terms:
        """Of a discriminator update; `watched` holds at least "d_real", "d_fake" and "ahead"."""
        ...

    def generator(self, generator: Network, discriminator: Network, batch: Batch) -> Terms:
        """Of a generator update."""
        ...

    def after_discriminator(self, discriminator: nn.Module) -> None:
        """Called after each discriminator update (weight clipping)."""
        ...

    def after_generator(self, watched: Mapping[str, Tensor]) -> None:
        """Called after each generator update with what its parts watched, averaged over the whole batch."""
        ...


def plain_images(generator: Network, batch: Batch) -> Tensor:
    """Fakes of generators that need no more than latents and conditions."""
    return generator(batch.z, batch.fake_conditions)


@dataclasses.dataclass(frozen=True)
class Shown:
    """All that the discriminator's terms are a function of; tensors only, so that they can be compiled.

    real, fake: [n, c, *spatial], augmented, without a graph; conditions: [n, k] or None. alpha: [n] in [0, 1), where the
    gradient penalty interpolates; noise: the standard normal images of the finite difference at reals and fakes.
    """

    real: Tensor
    fake: Tensor
    conditions: Tensor | None
    fake_conditions: Tensor | None
    soft_real: Tensor | float
    soft_fake: Tensor | float
    gamma: Tensor | float
    alpha: Tensor | None = None
    noise: tuple[Tensor, Tensor] | None = None


class Adversarial:
    """One adversarial loss and any penalties on the discriminator: the objective of all families.

    loss: a name of `LOSSES`. penalties: name -> weight:
      gradient           (|grad D| - 1)^2 between reals and fakes; 10 in the WGAN-GP paper
      r1, r2             |grad D|^2 at reals, at fakes; the weight multiplies batch.gamma / 2
      finite_difference  in place of r1 and r2 together, without a second derivative; multiplies batch.gamma / 2
      drift              D(real)^2; 0.001 in the PGGAN paper
    lazy: penalty -> period. clip: bound of the discriminator's weights. one_pass: reals and fakes go through the
    discriminator together, which is faster and only right where it couples no samples. make: how images come from
    generator and batch. sigma: standard deviation of the finite difference's noise, in the range of the images.

    All penalties are taken with respect to the images that the discriminator is shown, after augmentation.
    Raises `RecipeError` for unknown names.
    """

    def __init__(
        self,
        loss: str = "non-saturating",
        penalties: Mapping[str, float] | None = None,
        *,
        critic_steps: int = 1,
        clip: float | None = None,
        lazy: Mapping[str, int] | None = None,
        one_pass: bool = False,
        make: Make = plain_images,
        gradients_by: By = "vjp",
        sigma: float = 0.01,
    ) -> None:
        self.penalties = {name: weight for name, weight in (penalties or {}).items() if weight}
        self.lazy = dict(lazy or {})
        _known("training.loss", [loss], LOSSES)
        _known("training.penalties", self.penalties, PENALTIES)
        _known("training.lazy", self.lazy, self.penalties)
        self.loss, self.scores = LOSSES[loss], LOSSES[loss].scores
        self.critic_steps, self.clip, self.one_pass, self.make = critic_steps, clip, one_pass, make
        self.gradients_by, self.sigma = gradients_by, sigma
        self.memory: dict[str, Tensor] = {}

    def discriminator(self, generator: Network, discriminator: Network, batch: Batch) -> Terms:
        """Terms "adversarial" and each penalty that is due; watched: "d_real", "d_fake", "ahead", and "penalty" if any.

        ahead is the mean sign of D(real) - D(fake); penalty the mean norm of the gradients that were penalised.
        """
        wanted = self.wanted(batch)
        return self.terms(discriminator, self.shown(generator, batch, wanted), wanted)

    def generator(self, generator: Network, discriminator: Network, batch: Batch) -> Terms:
        """The term "adversarial"; nothing watched."""
        fake = judge(discriminator, batch.augment(self.make(generator, batch), "fake"), batch.fake_conditions)
        real = None
        if self.loss.pairs:
            with torch.no_grad():
                real = judge(discriminator, batch.augment(batch.real, "real"), batch.conditions)
        return {"adversarial": self.loss.generator(fake, real)}, {}

    def after_discriminator(self, discriminator: nn.Module) -> None:
        if self.clip is not None:
            clip_weights(discriminator, self.clip)

    def after_generator(self, watched: Mapping[str, Tensor]) -> None:
        """Nothing to remember."""

    def wanted(self, batch: Batch) -> frozenset[str]:
        """Penalties of this update: those that are not lazy, and the lazy ones that are due."""
        return frozenset(name for name in self.penalties if name not in self.lazy or name in batch.due)

    @torch.no_grad()
    def shown(self, generator: Network, batch: Batch, wanted: frozenset[str]) -> Shown:
        """What the discriminator sees in this update, and the draws of the penalties."""
        real = batch.augment(batch.real, "real")
        fake = batch.augment(self.make(generator, batch), "fake")
        noise = None
        if "finite_difference" in wanted:
            purposes = ("finite difference real", "finite difference fake")
            drawn = [batch.draw.normal(purpose, tuple(real.shape[1:])) for purpose in purposes]
            noise = (drawn[0].to(real.dtype), drawn[1].to(real.dtype))
        return Shown(
            real,
            fake,
            batch.conditions,
            batch.fake_conditions,
            batch.soft_real,
            batch.soft_fake,
            batch.gamma,
            batch.draw.uniform("interpolation") if "gradient" in wanted else None,
            noise,
        )

    def terms(self, discriminator: Network, shown: Shown, wanted: frozenset[str]) -> Terms:
        """The discriminator's terms and what is watched: a function of its weights and of `shown`, without draws."""
        real, fake, squared = self._scored(discriminator, shown, wanted)
        terms = {"adversarial": self.loss.discriminator(real, fake, shown.soft_real, shown.soft_fake)}
        watched = self._scores(real.detach(), fake.detach())
        seen = []
        for name, norms_squared in squared.items():
            terms[name] = self.penalties[name] * shown.gamma / 2 * norms_squared.mean()
            seen.append(norms_squared.detach().sqrt())
        if "gradient" in wanted:
            gradients = self._interpolated(discriminator, shown)
            terms["gradient"] = self.penalties["gradient"] * gradient_penalty(gradients)
            seen.append(norms(gradients.detach()))
        if "finite_difference" in wanted:
            strength = self.penalties["finite_difference"] * shown.gamma / 2
            pairs = list(zip((real, fake), self._noisy(discriminator, shown), strict=True))
            at_real, at_fake = (finite_difference(*pair, self.sigma) for pair in pairs)
            terms["finite_difference"] = strength * (at_real + at_fake)
            # The mean of |g n| over normal noise is sqrt(2 / pi) |g|.
            seen += [slopes(*pair, self.sigma).detach().abs() * math.sqrt(math.pi / 2) for pair in pairs]
        if "drift" in wanted:
            terms["drift"] = self.penalties["drift"] * drift(real)
        if seen:
            watched["penalty"] = torch.stack([length.mean() for length in seen]).mean()
        return terms, watched

    def _scored(
        self, discriminator: Network, shown: Shown, wanted: frozenset[str]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Logits of reals and fakes, and the squared norms [n] of their gradients for r1 and r2 where wanted."""
        n = len(shown.real)
        if self.one_pass and ("r1" in wanted) == ("r2" in wanted):
            images = torch.cat((shown.real, shown.fake))
            conditions = _joined(shown.conditions, shown.fake_conditions)
            logits, both = self._pass(discriminator, images, conditions, "r1" in wanted)
            # Squared first, cut after: the backward pass of a cut through images would fill as many zeros.
            squared = {} if both is None else {"r1": both[:n], "r2": both[n:]}
            return logits[:n], logits[n:], squared
        # A gradient at only one half would cost twice as much in one pass.
        real, at_real = self._pass(discriminator, shown.real, shown.conditions, "r1" in wanted)
        fake, at_fake = self._pass(discriminator, shown.fake, shown.fake_conditions, "r2" in wanted)
        found = {"r1": at_real, "r2": at_fake}
        return real, fake, {name: values for name, values in found.items() if values is not None}

    def _pass(
        self, discriminator: Network, images: Tensor, conditions: Tensor | None, gradients: bool
    ) -> tuple[Tensor, Tensor | None]:
        if not gradients:
            return judge(discriminator, images, conditions), None
        logits, at_images = input_gradients(discriminator, images, conditions, by=self.gradients_by)
        return logits, squared_norms(at_images)

    def _interpolated(self, discriminator: Network, shown: Shown) -> Tensor:
        """Gradients between reals and fakes [n, c, *spatial], under the conditions of the reals.

        The critic is to be 1-Lipschitz in the image for each condition that it is ever asked about. A mixture of two
        codes is asked about nowhere else: the bound would hold there, and not where it is needed.
        """
        if shown.alpha is None:
            raise ValueError("the gradient penalty needs `alpha`")
        images = interpolate(shown.real, shown.fake, shown.alpha)
        return input_gradients(discriminator, images, shown.conditions, by=self.gradients_by)[1]

    def _noisy(self, discriminator: Network, shown: Shown) -> tuple[Tensor, Tensor]:
        """Logits of reals and of fakes with noise on them."""
        if shown.noise is None:
            raise ValueError("the finite difference needs `noise`")
        real, fake = shown.real + self.sigma * shown.noise[0], shown.fake + self.sigma * shown.noise[1]
        noisy = dataclasses.replace(shown, real=real, fake=fake)
        return self._scored(discriminator, noisy, frozenset())[:2]

    def _scores(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Mean scores, as probabilities where they are that, and how often the real of a pair scores higher."""
        real, fake = exact(real), exact(fake)
        ahead = (real - fake).sign().mean()
        if self.scores == "probability":
            real, fake = real.sigmoid(), fake.sigmoid()
        return {"d_real": real.mean(), "d_fake": fake.mean(), "ahead": ahead}


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat((first, second))


def _known(key: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `RecipeError` for the first of `names` that is not among the known ones."""
    known_names = list(known)
    for name in names:
        if name not in known_names:
            raise RecipeError(
                f"{key}: there is no '{name}'{nearest_name_hint(name, known_names) or '.'} Known: {', '.join(known_names) or 'none'}."
            )
