"""What is measured of a run beside fidelity: nodules, subgroups, and a detector of the model's own images."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from synthoma.dataset import Dataset
from synthoma.evaluation.anatomy import evaluate_anatomy
from synthoma.evaluation.contamination import FOLDER, describe_preparation
from synthoma.evaluation.detector import detector_json, train_detector
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.subgroups import columns_of, subgroup_coverage
from synthoma.recipe import EvaluationSection
from synthoma.run import Run, aside_folder, write_json


def write_studies(
    run: Run,
    dataset: Dataset,
    synthetic: ImageSet,
    test: ImageSet,
    train: ImageSet,
    section: EvaluationSection,
    model_hash: str,
    progress: Callable[[int, int], None],
) -> None:
    """Write evaluation/{subgroups, detector}.json, and anatomy.json where the images are volumes with masks of what they show.

    Each names the model that it is of. What too few images forbid is withheld in the files, with the reason.
    """
    rows = test.rows if test.rows is not None else np.arange(len(test))
    studies: dict[str, Callable[[], dict[str, Any]]] = {
        "subgroups": lambda: subgroup_coverage(
            synthetic, test, train, columns_of(dataset, rows), section, cache=run.private / "features"
        ),
        "detector": lambda: _detector(run, dataset, synthetic, test, train, section, model_hash),
    }
    if len(dataset.size) == 3 and dataset.channels == 1 and dataset.masks is not None:
        studies["anatomy"] = lambda: _anatomy(dataset, synthetic, test, train, section)
    for done, (name, study) in enumerate(studies.items()):
        progress(done, len(studies))
        write_json(run.evaluation / f"{name}.json", {**study(), "model_hash": model_hash})
    progress(len(studies), len(studies))


def ship_detector(run: Run) -> None:
    """Put the run's detector beside its model, where it travels with it; model.json and its hash stay as they are.

    Training anew replaces the model's folder, so this is asked whenever a run was evaluated.
    """
    made, shipped = run.evaluation / FOLDER, run.model / FOLDER
    if not made.is_dir():
        shutil.rmtree(shipped, ignore_errors=True)
        return
    with aside_folder(shipped) as aside:
        shutil.copytree(made, aside, dirs_exist_ok=True)


def _detector(
    run: Run,
    dataset: Dataset,
    synthetic: ImageSet,
    test: ImageSet,
    train: ImageSet,
    section: EvaluationSection,
    model_hash: str,
) -> dict[str, Any]:
    detector, result = train_detector(synthetic, test, train, section.seed)
    # One of an earlier model must not stay where none can be trained now.
    shutil.rmtree(run.evaluation / FOLDER, ignore_errors=True)
    if detector is not None:
        known = replace(detector, model_hash=model_hash, preparation=describe_preparation(dataset))
        known.save(run.evaluation / FOLDER)
    ship_detector(run)
    return dict(detector_json(result))


def _anatomy(
    dataset: Dataset, synthetic: ImageSet, test: ImageSet, train: ImageSet, section: EvaluationSection
) -> dict[str, Any]:
    masks = None if dataset.masks is None else np.asarray(dataset.masks[dataset.rows("test")])
    known = {None if one is None else tuple(round(length, 3) for length in one) for one in dataset.column("spacing")}
    spacing = known.pop() if len(known) == 1 else None
    return evaluate_anatomy(
        synthetic,
        test,
        train,
        section,
        spacing=None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        unit="hu" if dataset.unit == "hu" else "unknown",
        masks=masks,
    )
