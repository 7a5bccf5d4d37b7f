"""Synthetic images that are copies of a training image, found in pixels and confirmed in a feature space."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from synthoma.draws import Draws
from synthoma.errors import EvaluationError
from synthoma.evaluation.features import cached_features
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.privacy.plant import planted
from synthoma.evaluation.privacy.spaces import default_space
from synthoma.evaluation.privacy.thresholds import Pairs, Thresholds, lead_of, set_thresholds
from synthoma.metrics.correlation import (
    FLAT,
    aligned_pairs,
    flat,
    largest_shift,
    middle,
    positions,
    smooth_luma,
    unit,
)
from synthoma.metrics.nearest import nearest
from synthoma.metrics.resampling import CONFIDENCE
from synthoma.metrics.similarity import NearestImages, Search, nearest_images
from synthoma.networks.features import Extractor, build_extractor

PLANTED = 96  # training images that copies are made of on purpose: half to set thresholds by, half to measure recall
MOST_CALIBRATING = 2000  # images a side for pairs of different patients
SHOWN = 32  # most similar pairs whose distance in the feature space is taken, copies or not
_LEAST_ALIKE = (
    50  # pairs of other patients that the feature threshold rests on: the most similar tenth, so many at least
)
_NEXT = Search(shortlist=4, positions=4)  # for the nearest image of another patient, where a second look is enough
_PROPOSED = 4  # nearest images in the feature space that are looked at too
_STANDARD = (-4.0, 4.0)  # standardised images, in standard deviations
_FITTED = 512
_BATCH = 64

Progress = Callable[[str, int, int], None]
Images = NDArray[np.generic]


@dataclass(frozen=True)
class CopyPair:
    """A synthetic image and the training image that it resembles most.

    synthetic: index in the synthetic set; train_row: row in the dataset that the training set comes from, else in the
    set itself; similarity: -1 to 1; lead: how much nearer it is than images of other patients, 0 to 1; distance: in the
    feature space, None where the likeness alone rules a copy out; axes, flips, shift: how the training image is
    turned and moved to lie on the synthetic one; copy: whether it is a confirmed copy.
    """

    synthetic: int
    train_row: int
    similarity: float
    lead: float
    distance: float | None
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    shift: tuple[int, ...]
    copy: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "synthetic": self.synthetic,
            "train_row": self.train_row,
            "similarity": self.similarity,
            "lead": self.lead,
            "feature_distance": self.distance,
            "alignment": {"axes": list(self.axes), "flips": list(self.flips), "shift": list(self.shift)},
            "copy": self.copy,
        }


@dataclass(frozen=True)
class Copies:
    """What the search for copies found among n synthetic images.

    pairs: each synthetic image with its nearest training image, the most similar first: for private eyes only;
    control: held-out real images that would be called copies, of how many; similarity, control_similarity: median and
    largest similarity of synthetic and of held-out images to training images; flat: synthetic images without structure.
    """

    n: int
    pairs: tuple[CopyPair, ...]
    thresholds: Thresholds
    control: tuple[int, int]
    similarity: tuple[float, float]
    control_similarity: tuple[float, float]
    flat: int

    @property
    def found(self) -> int:
        return sum(pair.copy for pair in self.pairs)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the rate of copies (Clopper and Pearson 1934)."""
        return exact_interval(self.found, self.n)

    @property
    def bound(self) -> float:
        """Upper 95 % limit of the rate; 3/n where none is found (rule of three)."""
        if self.found == 0:
            return min(1.0, 3 / self.n)
        return float(stats.beta.ppf(CONFIDENCE, self.found + 1, self.n - self.found)) if self.found < self.n else 1.0

    def to_json(self) -> dict[str, Any]:
        """For everybody: no pair, no row, no index."""
        low, high = self.interval
        return {
            "found": self.found,
            "n": self.n,
            "rate": {"value": self.found / self.n, "low": low, "high": high, "upper_95": self.bound},
            "thresholds": self.thresholds.to_json(),
            "recall": dict(self.thresholds.recall),
            "control": {"found": self.control[0], "n": self.control[1], "what": "held-out real images, called copies"},
            "similarity": {
                "synthetic": {"median": self.similarity[0], "largest": self.similarity[1]},
                "held_out": {"median": self.control_similarity[0], "largest": self.control_similarity[1]},
            },
            "without_structure": self.flat,
        }


def exact_interval(found: int, n: int) -> tuple[float, float]:
    """Clopper-Pearson interval of a share at 95 %."""
    tail = (1 - CONFIDENCE) / 2
    low = float(stats.beta.ppf(tail, found, n - found + 1)) if found else 0.0
    high = float(stats.beta.ppf(1 - tail, found + 1, n - found)) if found < n else 1.0
    return low, high


def find_copies(
    synthetic: ImageSet,
    train: ImageSet,
    holdout: ImageSet,
    *,
    seed: int = 0,
    space: Extractor | None = None,
    cache: Path | None = None,
    search: Search | None = None,
    progress: Progress | None = None,
) -> Copies:
    """Search all synthetic images for copies of training images; held-out images set the thresholds and are the control.

    `space`: feature space whose nearest neighbours are looked at too. Sets are of one shape and encoding.
    """
    look = _Look(train, space or default_space(train), cache, search or Search())
    held = holdout if len(holdout) <= MOST_CALIBRATING else holdout.take(_spread(len(holdout), MOST_CALIBRATING))
    own = train if len(train) <= MOST_CALIBRATING else train.take(_spread(len(train), MOST_CALIBRATING))
    say = _counter(progress)
    made = look.at(synthetic.images, look.near(synthetic), say("Looking for copies"))
    of_held = look.at(held.images, look.near(held), say("Looking at held-out images"))
    of_train = look.at(own.images, look.near(own), say("Looking at other patients"), own.groups)
    leads = look.leads(made, synthetic.images), look.leads(of_held, held.images)
    positives, tested = _planted_pairs(look, train, seed)
    similarities, distances = _other_patients(look, [(held, of_held), (own, of_train)])
    thresholds = set_thresholds(similarities, leads[1], distances, positives, tested, len(synthetic))
    pairs = _pairs(look, synthetic, made, leads[0], thresholds)
    alike = np.flatnonzero(thresholds.accuses(of_held.similarity, leads[1]))
    accused = look.distances(held.images, of_held, alike) <= thresholds.distance
    return Copies(
        n=len(synthetic),
        pairs=pairs,
        thresholds=thresholds,
        control=(int(accused.sum()), len(held)),
        similarity=_middle_and_top(made.similarity),
        control_similarity=_middle_and_top(of_held.similarity),
        flat=int(flat(synthetic.images, train.range).sum()),
    )


class _Look:
    """The training images, and how others are compared with them."""

    def __init__(self, train: ImageSet, space: Extractor, cache: Path | None, search: Search) -> None:
        self.train, self.space, self.cache, self.search = train, space, cache, search
        self.features = cached_features(train, space, cache).features
        rows = _spread(len(train), _FITTED)
        shift = largest_shift(train.shape[1:])
        fitted = _standard(middle(unit(train.images[rows], train.range), shift))
        # Decorrelating takes three images that differ; without, the plain random filters serve.
        differ = len(fitted) >= 3 and bool((fitted != fitted[0]).any())
        self.confirming = build_extractor(
            "randconv",
            train.shape[0],
            len(train.shape) - 1,
            reference=fitted if differ else None,
            value_range=_STANDARD,
        )

    def near(self, images: ImageSet) -> NDArray[np.int64]:
        """Rows of the nearest training images in the feature space."""
        return self.proposals(cached_features(images, self.space, self.cache, self.train.range).features)

    def proposals(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = nearest(features, self.features, _PROPOSED)[1].numpy()
        return rows

    def at(
        self,
        images: Images,
        proposed: NDArray[np.int64] | None = None,
        progress: Callable[[int, int], None] | None = None,
        groups: NDArray[np.str_] | None = None,
    ) -> NearestImages:
        """The most similar training image of each; with `groups`, of another patient."""
        return nearest_images(
            images,
            self.train.images,
            self.train.range,
            groups_a=groups,
            groups_b=None if groups is None else self.train.groups,
            proposed=proposed,
            view=smooth_luma,
            search=self.search,
            progress=progress,
        )

    def leads(self, found: NearestImages, images: Images) -> NDArray[np.float64]:
        """How much nearer each lies to its nearest training image than to those of other patients: [n]."""
        others = nearest_images(
            images,
            self.train.images,
            self.train.range,
            groups_a=self.train.groups[found.rows],
            groups_b=self.train.groups,
            view=smooth_luma,
            search=_NEXT,
        )
        return lead_of(found.similarity, others.similarity)

    def distances(self, images: Images, found: NearestImages, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Distances of some of the aligned pairs in the feature space: float64 [places]."""
        result = np.empty(len(places))
        for start in range(0, len(places), _BATCH):
            part = places[start : start + _BATCH]
            some = found.take(part)
            pair = aligned_pairs(
                images[part], self.train.images[some.rows], some.elements, some.shifts, self.train.range
            )
            a, b = (self.confirming.features(_standard(side), _STANDARD).astype(np.float64) for side in pair)
            result[start : start + _BATCH] = np.sqrt(np.mean((a - b) ** 2, axis=1))
        return result


def _other_patients(
    look: _Look, sets: Sequence[tuple[ImageSet, NearestImages]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Similarities of all nearest pairs of different patients, and feature distances of those most alike."""
    similarities, distances = [], []
    for images, found in sets:
        known = np.flatnonzero(found.rows >= 0)
        similarities.append(found.similarity[known].astype(np.float64))
        alike = known[np.argsort(-found.similarity[known], kind="stable")[: max(_LEAST_ALIKE, len(known) // 10)]]
        distances.append(look.distances(images.images, found, alike))
    return np.concatenate(similarities), np.concatenate(distances)


def _planted_pairs(look: _Look, train: ImageSet, seed: int) -> tuple[Pairs, dict[str, Pairs]]:
    """Copies made on purpose, found again: half to set thresholds by, all kinds together, half by kind for recall."""
    structured = np.flatnonzero(~flat(train.images, train.range))
    if not len(structured):
        raise EvaluationError(
            "all training images are of one brightness; there is nothing that a copy could be told by."
        )
    rows = structured[_spread(len(structured), PLANTED)]
    values: dict[str, Pairs] = {}
    for kind, images in planted(train.images[rows], train.range, seed).items():
        found = look.at(images)
        distance = look.distances(images, found, np.arange(len(images)))
        values[kind] = Pairs(found.similarity.astype(np.float64), look.leads(found, images), distance)
    order = Draws(seed, "copies/halves").uniform(0, torch.arange(len(rows))).argsort().numpy()
    first, second = (order[::2], order[1::2]) if len(rows) > 1 else (order, order)
    halves = [pairs.take(first) for pairs in values.values()]
    positives = Pairs(
        np.concatenate([pairs.similarity for pairs in halves]),
        np.concatenate([pairs.lead for pairs in halves]),
        np.concatenate([pairs.distance for pairs in halves]),
    )
    return positives, {kind: pairs.take(second) for kind, pairs in values.items()}


def _pairs(
    look: _Look,
    synthetic: ImageSet,
    found: NearestImages,
    leads: NDArray[np.float64],
    thresholds: Thresholds,
) -> tuple[CopyPair, ...]:
    """Each synthetic image with its nearest training image: copies first, then the most similar."""
    train, group = look.train, positions(synthetic.shape[1:])
    order = np.argsort(-found.similarity, kind="stable")
    close = np.union1d(order[:SHOWN], np.flatnonzero(thresholds.accuses(found.similarity, leads)))
    distances = np.full(len(synthetic), np.inf)
    distances[close] = look.distances(synthetic.images, found, close)
    copies = thresholds.confirms(found.similarity, leads, distances)
    rows = found.rows if train.rows is None else train.rows[found.rows]
    return tuple(
        CopyPair(
            int(i),
            int(rows[i]),
            float(found.similarity[i]),
            float(leads[i]),
            float(distances[i]) if np.isfinite(distances[i]) else None,
            group[found.elements[i]].axes,
            group[found.elements[i]].flips,
            tuple(int(s) for s in found.shifts[i]),
            bool(copies[i]),
        )
        for i in np.lexsort((-found.similarity, ~copies))
    )


def _standard(images: Tensor) -> NDArray[np.float32]:
    """Each channel without its mean, the image with a standard deviation of one: brightness and contrast do not count."""
    axes = tuple(range(2, images.ndim))
    centred = images - images.mean(dim=axes, keepdim=True)
    spread = centred.flatten(1).square().mean(dim=1).sqrt().reshape(-1, *[1] * (images.ndim - 1))
    return (centred / spread.clamp_min(FLAT)).numpy()


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many places, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _middle_and_top(similarity: NDArray[np.float32]) -> tuple[float, float]:
    return float(np.median(similarity)), float(similarity.max())


def _counter(progress: Progress | None) -> Callable[[str], Callable[[int, int], None] | None]:
    if progress is None:
        return lambda what: None
    return lambda what: lambda done, total: progress(what, done, total)
