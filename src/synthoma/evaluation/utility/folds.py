"""Repeated group-stratified folds, for sets that are too small for one test split; the generator is trained anew in each.

A generator that has seen a patient of the test fold would carry that patient into the training images of the classifier.
So nothing is shared between folds: `make_synthetic` is called with the training rows of each and sees no others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.draws import Draws
from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.evaluation.utility.arms import Arm, plan_arms, relabel
from synthoma.evaluation.utility.refusals import CHECKS, withhold_classes, withhold_study
from synthoma.evaluation.utility.results import Outcomes, summarise
from synthoma.evaluation.utility.scores import Judged
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.study import (
    SCHEMA,
    Fits,
    Sides,
    check_sets,
    count_images,
    fit_arms,
    make_protocol,
)
from synthoma.metrics.estimate import Withheld
from synthoma.networks.classifiers import describe_classifier

Rows = NDArray[np.int64]
MakeSynthetic = Callable[[Rows, int], ImageSet]


@dataclass(frozen=True)
class Fold:
    """Rows of one fold: ascending, whole groups. The next fold of a repetition is the validation set of this one."""

    repetition: int
    number: int
    train: Rows
    validation: Rows
    test: Rows


def assign_folds(images: ImageSet, folds: int, repetitions: int, seed: int) -> NDArray[np.int64]:
    """Fold of each image in each repetition: [repetitions, n]. Whole groups, each class spread as evenly as they allow.

    Groups go one after the other, those with most images first, to the fold that lacks most of their classes. Among
    groups alike the order is a draw of (seed, content), so that names and order of the images do not matter.
    """
    names, number = np.unique(images.groups, return_inverse=True)
    if folds < 3:
        raise EvaluationError("there are at least three folds: to train on, to stop early on, and to test on.")
    if len(names) < folds:
        raise EvaluationError(f"{folds} folds need as many patients or groups, and there are {len(names)}.")
    kinds = np.unique(images.labels)
    sizes = np.zeros((len(names), len(kinds)))
    np.add.at(sizes, (number, np.searchsorted(kinds, images.labels)), 1)
    share = sizes / sizes.sum(axis=0)  # of a class that a group holds
    order = _by_content(images, number)
    result = np.empty((repetitions, len(images)), dtype=np.int64)
    for repetition in range(repetitions):
        chance = Draws(seed, "utility folds").uniform(repetition, torch.arange(len(names))).numpy()[order]
        turn = np.lexsort((chance, -sizes.sum(axis=1)))
        held, fold_of = np.zeros((folds, len(kinds))), np.empty(len(names), dtype=np.int64)
        images_of = np.zeros(folds)
        for group in turn:
            excess = held @ share[group]
            ties = np.flatnonzero(excess <= excess.min() + 1e-12)
            fold_of[group] = ties[np.argmin(images_of[ties])]
            held[fold_of[group]] += share[group]
            images_of[fold_of[group]] += sizes[group].sum()
        result[repetition] = fold_of[number]
    return result


def iterate_folds(assigned: NDArray[np.int64]) -> Iterator[Fold]:
    """Train, validation and test rows of every fold of every repetition."""
    count = int(assigned.max()) + 1
    for repetition, fold_of in enumerate(assigned):
        for number in range(count):
            test, held = fold_of == number, fold_of == (number + 1) % count
            yield Fold(
                repetition, number, *(np.flatnonzero(mask).astype(np.int64) for mask in (~test & ~held, held, test))
            )


def study_folds(
    images: ImageSet,
    make_synthetic: MakeSynthetic,
    settings: UtilitySettings,
    *,
    folds: int = 5,
    repetitions: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """`study_utility` by repeated folds: every labelled image is tested once in each repetition.

    images: all real images. make_synthetic(train_rows, seed) trains a generator on these rows of `images` only, and gives
    its labelled images. Repetitions (None: as many as seeds) take the place of seeds: each has its own folds, and its own
    seed for the generator and the classifier. `progress(done, total)` counts folds. AUC compares images of one fold only.
    """
    images = relabel(images, images.classes, "the images")
    repetitions = settings.seeds if repetitions is None else repetitions
    assigned = assign_folds(images, folds, repetitions, settings.seed)
    withheld = withhold_classes(images, images, settings.least_images, settings.least_groups)
    judged = [number for number, name in enumerate(images.classes) if name not in withheld]
    result = _frame(images, settings, withheld, folds, repetitions)
    reason = withhold_study(images, images, judged)
    if reason is None and settings.positive in withheld:
        reason = withheld[settings.positive]
    if reason is not None:
        return {**result, "withheld": reason.reason}
    gathered = _Gathered(assigned, len(images.classes))
    for fold in iterate_folds(assigned):
        seed = settings.seed + fold.repetition
        real = Sides(images.take(fold.train), images.take(fold.validation), images.take(fold.test))
        made = make_synthetic(fold.train, seed)
        real, made, _ = check_sets(real, made, None, settings)
        arms = plan_arms(real.train, made, None, settings.ratios, seed)
        one = UtilitySettings(**{**settings.__dict__, "seed": seed, "seeds": 1})
        gathered.add(fold, arms, fit_arms(arms, real, one))
        if progress:
            progress(fold.repetition * folds + fold.number + 1, repetitions * folds)
    positive = None if settings.positive is None else images.classes.index(settings.positive)
    outcomes = Outcomes(
        Judged(images.labels, images.classes, judged, positive, assigned),
        images.groups,
        gathered.complete(),
        np.bincount(images.labels, minlength=len(images.classes)),
    )
    return {**result, **summarise(gathered.arms(), outcomes, gathered.records, settings)}


class _Gathered:
    """Predictions of all folds, put together to one a repetition; an arm that one fold withholds is withheld."""

    def __init__(self, assigned: NDArray[np.int64], classes: int) -> None:
        self.shape = (*assigned.shape, classes)
        self.planned: dict[str, Arm] = {}
        self.reasons: dict[str, Withheld] = {}
        self.values: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self.records: dict[str, list[dict[str, Any]]] = {}

    def add(self, fold: Fold, arms: list[Arm], fits: dict[str, Fits]) -> None:
        for arm in arms:
            self.planned.setdefault(arm.name, arm)
            if isinstance(arm.pool, Withheld):
                self.reasons.setdefault(arm.name, arm.pool)
                continue
            probabilities, thresholds = self.values.setdefault(
                arm.name, (np.full(self.shape, np.nan), np.full(self.shape, np.nan))
            )
            probabilities[fold.repetition, fold.test] = fits[arm.name].probabilities[0]
            thresholds[fold.repetition, fold.test] = fits[arm.name].thresholds[0]
            record = {"repetition": fold.repetition, "fold": fold.number, **fits[arm.name].records[0]}
            self.records.setdefault(arm.name, []).append(record)

    def arms(self) -> list[Arm]:
        """The arms of the first fold; withheld where any fold withheld them."""
        return [
            Arm(arm.name, arm.title, self.reasons.get(name, arm.pool), arm.augmented, arm.weighted)
            for name, arm in self.planned.items()
        ]

    def complete(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Probabilities and thresholds of the arms that every fold has."""
        return {name: values for name, values in self.values.items() if name not in self.reasons}


def _by_content(images: ImageSet, number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each group by the smallest hash of its images: [groups]."""
    firsts: dict[int, str] = {}
    for group, image in zip(number.tolist(), images.images, strict=True):
        digest = pixel_hash(image[None])
        firsts[group] = min(firsts.get(group, digest), digest)
    ranks = np.empty(len(firsts), dtype=np.int64)
    ranks[sorted(firsts, key=lambda group: firsts[group])] = np.arange(len(firsts))
    return ranks


def _frame(
    images: ImageSet, settings: UtilitySettings, withheld: dict[str, Withheld], folds: int, repetitions: int
) -> dict[str, Any]:
    channels, *size = images.shape
    classifier = describe_classifier(channels, tuple(size), len(images.classes))
    protocol = make_protocol(
        Sides(images, images, images), settings, {**classifier, "folds": folds, "repetitions": repetitions}
    )
    return {
        "schema": SCHEMA,
        "design": f"{repetitions} repetitions of {folds} folds by patient or group, the generator trained anew in each",
        "protocol": protocol,
        "classes": list(images.classes),
        "class_of_interest": settings.positive,
        "counts": {"real": count_images(images)},
        "seeds": list(range(settings.seed, settings.seed + repetitions)),
        "budget": {
            "gflop_forward": classifier["gflop_forward"],
            "updates_a_fit": settings.updates,
            "batch": settings.batch,
        },
        "checked": list(CHECKS[:2]),
        "withheld_classes": {name: reason.reason for name, reason in withheld.items()},
    }
