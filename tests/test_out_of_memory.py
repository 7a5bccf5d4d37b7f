"""Memory that runs out: said, halved, remembered; or, where the recipe wants that, the end in words."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from family_fixture import small_family
from make_dataset import Silent, make_dataset
from synthoma.dataset import Dataset
from synthoma.errors import TrainingError
from synthoma.recipe import Recipe
from synthoma.run import Run
from synthoma.training import loop, prepare_run, train
from synthoma.training.checkpoint import checkpoint_folders
from synthoma.training.iteration import at_once, is_out_of_memory

SIZE = (8, 8)


def recipe_for(family: str = "r3", **training: Any) -> Recipe:
    return small_family(family, SIZE, 1, **{"kimg": 0.064, "sample_kimg": 1, "tick_kimg": 0.064, **training})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "d", count=60, size=SIZE, channels=1)


@pytest.fixture
def holds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """`holds[:] = [4]`: from then on a discriminator in training holds the activations of 4 images at once, and no more."""
    limit: list[int] = []
    plain = loop.begin

    def check(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        # Real and fake go through together in networks that couple no samples.
        if limit and len(inputs[0]) > 2 * limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def begin(*arguments: Any) -> Any:
        session = plain(*arguments)
        session.family.discriminator.register_forward_pre_hook(check)
        return session

    monkeypatch.setattr(loop, "begin", begin)
    return limit


def run_with(folder: Path, dataset: Dataset, recipe: Recipe) -> tuple[Run, Silent]:
    run, observer = Run(folder), Silent()
    prepare_run(run, recipe)
    train(run, dataset, observer)
    return run, observer


def micro(run: Run) -> int | None:
    return json.loads((checkpoint_folders(run.checkpoints)[-1] / "state.json").read_text())["micro"]


def test_the_parts_are_halved_until_they_fit_and_the_run_ends(
    holds: list[int], dataset: Dataset, tmp_path: Path
) -> None:
    holds[:] = [5]
    run, observer = run_with(tmp_path / "run", dataset, recipe_for())
    told = [line for line in observer.warned if "Out of memory" in line]
    assert [line.split(" images at once; going on with ")[0].split()[-1] for line in told] == ["16", "8"]
    assert "training.batch_per_device" in told[0]
    assert micro(run) == 4
    assert (run.model / "model.json").exists()
    # Nothing but rounding differs from the whole batch at once.
    holds.clear()
    whole, _ = run_with(tmp_path / "whole", dataset, recipe_for())
    rows = [[row["loss_discriminator"] for row in r.stats() if row["kind"] == "tick"] for r in (run, whole)]
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)


def test_a_checkpoint_remembers_how_much_fits(holds: list[int], dataset: Dataset, tmp_path: Path) -> None:
    holds[:] = [8]
    run, _ = run_with(tmp_path / "run", dataset, recipe_for())
    _, again = run_with(run.path, dataset, recipe_for(gamma=None, kimg=0.064))
    assert not any("Out of memory" in line for line in again.warned)
    assert micro(run) == 8


def test_a_resumed_run_takes_the_parts_that_its_recipe_asks_for_now(
    holds: list[int], dataset: Dataset, tmp_path: Path
) -> None:
    """`training.batch_per_device` may change: the first run's value does not stick."""
    fixed = {"learning_rate": 2e-4, "beta2": 0.9, "gamma": 1.0}
    run, _ = run_with(tmp_path / "run", dataset, recipe_for(**fixed, batch_per_device=8))
    assert micro(run) is None
    holds[:] = [4]
    _, observer = run_with(run.path, dataset, recipe_for(**fixed, batch_per_device=4, kimg=0.128))
    assert not any("Out of memory" in line for line in observer.warned)


def test_networks_that_couple_samples_are_told_of(
    dataset: Dataset, tmp_path: Path, holds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    holds[:] = [4]
    _, observer = run_with(tmp_path / "run", dataset, recipe_for("dcgan"))
    assert any("couple the samples of a pass" in line for line in observer.warned)


@pytest.mark.parametrize(("limit", "setting"), [(5, "stop"), (0, "accumulate")])
def test_the_end_in_words(limit: int, setting: str, holds: list[int], dataset: Dataset, tmp_path: Path) -> None:
    holds[:] = [limit]
    at = "16" if setting == "stop" else "1"
    with pytest.raises(TrainingError, match=rf"out of memory with {at} images at once .*batch 16.*batch_per_device"):
        run_with(tmp_path / "run", dataset, recipe_for(on_out_of_memory=setting))


@pytest.mark.parametrize(
    ("message", "memory"),
    [
        (
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
            True,
        ),
        ("CUDA error: out of memory", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("the storage of this tensor was not allocated by torch", False),
        ("expected scalar type Float but found BFloat16", False),
    ],
)
def test_only_a_want_of_memory_is_taken_for_one(message: str, memory: bool) -> None:
    assert is_out_of_memory(RuntimeError(message)) is memory


def test_an_allocation_that_the_processor_really_refuses() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_other_errors_are_not_hidden(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = loop.begin

    def broken(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise RuntimeError("the storage of this tensor was not allocated by torch")

    def begin(*arguments: Any) -> Any:
        session = plain(*arguments)
        session.family.discriminator.register_forward_pre_hook(broken)
        return session

    monkeypatch.setattr(loop, "begin", begin)
    with pytest.raises(RuntimeError, match="storage"):
        run_with(tmp_path / "run", dataset, recipe_for())


def test_images_at_once() -> None:
    assert at_once(None, None, 16) == 16
    assert at_once(None, 32, 16) == 16
    assert at_once(4, 8, 16) == 4
    assert at_once(8, 4, 16) == 4
