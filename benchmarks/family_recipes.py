"""One recipe a family in any size, so that benchmarks can put all families side by side.

Widths belong to a resolution: the net for a smaller image is the one for a larger image without its finest layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from synthoma.families import FAMILIES
from synthoma.recipe import Recipe, validate_recipe

# Channels at each resolution (longest axis), by number of axes; the shipped recipes' where they have that resolution.
WIDTHS = {
    2: {4: 256, 8: 256, 16: 192, 32: 128, 64: 64, 128: 32, 256: 32},
    3: {4: 256, 8: 256, 16: 128, 32: 64, 64: 32},
}
# The narrower nets with which all families are compared on a CPU.
NARROW = {
    2: {4: 128, 8: 128, 16: 64, 32: 32},
    3: {4: 128, 8: 64, 16: 32, 32: 16},
}
# R3GAN's own widths for 256 pixels: about 24 million weights a net, as many as StyleGAN2-ADA has.
LARGE = {2: {4: 768, 8: 768, 16: 768, 32: 768, 64: 384, 128: 192, 256: 96}}


def family_recipe(
    family: str,
    size: Sequence[int],
    batch: int,
    *,
    widths: Mapping[int, Mapping[int, int]] = NARROW,
    channels: int | None = None,
    **training: Any,
) -> Recipe:
    """The family with its own objective and optimizer, without augmentation or symmetries.

    size: 2 or 3 equal axes, a power of 2 from 8 on. channels: 3 in 2D and 1 in 3D if left out. training: further keys
    of that section. Conditional on nine classes where the family needs conditions, else unconditional.
    """
    entry = FAMILIES[family]
    of_resolution = widths[len(size)]
    levels = [resolution for resolution in sorted(of_resolution) if resolution <= max(size)]
    coarse_to_fine = [of_resolution[resolution] for resolution in levels]
    if not entry.base_width:
        # One width a doubling: what comes out of the last one is the image itself.
        coarse_to_fine = coarse_to_fine[:-1]
    model: dict[str, Any] = {"family": family, "latent": 64, "label_embedding": 32}
    if family == "mlp":
        hidden = [256, 512, 1024]
        model |= {"generator_widths": hidden, "discriminator_widths": hidden[::-1][1:]}
    else:
        model |= {"generator_widths": coarse_to_fine, "discriminator_widths": coarse_to_fine[::-1]}
    colour = "rgb" if (channels or (3 if len(size) == 2 else 1)) == 3 else "grey"
    values = {
        "name": f"benchmark-{family}",
        "preparation": {"size": list(size), "colour": colour},
        "model": model,
        # So long that no schedule ends while it is timed.
        "training": {"kimg": 100_000, "batch": batch, **training},
    }
    return validate_recipe(values, f"benchmark of {family}")


def name_of(size: Sequence[int]) -> str:
    """Such as 64x64 or 32x32x32."""
    return "x".join(map(str, size))
