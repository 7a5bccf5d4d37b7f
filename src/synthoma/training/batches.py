"""The random draws of every update, and the batch that they choose.

A batch is drawn for the whole run by sample number; a device takes its slice of it, so that the images of an update do
not depend on how many devices there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from synthoma.draws import Draws, StepDraws
from synthoma.errors import RecipeError
from synthoma.networks.pggan import show_at
from synthoma.objectives.batch import Augment, Batch, unchanged
from synthoma.recipe import Recipe
from synthoma.training.deform import Deform
from synthoma.training.images import RealImages
from synthoma.training.schedules import Moment
from synthoma.transforms.augmentation import Augmentation
from synthoma.transforms.symmetries import apply, symmetry_group

# Draws are made for this many updates at once: the counter-based streams give the same numbers either way, and the
# cost of the small tensor operations is shared.
DRAWN_AHEAD = 32


@dataclass(frozen=True)
class _Drawn:
    """Draws of one update on one device."""

    place: Tensor
    fake_place: Tensor
    z: Tensor
    soft_real: Tensor
    soft_fake: Tensor
    turn: Tensor


class BatchStream:
    """Batches by number of the update: the same whatever was asked for before.

    Reals are drawn with replacement: uniformly, or with `training.balanced` a class first and then an image of it.
    Conditions of the fakes are those of training images drawn the same way. The smoothed targets are one draw a batch.
    conditions: float32 [images, k] of the training images, or None. rank, world: which of how many devices this is.
    canaries: places in the training split that count `training.canary_repeats` times.
    """

    def __init__(
        self,
        reals: RealImages,
        recipe: Recipe,
        conditions: Tensor | None,
        levels: int | None = None,
        rank: int = 0,
        world: int = 1,
        canaries: Tensor | None = None,
    ) -> None:
        training = recipe.training
        self.reals, self.training, self.conditions = reals, training, conditions
        self.levels, self.rank, self.world = levels, rank, world
        self.latent = recipe.model.latent
        self.purposes = {name: Draws(training.seed, name) for name in ("reals", "latents", "fakes", "soft", "symmetry")}
        size = tuple(reals.images.shape[2:])
        self.group = symmetry_group(training.symmetries, len(size), size)
        self.deform = Deform(training.deform, size, int(reals.images.shape[1]), recipe.model.range)
        self.augmentation = None
        if training.augment.policy:
            self.augmentation = Augmentation(
                training.augment.policy,
                group=self.group,
                image_channels=int(reals.images.shape[1]),
                range=recipe.model.range,
            )
        # Places sorted by class, and where each class begins: a draw is two table look-ups.
        self.order = torch.argsort(reals.labels, stable=True)
        present, counts = torch.unique(reals.labels, return_counts=True)
        self.class_counts = counts
        self.class_starts = torch.cumsum(counts, 0) - counts
        self.repeated: Tensor | None = None
        if canaries is not None:
            more = canaries.to(reals.device).repeat(training.canary_repeats - 1)
            self.repeated = torch.cat((torch.arange(reals.count, device=reals.device), more))
        self.balanced = training.balanced and len(present) > 1
        self.block: tuple[tuple[int, int], list[_Drawn]] | None = None

    def batch(self, update: int, moment: Moment, due: Mapping[str, float]) -> Batch:
        """This device's share of the batch of an update."""
        number, place = divmod(update, DRAWN_AHEAD)
        if self.block is None or self.block[0] != (number, moment.batch):
            self.block = (number, moment.batch), self._draw(number * DRAWN_AHEAD, moment.batch)
        drawn = self.block[1][place]
        real = self.reals.read(drawn.place)
        if len(self.group) > 1:
            real = apply(real, drawn.turn, self.group)
        draws = StepDraws(self.training.seed, update, self._index(moment.batch))
        real = self.deform(real, draws)
        if moment.level is not None and self.levels is not None:
            real = show_at(real, self.levels, moment.level, moment.fade)
        batch = Batch(
            real=real,
            z=drawn.z,
            draw=draws,
            conditions=self._conditions(drawn.place, moment),
            fake_conditions=self._conditions(drawn.fake_place, moment),
            soft_real=drawn.soft_real,
            soft_fake=drawn.soft_fake,
            due=due,
            # A tensor: a number that changes would have a compiled step compiled anew.
            gamma=torch.full((), moment.gamma, device=self.reals.device),
        )
        return batch if self.augmentation is None else replace(batch, augmentation=self._augment(moment.strength))

    def _augment(self, strength: float) -> Augment:
        augmentation = self.augmentation
        if augmentation is None or strength <= 0:
            return unchanged
        return lambda images, draw, which: augmentation(images, draw, which, strength)

    def _conditions(self, places: Tensor, moment: Moment) -> Tensor | None:
        if self.conditions is None:
            return None
        codes = self.conditions[places]
        return codes if moment.blend is None else codes * moment.blend

    def _index(self, batch: int) -> Tensor:
        """Numbers of this device's samples within the whole batch: int64 [batch / world]."""
        if batch % self.world:
            raise RecipeError(
                f"a batch of {batch} images cannot be shared evenly by {self.world} processes; use a batch that is a multiple "
                f"of {self.world}, or fewer processes."
            )
        share = batch // self.world
        return torch.arange(self.rank * share, (self.rank + 1) * share, device=self.reals.device)

    def _draw(self, first: int, batch: int) -> list[_Drawn]:
        """Draws of the updates first .. first + DRAWN_AHEAD - 1, taken apart here so that a batch costs no look-ups."""
        device = self.reals.device
        own = self._index(batch)
        share = len(own)
        updates = torch.arange(first, first + DRAWN_AHEAD, device=device)
        steps = updates.repeat_interleave(share)
        index = own.repeat(DRAWN_AHEAD)
        low = torch.tensor([self.training.real_labels[0], self.training.fake_labels[0]], device=device)
        high = torch.tensor([self.training.real_labels[1], self.training.fake_labels[1]], device=device)
        soft = low + self.purposes["soft"].uniform(updates, torch.zeros_like(updates), (2,)) * (high - low)
        places = self._places("reals", steps, index).unflatten(0, (-1, share))
        fake_places = self._places("fakes", steps, index).unflatten(0, (-1, share))
        z = self.purposes["latents"].normal(steps, index, (self.latent,)).unflatten(0, (-1, share))
        turn = self.purposes["symmetry"].integers(steps, index, len(self.group)).unflatten(0, (-1, share))
        columns = (places, fake_places, z, soft[:, 0], soft[:, 1], turn)
        return [_Drawn(*tensors) for tensors in zip(*(column.unbind(0) for column in columns), strict=True)]

    def _places(self, purpose: str, steps: Tensor, index: Tensor) -> Tensor:
        """Places in the training split: int64 [updates * share]."""
        draws = self.purposes[purpose]
        if not self.balanced:
            if self.repeated is None:
                return draws.integers(steps, index, self.reals.count)
            return self.repeated[draws.integers(steps, index, len(self.repeated))]
        bits = draws.bits(steps, index, 2)
        chosen = (bits[:, 0] * len(self.class_counts)) >> 32
        within = (bits[:, 1] * self.class_counts[chosen]) >> 32
        return self.order[self.class_starts[chosen] + within]
