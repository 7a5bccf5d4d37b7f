"""A family is a triple of generator, discriminator and objective; each is one entry here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from synthoma.errors import RecipeError, nearest_name_hint
from synthoma.families.checks import check_attention, check_model, check_size, check_training
from synthoma.families.optimizers import Optimizer, build_optimizer
from synthoma.networks.convolutional import CGAN, DCGAN, Body, ConvolutionalDiscriminator, ConvolutionalGenerator
from synthoma.networks.layers import add_spectral_norm, initialise, lay_out
from synthoma.networks.mlp import MLPDiscriminator, MLPGenerator
from synthoma.networks.options import MultiScale
from synthoma.networks.pggan import PGGANDiscriminator, PGGANGenerator, initialise_pggan
from synthoma.networks.r3 import R3Discriminator, R3Generator, initialise_r3
from synthoma.networks.style import StyleDiscriminator, StyleGenerator, initialise_style
from synthoma.objectives.objective import Adversarial, Objective
from synthoma.objectives.penalties import By
from synthoma.objectives.style import StyleObjective
from synthoma.settings import GENERATOR_TERMS, ModelSection, TrainingSection


@dataclass(frozen=True)
class ImageSpace:
    """What the networks make and see: spatial size (2 or 3 axes), channels, length of the conditions (0: none)."""

    size: tuple[int, ...]
    channels: int
    conditions: int


@dataclass(frozen=True)
class Entry:
    """A family in the registry.

    base_width: the first width belongs to the base grid, so that there is one doubling less than widths; grows:
    resolution is a schedule; needs_conditions: makes no sense without; options: which of the settings that combine with
    several families it understands.
    """

    generator: Callable[[ModelSection, ImageSpace], nn.Module]
    discriminator: Callable[[ModelSection, ImageSpace], nn.Module]
    initialise: Callable[[nn.Module, ModelSection, torch.Generator], None]
    options: frozenset[str]
    base_width: bool = False
    grows: bool = False
    needs_conditions: bool = False


@dataclass(frozen=True)
class Family:
    """Networks, objective and optimizers, ready to train.

    couples_samples: what a network computes for one image depends on the others of its pass (batch norm, minibatch
    deviation); such nets see real and fake in separate passes, and promise no equality under accumulation or on
    several devices. levels: of progressive growing, or None.
    """

    generator: nn.Module
    discriminator: nn.Module
    objective: Objective
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    conditional: bool
    couples_samples: bool
    levels: int | None


def _of_generator(model: ModelSection, space: ImageSpace) -> dict[str, Any]:
    """What every generator is told."""
    return {**_of_images(space), "latent": model.latent, "widths": model.generator_widths}


def _of_discriminator(model: ModelSection, space: ImageSpace) -> dict[str, Any]:
    """What every discriminator is told."""
    return {**_of_images(space), "widths": model.discriminator_widths}


def _of_images(space: ImageSpace) -> dict[str, Any]:
    return {"size": space.size, "channels": space.channels, "conditions": space.conditions}


def _convolutional(body: Body, needs_conditions: bool = False) -> Entry:
    return Entry(
        lambda model, space: ConvolutionalGenerator(
            **_of_generator(model, space),
            embedding=model.label_embedding,
            kernel=model.kernel,
            norm=model.generator_norm,
            attention=model.attention,
            output=model.output,
            body=body,
        ),
        lambda model, space: ConvolutionalDiscriminator(
            **_of_discriminator(model, space),
            conditioning=model.conditioning,
            kernel=model.kernel,
            norm=model.discriminator_norm,
            attention=model.attention,
            minibatch_stddev=model.minibatch_stddev,
            body=body,
        ),
        lambda network, model, source: initialise(network, model.initialisation, source),
        options=frozenset({"attention", "minibatch_stddev", "spectral_norm", "scales", "norm", "kernel"}),
        needs_conditions=needs_conditions,
    )


FAMILIES: dict[str, Entry] = {
    "mlp": Entry(
        lambda model, space: MLPGenerator(
            **_of_generator(model, space),
            embedding=model.label_embedding,
            norm=model.generator_norm,
            output=model.output,
        ),
        lambda model, space: MLPDiscriminator(
            **_of_discriminator(model, space),
            conditioning=model.conditioning,
            embedding=model.label_embedding,
            norm=model.discriminator_norm,
        ),
        lambda network, model, source: initialise(network, "xavier", source),
        options=frozenset({"spectral_norm", "scales", "norm", "any_size"}),
    ),
    "dcgan": _convolutional(DCGAN),
    "cgan": _convolutional(CGAN, needs_conditions=True),
    "wgan": _convolutional(DCGAN),
    "wgan-gp": _convolutional(DCGAN),
    "pggan": Entry(
        lambda model, space: PGGANGenerator(
            **_of_generator(model, space),
            attention=model.attention,
        ),
        lambda model, space: PGGANDiscriminator(
            **_of_discriminator(model, space),
            minibatch_stddev=model.minibatch_stddev,
            conditioning=model.conditioning,
            attention=model.attention,
        ),
        lambda network, model, source: initialise_pggan(network, source),
        options=frozenset({"attention", "minibatch_stddev"}),
        base_width=True,
        grows=True,
    ),
    "style": Entry(
        lambda model, space: StyleGenerator(
            **_of_generator(model, space),
            mapping_layers=model.mapping_layers,
            noise=model.noise,
        ),
        lambda model, space: StyleDiscriminator(
            **_of_discriminator(model, space),
            minibatch_stddev=model.minibatch_stddev,
        ),
        lambda network, model, source: initialise_style(network, source),
        options=frozenset({"minibatch_stddev", "scales"}),
        base_width=True,
    ),
    "r3": Entry(
        lambda model, space: R3Generator(
            **_of_generator(model, space),
            blocks=model.blocks,
            group_size=model.group_size,
            stem=model.stem,
            attention=model.attention,
            checkpoint_activations=model.checkpoint_activations,
        ),
        lambda model, space: R3Discriminator(
            **_of_discriminator(model, space),
            blocks=model.blocks,
            group_size=model.group_size,
            stem=model.stem,
            attention=model.attention,
            minibatch_stddev=model.minibatch_stddev,
            conditioning=model.conditioning,
            spectral_norm=model.spectral_norm,
            checkpoint_activations=model.checkpoint_activations,
        ),
        lambda network, model, source: initialise_r3(network, source),
        options=frozenset({"attention", "minibatch_stddev", "spectral_norm", "scales", "stem"}),
        base_width=True,
    ),
}


def family_entry(name: str) -> Entry:
    """The registry's entry, or a `RecipeError` that names the nearest known family."""
    if name not in FAMILIES:
        raise RecipeError(
            f"model.family: there is no family '{name}'{nearest_name_hint(name, FAMILIES) or '.'} Known: {', '.join(FAMILIES)}."
        )
    return FAMILIES[name]


def build_generator(model: ModelSection, space: ImageSpace) -> nn.Module:
    """The family's generator with undrawn weights, for loading released ones."""
    entry = family_entry(model.family)
    check_size(model, space.size, entry.base_width, entry.options)
    return entry.generator(model, space)


def build_family(model: ModelSection, training: TrainingSection, space: ImageSpace, device: torch.device) -> Family:
    """Networks with weights drawn from `training.seed` on the CPU (so that every device starts alike), then moved.

    Raises `RecipeError` where family, options, size and conditions do not fit together.
    """
    entry = family_entry(model.family)
    check_size(model, space.size, entry.base_width, entry.options)
    check_model(model, entry.options, space.conditions, entry.needs_conditions)
    check_attention(model, space.size, entry.base_width)
    check_training(model, training)
    source = torch.Generator().manual_seed(training.seed)
    generator = entry.generator(model, space)
    entry.initialise(generator, model, source)
    discriminator = _discriminator(entry, model, space, source)
    for network in (generator, discriminator):
        lay_out(network, len(space.size), device)
    discriminator_couples = model.discriminator_norm == "batch" or model.minibatch_stddev > 1
    discriminator_rate = training.discriminator_learning_rate or training.learning_rate
    generator_terms = {name: k for name, k in training.lazy.items() if name in GENERATOR_TERMS}
    discriminator_terms = {name: k for name, k in training.lazy.items() if name not in GENERATOR_TERMS}
    return Family(
        generator,
        discriminator,
        build_objective(model, training, one_pass=not discriminator_couples),
        build_optimizer(generator.parameters(), training, training.learning_rate, generator_terms),
        build_optimizer(discriminator.parameters(), training, discriminator_rate, discriminator_terms),
        space.conditions > 0,
        discriminator_couples or model.generator_norm == "batch",
        len(model.generator_widths) if entry.grows else None,
    )


def _discriminator(entry: Entry, model: ModelSection, space: ImageSpace, source: torch.Generator) -> nn.Module:
    """The discriminator, or one for each of `model.scales` resolutions, with drawn weights."""
    networks = []
    for scale in range(model.scales):
        own_space = ImageSpace(tuple(n // 2**scale for n in space.size), space.channels, space.conditions)
        # At a coarser scale there is one halving less: the finest widths are left out.
        any_size = "any_size" in entry.options
        own = model.model_copy(update={"discriminator_widths": model.discriminator_widths[0 if any_size else scale :]})
        network = entry.discriminator(own, own_space)
        entry.initialise(network, model, source)
        networks.append(network)
    discriminator = networks[0] if len(networks) == 1 else MultiScale(networks)
    if model.spectral_norm:
        add_spectral_norm(discriminator, source)
    return discriminator


def build_objective(model: ModelSection, training: TrainingSection, one_pass: bool) -> Objective:
    """The losses and penalties that a recipe names."""
    gradients_by: By = "autograd" if model.checkpoint_activations else "vjp"
    if model.family == "style":
        return StyleObjective(
            training.loss,
            {name: weight for name, weight in training.penalties.items() if name not in GENERATOR_TERMS},
            critic_steps=training.critic_steps,
            clip=training.clip,
            lazy=training.lazy,
            one_pass=one_pass,
            path_length=training.penalties.get("path_length", 0.0),
            mixing=model.style_mixing,
        )
    return Adversarial(
        training.loss,
        training.penalties,
        critic_steps=training.critic_steps,
        clip=training.clip,
        lazy=training.lazy,
        one_pass=one_pass,
        gradients_by=gradients_by,
    )
