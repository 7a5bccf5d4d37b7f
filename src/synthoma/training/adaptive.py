"""Augmentation as strong as the discriminator's overfitting calls for (Karras et al. 2020, StyleGAN2-ADA)."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from synthoma.errors import TrainingError
from synthoma.settings import AugmentSection

# Share of the past in the running mean of r_v: about ten comparisons count.
SMOOTHING = 0.9


def overfitting(d_train: Tensor | float, d_val: Tensor | float, d_fake: Tensor | float) -> float:
    """r_v = (E D(train) - E D(val)) / (E D(train) - E D(fake)), within 0 and 1 (equation 1 of the paper).

    Arguments: scores (logits) of training images, held-out real images and fakes, or their means; all three augmented in
    the same way. 0: held-out images look as real as those trained on; 1: they look like fakes, the training set is
    known by heart.

    Of the paper's two signals this one is used because it stays the same when a constant is added to the scores or when
    they are multiplied: Wasserstein and relativistic critics fix D up to just that, and for them r_t = E sign D(train)
    is a matter of chance. Where training images do not score above fakes the discriminator knows nothing, so that it
    has nothing by heart either: 0. Noise beyond 0 and 1 is cut off, evenly on both sides of the usual target of 1/2.

    Raises `TrainingError` for scores that are not numbers.
    """
    train, val, fake = (float(torch.as_tensor(scores).double().mean()) for scores in (d_train, d_val, d_fake))
    if not all(map(math.isfinite, (train, val, fake))):
        raise TrainingError(
            f"the discriminator's scores are no numbers (training images {train}, held-out images {val}, fakes {fake}): "
            "training has diverged; lower training.learning_rate."
        )
    if train <= fake:
        return 0.0
    return min(max((train - val) / (train - fake), 0.0), 1.0)


@dataclass
class AdaptiveStrength:
    """Strength of augmentation that rises while the overfitting is above `target`, and falls while it is below.

    kimg: thousands of images in which it goes from 0 to 1 at most (500 in the paper, for sets of many thousands; small
    sets are known by heart sooner). most: it goes no higher, for above that augmentations leak into the fakes.
    strength, smoothed: the state; smoothed is the running mean of r_v, None before the first comparison.
    """

    target: float = 0.5
    kimg: float = 500.0
    most: float = 0.85
    strength: float = 0.0
    smoothed: float | None = None

    @classmethod
    def begin(cls, settings: AugmentSection, saved: dict[str, Any] | None) -> "AdaptiveStrength":
        """As a recipe wants it, in the state that a checkpoint holds (None: at the start)."""
        fresh = cls(target=settings.target, kimg=settings.adapt_kimg)
        return fresh if saved is None else cls.from_json({**saved, "target": fresh.target, "kimg": fresh.kimg})

    def update(self, r_v: float, images: int) -> None:
        """Take in a comparison; `images` real images were shown since the one before."""
        self.smoothed = r_v if self.smoothed is None else SMOOTHING * self.smoothed + (1 - SMOOTHING) * r_v
        step = images / (self.kimg * 1000)
        # The direction alone, as in the paper: r_v says too much or too little, but not by how many images.
        direction = (self.smoothed > self.target) - (self.smoothed < self.target)
        self.strength = min(max(self.strength + direction * step, 0.0), self.most)

    def to_json(self) -> dict[str, Any]:
        """Settings and state as plain numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "AdaptiveStrength":
        """The inverse of `to_json`, exact."""
        return cls(**values)
