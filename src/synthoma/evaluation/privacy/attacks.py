"""Attacks on who was in the training set, and how close synthetic images lie to it; none without its control."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import EvaluationError
from synthoma.evaluation.features import cached_features
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.privacy.spaces import default_space
from synthoma.metrics.authenticity import Controlled, Distances
from synthoma.metrics.estimate import Withheld
from synthoma.metrics.membership import LEAST_IMAGES, AttackResult, membership_attack, too_few
from synthoma.metrics.nearest import nearest
from synthoma.metrics.resampling import draw_rows, number_groups
from synthoma.metrics.similarity import Search, nearest_images
from synthoma.networks.features import Extractor

MOST_IMAGES = 2000  # a side: more are subsampled by whole patients, which bounds memory

# Scores [n] of a set of real images, which knows the rows of its dataset, and so their classes.
Discriminator = Callable[[ImageSet], NDArray[Any]]
Attacks = dict[str, AttackResult | Withheld]


@dataclass(frozen=True)
class Closeness:
    """Authenticity and C_T, each with held-out real images as control."""

    authenticity: Controlled | Withheld
    copying: Controlled | Withheld


def measure_closeness(
    synthetic: ImageSet, train: ImageSet, holdout: ImageSet, space: Extractor, cache: Path | None, seed: int
) -> Closeness:
    """Authenticity and C_T in a feature space; withheld where there are few images."""
    reason = _too_few(synthetic, train, holdout)
    if reason is not None:
        return Closeness(reason, reason)
    sets = [_bounded(images, seed, name) for images, name in ((train, "train"), (holdout, "holdout"))]
    made = synthetic.take(np.arange(min(len(synthetic), MOST_IMAGES)))
    features = [cached_features(images, space, cache, train.range).features for images in (made, sets[1], sets[0])]
    distances = Distances(features[0], features[1], features[2], sets[1].groups, sets[0].groups)
    try:
        copying: Controlled | Withheld = distances.copying(seed)
    except EvaluationError as error:
        copying = Withheld(str(error).rstrip("."))
    return Closeness(distances.authenticity(seed), copying)


def attack_membership(
    synthetic: ImageSet,
    train: ImageSet,
    holdout: ImageSet,
    *,
    cache: Path | None = None,
    seed: int = 0,
    discriminator: Discriminator | None = None,
    search: Search | None = None,
) -> Attacks:
    """Attacks by the nearest synthetic image, in features and in pixels, and by the discriminator's score where given.

    The feature space is fitted to the synthetic images. In one that is fitted to the training images these lie closer
    together than others do, and an attack on a generator of new patients would seem to succeed (measured: an AUC of 0.78
    with 120 training images), while its control, members against members, would not show it.
    """
    names = ["features", "pixels", *(["discriminator"] if discriminator is not None else [])]
    reason = _too_few(synthetic, train, holdout)
    if reason is not None:
        return dict.fromkeys(names, reason)
    members, others = _bounded(train, seed, "train"), _bounded(holdout, seed, "holdout")
    space = default_space(synthetic, train.range)
    made = cached_features(synthetic, space, cache, train.range).features

    def by_features(images: ImageSet) -> NDArray[Any]:
        measured = cached_features(images, space, cache, train.range).features
        return -nearest(measured, made)[0][:, 0].numpy()

    def by_pixels(images: ImageSet) -> NDArray[Any]:
        return nearest_images(images.images, synthetic.images, train.range, search=search).similarity

    scores: dict[str, Callable[[ImageSet], NDArray[Any]]] = {"features": by_features, "pixels": by_pixels}
    if discriminator is not None:
        scores["discriminator"] = lambda images: np.asarray(discriminator(images), dtype=np.float64).ravel()
    return {
        name: membership_attack(scores[name](members), members.groups, scores[name](others), others.groups, seed)
        for name in names
    }


def _too_few(synthetic: ImageSet, train: ImageSet, holdout: ImageSet) -> Withheld | None:
    if len(synthetic) < LEAST_IMAGES:
        return Withheld(f"there are {len(synthetic)} synthetic images; this needs {LEAST_IMAGES}")
    return too_few(train.groups, holdout.groups)


def _bounded(images: ImageSet, seed: int, name: str) -> ImageSet:
    if len(images) <= MOST_IMAGES:
        return images
    rows = draw_rows(number_groups(images.groups), MOST_IMAGES, seed, f"privacy/{name}", 0)
    return images.take(rows.numpy())
