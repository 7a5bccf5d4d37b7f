"""The nodules of the utility benchmark: malignant against benign by the radiologists' rating, made imbalanced, in folds.

Of a hundred cubes 70 have a clear rating: too few for one test split. So every cube is tested once, and in each fold a GAN is
trained anew. nodules3d_rating3 is the sensitivity study, where the indeterminate rating 3 counts as benign. In both, every fold
keeps a third of its malignant training cubes only.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthoma.evaluation.utility import UtilitySettings
from synthoma.experiments.utility_folds import study_run_folds
from synthoma.recipe import load_recipe
from synthoma.run import Run
from synthoma.training.start import prepare_run
from synthoma.workflow import Observer, prepare_dataset, remember_dataset

ARCHIVE = "lidc_nodules_51.npz"
NAMES = ["benign", "malignant"]
RATINGS = {"nodules3d": ((1, 2), (4, 5)), "nodules3d_rating3": ((1, 2, 3), (4, 5))}
FOLDS = 3
KEPT = {"malignant": 1 / 3}
LEARNING = {"batch": 16, "updates": 60, "check_every": 10}


def study(
    name: str, data: Path, folder: Path, settings: UtilitySettings, recipes: Path, observer: Observer
) -> dict[str, Any]:
    """One of the studies of `RATINGS`. data: folder of the archive; folder: where dataset and run go."""
    settings = replace(settings, symmetries="cube", positive="malignant", **LEARNING)
    recipe = load_recipe(str(recipes / "nodules3d.yaml"))
    benign, malignant = RATINGS[name]
    if not (folder / "dataset" / "dataset.json").is_file():
        write_archive(data / ARCHIVE, folder / "cubes.npz", benign, malignant)
        prepare_dataset(recipe, folder / "cubes.npz", folder / "dataset", observer)
    run = Run(folder / "run")
    prepare_run(run, recipe)
    remember_dataset(run, folder / "dataset")
    told = study_run_folds(run, settings, observer, folds=FOLDS, kept=KEPT)
    ratings = {"benign": list(benign), "malignant": list(malignant)}
    return {**told, "ratings": ratings, "generator": {"recipe": recipe.name, "family": recipe.model.family}}


def write_archive(source: Path, out: Path, benign: tuple[int, ...], malignant: tuple[int, ...]) -> None:
    """An .npz in the MedMNIST layout with the cubes of these malignancy ratings, labelled by them."""
    with np.load(source, allow_pickle=False) as archive:
        splits = [split for split in ("train", "val", "test") if f"{split}_images" in archive]
        column = list(archive["rating_names"]).index("malignancy")
        images, ratings, ids = (
            np.concatenate([archive[f"{split}_{part}"] for split in splits]) for part in ("images", "ratings", "ids")
        )
    rating = ratings[:, column]
    kept = np.isin(rating, benign + malignant)
    labels = np.isin(rating[kept], malignant).astype(np.uint8)[:, None]
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out, train_images=images[kept], train_labels=labels, train_ids=ids[kept], label_names=np.array(NAMES)
    )
