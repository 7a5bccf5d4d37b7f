"""The audit of a run: its own split, its saved images or new ones, its discriminator, and the files that it leaves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from make_dataset import Silent, make_dataset, smooth_images
from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.privacy import copies as copying
from synthoma.evaluation.privacy.audit import Audit
from synthoma.evaluation.privacy.runs import audit_run
from synthoma.model import Model
from synthoma.recipe import Recipe, validate_recipe
from synthoma.run import Run, read_json, write_json
from synthoma.training.canaries import canary_rows
from synthoma.training.start import read_recipe
from synthoma.workflow import run_dataset, synthetic_set, train_run

RECIPE = {
    "synthoma": 1,
    "name": "tiny",
    "preparation": {"size": 16, "colour": "grey"},
    "model": {"family": "mlp", "latent": 8, "generator_widths": [16], "discriminator_widths": [16]},
    "training": {"kimg": 0.064, "batch": 16, "precision": "fp32", "canaries": 2, "canary_repeats": 10},
    "evaluation": {"count": 60, "validation_count": 16},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    make_dataset(folder / "set", count=200, channels=1, size=(16, 16), classes=0, draw=smooth_images)
    train_run(validate_recipe(RECIPE, "a test"), folder / "set", folder / "run", Silent())
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(copying, "PLANTED", 24)
    return Run(shutil.copytree(trained, tmp_path / "run"))


def audited(run: Run, generate: Callable[[Recipe, Dataset], ImageSet]) -> tuple[Audit, list[str]]:
    recipe, dataset, said = read_recipe(run), run_dataset(run), []
    with run.locked():
        audit = audit_run(run, recipe, dataset, lambda: generate(recipe, dataset), say=said.append)
    return audit, said


def save_images(run: Run, images: np.ndarray, model_hash: str) -> None:
    """As `synthoma evaluate` leaves them."""
    run.evaluation.mkdir(exist_ok=True)
    np.savez(run.evaluation / "synthetic.npz", images=images, labels=np.full(len(images), -1))
    write_json(run.evaluation / "fidelity.json", {"model_hash": model_hash})


def test_images_are_generated_where_none_were_saved_and_files_are_left(run: Run) -> None:
    model = Model.load(run.model)
    audit, said = audited(run, lambda recipe, dataset: synthetic_set(model, dataset, recipe.evaluation.count, 0))
    dataset, public = run_dataset(run), read_json(run.evaluation / "privacy.json")
    assert any("Generating" in line for line in said)
    assert public["model_hash"] == model.hash
    assert public["counts"]["synthetic"] == 60
    assert public["counts"]["train"] == len(dataset.rows("train"))
    assert public["counts"]["holdout"] == len(dataset) - len(dataset.rows("train"))
    assert public["protocol"]["train"] == f"{dataset.content_hash}/train"
    assert public["protocol"]["holdout"] == f"{dataset.content_hash}/val+test"
    assert set(public["membership"]) == {"features", "pixels", "discriminator"}
    assert public["canaries"]["total"] == 2
    assert "train_row" not in json.dumps(public)
    private = read_json(run.private / "pairs.json")
    assert private["protocol"] == public["protocol"]["hash"] == audit.protocol.hash
    assert {dataset.splits[pair["train_row"]] for pair in private["pairs"]} == {"train"}


def test_copies_among_the_saved_images_are_found_with_the_canaries(run: Run) -> None:
    dataset, recipe = run_dataset(run), read_recipe(run)
    rows = np.concatenate((canary_rows(dataset, recipe)[:1], dataset.rows("train")[[5, 20, 40]]))
    images = smooth_images(60, 1, (16, 16), 1, seed=9)[0]
    images[10:14] = dataset.images[rows]
    save_images(run, images, Model.load(run.model).hash)
    audit, said = audited(run, lambda recipe, dataset: pytest.fail("the saved images were not used"))
    assert not any("Generating" in line for line in said)
    assert {(pair.synthetic, pair.train_row) for pair in audit.copies.pairs if pair.copy} == set(
        zip(range(10, 14), rows.tolist(), strict=True)
    )
    assert read_json(run.evaluation / "privacy.json")["canaries"] == {"found": 1, "total": 2}


def test_images_of_another_model_are_not_used_and_damaged_ones_refused(run: Run) -> None:
    images = smooth_images(60, 1, (16, 16), 1, seed=9)[0]
    save_images(run, images, "of another model")
    model = Model.load(run.model)
    audit, _ = audited(run, lambda recipe, dataset: synthetic_set(model, dataset, 55, 0))
    assert audit.copies.n == 55
    save_images(run, images, model.hash)
    saved = run.evaluation / "synthetic.npz"
    saved.write_bytes(saved.read_bytes()[:200])
    with pytest.raises(EvaluationError, match="damaged"):
        audited(run, lambda recipe, dataset: pytest.fail("damaged images were replaced"))
    shutil.rmtree(run.model)
    with pytest.raises(EvaluationError, match="no model yet"):
        audited(run, lambda recipe, dataset: pytest.fail("there is no model"))
