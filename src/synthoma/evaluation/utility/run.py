"""The study of a run: its model's images against its own frozen split; leaves evaluation/utility.json."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError
from synthoma.evaluation.folders import read_folder
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset, image_set_of_generated
from synthoma.evaluation.origins import FOLDER, GENERATED
from synthoma.evaluation.utility.opening import Sides
from synthoma.evaluation.utility.refusals import CHECKS, refuse_generated_source, refuse_other_data
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.study import study_utility
from synthoma.model import Model
from synthoma.recipe import content_hash
from synthoma.run import Run, read_json, write_json

FILE = "utility.json"
NO_LABELS = "has no classes: there is nothing that a classifier could tell apart. Prepare labelled images."
NO_CLASSES = (
    "this model makes images without a class, and a classifier needs classes: nothing can be said of its utility. Train a "
    "conditional model (model.conditions: [class]) on the same dataset. Or give images whose class is known, in a folder "
    "of each class, with --synthetic DIR; generators of one class each must have been trained on training patients of this dataset only."
)


def study_run(
    run: Run,
    dataset: Dataset,
    settings: UtilitySettings,
    *,
    synthetic: Path | None = None,
    selected: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Study the model of a run, or a folder of its images (`synthetic`), and write RUN/evaluation/utility.json.

    selected: folder of chosen images (`synthoma select`), a further arm. Raises `EvaluationError` for a model of other data,
    and for everything that `study_utility` refuses.
    """
    if not (run.model / "model.json").is_file():
        raise EvaluationError(f"{run.path} has no model yet; train it first: synthoma train {run.path} --resume")
    info = read_json(run.model / "model.json")
    refuse_other_data(info, dataset)
    refuse_generated_source(dataset)
    real = Sides(*(image_set_from_dataset(dataset, split) for split in ("train", "val", "test")))
    if not dataset.classes:
        raise EvaluationError(f"{dataset.path} {NO_LABELS}")
    made = (
        make_labelled(Model.load(run.model, settings.device), real.train.labels, dataset, settings)
        if synthetic is None
        else read_folder(synthetic)
    )
    chosen = None if selected is None else read_folder(selected)
    result = study_utility(real, made, settings, selected=chosen, progress=progress)
    origin = GENERATED if synthetic is None else FOLDER
    result |= {"model_hash": info["model_hash"], "synthetic": origin, "checked": list(CHECKS)}
    write_json(run.evaluation / FILE, result)
    return result


def make_labelled(model: Model, training: NDArray[np.int64], dataset: Dataset, settings: UtilitySettings) -> ImageSet:
    """As many images of each class as the highest ratio needs, and at least one for each real training image.

    training: class indices of the real training images, into the classes of `dataset`; -1 where there is none.
    """
    if not model.classes:
        raise EvaluationError(NO_CLASSES)
    ratio = max((1.0, *settings.ratios))
    counts = np.bincount(training[training >= 0], minlength=len(dataset.classes))
    names = [
        name
        for name, n in zip(dataset.classes, counts, strict=True)
        for _ in range(max(1, round(ratio * int(n))) if n else 0)
    ]
    samples = model.generate(len(names), names, seed=settings.seed)
    labels = np.array([dataset.classes.index(name) for name in names], dtype=np.int64)
    content = content_hash([model.hash, settings.seed, names])
    return image_set_of_generated(samples.images, labels, dataset, content)
