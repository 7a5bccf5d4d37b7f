"""The validation KID during training, and the rule by which a checkpoint becomes the best one."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthoma.dataset import Dataset
from synthoma.draws import Draws
from synthoma.metrics.kid import kid_with_error
from synthoma.networks.features import build_extractor
from synthoma.recipe import Recipe

# Below this many validation images the standard error is larger than the differences that one could choose by.
LEAST_FOR_BEST = 100
LEAST_FOR_KID = 16
SPACE = "randconv"


class Validator:
    """KID of the averaged generator against the validation split, in a weight-free feature space.

    The latents, the labels and the extractor are fixed for the whole run, so values differ only by the generator.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, labels: Tensor | None, device: torch.device) -> None:
        self.rows = dataset.rows("val")
        self.enabled = len(self.rows) >= LEAST_FOR_KID
        self.chooses = len(self.rows) >= LEAST_FOR_BEST
        self.count, self.latent, self.device, self.labels = recipe.evaluation.validation_count, recipe.model.latent, device, labels
        self.low, self.high = recipe.model.range
        self.window = dataset.info["encoding"].get("window", (0, 255))
        if self.enabled:
            self.extractor = build_extractor(SPACE, dataset.channels, len(dataset.size))
            self.real = self.extractor.features(self._unit(dataset.images[self.rows].astype(np.float32), *self.window))

    def measure(self, network: nn.Module, batch: int = 64) -> dict[str, Any]:
        """{"kid", "kid_se", "count"} of a generator in evaluation mode."""
        latents, places = Draws(0, "validation latents"), Draws(0, "validation labels")
        images = []
        with torch.no_grad():
            for start in range(0, self.count, batch):
                index = torch.arange(start, min(start + batch, self.count), device=self.device)
                z = latents.normal(0, index, (self.latent,))
                labels = None if self.labels is None else self.labels[places.integers(0, index, len(self.labels))]
                images.append(network(z, labels).cpu().numpy())
        made = self.extractor.features(self._unit(np.concatenate(images), self.low, self.high))
        value, error = kid_with_error(made, self.real)
        return {"kid": value, "kid_se": error, "count": len(self.rows)}

    @staticmethod
    def _unit(images: Any, low: float, high: float) -> Any:
        """Values of [low, high] scaled to [0, 1] and rounded to 8 bits, as released images are."""
        return np.rint(np.clip((images - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def better(measured: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether a validation replaces the best one: by more than its standard error, so that noise does not choose."""
    return best is None or measured["kid"] < best["kid"] - measured["kid_se"]
