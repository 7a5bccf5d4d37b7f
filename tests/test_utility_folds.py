"""The utility study of a run by folds: generators trained anew, found again after an interrupt, and never shown a test patient."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from make_dataset import Silent, make_dataset
from synthoma.cli.app import app
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError, EvaluationError, Interrupted
from synthoma.evaluation.gate_rules import judge_utility
from synthoma.evaluation.utility import UtilitySettings, assign_folds, iterate_folds
from synthoma.evaluation.utility.folds import thin_fold
from synthoma.experiments import utility_folds
from synthoma.experiments.utility_folds import study_run_folds
from synthoma.gate_settings import GateSection
from synthoma.model import Model
from synthoma.preparation.subset import subset_content, write_subset
from synthoma.recipe import Recipe, load_recipe
from synthoma.run import Run, read_json, write_json
from synthoma.training.start import prepare_run
from synthoma.workflow import remember_dataset
from utility_fixture import save_model_of, textures

monai = pytest.importorskip("monai", reason="the extra utility is not installed")

QUICK = UtilitySettings(
    ratios=(1.0,), seeds=2, updates=2, batch=8, check_every=2, bootstraps=100, least_images=4, least_groups=2
)


def tiny_recipe(*changes: str) -> Recipe:
    return load_recipe(
        "skin-cgan",
        [
            "preparation.size=16",
            "model.latent=8",
            "model.generator_widths=[16,8]",
            "model.discriminator_widths=[8,16]",
            "model.label_embedding=4",
            "training.kimg=0.032",
            "training.precision=fp32",
            "evaluation.validation_count=32",
            *changes,
        ],
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "set", count=72, classes=2, size=(16, 16), channels=3)


def begun(dataset: Dataset, path: Path, *changes: str) -> Run:
    """A run that knows its recipe and its dataset and was not trained."""
    run = Run(path)
    prepare_run(run, tiny_recipe(*changes))
    remember_dataset(run, dataset.path)
    return run


@pytest.fixture(scope="module")
def studied(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any], Silent]:
    """A study that was interrupted in its second fold, and gone on with."""
    run, observer = begun(dataset, tmp_path_factory.mktemp("run") / "run"), Silent()
    real_training, calls = utility_folds.train_run, []

    def interrupted(recipe: Recipe, data: Path, out: Path, heard: Any) -> Model:
        calls.append(out)
        if len(calls) == 2:
            raise Interrupted("stopped by a test")
        return real_training(recipe, data, out, heard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utility_folds, "train_run", interrupted)
        with pytest.raises(Interrupted, match=r"generator of fold 2 of 3 .* The same command goes on"):
            study_run_folds(run, QUICK, Silent(), folds=3)
        result = study_run_folds(run, QUICK, observer, folds=3)
    assert len(calls) == 4  # three folds, and the one that was interrupted
    return run, result, observer


def test_an_interrupted_study_goes_on_and_says_what_is_ahead(studied: tuple[Run, dict[str, Any], Silent]) -> None:
    run, result, observer = studied
    assert read_json(run.evaluation / "utility.json") == json.loads(json.dumps(result))
    told = " ".join(observer.said)
    assert "2 of 3 generators are to be trained (0.032 kimg each)" in told
    assert "at most 30 classifiers of 2 updates" in told  # 5 arms, 3 folds, 2 seeds
    assert "Fold 1 of 3: its generator is there already." in told
    assert "Fold 2 of 3: training a generator on 24 images of 12 patients or groups." in told


def test_nothing_is_trained_again_when_all_folds_are_done(
    studied: tuple[Run, dict[str, Any], Silent], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, result, _ = studied
    for name in ("synthoma.experiments.utility_folds.train_run", "synthoma.evaluation.utility.study.fit_classifier"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("trained again"))
    assert study_run_folds(run, QUICK, Silent(), folds=3) == result


def test_a_generator_is_given_no_test_patient(
    studied: tuple[Run, dict[str, Any], Silent], dataset: Dataset, tmp_path: Path
) -> None:
    run, result, _ = studied
    images = utility_folds._labelled(dataset)
    folds = list(iterate_folds(assign_folds(images, 3, 1, QUICK.seed)))
    hashes = {read_json(file)["dataset"]["content"] for file in (run.private / "folds").glob("*/model/model.json")}
    for number, fold in enumerate(folds):
        rows = {"train": fold.train, "val": fold.validation}
        assert subset_content(dataset, rows) in hashes
        seen = write_subset(dataset, rows, tmp_path / f"fold{number}")
        assert not set(seen.groups) & set(images.groups[fold.test])
        assert set(seen.groups[seen.rows("train")]) == set(images.groups[fold.train])
    assert [one["training_images"] for one in result["generators"]] == [len(fold.train) for fold in folds]
    assert len({one["model_hash"] for one in result["generators"]}) == 3
    # Neither pixels of patients nor discriminators are left.
    left = {path.name for path in (run.private / "folds").rglob("*") if path.is_file()}
    assert not left & {"images.npy", "discriminator.safetensors"}


def test_the_result_says_that_it_is_of_folds(studied: tuple[Run, dict[str, Any], Silent], dataset: Dataset) -> None:
    _, result, _ = studied
    assert result["design"] == "3 folds by patient or group, the generator trained anew in each"
    assert result["protocol"]["folds"]["folds"] == 3
    assert result["seeds"] == [0, 1]  # one repetition: two classifiers of each arm in every fold
    real = result["arms"][0]
    assert len(real["fits"]) == 6
    assert len(real["scores"]["auc"]["per_seed"]) == 2
    agreement = result["agreement"]
    for name in dataset.classes:
        for which in ("synthetic", "real"):
            one = agreement["classes"][name][which]
            assert one["low"] <= one["value"] <= one["high"]
        # What is told of real images is the accuracy that the study itself tells of the real arm.
        assert agreement["classes"][name]["real"]["value"] == real["classes"][name]["recall"]["value"]
    assert agreement["confusion"]["real"]["images"] == [36, 36]
    text = json.dumps(result)
    assert not any(group in text for group in dataset.groups)


def test_the_gate_takes_folds_and_says_so(studied: tuple[Run, dict[str, Any], Silent]) -> None:
    _, result, _ = studied
    arm = next(one for one in result["arms"] if one["name"] == "real+synthetic@1")
    arm["change"]["auc"] = {"kind": "estimate", "value": 0.01, "low": 0.0, "high": 0.02, "per_seed": [0.01, 0.01]}
    ruling = judge_utility(result, GateSection())
    assert ruling.verdict == "passed"
    assert "3 generators that the same recipe trained anew in folds, not with this one" in ruling.why


def test_a_model_without_classes_is_told_what_to_do(dataset: Dataset, tmp_path: Path) -> None:
    run = begun(dataset, tmp_path / "run", "model.family=dcgan", "model.conditions=[]")
    with pytest.raises(EvaluationError, match=r"needs classes.*Train a conditional model .*--synthetic DIR"):
        study_run_folds(run, QUICK, Silent(), folds=3)
    for utility in (None, {"synthetic": "generated for the study", "arms": []}):
        ruling = judge_utility(utility, GateSection(), classes=False)
        assert ruling.verdict == "not demonstrated"
        assert "The model has no classes" in ruling.why


def test_a_generator_that_began_from_these_data_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    known = save_model_of(dataset, tmp_path / "known")
    other = save_model_of(dataset, tmp_path / "other", content="0" * 16)
    run = begun(dataset, tmp_path / "run", f"training.init_from={known}")
    with pytest.raises(EvaluationError, match="test patients would reach the generators"):
        study_run_folds(run, QUICK, Silent(), folds=3)
    utility_folds._check(run, tiny_recipe(f"training.init_from={other}"), dataset)


def test_a_run_that_was_not_trained_to_its_end_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    run = begun(dataset, tmp_path / "run")
    save_model_of(dataset, run.path)
    known = {"content": dataset.content_hash, "cohort": dataset.cohort_hash}
    write_json(run.training_file, {"images_seen": 16, "ended": None, "dataset": known, "finished": False})
    with pytest.raises(EvaluationError, match=r"trained on 0\.016 of the 0\.032 kimg"):
        study_run_folds(run, QUICK, Silent(), folds=3)


def test_a_share_of_a_class_is_kept_for_training_only() -> None:
    images = textures(60, 1)
    for fold in iterate_folds(assign_folds(images, 3, 1, 0)):
        thin = thin_fold(fold, images, {"coarse": 0.3}, 0)
        before, after = (np.bincount(images.labels[one.train], minlength=2) for one in (fold, thin))
        assert after.tolist() == [before[0], round(0.3 * before[1])]
        assert set(thin.train) < set(fold.train)
        np.testing.assert_array_equal(thin.test, fold.test)
        np.testing.assert_array_equal(thin.validation, fold.validation)


def test_a_share_of_an_unknown_class_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    run = begun(dataset, tmp_path / "run")
    for kept, words in (({"clas1": 0.5}, "did you mean 'class1'"), ({"class1": 0.0}, "above 0 and up to 1")):
        with pytest.raises(EvaluationError, match=words):
            study_run_folds(run, QUICK, Silent(), folds=3, kept=kept)
    with pytest.raises(EvaluationError, match="no class 'clas1'; did you mean 'class1'"):
        study_run_folds(run, replace(QUICK, positive="clas1"), Silent(), folds=3)
    assert not (run.private / "folds").exists()  # nothing was trained before it was refused


def test_a_subset_is_a_sealed_dataset_of_whole_groups(dataset: Dataset, tmp_path: Path) -> None:
    rows = {"train": np.arange(0, 20), "val": np.arange(30, 40)}
    subset = write_subset(dataset, rows, tmp_path / "subset")
    assert Dataset.open(tmp_path / "subset", full=True).content_hash == subset_content(dataset, rows)
    np.testing.assert_array_equal(subset.images, dataset.images[np.r_[0:20, 30:40]])
    assert subset.labels.tolist() == dataset.labels[np.r_[0:20, 30:40]].tolist()
    assert subset.info["counts"] == {
        "train": {"class0": 10, "class1": 10},
        "val": {"class0": 5, "class1": 5},
        "test": {},
    }
    assert subset.info["data"] == dataset.info["data"]
    with pytest.raises(DatasetError, match="is in both train and val"):
        write_subset(dataset, {"train": np.arange(0, 21), "val": np.arange(21, 30)}, tmp_path / "torn")
    with pytest.raises(DatasetError, match="in two splits"):
        write_subset(dataset, {"train": np.arange(0, 20), "val": np.arange(18, 30)}, tmp_path / "twice")


def test_the_command_refuses_options_that_do_not_go_together(tmp_path: Path) -> None:
    for given in (["--folds", "3", "--selected", "x"], ["--keep", "a=0.3"], ["--folds", "3", "--keep", "a=third"]):
        assert CliRunner().invoke(app, ["utility", str(tmp_path), *given]).exit_code == 2
