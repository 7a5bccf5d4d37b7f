"""Real volumes, moved and deformed at random before the networks see them: `training.deform`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.settings import DeformSection
from synthoma.transforms.deform import DeformationRanges, draw_deformation, resample_batch

_CONTROL_POINTS = 7


class Deform:
    """Changes real volumes [n, c, z, y, x] in the networks' range by draws keyed by update and sample number.

    image_channels: those that get noise; a mask's distance, which comes after them, is moved only. Raises `RecipeError` for
    pictures.
    """

    def __init__(
        self,
        section: DeformSection,
        size: Sequence[int],
        image_channels: int,
        range: tuple[float, float],
    ) -> None:
        self.section, self.channels, self.range = section, image_channels, range
        if not (section.moves or section.noise):
            return
        if len(size) != 3:
            raise RecipeError(
                "training.deform is for volumes, and these are pictures; training.symmetries and training.augment serve them."
            )
        self.ranges = DeformationRanges(
            rotation=(section.rotation,) * 3,
            scaling=section.scaling,
            elastic=section.elastic * min(size) / (_CONTROL_POINTS - 3),
            control_points=_CONTROL_POINTS,
            shift=section.shift,
        )

    def __call__(self, real: Tensor, draws: StepDraws) -> Tensor:
        """The same shape and memory format; without anything to do the same tensor."""
        if self.section.moves:
            parameters = draw_deformation(self.ranges, draws, tuple(real.shape[2:]))
            moved, _ = resample_batch(real, None, parameters)
            real = torch.empty_like(real).copy_(moved)
        if self.section.noise:
            width = self.range[1] - self.range[0]
            strength = self.section.noise * width * draws.uniform("deform noise strength").reshape(-1, 1, 1, 1, 1)
            normal = draws.normal("deform noise", (self.channels, *real.shape[2:]))
            noisy = real.clone()
            noisy[:, : self.channels] += strength * normal
            # Black and white stay the ends of the window, as they are in every other image.
            real = noisy.clamp_(*self.range)
        return real
