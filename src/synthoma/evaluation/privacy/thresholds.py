"""From which similarity on a pair of images is a copy: set between copies made on purpose and pairs of different people.

The similarity of a real image to the nearest one of another patient has a tail, and the search for copies looks at many
images: so the level is not the largest similarity seen, but the one that a generator of new patients would exceed in at
most `FALSE_RUNS` of its searches. Near zero, distances to a nearest neighbour follow a power law (of the local
dimension), so that -log(1 - similarity) has an exponential tail; a generalised Pareto distribution that is at most as long
is fitted to it (Hosking and Wallis 1987, probability weighted moments). Where copies made on purpose lie above that level,
the threshold lies between both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FALSE_RUNS = 0.01
TAIL = 0.1  # share of the pairs that the tail is fitted to
LEAST_IN_TAIL = 10
LEAST_NEGATIVES = 20
FALLBACK = 0.98  # similarity of near-duplicates, where there are too few real images to set a threshold by
MOST = 1 - 1e-4  # what rounding leaves of the similarity of an image and itself
BEYOND = 0.25  # of the way from the level to the copies made on purpose: real ones are worse than these
KEPT = 0.99  # share of the copies made on purpose that the feature space has to confirm

Array = NDArray[Any]


@dataclass(frozen=True)
class Thresholds:
    """A pair is a copy from `similarity` on, if its distance in the feature space is at most `distance`.

    level: similarity that `FALSE_RUNS` of the searches among new patients would exceed; copies: the 1 % quantile of copies
    made on purpose; overlap: some of these lie below the level, so that a copy may go unseen; negatives: pairs of
    different patients that the level rests on; by_data: whether they were enough; recall: kind of copy -> share found.
    """

    similarity: float
    distance: float
    level: float
    copies: float
    negatives: int
    by_data: bool
    recall: Mapping[str, float]

    @property
    def overlap(self) -> bool:
        return self.copies <= self.level

    def confirms(self, similarity: Array, distance: Array) -> NDArray[np.bool_]:
        """Which pairs are copies."""
        result: NDArray[np.bool_] = (similarity >= self.similarity) & (distance <= self.distance)
        return result

    def to_json(self) -> dict[str, Any]:
        return {
            "similarity": self.similarity,
            "feature_distance": self.distance,
            "level_of_other_patients": self.level,
            "copies_made_on_purpose": self.copies,
            "pairs_of_other_patients": self.negatives,
            "set_by_data": self.by_data,
            "overlap": self.overlap,
        }


@dataclass(frozen=True)
class Pairs:
    """Similarity [n] and feature distance [n] of pairs."""

    similarity: Array
    distance: Array


def set_thresholds(
    similarities: Array, distances: Array, positives: Pairs, tested: Mapping[str, Pairs], searches: int
) -> Thresholds:
    """Thresholds between nearest pairs of different patients and copies made on purpose, for so many images searched.

    similarities [n]: of nearest pairs of different patients; distances [m]: of those most alike, in the feature space;
    tested: further copies by kind, which the thresholds were not set by: their share found is the recall.
    """
    by_data = len(similarities) >= LEAST_NEGATIVES
    level = min(tail_level(similarities, FALSE_RUNS / max(searches, 1)), MOST) if by_data else FALLBACK
    copies = float(np.quantile(positives.similarity, 1 - KEPT))
    similarity = min(level + max(copies - level, 0.0) * BEYOND, MOST)
    above = positives.similarity >= similarity
    kept = float(np.quantile(positives.distance[above], KEPT)) if above.any() else 0.0
    # The similarity alone keeps false alarms rare. The feature space has to leave the copies in, and is to refuse what it
    # finds as far apart as other patients who look alike.
    distance = max(kept, float(np.quantile(distances, 1 - KEPT)) if by_data else 0.0)
    found = {
        kind: float(((pairs.similarity >= similarity) & (pairs.distance <= distance)).mean())
        for kind, pairs in tested.items()
    }
    return Thresholds(similarity, distance, level, copies, len(similarities), by_data, found)


def tail_level(similarity: Array, probability: float) -> float:
    """The similarity that is exceeded with so small a probability, from the largest of those seen (20 at least).

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
