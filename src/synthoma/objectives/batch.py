"""What one update is computed from."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from synthoma.draws import StepDraws

# images [n, c, *spatial], the update's draws, "real" or "fake" -> images of the same shape.
Augment = Callable[[Tensor, StepDraws, str], Tensor]


def unchanged(images: Tensor, draw: StepDraws, which: str) -> Tensor:
    """No augmentation."""
    return images


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that one update needs, drawn by the loop: an objective is a function of the networks and of this.

    real: [n, c, *spatial] in the recipe's range; z: [n, latent]; draw: all other randomness of the update.
    conditions, fake_conditions: float32 [n, k] of the reals and of the fakes; None where networks are not conditional.
    soft_real, soft_fake: scalars, the smoothed targets. due: the lazy terms of this update -> factor that the loop
    multiplies them with. gamma: weight of R1 and R2 now. augmentation: what `augment` calls.
    """

    real: Tensor
    z: Tensor
    draw: StepDraws
    conditions: Tensor | None = None
    fake_conditions: Tensor | None = None
    soft_real: Tensor | float = 1.0
    soft_fake: Tensor | float = 0.0
    due: Mapping[str, float] = dataclasses.field(default_factory=dict)
    gamma: Tensor | float = 1.0
    augmentation: Augment = unchanged

    def __post_init__(self) -> None:
        columns = (self.real, self.conditions, self.z, self.fake_conditions, self.draw)
        counts = {len(column) for column in columns if column is not None}
        if len(counts) > 1:
            raise ValueError(f"the parts of a batch have different numbers of samples: {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.real)

    def augment(self, images: Tensor, which: str) -> Tensor:
        """What the discriminator is shown instead of `images` [n, c, *spatial], which are all "real" or all "fake"."""
        return self.augmentation(images, self.draw, which)

    def part(self, start: int, stop: int) -> "Batch":
        """The samples start .. stop - 1 (a micro-batch, or the share of a process), with the draws they have in the whole."""
        return dataclasses.replace(
            self,
            real=self.real[start:stop],
            conditions=_slice(self.conditions, start, stop),
            z=self.z[start:stop],
            fake_conditions=_slice(self.fake_conditions, start, stop),
            draw=self.draw.part(start, stop),
        )


def _slice(rows: Tensor | None, start: int, stop: int) -> Tensor | None:
    return None if rows is None else rows[start:stop]
