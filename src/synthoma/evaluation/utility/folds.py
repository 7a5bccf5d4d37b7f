"""Repeated group-stratified folds, for sets that are too small for one test split; the generator is trained anew in each.

A generator that has seen a patient of the test fold would carry that patient into the training images of the classifier.
So nothing is shared between folds: `make_synthetic` is called with the training rows of each and sees no others.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.draws import Draws
from synthoma.errors import EvaluationError, nearest_name_hint
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.evaluation.utility.agreement import UNASKED, Answers, looked_at
from synthoma.evaluation.utility.arms import REAL, Arm, plan_arms, relabel
from synthoma.evaluation.utility.kept import load_fits, save_fits
from synthoma.evaluation.utility.opening import Opening, Sides, check_sets, open_study, refuse_unknown_class
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.study import Fits, Progress, fit_arms, numbered
from synthoma.metrics.estimate import Withheld
from synthoma.recipe import content_hash

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Rows of one fold: ascending, whole groups. The next fold of a repetition is the validation set of this one."""

    repetition: int
    number: int
    train: Rows
    validation: Rows
    test: Rows

    @property
    def name(self) -> str:
        """A name for files."""
        return f"repetition{self.repetition}-fold{self.number}"


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


MakeSynthetic = Callable[[Fold, int], ImageSet]


def study_folds(
    images: ImageSet,
    make_synthetic: MakeSynthetic,
    settings: UtilitySettings,
    *,
    folds: int = 5,
    repetitions: int | None = None,
    kept: Mapping[str, float] | None = None,
    keep: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`study_utility` by repeated folds: every labelled image is tested once in each repetition.

    images: all real images. make_synthetic(fold, seed) trains a generator on the fold's training rows of the labelled
    `images` only, and gives its labelled images. One repetition has `settings.seeds` classifiers of each arm in every
    fold. Of several (None: as many as seeds) each takes the place of a seed: it has its own folds, and its own seed for
    the generator and the classifier, so that the chance in training the generator is in the interval too.
    kept: class -> share of its training images that a fold keeps, for generator and classifiers alike: an imbalance made
    on purpose. keep: folder for the fits of folds that are done. `progress(done, total)` counts fits. AUC compares
    images of one fold only.
    """
    images = relabel(images, images.classes, "the images")
    repetitions = settings.seeds if repetitions is None else repetitions
    assigned = assign_folds(images, folds, repetitions, settings.seed)
    kept = kept or {}
    opening = open_folds(images, settings, folds, repetitions, kept)
    if opening.reason is not None:
        return opening.withheld()
    if repetitions == 1:
        blocks = np.repeat(assigned, settings.seeds, axis=0)
    else:
        blocks, settings = assigned, replace(settings, seeds=1)
    gathered, training = _Gathered(blocks, len(images.classes)), np.zeros(len(images.classes), dtype=np.int64)
    for number, fold in enumerate(iterate_folds(assigned)):
        fold = thin_fold(fold, images, kept, settings.seed)
        one = replace(settings, seed=settings.seed + fold.repetition)
        real = Sides(images.take(fold.train), images.take(fold.validation), images.take(fold.test))
        real, made, _ = check_sets(real, make_synthetic(fold, one.seed), None, one)
        arms, shown = plan_arms(real.train, made, None, one.ratios, one.seed), looked_at(made)
        training += np.bincount(real.train.labels, minlength=len(training))
        tell = None if progress is None else _among(progress, number, repetitions * folds)
        gathered.add(fold, arms, _fit_fold(fold, arms, real, shown, one, keep, tell), shown)
    return opening.conclude(
        gathered.arms(), gathered.complete(), gathered.records, gathered.answers(), training, blocks
    )


def thin_fold(fold: Fold, images: ImageSet, kept: Mapping[str, float], seed: int) -> Fold:
    """The fold with a share of the training images of some classes only, at least one; which ones is a draw of (seed, content)."""
    left_out = []
    for name, share in kept.items():
        rows = fold.train[np.isin(fold.train, images.rows_of(name))]
        chance = Draws(seed, "utility imbalance").uniform(fold.repetition, torch.arange(len(rows))).numpy()
        by_content = np.argsort(np.array([pixel_hash(images.images[row][None]) for row in rows]), kind="stable")
        order = rows[by_content[np.argsort(chance, kind="stable")]]
        left_out += order[max(1, round(share * len(rows))) :].tolist()
    return replace(fold, train=fold.train[~np.isin(fold.train, left_out)])


def open_folds(
    images: ImageSet, settings: UtilitySettings, folds: int, repetitions: int, kept: Mapping[str, float]
) -> Opening:
    """What is known before the first fold. images: all of them, with a class each."""
    refuse_unknown_class(settings, images.classes)
    for name, share in kept.items():
        if name not in images.classes or not 0 < share <= 1:
            raise EvaluationError(
                f"the share {share:g} of class '{name}' cannot be kept{nearest_name_hint(name, images.classes) or '.'} Shares lie "
                f"above 0 and up to 1; classes are {', '.join(images.classes)}."
            )
    generator = "the chance in training it is in the interval" if repetitions > 1 else "trained once in each fold"
    times = "" if repetitions == 1 else f"{repetitions} repetitions of "
    design = f"{times}{folds} folds by patient or group, the generator trained anew in each"
    return open_study(
        Sides(images, images, images),
        {"real": images},
        settings,
        settings.seeds if repetitions == 1 else repetitions,
        design,
        folds={"folds": folds, "repetitions": repetitions, "generator": generator, "kept": dict(kept)},
    )


def _among(progress: Progress, number: int, count: int) -> Progress:
    """Progress within fold `number` of `count`, told as progress of all of them."""
    return lambda done, total: progress(number * total + done, count * total)


def _fit_fold(
    fold: Fold,
    arms: list[Arm],
    real: Sides,
    shown: ImageSet,
    settings: UtilitySettings,
    keep: Path | None,
    progress: Progress | None,
) -> dict[str, Fits]:
    """The fits of a fold; those on disk, where they were made of the same images with the same settings."""
    if keep is None:
        return fit_arms(arms, real, shown, settings, progress)
    pools = [
        [arm.name, pixel_hash(arm.pool.images), arm.pool.labels.tolist()]
        for arm in arms
        if not isinstance(arm.pool, Withheld)
    ]
    held = [[side.content, side.labels.tolist()] for side in (real.validation, real.test)]
    key, file = content_hash([settings.protocol(), pools, held]), keep / f"{fold.name}.json"
    fits = load_fits(file, key)
    if fits is None:
        fits = fit_arms(arms, real, shown, settings, progress)
        save_fits(file, key, fits)
    return fits


class _Gathered:
    """Predictions of all folds, put together to one a column (a seed of one repetition, else a repetition); an arm that one
    fold withholds is withheld. blocks [columns, n]: fold of each image."""

    def __init__(self, blocks: NDArray[np.int64], classes: int) -> None:
        self.shape = (*blocks.shape, classes)
        self.planned: dict[str, Arm] = {}
        self.reasons: dict[str, Withheld] = {}
        self.values: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
        self.records: dict[str, list[dict[str, Any]]] = {}
        self.labels: list[NDArray[np.int64]] = []
        self.said: list[NDArray[np.int64]] = []

    def add(self, fold: Fold, arms: list[Arm], fits: dict[str, Fits], shown: ImageSet) -> None:
        """Predictions of a fold; shown: the synthetic images that the classifiers of its real arm were asked about."""
        for arm in arms:
            self.planned.setdefault(arm.name, arm)
            if isinstance(arm.pool, Withheld):
                self.reasons.setdefault(arm.name, arm.pool)
                continue
            probabilities, thresholds = self.values.setdefault(
                arm.name, (np.full(self.shape, np.nan), np.full(self.shape, np.nan))
            )
            for place, record in enumerate(fits[arm.name].records):
                column = fold.repetition + place
                probabilities[column, fold.test] = fits[arm.name].probabilities[place]
                thresholds[column, fold.test] = fits[arm.name].thresholds[place]
                told = {"repetition": fold.repetition, "fold": fold.number, **record}
                self.records.setdefault(arm.name, []).append(told)
        said = np.full((self.shape[0], len(shown)), UNASKED, dtype=np.int64)
        for place, one in enumerate(fits[REAL].on_synthetic):
            said[fold.repetition + place] = one
        self.labels.append(shown.labels)
        self.said.append(said)

    def answers(self) -> Answers:
        """What the real arm's classifiers of each fold said of the images of its own generator."""
        labels = np.concatenate(self.labels)
        return Answers(labels, np.concatenate(self.said, axis=1), numbered(len(labels)))

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
