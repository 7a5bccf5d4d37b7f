"""What the networks are shown: the training images on the device, and the random draws of every update."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synthoma.dataset import Dataset
from synthoma.draws import Draws
from synthoma.networks.layers import CHANNELS_LAST
from synthoma.objectives.objective import Batch
from synthoma.recipe import Recipe

# Share of the memory (of the device, or of the machine) that the training images may take before they stay on disk.
RESIDENT_SHARE = 0.3
# Draws are made for this many updates at once: the counter-based streams give the same numbers either way, and the
# cost of the small tensor operations is shared.
DRAWN_AHEAD = 32


class RealImages:
    """The training split, resident on the device where it fits, else read from the memory-mapped file."""

    def __init__(self, dataset: Dataset, device: torch.device, low: float, high: float) -> None:
        rows = dataset.rows("train")
        first, last = dataset.info["encoding"].get("window", (0, 255))
        self.scale = (high - low) / (last - first)
        self.offset = low - first * self.scale
        self.device = device
        self.format = CHANNELS_LAST[len(dataset.size)]
        self.labels = torch.from_numpy(dataset.labels[rows]).to(device)
        self.count = len(rows)
        self.resident: Tensor | None = None
        if self.count * dataset.images[0].nbytes < RESIDENT_SHARE * available_memory(device):
            # [n, *spatial, c]: a batch that is gathered from it is channels last without a copy more.
            self.resident = torch.from_numpy(np.ascontiguousarray(np.moveaxis(dataset.images[rows], 1, -1))).to(device)
        self.rows, self.images = rows, dataset.images

    def read(self, index: Tensor) -> Tensor:
        """Images at these places of the training split: float32 [n, c, *spatial] in [low, high], channels last."""
        if self.resident is not None:
            pixels = self.resident[index].movedim(-1, 1)
        else:
            host = torch.from_numpy(np.ascontiguousarray(self.images[self.rows[index.cpu().numpy()]]))
            pixels = host.to(self.device, non_blocking=True)
        return pixels.float().mul_(self.scale).add_(self.offset).contiguous(memory_format=self.format)


def available_memory(device: torch.device) -> int:
    """Bytes free on a GPU, or of the machine's memory for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


@dataclass(frozen=True)
class _Drawn:
    """Draws of one update: all of its `Batch` but the pixels."""

    place: Tensor
    labels: Tensor
    z: Tensor
    fake_labels: Tensor
    soft_real: Tensor
    soft_fake: Tensor
    flip: Tensor


class BatchStream:
    """Batches by number of the update: `stream[u]` is the same whatever was asked for before.

    Reals are drawn with replacement: uniformly, or with `training.balanced` a class first and then an image of it.
    Labels of the fakes follow the same distribution. The smoothed targets are one draw a batch.
    """

    def __init__(self, reals: RealImages, recipe: Recipe, conditional: bool) -> None:
        training = recipe.training
        self.reals, self.training, self.conditional = reals, training, conditional
        self.latent = recipe.model.latent
        self.purposes = {name: Draws(training.seed, name) for name in ("reals", "latents", "fakes", "soft", "mirror")}
        # Places sorted by class, and where each class begins: a draw is two table look-ups.
        self.order = torch.argsort(reals.labels, stable=True)
        present, counts = torch.unique(reals.labels, return_counts=True)
        self.class_counts = counts
        self.class_starts = torch.cumsum(counts, 0) - counts
        self.balanced = training.balanced and len(present) > 1
        self.block: tuple[int, list[_Drawn]] | None = None

    def __getitem__(self, update: int) -> Batch:
        number, place = divmod(update, DRAWN_AHEAD)
        if self.block is None or self.block[0] != number:
            self.block = number, self._draw(number * DRAWN_AHEAD)
        drawn = self.block[1][place]
        real = self.reals.read(drawn.place)
        if self.training.mirror:
            real = torch.where(drawn.flip.reshape(-1, *[1] * (real.ndim - 1)), real.flip(-1), real)
        labels, fake_labels = (drawn.labels, drawn.fake_labels) if self.conditional else (None, None)
        return Batch(real, labels, drawn.z, fake_labels, drawn.soft_real, drawn.soft_fake)

    def _draw(self, first: int) -> list[_Drawn]:
        """Draws of the updates first .. first + DRAWN_AHEAD - 1, taken apart here so that a batch costs no look-ups."""
        batch, device = self.training.batch, self.reals.device
        updates = torch.arange(first, first + DRAWN_AHEAD, device=device)
        steps = updates.repeat_interleave(batch)
        index = torch.arange(batch, device=device).repeat(DRAWN_AHEAD)
        low = torch.tensor([self.training.real_labels[0], self.training.fake_labels[0]], device=device)
        high = torch.tensor([self.training.real_labels[1], self.training.fake_labels[1]], device=device)
        soft = low + self.purposes["soft"].uniform(updates, torch.zeros_like(updates), (2,)) * (high - low)
        places, fake_places = self._places("reals", steps, index), self._places("fakes", steps, index)
        z = self.purposes["latents"].normal(steps, index, (self.latent,)).unflatten(0, (-1, batch))
        flip = self.purposes["mirror"].uniform(steps, index).unflatten(0, (-1, batch)) < 0.5
        labels, fake_labels = self.reals.labels[places], self.reals.labels[fake_places]
        columns = (places, labels, z, fake_labels, soft[:, 0], soft[:, 1], flip)
        return [_Drawn(*tensors) for tensors in zip(*(column.unbind(0) for column in columns), strict=True)]

    def _places(self, purpose: str, steps: Tensor, index: Tensor) -> Tensor:
        """Places in the training split: int64 [updates, batch]."""
        draws = self.purposes[purpose]
        if self.balanced:
            bits = draws.bits(steps, index, 2)
            chosen = (bits[:, 0] * len(self.class_counts)) >> 32
            within = (bits[:, 1] * self.class_counts[chosen]) >> 32
            places = self.order[self.class_starts[chosen] + within]
        else:
            places = draws.integers(steps, index, self.reals.count)
        return places.unflatten(0, (-1, self.training.batch))
