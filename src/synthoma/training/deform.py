"""Real volumes, moved and deformed at random before the networks see them: `training.deform`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.settings import DeformSection
from synthoma.transforms.deform import DeformationRanges, draw_deformation, resample_batch


class Deform:
    """Changes real volumes [n, c, z, y, x] in the networks' range by draws keyed by update and sample number.

    image_channels: those that get noise; a mask's distance, which comes after them, is moved only. scale: the networks'
    unit for one unit of the data. Raises `RecipeError` for pictures, and for an elastic part that could fold.
    """

    def __init__(
        self,
        section: DeformSection,
        size: Sequence[int],
        image_channels: int,
        scale: float,
        range: tuple[float, float],
    ) -> None:
        self.section, self.channels, self.scale, self.range = section, image_channels, scale, range
        if not (section.moves or section.noise):
            return
        if len(size) != 3:
            raise RecipeError(
                "training.deform is for volumes, and these are pictures; training.symmetries and training.augment serve them."
            )
        self.ranges = DeformationRanges(
            rotation=(section.rotation,) * 3,
            scaling=section.scaling,
            elastic=section.elastic,
            shift=section.shift,
        )
        try:
            draw_deformation(self.ranges, StepDraws(0, 0, torch.zeros(1, dtype=torch.int64)), size)
        except ValueError as error:
            raise RecipeError(f"training.deform: {error}") from error

    def __call__(self, real: Tensor, draws: StepDraws) -> Tensor:
        """The same shape and memory format; without anything to do the same tensor."""
        if self.section.moves:
            parameters = draw_deformation(self.ranges, draws, tuple(real.shape[2:]))
            moved, _ = resample_batch(real, None, parameters)
            real = torch.empty_like(real).copy_(moved)
        if self.section.noise:
            strength = self.section.noise * self.scale * draws.uniform("deform noise strength").reshape(-1, 1, 1, 1, 1)
            normal = draws.normal("deform noise", (self.channels, *real.shape[2:]))
            noisy = real.clone()
            noisy[:, : self.channels] += strength * normal
            # Black and white stay the ends of the window, as they are in every other image.
            real = noisy.clamp_(*self.range)
        return real
