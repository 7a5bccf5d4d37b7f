"""From which similarity on a pair of images is a copy: set between copies made on purpose and pairs of different people.

Two numbers accuse a pair, each with half of the false alarms that are allowed. The similarity itself; and its lead: how much
nearer the image lies to this training image than to the nearest one of any other patient, 1 - (1 - s1) / (1 - s2). Some
kinds of picture all resemble each other (a dark spot on plain skin), and they set the level of the similarity; a picture
that has no double elsewhere is found by its lead. (The ratio of the two nearest distances: Lowe 2004 for matching, Carlini
et al. 2023, "Extracting training data from diffusion models", for copies.)

Both have a tail among new patients, and the search for copies looks at many images: so the level is not the largest
value seen, but the one that a generator of new patients would exceed in at most `FALSE_RUNS` of its searches. Near zero,
distances to a nearest neighbour follow a power law (of the local dimension), and so do their ratios: -log(1 - similarity)
and -log(1 - lead) have an exponential tail. A generalised Pareto distribution that is at most as long is fitted to it
(Hosking and Wallis 1987, probability weighted moments). Where copies made on purpose lie above that level, the threshold
lies between both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FALSE_RUNS = 0.01
TAIL = 0.1  # share of the pairs that the tail is fitted to
LEAST_IN_TAIL = 10
LEAST_NEGATIVES = 20
FALLBACK = 0.99  # similarity of near-duplicates, where there are too few real images to set a threshold by
MOST = 1 - 1e-4  # what rounding leaves of the similarity of an image and itself, and of its lead
BEYOND = (
    0.5  # half way from the level to the copies made on purpose: the tail of look-alikes is the less certain of the two
)
KEPT = 0.99  # share of the copies made on purpose that the feature space has to confirm

Array = NDArray[Any]


@dataclass(frozen=True)
class Thresholds:
    """A pair is a copy from `similarity` or from `lead` on, if its distance in the feature space is at most `distance`.

    level, lead_level: what `FALSE_RUNS` of the searches among new patients would exceed, together; copies: the 1 % quantile
    of the similarity of copies made on purpose; overlap: some of these lie below both levels, so that a copy may go
    unseen; negatives: pairs of different patients that the level rests on; by_data: whether they were enough;
    recall: kind of copy -> share found.
    """

    similarity: float
    lead: float
    distance: float
    level: float
    lead_level: float
    copies: float
    overlap: bool
    negatives: int
    by_data: bool
    recall: Mapping[str, float]

    def accuses(self, similarity: Array, lead: Array) -> NDArray[np.bool_]:
        """Which pairs are alike enough to be looked at in the feature space."""
        result: NDArray[np.bool_] = (similarity >= self.similarity) | (lead >= self.lead)
        return result

    def confirms(self, similarity: Array, lead: Array, distance: Array) -> NDArray[np.bool_]:
        """Which pairs are copies."""
        return self.accuses(similarity, lead) & (distance <= self.distance)

    def to_json(self) -> dict[str, Any]:
        return {
            "similarity": self.similarity,
            "lead": self.lead,
            "feature_distance": self.distance,
            "level_of_other_patients": self.level,
            "lead_of_other_patients": self.lead_level,
            "copies_made_on_purpose": self.copies,
            "pairs_of_other_patients": self.negatives,
            "set_by_data": self.by_data,
            "overlap": self.overlap,
        }


@dataclass(frozen=True)
class Pairs:
    """Similarity [n], lead [n] and feature distance [n] of pairs."""

    similarity: Array
    lead: Array
    distance: Array

    def take(self, places: Array) -> "Pairs":
        """Those of some pairs."""
        return Pairs(self.similarity[places], self.lead[places], self.distance[places])


def set_thresholds(
    similarities: Array, leads: Array, distances: Array, positives: Pairs, tested: Mapping[str, Pairs], searches: int
) -> Thresholds:
    """Thresholds between nearest pairs of different patients and copies made on purpose, for so many images searched.

    similarities [n]: of nearest pairs of different patients; leads [k]: of held-out images; distances [m]: of those most
    alike, in the feature space; tested: further copies by kind, which the thresholds were not set by: their share found
    is the recall.
    """
    by_data = len(similarities) >= LEAST_NEGATIVES
    rare = FALSE_RUNS / 2 / max(searches, 1)
    level = min(tail_level(similarities, rare), MOST) if by_data else FALLBACK
    # Without enough held-out images to set it by, only a lead of 1 accuses: that of the very image.
    lead_level = min(tail_level(leads, rare), MOST) if len(leads) >= LEAST_NEGATIVES else 1.0
    overlap = float(((positives.similarity > level) | (positives.lead > lead_level)).mean()) < KEPT
    copies = float(np.quantile(positives.similarity, 1 - KEPT))
    similarity = min(_between(level, copies), MOST)
    lead = _between(lead_level, float(np.quantile(positives.lead, 1 - KEPT)))
    above = (positives.similarity >= similarity) | (positives.lead >= lead)
    kept = float(np.quantile(positives.distance[above], KEPT)) if above.any() else 0.0
    # The likeness alone keeps false alarms rare. The feature space has to leave the copies in, and is to refuse what it
    # finds as far apart as other patients who look alike.
    distance = max(kept, float(np.quantile(distances, 1 - KEPT)) if by_data else 0.0)
    thresholds = Thresholds(
        similarity, lead, distance, level, lead_level, copies, overlap, len(similarities), by_data, {}
    )
    recall = {
        kind: float(thresholds.confirms(pairs.similarity, pairs.lead, pairs.distance).mean())
        for kind, pairs in tested.items()
    }
    return replace(thresholds, recall=recall)


def lead_of(nearest: Array, next_patient: Array) -> NDArray[np.float64]:
    """How much nearer images [n] lie to their nearest training image than to that of any other patient: 0 to 1.

    From the two similarities; 0 where there is no other patient (-1).
    """
    ratio = (1 - np.asarray(nearest, dtype=np.float64)) / np.maximum(1 - np.asarray(next_patient, np.float64), 1e-12)
    return np.where(np.asarray(next_patient) <= -1, 0.0, np.clip(1 - ratio, 0.0, 1.0))


def _between(level: float, copies: float) -> float:
    """From the level of other patients some way towards that of copies made on purpose, where these lie above it."""
    return level + max(copies - level, 0.0) * BEYOND


def tail_level(similarity: Array, probability: float) -> float:
    """The similarity (or lead) that is exceeded with so small a probability, from the largest of those seen (20 at least).

    Never below the largest of them, and below 1 unless that is 1.
    """
    ordered = -np.log(np.maximum(1 - np.sort(np.asarray(similarity, dtype=np.float64)), 1e-12))
    largest = float(ordered[-1])
    count = max(LEAST_IN_TAIL, round(TAIL * len(ordered)))
    start = float(ordered[-count - 1])
    excess = ordered[-count:] - start
    first = float(excess.mean())
    second = float((excess * (1 - (np.arange(1, count + 1) - 0.35) / count)).mean())
    level = largest
    if first > 2 * second > 0:
        # One standard error on the safe side: of a few pairs a tail is easily taken for too short.
        shape = min(max(2 - first / (first - 2 * second), -0.5) + 1 / math.sqrt(count), 0.0)
        scale = first * (1 - shape)
        share = max(probability * len(ordered) / count, 1e-300)
        level = start + scale * (-math.log(share) if shape > -1e-6 else (share**-shape - 1) / shape)
    return 1 - math.exp(-max(largest, level))
