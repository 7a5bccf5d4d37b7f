"""The utility study of a run by folds, with its generator trained anew in each: for sets too small for one test split.

RUN/private/folds/FOLD-KEY/    the run of a fold: its model; while it trains, its checkpoints and its dataset too
RUN/private/folds/FOLD-KEY.json    what the classifiers of a fold said
RUN/evaluation/utility.json    the result, which takes the place of an earlier study's

A fold's dataset holds its training and validation images and no others, so test patients cannot reach its generator. A
validation image chooses the released weights, as in any run, and nothing else. KEY is a hash of dataset, rows and recipe: a fold
that is done is found again, and one that was made of something else is not.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError, Interrupted, TrainingError
from synthoma.evaluation.imagesets import ImageSet, image_set_from_rows
from synthoma.evaluation.origins import FOLDED
from synthoma.evaluation.utility import Fold, UtilitySettings, assign_folds, iterate_folds, study_folds
from synthoma.evaluation.utility.arms import Pool, plan_arms
from synthoma.evaluation.utility.folds import open_folds, thin_fold
from synthoma.evaluation.utility.refusals import CHECKS, refuse_generated_source, refuse_other_data
from synthoma.evaluation.utility.run import FILE, NO_CLASSES, NO_LABELS, make_labelled
from synthoma.evaluation.utility.train import fit_classifier
from synthoma.model import Model
from synthoma.preparation.subset import subset_content, write_subset
from synthoma.recipe import Recipe, content_hash
from synthoma.run import Run, read_json, write_json
from synthoma.training.cost import estimate_cost
from synthoma.training.start import read_recipe
from synthoma.training.world import join_world
from synthoma.workflow import Observer, run_dataset, train_run

CHECK = "each generator was trained on the training patients of its fold; those of its test were not in its dataset"
_TIMED_UPDATES = 3


@dataclass(frozen=True)
class _Generators:
    """Trains, or finds, the generator of each fold. images: the labelled ones of `dataset`, with their rows."""

    run: Run
    dataset: Dataset
    images: ImageSet
    recipe: Recipe
    settings: UtilitySettings
    observer: Observer
    total: int
    told: list[dict[str, Any]]

    @property
    def folder(self) -> Path:
        return self.run.private / "folds"

    def rows(self, fold: Fold) -> dict[str, NDArray[np.int64]]:
        """Rows of the dataset that the generator of a fold is given."""
        assert self.images.rows is not None
        return {"train": self.images.rows[fold.train], "val": self.images.rows[fold.validation]}

    def recipe_of(self, fold: Fold) -> Recipe:
        """The run's recipe with a seed for each repetition."""
        seed = self.recipe.training.seed + fold.repetition
        return self.recipe.model_copy(
            update={"training": self.recipe.training.model_copy(update={"seed": seed, "tensorboard": False})}
        )

    def place(self, fold: Fold) -> Run:
        """Where the generator of a fold is, or will be."""
        trained_by = self.recipe_of(fold).part_hash("preparation", "model", "training")
        key = content_hash([subset_content(self.dataset, self.rows(fold)), trained_by])
        return Run(self.folder / f"{fold.name}-{key[:8]}")

    def is_done(self, fold: Fold) -> bool:
        place = self.place(fold)
        finished = place.training_file.is_file() and read_json(place.training_file)["finished"]
        return bool(finished) and (place.model / "model.json").is_file()

    def images_of(self, fold: Fold, seed: int) -> ImageSet:
        """Labelled images of the fold's generator, which is trained first where it is not there."""
        place, number = self.place(fold), len(self.told) + 1
        people = len(np.unique(self.images.groups[fold.train]))
        if self.is_done(fold):
            self.observer.say(f"Fold {number} of {self.total}: its generator is there already.")
        else:
            self.observer.say(
                f"Fold {number} of {self.total}: training a generator on {len(fold.train)} images of {people} patients or groups."
            )
            self._train(fold, place, number)
        model = Model.load(place.model, self.settings.device)
        if model.info["dataset"]["content"] != subset_content(self.dataset, self.rows(fold)):
            raise EvaluationError(f"{place.path} holds a model of other data than its fold; delete it and try again.")
        training = read_json(place.training_file)
        self.told.append(
            {
                "repetition": fold.repetition,
                "fold": fold.number,
                "training_images": len(fold.train),
                "training_groups": people,
                "images_seen": training["images_seen"],
                "released_at_images": model.info["images_seen"],
                "seconds": round(training["seconds"], 1),
                "model_hash": model.hash,
            }
        )
        return make_labelled(model, self.images.labels[fold.train], self.dataset, replace(self.settings, seed=seed))

    def _train(self, fold: Fold, place: Run, number: int) -> None:
        if not (place.own_dataset / "dataset.json").is_file():
            write_subset(self.dataset, self.rows(fold), place.own_dataset)
        try:
            train_run(self.recipe_of(fold), place.own_dataset, place.path, self.observer)
        except Interrupted as interruption:
            raise Interrupted(
                f"Stopped while the generator of fold {number} of {self.total} was trained; a checkpoint was saved. "
                "The same command goes on from there."
            ) from interruption
        # Pixels of patients and discriminators are not kept where nothing needs them any more.
        for folder in (place.own_dataset, place.checkpoints):
            shutil.rmtree(folder)


def study_run_folds(
    run: Run,
    settings: UtilitySettings,
    observer: Observer,
    *,
    folds: int,
    repetitions: int = 1,
    kept: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Study the recipe of a run by folds of all images of its dataset, and write RUN/evaluation/utility.json.

    One repetition has `settings.seeds` classifiers of each arm and one generator in each fold; of several, each has its
    own folds, generators and classifiers. kept: class -> share of its training images that a fold keeps, an imbalance
    made on purpose. The run need not be trained; if it is, its recipe must be the one that its model was trained by.
    Raises `EvaluationError` for models or data without classes, generators that began from one trained on these data,
    and all that `study_folds` refuses; `Interrupted` where the user stopped it: the same call goes on.
    """
    recipe = read_recipe(run)
    with run.locked():
        dataset = run_dataset(run)
        images = _labelled(dataset)
        _check(run, recipe, dataset)
        told: list[dict[str, Any]] = []
        generators = _Generators(run, dataset, images, recipe, settings, observer, folds * repetitions, told)
        if open_folds(images, settings, folds, repetitions, kept or {}).reason is None:
            _say_cost(generators, folds, repetitions, kept or {})
        result = study_folds(
            images,
            generators.images_of,
            settings,
            folds=folds,
            repetitions=repetitions,
            kept=kept,
            keep=generators.folder,
            progress=lambda done, total: observer.progress("Training classifiers", done, total),
        )
        model = run.model / "model.json"
        result |= {
            "model_hash": read_json(model)["model_hash"] if model.is_file() else None,
            "synthetic": FOLDED,
            "checked": [*CHECKS[:2], CHECK],
            "generators": told,
        }
        write_json(run.evaluation / FILE, result)
    return result


def _labelled(dataset: Dataset) -> ImageSet:
    """All images of a dataset that have a class."""
    if not dataset.classes:
        raise EvaluationError(f"{dataset.path} {NO_LABELS}")
    rows = np.flatnonzero(dataset.labels >= 0).astype(np.int64)
    return image_set_from_rows(dataset, rows, f"{dataset.content_hash}/labelled")


def _check(run: Run, recipe: Recipe, dataset: Dataset) -> None:
    """Refuse what would make the folds worthless, before anything is trained."""
    if join_world(recipe.training.device).count > 1:
        raise TrainingError("a study by folds runs in one process; start it without torchrun.")
    if "class" not in recipe.model.conditions:
        raise EvaluationError(NO_CLASSES)
    refuse_generated_source(dataset)
    start = recipe.training.init_from
    if start:
        files = [file for file in (Path(start, "model", "model.json"), Path(start, "model.json")) if file.is_file()]
        known = read_json(files[0]).get("dataset", {}).get("content") if files else None
        if known is None or known == dataset.content_hash:
            raise EvaluationError(
                f"training.init_from: {start} was trained on these data, or does not say on which; test patients would reach "
                "the generators of the folds through it. Use a run that begins from drawn weights, or from other data."
            )
    if not (run.model / "model.json").is_file():
        return
    info = read_json(run.model / "model.json")
    refuse_other_data(info, dataset)
    seen = read_json(run.training_file)["images_seen"] if run.training_file.is_file() else 0
    if seen < recipe.training.kimg * 1000 and not read_json(run.training_file)["ended"]:
        raise EvaluationError(
            f"{run.path} was trained on {seen / 1000:g} of the {recipe.training.kimg:g} kimg of its recipe, and the folds would be "
            f"trained on all of them. Finish it first: synthoma train {run.path} --resume"
        )


def _say_cost(generators: _Generators, folds: int, repetitions: int, kept: Mapping[str, float]) -> None:
    """What is ahead, from a few measured steps of the generator and of the classifier."""
    images, settings, recipe = generators.images, generators.settings, generators.recipe
    every = list(iterate_folds(assign_folds(images, folds, repetitions, settings.seed)))
    every = [thin_fold(fold, images, kept, settings.seed) for fold in every]
    missing = [fold for fold in every if not generators.is_done(fold)]
    minutes = 0.0
    if missing:
        cost = estimate_cost(recipe, len(images.classes), len(images.shape) - 1)
        minutes = len(missing) * cost.training_seconds / 60
    first = images.take(every[0].train)
    arms = len(plan_arms(first, first, None, settings.ratios, settings.seed))
    fits = len(every) * arms * (settings.seeds if repetitions == 1 else 1)
    few = replace(settings, updates=_TIMED_UPDATES, check_every=_TIMED_UPDATES)
    pool = Pool(first.images, first.labels, first.range)
    start = time.perf_counter()
    fit_classifier(pool, Pool(first.images[:1], first.labels[:1], first.range), len(images.classes), few, 0)
    each = (time.perf_counter() - start) / _TIMED_UPDATES * settings.updates
    generators.observer.say(
        f"{len(missing)} of {len(every)} generators are to be trained ({recipe.training.kimg:g} kimg each): about {minutes:.0f} minutes; "
        f"then at most {fits} classifiers of {settings.updates} updates, about {fits * each / 60:.0f} minutes."
    )
