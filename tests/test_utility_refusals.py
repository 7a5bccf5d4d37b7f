"""What a utility study refuses or withholds, and the study of a run from its files."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from make_dataset import make_dataset
from synthoma.cli import utility as command
from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError, MissingExtraError
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.utility import Sides, UtilitySettings, study_run, study_utility
from synthoma.evaluation.utility.refusals import refuse_generated_source, refuse_other_data
from synthoma.networks.classifiers import build_classifier
from synthoma.run import Run, read_json
from utility_fixture import save_model_of, sides, textures, write_generated

monai = pytest.importorskip("monai", reason="the extra utility is not installed")

QUICK = UtilitySettings(
    ratios=(0.5,), seeds=2, updates=2, batch=8, check_every=2, bootstraps=100, least_images=4, least_groups=2
)


def joined(first: ImageSet, second: ImageSet) -> ImageSet:
    return ImageSet(
        np.concatenate([first.images, second.images]),
        np.concatenate([first.labels, second.labels]),
        first.classes,
        np.concatenate([first.groups, second.groups]),
        "joined",
    )


@pytest.mark.parametrize(("side", "word"), [("test", "test"), ("validation", "validation")])
def test_a_synthetic_image_among_the_real_ones_is_refused(side: str, word: str) -> None:
    made = textures(24, 4)
    real = sides()
    mixed = replace(real, **{side: joined(getattr(real, side), made.take(np.array([5])))})
    with pytest.raises(EvaluationError, match=f"1 of 41 images of the {word} set are among the synthetic"):
        study_utility(mixed, made, QUICK)
    with pytest.raises(EvaluationError, match=f"1 of 41 images of the {word} set are among the synthetic"):
        study_utility(mixed, textures(24, 5), QUICK, selected=made)


def test_a_patient_of_the_training_set_is_refused_on_the_other_sides() -> None:
    real = sides()
    for side in ("test", "validation"):
        held = getattr(real, side)
        groups = held.groups.copy()
        groups[7] = real.train.groups[0]
        known = replace(held, groups=groups)
        with pytest.raises(EvaluationError, match=f"1 patients or groups are in both the training and the {side} set"):
            study_utility(replace(real, **{side: known}), textures(24, 4), QUICK)


def test_one_class_in_the_test_set_is_no_study() -> None:
    real = sides()
    one = real.test.take(np.flatnonzero(real.test.labels == 0).astype(np.int64))
    told = study_utility(replace(real, test=one), textures(24, 4), QUICK)
    assert told["withheld"] == "all test images are of one class: there is nothing to tell apart"
    assert "arms" not in told
    empty = study_utility(replace(real, test=real.test.take(np.zeros(0, dtype=np.int64))), textures(24, 4), QUICK)
    assert "no independent test or validation set" in empty["withheld"]


def test_too_few_test_images_of_a_class_are_withheld() -> None:
    real = sides()
    few = real.test.take(np.flatnonzero((real.test.labels == 0) | (np.cumsum(real.test.labels) <= 3)).astype(np.int64))
    told = study_utility(replace(real, test=few), textures(24, 4), QUICK)
    assert told["withheld"] == "one of the two classes has too few test images or patients"
    assert told["withheld_classes"] == {"coarse": "3 test images of 2 patients or groups; its figures need 4 of 2"}


def test_sets_that_do_not_go_together_are_refused() -> None:
    real, made = sides(), textures(24, 4)
    renamed = replace(made, classes=["fine", "coarsse"])
    with pytest.raises(EvaluationError, match="class 'coarsse' that the real images do not; did you mean 'coarse'"):
        study_utility(real, renamed, QUICK)
    with pytest.raises(EvaluationError, match="have no classes"):
        study_utility(real, replace(made, labels=np.full(24, -1)), QUICK)
    with pytest.raises(EvaluationError, match=r"\(1, 8, 8\) uint8 do not go with"):
        study_utility(real, replace(made, images=made.images[..., ::2, ::2]), QUICK)
    with pytest.raises(EvaluationError, match="no class 'fin'; did you mean 'fine'"):
        study_utility(real, made, replace(QUICK, positive="fin"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("ratios", (0.0,)), ("ratios", (1.0, 1.0)), ("seeds", 0), ("margin", 0.06), ("specificity", 1.0)],
)
def test_settings_that_mean_nothing_are_refused(field: str, value: object) -> None:
    with pytest.raises(EvaluationError):
        replace(QUICK, **{field: value})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "set", count=160, classes=2, size=(16, 16), channels=3)


def test_a_model_of_other_data_or_another_split_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    refuse_other_data({"dataset": {"content": dataset.content_hash, "cohort": dataset.cohort_hash}}, dataset)
    other = Run(save_model_of(dataset, tmp_path / "other", content="0" * 16))
    with pytest.raises(EvaluationError, match="trained on another dataset than"):
        study_run(other, dataset, QUICK)
    split = Run(save_model_of(dataset, tmp_path / "split", cohort="0" * 16))
    with pytest.raises(EvaluationError, match="trained on another split of this dataset than"):
        study_run(split, dataset, QUICK)
    with pytest.raises(EvaluationError, match="has no model yet"):
        study_run(Run(tmp_path / "nothing"), dataset, QUICK)


def test_test_images_from_generated_files_are_refused(tmp_path: Path) -> None:
    own = make_dataset(tmp_path / "set", count=160, classes=2)
    refuse_generated_source(own)
    files = [f"class{i % 2}/photo_{i}.png" for i in range(160)]
    (own.path / "private").mkdir()

    def link(names: list[str]) -> None:
        table = pa.table({"key": own.column("key"), "file": names, "inside": [""] * 160, "group": [None] * 160})
        pq.write_table(table, own.path / "private" / "links.parquet")

    link(files)
    refuse_generated_source(own)
    train, test, held = (int(own.rows(split)[0]) for split in ("train", "test", "val"))
    link([f"class0_seed3_{i:06d}.png" if i == train else name for i, name in enumerate(files)])
    refuse_generated_source(own)  # trained on: unwise, but no contamination of the test
    link([f"a/class0_seed3_{i:06d}.png" if i in (test, held) else name for i, name in enumerate(files)])
    with pytest.raises(EvaluationError, match="1 test and 1 validation images were prepared from files that synthoma"):
        refuse_generated_source(own)


def test_generated_images_inside_the_dataset_are_refused(tmp_path: Path) -> None:
    own = make_dataset(tmp_path / "set", count=160, classes=2)
    write_generated(own.path / "more", np.zeros((1, 3, 16, 16), dtype=np.uint8), ["class0"])
    run = Run(save_model_of(own, tmp_path / "run"))
    with pytest.raises(EvaluationError, match=r"manifest\.parquet lies in it"):
        study_run(run, own, QUICK)


def test_the_study_of_a_run_is_written_and_shown(dataset: Dataset, tmp_path: Path) -> None:
    run = save_model_of(dataset, tmp_path / "run")
    train = dataset.rows("train")[:20]
    names = [dataset.classes[number] for number in dataset.labels[train]]
    images = 255 - np.asarray(dataset.images[train])
    folder = write_generated(tmp_path / "chosen", images, names)
    result = study_run(Run(run), dataset, QUICK, selected=folder)
    assert read_json(run / "evaluation" / "utility.json") == json.loads(json.dumps(result))
    counts = np.bincount(dataset.labels[dataset.rows("train")]).tolist()
    assert list(result["counts"]["synthetic"]["classes"].values()) == counts  # one for each real one, by class
    assert result["counts"]["selected"]["images"] == 20
    assert len(result["checked"]) == 3
    text = json.dumps(result)
    assert str(tmp_path) not in text
    assert not any(group in text for group in dataset.groups)
    command._print_study(result)


def test_a_model_without_classes_is_studied_by_class_folders_only(dataset: Dataset, tmp_path: Path) -> None:
    run = Run(save_model_of(dataset, tmp_path / "run", conditional=False))
    with pytest.raises(EvaluationError, match=r"makes images without a class.*conditional model .*--synthetic DIR"):
        study_run(run, dataset, QUICK)
    for name in dataset.classes:  # as `synthoma generate` of one model a class leaves them, side by side
        images = 255 - np.asarray(dataset.images[dataset.rows("train")[: 40 + len(name)]])
        write_generated(tmp_path / "made" / name, images, [None] * len(images))
    result = study_run(run, dataset, QUICK, synthetic=tmp_path / "made")
    assert result["synthetic"] == "a folder of images"
    assert set(result["counts"]["synthetic"]["classes"].values()) == {46}
    assert {arm["name"] for arm in result["arms"] if "verdict" in arm} >= {"synthetic", "real+synthetic@0.5"}


def test_the_command_takes_several_ratios(dataset: Dataset, tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    command.register(app)
    run = save_model_of(dataset, tmp_path / "run")
    given = ["utility", str(run), "--dataset", str(dataset.path), "--seeds", "1", "--updates", "2", "--json"]
    shown = CliRunner().invoke(app, [*given, "--ratios", "0.5", "1"], catch_exceptions=False)
    assert shown.exit_code == 0
    names = [arm["name"] for arm in json.loads(shown.stdout)["arms"]]
    assert names[-2:] == ["real+synthetic@0.5", "real+synthetic@1"]
    assert CliRunner().invoke(app, [*given, "--ratios", "0.5", "one"]).exit_code == 2
    assert CliRunner().invoke(app, [*given, "surplus"]).exit_code == 2


def test_without_monai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthoma\[utility\]'"):
        build_classifier(1, (16, 16), 2, seed=0)


def test_a_classifier_needs_two_classes_and_some_pixels() -> None:
    for size, classes in (((16, 16), 1), ((4, 16), 2), ((16,), 2)):
        with pytest.raises(EvaluationError, match="a classifier takes"):
            build_classifier(1, size, classes, seed=0)


def test_the_sides_keep_their_labels_in_the_order_of_the_classes() -> None:
    real = sides()
    swapped = replace(real.test, labels=1 - real.test.labels, classes=real.test.classes[::-1])
    labelled = Sides(real.train, real.validation, swapped).labelled()
    np.testing.assert_array_equal(labelled.test.labels, real.test.labels)
    assert labelled.test.classes == real.train.classes
