"""What the style family is trained for: an adversarial loss, style mixing, and path length regularisation."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor

from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.objectives.batch import Batch
from synthoma.objectives.objective import Adversarial, Network, Terms
from synthoma.objectives.penalties import NORM_EPSILON, By, squared_norms

# Share of a new mean length in the running one (Karras et al. 2020, appendix B).
LENGTH_SHARE = 0.01


class StyleNetwork(Protocol):
    """What the objective uses of a style-based generator; see `networks/style.py`."""

    levels: int
    latent: int
    noise_size: int

    def style(self, z: Tensor, conditions: Tensor | None = None) -> Tensor: ...

    def styles(
        self, z: Tensor, conditions: Tensor | None, second: Tensor | None, crossover: Tensor | None
    ) -> Tensor: ...

    def synthesise(self, styles: Tensor, noise: Tensor | None = None) -> Tensor: ...

    def update_mean(self, mean: Tensor) -> None: ...


def style_images(generator: Network, batch: Batch, mixing: float = 0.9) -> Tensor:
    """Fakes with fresh noise, a share `mixing` of them with the styles of two z: [n, c, *spatial]."""
    network = cast(StyleNetwork, generator)
    return network.synthesise(*mixed_styles(network, batch.z, batch.fake_conditions, batch.draw, mixing))


def mixed_styles(
    generator: StyleNetwork, z: Tensor, conditions: Tensor | None, draw: StepDraws, mixing: float
) -> tuple[Tensor, Tensor | None]:
    """Styles [n, levels, latent] and noise [n, noise_size] (None where the generator has none) of an update's fakes.

    The second style takes over at a level drawn evenly from 1 .. levels - 1 (Karras et al. 2019, section 3.1).
    """
    noise = draw.normal("style noise", (generator.noise_size,)) if generator.noise_size else None
    second = crossover = None
    if mixing > 0:
        second = draw.normal("style second latents", (generator.latent,))
        level = 1 + draw.integers("style crossover", generator.levels - 1)
        crossover = torch.where(draw.uniform("style mixing") < mixing, level, generator.levels)
    return generator.styles(z, conditions, second, crossover), noise


class StyleObjective(Adversarial):
    """An adversarial loss with path length regularisation in the generator, and the generator's mean style.

    path_length: weight of that term, 0 for none; mixing: share of images with two styles, 0 for none. Both serve an
    orderly w and take capacity and time for it, which small data may not have to spare. Left out, `penalties` is R1 alone, and `lazy` has R1 every 16 and path
    length every 4 updates. All else as in `Adversarial`.

    Where path length is on, memory holds "path_length_mean", the running mean length.
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
        path_length: float = 2.0,
        mixing: float = 0.9,
        gradients_by: By = "vjp",
    ) -> None:
        penalties = {"r1": 1.0} if penalties is None else penalties
        if lazy is None:
            periods = {"r1": 16, "path_length": 4}
            lazy = {k: n for k, n in periods.items() if (path_length if k == "path_length" else penalties.get(k))}
        if "path_length" in lazy and not path_length:
            raise RecipeError("training.lazy: names path_length, whose weight is 0; remove it, or add the penalty.")
        super().__init__(
            loss,
            penalties,
            critic_steps=critic_steps,
            clip=clip,
            lazy={name: period for name, period in lazy.items() if name != "path_length"},
            one_pass=one_pass,
            make=functools.partial(style_images, mixing=mixing),
            gradients_by=gradients_by,
        )
        self.lazy = dict(lazy)
        self.path_length, self.mixing = path_length, mixing
        if path_length:
            self.memory["path_length_mean"] = torch.zeros(())
        self.trained: StyleNetwork | None = None

    def generator(self, generator: Network, discriminator: Network, batch: Batch) -> Terms:
        """Terms "adversarial" and, when due, "path_length"; watched: "style_mean" [latent], and "path_length"."""
        terms, watched = super().generator(generator, discriminator, batch)
        # The update of its mean style comes later, when all parts of the batch have been seen.
        self.trained = cast(StyleNetwork, generator)
        with torch.no_grad():
            watched["style_mean"] = self.trained.style(batch.z, batch.fake_conditions).mean(0)
        if self.path_length and ("path_length" not in self.lazy or "path_length" in batch.due):
            lengths, valid = self._lengths(self.trained, batch)
            # Half of the samples have a length, so that a mean over them counts each twice in a mean over all.
            twice = valid * 2 / len(batch)
            deviation = lengths - self.memory["path_length_mean"]
            terms["path_length"] = self.path_length * (twice * deviation.square()).sum()
            watched["path_length"] = (twice * lengths.detach()).sum()
        return terms, watched

    @torch.no_grad()
    def after_generator(self, watched: Mapping[str, Tensor]) -> None:
        """Move the running means: once an update, by what all parts and processes have seen."""
        if self.trained is not None:
            self.trained.update_mean(watched["style_mean"])
        if "path_length" in watched:
            length = watched["path_length"].float()
            # It follows the networks to their device, where nothing has to wait for it.
            memory = self.memory["path_length_mean"].to(length.device)
            self.memory["path_length_mean"] = memory.lerp_(length, LENGTH_SHARE)

    def _lengths(self, generator: StyleNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
        """Path lengths of the batch's even-numbered samples [m], and which of them are valid: 1, else 0."""
        places, valid = even_samples(batch.draw.index)
        draw = dataclasses.replace(batch.draw, index=batch.draw.index[places])
        conditions = None if batch.fake_conditions is None else batch.fake_conditions[places]
        styles, noise = mixed_styles(generator, batch.z[places], conditions, draw, self.mixing)
        directions = draw.normal("path length", tuple(batch.real.shape[1:])).to(styles.dtype)
        return path_lengths(generator, styles, noise, directions), valid.to(styles.dtype)


def path_lengths(generator: StyleNetwork, styles: Tensor, noise: Tensor | None, directions: Tensor) -> Tensor:
    """How far images move when styles do: |J^T y| [n], with J the derivative of an image in its styles [n, levels, latent].

    directions: standard normal images [n, c, *spatial], which over the square root of their number of pixels are y, so
    that lengths do not depend on the resolution. Squares are summed over a style and averaged over the levels (Karras et
    al. 2020, section 3.2). Differentiable in the generator's weights, those of the mapping network included.
    """
    y = directions / math.sqrt(math.prod(directions.shape[2:]))
    _, pull, *_ = torch.func.vjp(lambda w: generator.synthesise(w, noise), styles)
    (gradients,) = pull(y)
    return (squared_norms(gradients) / generator.levels + NORM_EPSILON).sqrt()


def even_samples(index: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the even-numbered samples in a part of a batch, and which of these are valid: int64 and bool [m].

    index: int64 [n], consecutive numbers of samples in the whole batch. By number, and not by place in this part, so that
    the halves of parts of any size make up the half of the whole. An odd part may have one place too many, which is not
    valid: so the shape is a function of n alone, and no number has to be read back from the device.
    """
    n = len(index)
    places = 2 * torch.arange((n + 1) // 2, device=index.device) + index[0] % 2
    return places.clamp(max=n - 1), places < n
