"""Does a classifier that knows real images only see in synthetic ones the class that was asked for?

Its accuracy on real test images is the ceiling: beyond it nobody could tell whether image or classifier errs. Ravuri and
Vinyals 2019 ("Classification accuracy score for conditional generative models") name the reverse, training on synthetic
images and testing on real ones, which is the arm "synthetic only"; this one is the GAN-test of Shmelkov et al. 2018
("How good is my GAN?"). It does not see a lack of diversity: one good image of each class a thousand times has 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.statistics import Figure, bootstrap_weights, figure
from synthoma.metrics.estimate import Withheld

MOST_OF_CLASS = 500  # synthetic images of a class that are looked at
LEAST_OF_CLASS = 10
UNASKED = -1  # in `Answers.said`: this classifier was not shown this image
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What classifiers said of images. labels [n]: the class asked for, or the true one; said [columns, n]: class index, or
    `UNASKED`; groups [n]: patients of real images, an own group for each synthetic one. A column is a seed or repetition."""

    labels: NDArray[np.int64]
    said: NDArray[np.int64]
    groups: NDArray[np.str_]


def looked_at(synthetic: ImageSet) -> ImageSet:
    """The first `MOST_OF_CLASS` images of each class: a generator's images are in no order."""
    chosen = [np.flatnonzero(synthetic.labels == number)[:MOST_OF_CLASS] for number in range(len(synthetic.classes))]
    return synthetic.take(np.sort(np.concatenate(chosen)).astype(np.int64))


def measure_agreement(
    synthetic: Answers, real: Answers, classes: Sequence[str], judged: Sequence[int], settings: UtilitySettings
) -> dict[str, Any]:
    """Share of the images of each class that are taken for it, synthetic beside real, and confusion matrices.

    judged: indices of the classes with real test images enough; "all" is the mean over these. Intervals are over
    images (of real ones, patients) and classifiers; the generators are those at hand.
    """
    told = {"synthetic": _Told(synthetic, judged, settings), "real": _Told(real, judged, settings)}
    return {
        "what": "share of the images of a class that classifiers trained on real images only take for it",
        "most_of_class": MOST_OF_CLASS,
        "all": {name: one.mean().to_json() for name, one in told.items()},
        "classes": {
            classes[number]: {name: one.of_class(number).to_json() for name, one in told.items()} for number in judged
        },
        "confusion": {
            name: confusion(answers, len(classes)) for name, answers in (("synthetic", synthetic), ("real", real))
        },
    }


def confusion(answers: Answers, classes: int) -> dict[str, Any]:
    """images: of each class [k]; shares: row of a class, share of its images that are taken for each class, mean over the
    classifiers [k][k]; a row of None where there are no images."""
    counts = np.zeros((classes, classes))
    for said in answers.said:
        asked = said != UNASKED
        np.add.at(counts, (answers.labels[asked], said[asked]), 1)
    totals = counts.sum(axis=1)
    shares = [
        [round(float(value / total), 4) for value in row] if total else None
        for row, total in zip(counts, totals, strict=True)
    ]
    return {"images": np.bincount(answers.labels, minlength=classes).tolist(), "shares": shares}


class _Told:
    """Recalls of one set of images, with resamples of all its groups at once: a patient may have images of several classes."""

    def __init__(self, answers: Answers, judged: Sequence[int], settings: UtilitySettings) -> None:
        counts = {number: int((answers.labels == number).sum()) for number in judged}
        self.few = {number: count for number, count in counts.items() if count < LEAST_OF_CLASS}
        self.groups = len(np.unique(answers.groups))
        self.groups_of = {number: len(np.unique(answers.groups[answers.labels == number])) for number in judged}
        weights = bootstrap_weights(answers.groups, settings.bootstraps, settings.seed)
        once = np.ones((1, len(answers.labels)))
        self.recalls = {
            number: (_recalls(answers, number, once)[0], _recalls(answers, number, weights))
            for number in judged
            if number not in self.few
        }

    def of_class(self, number: int) -> Figure | Withheld:
        if number in self.few:
            return Withheld(f"{self.few[number]} images of this class; {LEAST_OF_CLASS} are needed")
        return figure(*self.recalls[number], self.groups_of[number])

    def mean(self) -> Figure | Withheld:
        """The mean over the classes."""
        if self.few:
            return Withheld("a class has too few images")
        values, resampled = (np.mean([pair[place] for pair in self.recalls.values()], axis=0) for place in (0, 1))
        return figure(values, resampled, self.groups)


def _recalls(answers: Answers, number: int, weights: Floats) -> Floats:
    """Share of the images of a class that are taken for it: [weightings, columns]; NaN where none was asked."""
    rows = answers.labels == number
    said, own = answers.said[:, rows], weights[:, rows]
    total = own @ (said != UNASKED).T.astype(np.float64)
    right = own @ (said == number).T.astype(np.float64)
    return np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)
