"""Utility of trained models on real data: does a classifier do better on real patients with their images than without?

Each set is prepared, a GAN is trained by the recipe beside this file (utility_recipes/), `synthoma select` chooses from
its images, and the utility study is made in all arms. Everything lies in the scratch folder; what is there is not made
again, so that a run that was interrupted goes on. `--set posing` is the ceiling: half of the training patients of
pap_smear pose as a generator for the other half. `--set nodules3d` studies in folds, with a GAN for each;
nodules3d_rating3 is its sensitivity study.
Run: python benchmarks/utility.py --set pap_smear --data-root DATA --scratch FOLDER
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import utility_nodules
from results import FOLDER, header, write_result
from synthoma.cli.console import ConsoleObserver
from synthoma.dataset import Dataset
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset
from synthoma.evaluation.utility import Sides, UtilitySettings, assign_folds, study_run, study_utility
from synthoma.recipe import Recipe, load_recipe
from synthoma.run import Run, read_json
from synthoma.synthesis.select import SelectionSettings, select_from
from synthoma.workflow import Observer, prepare_dataset, run_dataset, train_run

RESULT = FOLDER / "utility.json"
RECIPES = Path(__file__).parent / "utility_recipes"
PICTURES = ("skin9", "pap_smear")
SETS = (*PICTURES, "posing", *utility_nodules.RATINGS)
RATIOS = (0.5, 1.0, 2.0)
CANDIDATES = 2000  # that `synthoma select` chooses from
SELECTION_UPDATES = 240  # of its classifier
SYMMETRIES = "dihedral"  # of cells and of skin from above
MOST_GFLOP, MOST_SECONDS = 1.0, 60.0
KEPT_SCORES = ("auc", "balanced_accuracy", "sensitivity", "specificity", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with skin9/, pap_smear/, nodules3d/")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for datasets, runs and chosen images")
    parser.add_argument("--updates", type=int, default=300, help="optimiser updates of each fit")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    name, scratch = arguments.set, arguments.scratch
    settings = UtilitySettings(ratios=RATIOS, seeds=arguments.seeds, updates=arguments.updates, symmetries=SYMMETRIES)
    with ConsoleObserver() as observer:
        if name in PICTURES:
            told = study_pictures(name, arguments.data_root / name, scratch / name, settings, observer)
        elif name == "posing":
            told = study_posing(arguments.data_root / "pap_smear", scratch / "pap_smear", settings, observer)
        else:
            data = arguments.data_root / "nodules3d"
            told = utility_nodules.study(name, data, scratch / name, settings, RECIPES, observer)
    gather(name, shortened(told))


def study_pictures(
    name: str, data: Path, scratch: Path, settings: UtilitySettings, observer: Observer
) -> dict[str, Any]:
    """Prepare, train, select and study a set of pictures with one split."""
    run, dataset = trained(load_recipe(str(RECIPES / f"{name}.yaml")), data, scratch, observer)
    chosen = scratch / "chosen"
    if not chosen.exists():
        classifier = UtilitySettings(updates=SELECTION_UPDATES, symmetries=SYMMETRIES, seed=100)  # no fit of the study
        selection = SelectionSettings(symmetries=SYMMETRIES, classifier=classifier)
        select_from(run.path, dataset, chosen, selection, count=CANDIDATES, progress=observer.progress)
    with run.locked():
        told = known_study(run, settings) or study_run(
            run, dataset, settings, selected=chosen, progress=_fits(observer)
        )
    selection_facts = {
        key: value
        for key, value in read_json(chosen / "selection.json").items()
        if key in ("asked", "kept", "rejected")
    }
    return {**told, "generator": generator_facts(run), "selection": selection_facts}


def known_study(run: Run, settings: UtilitySettings) -> dict[str, Any] | None:
    """The study of this model with these settings, where it was made already."""
    file = run.evaluation / "utility.json"
    told: dict[str, Any] = read_json(file) if file.is_file() else {}
    same = told.get("protocol", {}).get("settings") == settings.protocol()
    return told if same and told.get("model_hash") == read_json(run.model / "model.json")["model_hash"] else None


def trained(recipe: Recipe, data: Path, scratch: Path, observer: Observer) -> tuple[Run, Dataset]:
    """The run of a recipe with its dataset, made where they are not there yet."""
    run = Run(scratch / "run")
    if (run.model / "model.json").is_file():
        return run, run_dataset(run)
    prepared = scratch / "dataset"
    if not (prepared / "dataset.json").is_file():
        prepare_dataset(recipe, data, prepared, observer)
    train_run(recipe, prepared, run.path, observer)
    return run, run_dataset(run)


def study_posing(data: Path, scratch: Path, settings: UtilitySettings, observer: Observer) -> dict[str, Any]:
    """Real images of training patients in the generator's place: half of them pose, the other half is trained on."""
    prepared = scratch / "dataset"
    if (scratch / "run" / "model" / "model.json").is_file():
        dataset = run_dataset(Run(scratch / "run"))
    else:
        if not (prepared / "dataset.json").is_file():
            prepare_dataset(load_recipe(str(RECIPES / "pap_smear.yaml")), data, prepared, observer)
        dataset = Dataset.open(prepared)
    train, validation, test = (image_set_from_dataset(dataset, split) for split in ("train", "val", "test"))
    real, posing = halves(train, settings.seed)
    told = study_utility(
        Sides(real, validation, test),
        posing,
        UtilitySettings(**{**settings.__dict__, "ratios": (0.5, 1.0)}),
        progress=_fits(observer),
    )
    return {**told, "synthetic": "held-out real images of the other half of the training patients"}


def halves(train: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Two halves by patient, each class spread evenly; where the first has more of a class than the second, the
    surplus is left out, so that one posing image for each real one is there."""
    fold_of = assign_folds(train, 4, 1, seed)[0]
    first, second = (np.flatnonzero(np.isin(fold_of, part)) for part in ((0, 1), (2, 3)))
    kept = []
    for number in range(len(train.classes)):
        most = int((train.labels[second] == number).sum())
        kept.append(first[train.labels[first] == number][:most])
    return train.take(np.sort(np.concatenate(kept)).astype(np.int64)), train.take(second.astype(np.int64))


def generator_facts(run: Run) -> dict[str, Any]:
    """What the generator is, and how long it was trained."""
    model, training = read_json(run.model / "model.json"), read_json(run.training_file)
    return {
        "recipe": model["name"],
        "family": model["family"],
        "released_at_images": model["images_seen"],
        "images_seen": training["images_seen"],
        "seconds": round(training["seconds"]),
        "parameters": training["parameters"],
    }


def shortened(told: dict[str, Any]) -> dict[str, Any]:
    """A study without records of single fits, and with the scores that the result page shows."""
    if "arms" not in told:
        return told
    gflop, seconds = told["budget"]["gflop_forward"], told["budget"]["seconds_a_fit"]["most"]
    if gflop >= MOST_GFLOP or seconds > MOST_SECONDS:
        sys.exit(
            f"the budget is {MOST_GFLOP} GFLOP and {MOST_SECONDS:g} s a fit; a fit took {seconds} s at {gflop} GFLOP."
        )
    arms = []
    for arm in told["arms"]:
        if "scores" not in arm:
            arms.append(arm)
            continue
        one = {key: value for key, value in arm.items() if key != "fits"}
        for part in ("scores", "change"):
            if part in one:
                one[part] = {score: one[part][score] for score in KEPT_SCORES}
        one["classes"] = {
            label: {key: value for key, value in of_class.items() if key in ("auc", "recall", "verdict")}
            | ({"change": {"auc": of_class["change"]["auc"]}} if "change" in of_class else {})
            for label, of_class in arm["classes"].items()
        }
        arms.append(one)
    return {**told, "arms": arms}


def gather(name: str, told: dict[str, Any]) -> None:
    """Put a study into the result file, beside those of other sets."""
    result = read_json(RESULT) if RESULT.is_file() else {"sets": {}}
    facts = header("utility")
    result["sets"][name] = {"date": facts["date"], "commit": facts["commit"], **told}
    write_result(RESULT, {**facts, "sets": dict(sorted(result["sets"].items()))})


def _fits(observer: Observer) -> Any:
    start = time.perf_counter()

    def tell(done: int, total: int) -> None:
        observer.progress("Training classifiers", done, total)
        if done == total:
            observer.say(f"{total} fits in {time.perf_counter() - start:.0f} s.")

    return tell


if __name__ == "__main__":
    main()
