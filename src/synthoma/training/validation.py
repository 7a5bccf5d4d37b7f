"""The validation KID during training, and the rule by which a checkpoint becomes the best one."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthoma.dataset import Dataset
from synthoma.draws import Draws
from synthoma.metrics.kid import kid_with_error
from synthoma.networks.features.randconv import MOST_FITTED, RandConv
from synthoma.pictures import to_uint8
from synthoma.recipe import Recipe

# Below this many validation images the standard error is larger than the differences that one could choose by.
LEAST_FOR_BEST = 100
LEAST_FOR_KID = 16


class Validator:
    """KID of the averaged generator against the validation split, in a weight-free feature space.

    The latents, the labels and the extractor are fixed for the whole run, so values differ only by the generator.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, labels: Tensor | None, device: torch.device) -> None:
        self.rows = dataset.rows("val")
        self.enabled = len(self.rows) >= LEAST_FOR_KID
        self.chooses = len(self.rows) >= LEAST_FOR_BEST
        self.count, self.latent, self.device, self.labels = (
            recipe.evaluation.validation_count,
            recipe.model.latent,
            device,
            labels,
        )
        self.range = recipe.model.range
        if self.enabled:
            window = tuple(dataset.info["encoding"].get("window", (0, 255)))
            train = dataset.rows("train")
            reference = dataset.images[train[:: -(-len(train) // MOST_FITTED)]]
            self.extractor = RandConv(len(dataset.size), dataset.channels, reference, window, dataset.content_hash)
            self.real = self.extractor.measure(dataset.images[self.rows], window).features

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
        # Rounded to 8 bits, as the real ones are and released ones will be.
        low, high = self.range
        pixels = to_uint8(np.concatenate(images), low, high)
        value, error = kid_with_error(self.extractor.measure(pixels, (0, 255)).features, self.real)
        return {"kid": value, "kid_se": error, "count": len(self.rows)}


def better(measured: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether a validation replaces the best one: by more than its standard error, so that noise does not choose."""
    return best is None or measured["kid"] < best["kid"] - measured["kid_se"]
