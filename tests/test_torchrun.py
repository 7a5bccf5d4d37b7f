"""Several processes under `torchrun`, as a user starts them: one run, one voice, the same result, stopped and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from family_fixture import small_family
from make_dataset import Silent, make_dataset
from synthoma.dataset import Dataset
from synthoma.recipe import Recipe
from synthoma.run import Run
from synthoma.training import prepare_run, train
from synthoma.training.checkpoint import checkpoint_folders

pytestmark = pytest.mark.slow

SIZE = (8, 8)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300", "NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "d", count=160, size=SIZE, channels=1)


def recipe_for(folder: Path, **training: object) -> tuple[Recipe, Path]:
    # Rates that do not depend on the length, so that a run may be made longer.
    fixed = {"learning_rate": 2e-4, "beta2": 0.9, "gamma": 1.0, "kimg": 0.096, "checkpoint_kimg": 0.064}
    recipe = small_family("r3", SIZE, 1, **{**fixed, "tick_kimg": 0.032, "sample_kimg": 1, **training})
    file = folder / f"recipe{len(list(folder.glob('recipe*')))}.yaml"
    file.write_text(recipe.to_yaml())
    return recipe, file


def torchrun(*arguments: object, count: int = 2) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.Popen(
        [*command, "-m", "synthoma", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, errors = process.communicate(timeout=240)
    return process.returncode, out + errors


def weights(run: Run, name: str) -> torch.Tensor:
    tensors = load_file(checkpoint_folders(run.checkpoints)[-1] / f"{name}.safetensors")
    return torch.cat([tensors[key].flatten() for key in sorted(tensors)])


def alone(folder: Path, dataset: Dataset, recipe: Recipe) -> Run:
    run = Run(folder)
    prepare_run(run, recipe)
    train(run, dataset, Silent())
    return run


def test_two_processes_leave_the_run_that_one_leaves_and_resume_it(dataset: Dataset, tmp_path: Path) -> None:
    recipe, file = recipe_for(tmp_path)
    two = Run(tmp_path / "two")
    code, said = finish(torchrun("train", file, "--dataset", dataset.path, "--out", two.path))
    assert code == 0, said
    assert said.count("training images are very few") == 1, "one process speaks for all"
    assert said.count("Training on 2 processes") == 1
    one = alone(tmp_path / "one", dataset, recipe)
    for name in ("generator", "discriminator", "average"):
        torch.testing.assert_close(weights(two, name), weights(one, name), rtol=0, atol=1e-4)
    told = json.loads(two.training_file.read_text())
    assert (told["processes"], told["finished"]) == (2, True)
    rows = [[(row["kind"], row["images_seen"]) for row in run.stats()] for run in (two, one)]
    assert rows[0] == rows[1]
    longer, file = recipe_for(tmp_path, kimg=0.16)
    code, said = finish(torchrun("train", file, "--dataset", dataset.path, "--out", two.path))
    assert code == 0, said
    assert "Going on from 0.096 kimg" in said
    straight = alone(tmp_path / "straight", dataset, longer)
    for name in ("generator", "discriminator", "average"):
        torch.testing.assert_close(weights(two, name), weights(straight, name), rtol=0, atol=1e-4)


def test_a_rollback_is_made_by_all_processes_together(dataset: Dataset, tmp_path: Path) -> None:
    """A rate that gives numbers that are none, after a first checkpoint at a rate that does not."""
    ramp = {"start": 1e-4, "end": 1e30, "over_kimg": [0.1, 0.12], "shape": "linear"}
    health = {"action": "rollback", "rollbacks": 1}
    _, file = recipe_for(tmp_path, kimg=0.32, learning_rate=ramp, health=health)
    run = Run(tmp_path / "run")
    code, said = finish(torchrun("train", file, "--dataset", dataset.path, "--out", run.path))
    assert code != 0
    assert said.count("no number any more") >= 2
    found = [row for row in run.stats() if row["kind"] == "health"]
    assert found[0]["action"].startswith("went back")
    state = json.loads((checkpoint_folders(run.checkpoints)[-1] / "state.json").read_text())
    assert (state["rollbacks"], state["lowered"]) == (1, 0.5)


def test_a_signal_ends_all_processes_with_a_run_that_goes_on(dataset: Dataset, tmp_path: Path) -> None:
    _, file = recipe_for(tmp_path, kimg=100)
    run = Run(tmp_path / "run")
    process = torchrun("train", file, "--dataset", dataset.path, "--out", run.path)
    deadline = time.monotonic() + 120
    while not checkpoint_folders(run.checkpoints) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, said = finish(process)
    assert code != 0
    assert "everything is saved" in said
    seen = int(checkpoint_folders(run.checkpoints)[-1].name)
    assert json.loads(run.training_file.read_text())["images_seen"] == seen
    _, file = recipe_for(tmp_path, kimg=seen / 1000 + 0.032)
    code, said = finish(torchrun("train", file, "--dataset", dataset.path, "--out", run.path))
    assert code == 0, said
    assert f"Going on from {seen / 1000:g} kimg" in said


@pytest.mark.parametrize(
    ("count", "batch"), [(3, 2), (2, 15)], ids=["more processes than images", "a batch that cannot be shared"]
)
def test_a_batch_that_cannot_be_shared_is_refused(count: int, batch: int, dataset: Dataset, tmp_path: Path) -> None:
    _, file = recipe_for(tmp_path, batch=batch)
    code, said = finish(torchrun("train", file, "--dataset", dataset.path, "--out", tmp_path / "run", count=count))
    assert code != 0
    assert f"a batch of {batch} images cannot be shared evenly by {count} processes" in said


def test_only_training_runs_in_several_processes(dataset: Dataset, tmp_path: Path) -> None:
    _, file = recipe_for(tmp_path)
    code, said = finish(torchrun("run", file, "--dataset", dataset.path, "--out", tmp_path / "run"))
    assert code != 0
    assert "only training runs in several processes" in said
    assert not (tmp_path / "run").exists()
