"""Images of a generator as a function of draws: its latents, and the noise of generators that take some."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from synthoma.draws import StepDraws
from synthoma.networks.options import to_full_size


def sample(
    network: nn.Module, draws: StepDraws, purpose: str, conditions: Tensor | None, size: Sequence[int], **options: Any
) -> Tensor:
    """Images [n, c, *size] of the samples of `draws`, each a function of the seed, the purpose and its own number.

    purpose: names the streams "<purpose> latents" and "<purpose> noise". conditions: [n, k] or None. options: what the
    network's forward takes besides (level, fade, truncation). Images of a lower level of growth come out at `size`.
    """
    z = draws.normal(f"{purpose} latents", (int(network.latent),))  # type: ignore[arg-type]
    # Every image has its own noise, as in training: one plane for all would put the same grain into each of them.
    if count := getattr(network, "noise_size", 0):
        options = {**options, "noise": draws.normal(f"{purpose} noise", (count,))}
    return to_full_size(network(z, conditions, **options), size)
