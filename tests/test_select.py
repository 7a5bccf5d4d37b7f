"""Selection: what is kept, what is not and why, and the folder that it leaves."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from make_dataset import blob_images, make_dataset
from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError
from synthoma.evaluation.folders import read_folder
from synthoma.evaluation.utility import UtilitySettings
from synthoma.run import file_sha256, read_json
from synthoma.synthesis.candidates import SelectionSettings
from synthoma.synthesis.select import Selected, select_from, select_images
from utility_fixture import save_model_of, write_generated

pytest.importorskip("monai", reason="the extra utility is not installed")

SETTINGS = SelectionSettings(
    tail=0.05,
    classifier=UtilitySettings(updates=60, batch=16, check_every=10, learning_rate=3e-3),
)
FRESH, COPIES, WRONG, NOISE = 60, 12, 12, 12


class Case(NamedTuple):
    """Candidates of known kinds, and what came of them. kinds: file name -> kind."""

    dataset: Dataset
    candidates: Path
    kinds: dict[str, str]
    selected: Selected


def candidates_of(dataset: Dataset, folder: Path) -> dict[str, str]:
    """New blobs, training images (half of them mirrored), blobs under the other class's name, and noise."""
    random = np.random.default_rng(5)
    fresh, labels = blob_images(FRESH, 3, (16, 16), 2, seed=100)
    rows = dataset.rows("train")[:COPIES]
    copies = np.array(dataset.images[rows])
    copies[::2] = copies[::2, ..., ::-1]
    wrong, of_wrong = blob_images(WRONG, 3, (16, 16), 2, seed=200)
    noise = random.integers(0, 256, (NOISE, 3, 16, 16), dtype=np.uint8)
    numbers = np.concatenate([labels, dataset.labels[rows], 1 - of_wrong, np.arange(NOISE) % 2])
    images = np.concatenate([fresh, copies, wrong, noise]).astype(np.uint8)
    write_generated(folder, images, [dataset.classes[number] for number in numbers])
    kinds = np.repeat(["fresh", "copy", "wrong", "noise"], [FRESH, COPIES, WRONG, NOISE]).tolist()
    names = [f"{dataset.classes[number]}_seed0_{i:06d}.png" for i, number in enumerate(numbers)]
    return dict(zip(names, kinds, strict=True))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "set", count=360, classes=2, size=(16, 16), channels=3)


@pytest.fixture(scope="module")
def case(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("selection")
    kinds = candidates_of(dataset, folder / "candidates")
    selected = select_images(folder / "candidates", dataset, folder / "chosen", SETTINGS)
    return Case(dataset, folder / "candidates", kinds, selected)


def reasons(case: Case, kind: str) -> list[str]:
    rows = pq.read_table(case.selected.folder / "rejected.parquet").to_pylist()
    return [row["reason"] for row in rows if case.kinds[row["file"]] == kind]


def test_copies_mirrored_or_not_are_refused_for_privacy(case: Case) -> None:
    found = reasons(case, "copy")
    assert len(found) == COPIES
    assert all("closer to a real training image" in reason for reason in found)


def test_images_under_the_wrong_name_are_refused_for_their_label(case: Case) -> None:
    assert sum("doubts the class" in reason for reason in reasons(case, "wrong")) == WRONG


def test_noise_is_not_typical(case: Case) -> None:
    assert sum("farther from the real images" in reason for reason in reasons(case, "noise")) == NOISE


def test_new_images_of_the_same_kind_are_mostly_kept(case: Case) -> None:
    # A tail of 5 % for label, 5 % for typicality and 1 % for privacy costs about 11 %; limits come from some fifty images.
    assert len(reasons(case, "fresh")) <= 0.3 * FRESH


def test_the_folder_holds_what_was_kept_with_its_provenance(case: Case) -> None:
    out = case.selected.folder
    manifest = pq.read_table(out / "manifest.parquet")
    assert manifest.schema.equals(pq.read_schema(case.candidates / "manifest.parquet"))
    rows = manifest.to_pylist()
    assert {path.name for path in out.iterdir()} == {row["file"] for row in rows} | {
        "manifest.parquet",
        "rejected.parquet",
        "selection.json",
    }
    for row in rows:
        assert file_sha256(out / row["file"]) == row["sha256"]
    rejected = pq.read_table(out / "rejected.parquet")
    assert rejected.column_names == ["file", "class", "reason", "label", "typicality", "privacy"]
    assert len(rows) + len(rejected) == len(case.kinds) == sum(case.selected.asked.values())
    assert sum(case.selected.kept.values()) == len(rows) == len(read_folder(out))
    summary = read_json(out / "selection.json")
    assert summary["kept"] == case.selected.kept
    assert summary["dataset"]["content"] == case.dataset.content_hash
    assert 0.9 <= summary["classifier"]["validation_accuracy"] <= 1
    for name, limits in case.selected.limits.items():
        assert name in case.dataset.classes
        assert limits["privacy"] > 0
    text = (out / "selection.json").read_text()
    assert str(case.candidates.parent) not in text
    assert not any(group in text for group in case.dataset.groups)


def test_the_same_selection_again(case: Case, tmp_path: Path) -> None:
    select_images(case.candidates, case.dataset, tmp_path / "again", SETTINGS)
    for name in ("manifest.parquet", "rejected.parquet", "selection.json"):
        assert file_sha256(tmp_path / "again" / name) == file_sha256(case.selected.folder / name)


def test_what_cannot_be_selected_is_refused(case: Case, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="exists already"):
        select_images(case.candidates, dataset, case.selected.folder, SETTINGS)
    with pytest.raises(EvaluationError, match=r"no manifest\.parquet"):
        select_images(tmp_path, dataset, tmp_path / "out", SETTINGS)
    images = blob_images(4, 3, (16, 16), 2, seed=9)[0]
    unnamed = write_generated(tmp_path / "unnamed", images, ["class0", None, "class1", None])
    with pytest.raises(EvaluationError, match="2 of the synthetic images have no class"):
        select_images(unnamed, dataset, tmp_path / "out", SETTINGS)
    held = np.array(dataset.images[dataset.rows("val")[:1]])
    leaked = write_generated(tmp_path / "leaked", held, ["class0"])
    with pytest.raises(EvaluationError, match="images of the validation set are among the synthetic"):
        select_images(leaked, dataset, tmp_path / "out", SETTINGS)
    changed = write_generated(tmp_path / "changed", images, ["class0"] * 4)
    (changed / "class0_seed0_000002.png").write_bytes(b"other")
    with pytest.raises(EvaluationError, match=r"class0_seed0_000002\.png is missing or was changed"):
        select_images(changed, dataset, tmp_path / "out", SETTINGS)
    small = write_generated(tmp_path / "small", images[..., :8, :8], ["class0"] * 4)
    with pytest.raises(EvaluationError, match=r"\(3, 8, 8\) uint8, the real ones \(3, 16, 16\)"):
        select_images(small, dataset, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
    with pytest.raises(EvaluationError, match="tails are shares"):
        SelectionSettings(tail=1.0)


def test_a_run_makes_its_own_candidates(dataset: Dataset, tmp_path: Path) -> None:
    run = save_model_of(dataset, tmp_path / "run")
    quick = replace(SETTINGS, classifier=replace(SETTINGS.classifier, updates=2))
    # An untrained generator: nothing of what it makes is typical.
    with pytest.raises(EvaluationError, match="none of the 12 synthetic images passes"):
        select_from(run, dataset, tmp_path / "out", quick, count=12)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # no candidates are left behind
    with pytest.raises(EvaluationError, match="neither a run with a model nor a folder of generated images"):
        select_from(tmp_path / "nothing", dataset, tmp_path / "out", quick)
    other = save_model_of(dataset, tmp_path / "other", cohort="0" * 16)
    with pytest.raises(EvaluationError, match="another split of this dataset"):
        select_from(other, dataset, tmp_path / "out", quick)
