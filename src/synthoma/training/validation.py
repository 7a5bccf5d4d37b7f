"""What is measured of the generator while it learns: the KID, by which the best checkpoint is chosen, its diversity, and
whether it comes too near to the images that it has seen."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.conditions import Conditions
from synthoma.dataset import Dataset
from synthoma.draws import Draws, StepDraws
from synthoma.metrics.diversity import diversity_ratios, memorisation
from synthoma.metrics.kid import kid_with_error
from synthoma.networks.features.randconv import MOST_FITTED, RandConv
from synthoma.pictures import require_numbers
from synthoma.recipe import Recipe
from synthoma.training.averaging import Sampler

# Below this many validation images the standard error is larger than the differences that one could choose by.
LEAST_FOR_BEST = 100
LEAST_FOR_KID = 16
# Distances to the training set are taken over at most this many of its images.
MOST_COMPARED = 2048


class Validator:
    """Measures the averaged generator against the validation split, in a weight-free feature space.

    The latents, the conditions and the extractor are fixed for the whole run, so values differ only by the generator.
    codes: conditions of the training images, from which those of the synthetic ones are drawn; None without any.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, conditions: Conditions, codes: Tensor | None, device: torch.device
    ) -> None:
        self.rows = dataset.rows("val")
        self.enabled = len(self.rows) >= LEAST_FOR_KID
        self.chooses = len(self.rows) >= LEAST_FOR_BEST
        self.count, self.device, self.codes = recipe.evaluation.validation_count, device, codes
        self.range = recipe.model.range
        self.channels = dataset.channels
        self.classes = list(conditions.classes)
        if self.enabled:
            self.window = window = tuple(dataset.info["encoding"].get("window", (0, 255)))
            train = dataset.rows("train")
            reference = dataset.images[train[:: -(-len(train) // MOST_FITTED)]]
            self.extractor = RandConv(len(dataset.size), dataset.channels, reference, window, dataset.content_hash)
            self.real = self.extractor.measure(dataset.images[self.rows], window).features
            self.flat = kid_with_error(self._flat_features(reference, window), self.real)[0]
            compared = train[:: -(-len(train) // MOST_COMPARED)]
            self.seen = self.extractor.measure(dataset.images[compared], window).features
            self.train_labels = dataset.labels[train]
            self.seen_labels, self.real_labels = dataset.labels[compared], dataset.labels[self.rows]

    def _flat_features(self, reference: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float32]:
        """Features of a picture that is all of the mean colour, as often as KID wants: what no training at all can draw."""
        colour = reference.clip(*window).mean(axis=(0, *range(2, reference.ndim)), keepdims=True)
        picture = np.broadcast_to(np.rint(colour).astype(reference.dtype), (1, *reference.shape[1:]))
        return np.repeat(self.extractor.measure(np.ascontiguousarray(picture), window).features, LEAST_FOR_KID, axis=0)

    def measure(self, sampler: Sampler, batch: int = 64) -> dict[str, Any]:
        """KID with its standard error, diversity by class over that of the training images, and nearness to these."""
        places = Draws(0, "validation labels")
        images, chosen = [], []
        with torch.no_grad():
            for start in range(0, self.count, batch):
                index = torch.arange(start, min(start + batch, self.count), device=self.device)
                place = None if self.codes is None else places.integers(0, index, len(self.codes))
                codes = None if self.codes is None or place is None else self.codes[place]
                made = sampler(StepDraws(0, 0, index), "validation", codes)
                images.append(made[:, : self.channels].cpu().numpy())
                if place is not None:
                    chosen.append(place.cpu().numpy())
        # Rounded as the real ones are and released ones will be: to 8 bits, or to whole Hounsfield units.
        (low, high), (first, last) = self.range, self.window
        values = (np.concatenate(images) - low) * ((last - first) / (high - low)) + first
        require_numbers(values)
        features = self.extractor.measure(np.rint(values), self.window).features
        value, error = kid_with_error(features, self.real)
        labels = self.train_labels[np.concatenate(chosen)] if self.classes else None
        return {
            "kid": value,
            "kid_se": error,
            "kid_flat": self.flat,
            "count": len(self.rows),
            "diversity": self._diversity(features, labels),
            "nearest": memorisation(features, self.seen, self.real),
        }

    def _diversity(self, features: NDArray[np.generic], labels: NDArray[np.int64] | None) -> dict[str, float]:
        names = None if labels is None else self.classes
        return diversity_ratios(features, self.seen, labels, None if labels is None else self.seen_labels, names)


def better(measured: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether a validation replaces the best one: by more than its standard error, so that noise does not choose."""
    return best is None or measured["kid"] < best["kid"] - measured["kid_se"]
