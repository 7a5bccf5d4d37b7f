"""Small style-based networks, and batches for them."""

from typing import Any

import torch
from torch import Tensor, nn

from synthoma.draws import StepDraws
from synthoma.networks.style import ModulatedConvolution, StyleDiscriminator, StyleGenerator, initialise_style
from synthoma.objectives.batch import Batch

SIZES = [(16, 24), (8, 8, 12)]  # base grids 4x6 and 2x2x3
WIDTHS = [12, 10, 8]


def make_generator(size: tuple[int, ...], conditions: int = 0, **options: Any) -> StyleGenerator:
    network = StyleGenerator(size, 2, conditions, latent=16, widths=options.pop("widths", WIDTHS), **options)
    initialise_style(network, torch.Generator().manual_seed(1))
    return network


def make_discriminator(size: tuple[int, ...], conditions: int = 0, **options: Any) -> StyleDiscriminator:
    network = StyleDiscriminator(size, 2, conditions, widths=options.pop("widths", WIDTHS[::-1]), **options)
    initialise_style(network, torch.Generator().manual_seed(2))
    return network


def with_noise(generator: StyleGenerator, strength: float = 0.3) -> StyleGenerator:
    """As if it had learned to use its noise."""
    for module in generator.modules():
        if isinstance(module, ModulatedConvolution) and module.strength is not None:
            nn.init.constant_(module.strength, strength)
    return generator


def exact(network: Any) -> Any:
    """Weights and arithmetic in float64."""
    network.compute_dtype = torch.float64
    return network.double()


def codes(n: int, conditions: int) -> Tensor | None:
    return torch.eye(conditions)[torch.arange(n) % conditions] if conditions else None


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_batch(n: int, size: tuple[int, ...], conditions: int = 0, **given: Any) -> Batch:
    values = {"real": drawn(n, 2, *size, seed=5), "z": drawn(n, 16, seed=6), "gamma": 0.7} | given
    return Batch(
        **values,
        draw=StepDraws(seed=3, step=9, index=torch.arange(n)),
        conditions=codes(n, conditions),
        fake_conditions=codes(n, conditions),
    )
