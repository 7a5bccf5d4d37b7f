"""How many planted copies the audit finds, and how often it accuses new patients: on drawn and on real images."""

import importlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy import stats
from typer.testing import CliRunner

from make_dataset import Silent, smooth_images
from privacy_fixture import found_in, image_set, pictures, with_copies
from synthoma.cli.app import app
from synthoma.dataset import Dataset
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset
from synthoma.evaluation.privacy.copies import find_copies
from synthoma.evaluation.privacy.plant import KINDS
from synthoma.recipe import validate_recipe
from synthoma.run import Run, read_json
from synthoma.workflow import prepare_dataset

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
def test_recall_of_planted_copies(kind: str, share: float) -> None:
    """At least 0.99 for exact, flipped and shifted copies, 0.9 for brightened and compressed ones; nothing else accused."""
    train, held = pictures(400, 20, "T"), pictures(200, 21, "H")
    total = found = 0
    for repetition in range({0.001: 20, 0.01: 3, 0.1: 1}[share]):
        made, places = with_copies(pictures(1000, 30 + repetition, "S"), train, {kind: int(1000 * share)}, repetition)
        hits = found_in(find_copies(made, train, held, seed=repetition))
        assert hits <= places[kind]
        total, found = total + len(places[kind]), found + len(hits)
    assert found >= (0.99 if kind in ("exact", "flipped", "shifted") else 0.9) * total


def very_alike(n: int, seed: int, name: str) -> ImageSet:
    """Nine grey values and no noise: some pictures of different patients have a similarity of 0.98 and more."""
    return image_set(smooth_images(n, 1, (24, 24), 1, seed=seed)[0], name)


@pytest.mark.parametrize("draw", [pictures, very_alike])
def test_new_patients_are_hardly_ever_accused(draw: Callable[..., ImageSet]) -> None:
    """100 generators of new patients: the upper 95 % limit of the share of runs that cry copy is under 10 %."""
    runs = 100
    accused = 0
    for run in range(runs):
        seeds = itertools.count(1000 + 3 * run)
        sets = [draw(n, next(seeds), name) for n, name in ((120, "T"), (60, "H"), (60, "S"))]
        accused += find_copies(sets[2], sets[0], sets[1], seed=run).found > 0
    assert stats.beta.ppf(0.95, accused + 1, runs - accused) < 0.1


def prepared(data_root: Path, name: str, folder: Path) -> Dataset:
    """A real set at 64 px, split by patient or group; 30 % are for testing."""
    colour = {"chest_xray": "grey"}.get(name, "rgb")
    preparation = {"size": 64, "colour": colour, "fit": "crop", "fractions": [0.55, 0.15, 0.3]}
    recipe = validate_recipe({"synthoma": 1, "name": name, "preparation": preparation}, "a test")
    prepare_dataset(recipe, data_root / name, folder, Silent(), workers=1)
    return Dataset.open(folder)


@pytest.mark.parametrize("name", ["skin9", "pap_smear", "chest_xray"])
def test_planted_copies_among_real_images(name: str, data_root: Path, tmp_path: Path) -> None:
    """Skin lesions of little contrast are the hard ones: JPEG changes them as much as another patient differs."""
    dataset = prepared(data_root, name, tmp_path / "set")
    train = image_set_from_dataset(dataset, "train")
    held, posing = image_set_from_dataset(dataset, "val"), image_set_from_dataset(dataset, "test")
    assert find_copies(posing, train, held).found == 0
    made, places = with_copies(posing, train, dict.fromkeys(KINDS, 24))
    found = found_in(find_copies(made, train, held))
    assert found <= set.union(*places.values())
    for kind in ("exact", "flipped", "shifted"):
        assert places[kind] <= found, kind
    for kind in ("brightened", "jpeg"):
        assert len(places[kind] & found) >= 22, kind


def test_memoriser_of_real_images_fails_the_gate(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each latent gives one of 16 training images: an ordinary run, whose copies the audit finds and the gate refuses."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    memoriser = importlib.import_module("memoriser")
    dataset, run = prepared(data_root, "pap_smear", tmp_path / "set"), Run(tmp_path / "run")
    memoriser.memorise(tmp_path / "set", run.path, updates=1500)
    audit = CliRunner().invoke(app, ["audit", str(run.path), "--json"])
    assert audit.exit_code == 3
    copies = json.loads(audit.stdout)["copies"]
    assert copies["found"] >= 0.5 * copies["n"]
    assert copies["control"]["found"] == 0
    copied = {pair["train_row"] for pair in read_json(run.private / "pairs.json")["pairs"] if pair["copy"]}
    assert copied == set(memoriser.chosen_rows(dataset).tolist())
    assert CliRunner().invoke(app, ["gate", str(run.path)]).exit_code == 3
    rules = {rule["rule"]: rule for rule in read_json(run.evaluation / "gate.json")["rules"]}
    assert rules["copies"]["verdict"] == "failed"
    assert not (run.model / "release.json").exists()
