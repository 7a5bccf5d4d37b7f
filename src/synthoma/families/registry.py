"""A family is a triple of generator, discriminator and objective; each is one entry here."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from synthoma.errors import RecipeError, nearest_name_hint
from synthoma.networks.cgan import ConditionalDiscriminator, ConditionalGenerator
from synthoma.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from synthoma.networks.layers import initialise, lay_out
from synthoma.objectives.objective import NonSaturating, Objective
from synthoma.recipe import ModelSection, TrainingSection


@dataclass(frozen=True)
class ImageSpace:
    """What the networks make and see: spatial size (2 or 3 axes), channels, number of classes (0: no labels)."""

    size: tuple[int, ...]
    channels: int
    classes: int


@dataclass(frozen=True)
class Entry:
    """A family in the registry. `couples_samples`: its discriminator's output for one image depends on the others."""

    generator: Callable[[ModelSection, ImageSpace], nn.Module]
    discriminator: Callable[[ModelSection, ImageSpace], nn.Module]
    objective: Callable[[], Objective]
    conditional: bool
    couples_samples: bool


@dataclass(frozen=True)
class Family:
    """Networks, objective and optimizers, ready to train."""

    generator: nn.Module
    discriminator: nn.Module
    objective: Objective
    generator_optimizer: torch.optim.Adam
    discriminator_optimizer: torch.optim.Adam
    conditional: bool
    couples_samples: bool


FAMILIES: dict[str, Entry] = {
    "dcgan": Entry(
        lambda model, space: DCGANGenerator(
            space.size, space.channels, model.latent, model.generator_widths, model.kernel, model.output
        ),
        lambda model, space: DCGANDiscriminator(space.size, space.channels, model.discriminator_widths, model.kernel),
        NonSaturating,
        conditional=False,
        couples_samples=True,
    ),
    "cgan": Entry(
        lambda model, space: ConditionalGenerator(
            space.size,
            space.channels,
            space.classes,
            model.latent,
            model.generator_widths,
            model.label_embedding,
            model.kernel,
            model.output,
        ),
        lambda model, space: ConditionalDiscriminator(
            space.size, space.channels, space.classes, model.discriminator_widths, model.kernel
        ),
        NonSaturating,
        conditional=True,
        couples_samples=True,
    ),
}


def family_entry(name: str) -> Entry:
    """The registry's entry, or a `RecipeError` that names the nearest known family."""
    if name not in FAMILIES:
        raise RecipeError(
            f"model.family: there is no family '{name}'{nearest_name_hint(name, FAMILIES) or '.'} Known: {', '.join(FAMILIES)}."
        )
    return FAMILIES[name]


def is_conditional(name: str) -> bool:
    """Whether the family needs a class for each image."""
    return family_entry(name).conditional


def check_size(model: ModelSection, space: ImageSpace) -> None:
    """Raise `RecipeError` unless each axis halves exactly as often as the networks have widths."""
    for part, widths in (("generator", model.generator_widths), ("discriminator", model.discriminator_widths)):
        step = 2 ** len(widths)
        if any(n % step or n // step < 2 for n in space.size):
            legal = ", ".join(str(step * k) for k in (2, 3, 4, 6, 8, 16))
            raise RecipeError(
                f"size {'x'.join(map(str, space.size))} does not fit model.{part}_widths with {len(widths)} entries: each axis "
                f"must be a multiple of {step} and at least {2 * step} ({legal}, ...). Change preparation.size, or the widths."
            )
    if model.kernel < 4 or model.kernel % 2:
        raise RecipeError(f"model.kernel: {model.kernel} does not halve and double exactly; use 4, 6 or 8.")


def build_generator(model: ModelSection, space: ImageSpace) -> nn.Module:
    """The family's generator with undrawn weights, for loading released ones."""
    entry = family_entry(model.family)
    check_size(model, space)
    return entry.generator(model, space)


def build_family(model: ModelSection, training: TrainingSection, space: ImageSpace, device: torch.device) -> Family:
    """Networks with weights drawn from `training.seed` on the CPU (so that every device starts alike), then moved.

    Raises `RecipeError` where family, size and classes do not fit.
    """
    entry = family_entry(model.family)
    check_size(model, space)
    if entry.conditional and space.classes < 2:
        raise RecipeError(
            f"family '{model.family}' is conditional and needs at least two classes; the data have {space.classes}. "
            "Use model.family=dcgan, or more classes."
        )
    source = torch.Generator().manual_seed(training.seed)
    networks = entry.generator(model, space), entry.discriminator(model, space)
    for network in networks:
        initialise(network, model.initialisation, source)
        lay_out(network, len(space.size), device)
    generator, discriminator = networks
    betas = (training.beta1, training.beta2)
    rate = training.learning_rate
    return Family(
        generator,
        discriminator,
        entry.objective(),
        torch.optim.Adam(generator.parameters(), lr=rate, betas=betas, fused=True),
        torch.optim.Adam(
            discriminator.parameters(), lr=training.discriminator_learning_rate or rate, betas=betas, fused=True
        ),
        entry.conditional,
        entry.couples_samples,
    )
