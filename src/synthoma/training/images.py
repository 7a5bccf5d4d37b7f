"""The real images as the networks see them: resident on the device where they fit, else read from disk."""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.dataset import Dataset
from synthoma.errors import DatasetError
from synthoma.networks.layers import CHANNELS_LAST
from synthoma.settings import ModelSection
from synthoma.transforms.distance import signed_distance

# Share of the memory (of the device, or of the machine) that the training images may take before they stay on disk.
RESIDENT_SHARE = 0.3


class RealImages:
    """One split of a dataset as float32 [n, c, *spatial] in the recipe's range; with masks, their distance as last channel."""

    def __init__(self, dataset: Dataset, device: torch.device, model: ModelSection, split: str = "train") -> None:
        rows = dataset.rows(split)
        low, high = model.range
        self.window: tuple[float, float] = tuple(dataset.info["encoding"].get("window", (0, 255)))
        first, last = self.window
        self.wider = dataset.images.dtype == np.int16
        self.scale = (high - low) / (last - first)
        self.offset = low - first * self.scale
        self.device = device
        self.format: Any = CHANNELS_LAST[len(dataset.size)]
        self.labels = torch.from_numpy(dataset.labels[rows]).to(device)
        self.count = len(rows)
        self.rows, self.images = rows, dataset.images
        self.masks = dataset.masks if model.masks != "none" else None
        if model.masks != "none" and self.masks is None:
            raise DatasetError(
                f"{dataset.path} has no masks, and model.masks={model.masks} makes image and mask together; set model.masks=none."
            )
        self.mask_distance = model.mask_distance
        self.channels = dataset.channels + (self.masks is not None)
        self.resident: Tensor | None = None
        size = self.count * dataset.images[0].nbytes * self.channels / dataset.channels
        if size < RESIDENT_SHARE * available_memory(device):
            # [n, *spatial, c]: a batch that is gathered from it is channels last without a copy more.
            self.resident = torch.from_numpy(np.ascontiguousarray(np.moveaxis(self._from_disk(rows), 1, -1))).to(device)

    def _from_disk(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        images = self.images[rows]
        if self.masks is None:
            return np.ascontiguousarray(images)
        first, last = self.window
        distance = signed_distance(self.masks[rows][:, 0], self.mask_distance)
        # In the encoding of the images, so that one scale brings both into the networks' range.
        encoded = (first + (distance + 1) / 2 * (last - first)).round().astype(images.dtype)
        return np.concatenate((images, encoded[:, None]), axis=1)

    def read(self, index: Tensor) -> Tensor:
        """Images at these places of the split: float32 [n, c, *spatial] in the recipe's range, channels last."""
        if self.resident is not None:
            pixels = self.resident[index].movedim(-1, 1)
        else:
            host = torch.from_numpy(self._from_disk(self.rows[index.cpu().numpy()]))
            if self.device.type == "cuda":
                host = host.pin_memory()
            pixels = host.to(self.device, non_blocking=True)
        pixels = pixels.float()
        if self.wider:
            # Hounsfield units go beyond the window on both sides: what is black or white there is all the same.
            pixels.clamp_(*self.window)
        return pixels.mul_(self.scale).add_(self.offset).contiguous(memory_format=self.format)


def available_memory(device: torch.device) -> int:
    """Bytes free on a GPU, or of the machine's memory for the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
