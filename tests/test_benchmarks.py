"""The logic of the benchmark scripts: what counts, and what is compared with what."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a benchmark script by name, as Python does when it is run."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


def contestant(module: ModuleType, rows: list[tuple[float, float]]) -> Any:
    """A contestant without a process, with (images a second, share of others) for each turn."""
    made = module.Contestant.__new__(module.Contestant)
    made.name, made.description = "ours", {"precision": "fp32"}
    made.rounds = [
        {
            "images_per_second": rate,
            "images_per_second_fastest_step": rate + 10,
            "others_share": others,
            "peak_memory_mib": 500,
            "data_wait_share": 0.004,
        }
        for rate, others in rows
    ]
    return made


def test_disturbed_turns_are_kept_but_do_not_count(script: Any) -> None:
    summary = contestant(script("train_step"), [(100.0, 0.0), (20.0, 0.5), (110.0, 0.02), (120.0, 0.01)]).summary()
    assert summary["quiet_turns"] == 3
    assert summary["images_per_second_median"] == 110.0
    assert summary["images_per_second_fastest_step"] == 130.0
    assert len(summary["rounds"]) == 4


def test_without_a_quiet_turn_all_turns_count_and_it_is_said(script: Any) -> None:
    summary = contestant(script("train_step"), [(100.0, 0.5), (20.0, 0.5), (60.0, 0.4)]).summary()
    assert summary["quiet_turns"] == 0
    assert summary["images_per_second_median"] == 60.0


def test_ours_is_held_against_the_faster_style_of_the_peer(script: Any) -> None:
    module = script("train_step")
    names = ("images_per_second_median", "images_per_second_best_round", "images_per_second_fastest_step")
    rates = {
        "ours fp32": 120,
        "keras fp32": 100,
        "keras fit fp32": 110,
        "ours bf16": 200,
        "keras bf16": 160,
        "ours auto": 220,
    }
    compared = module.compare({name: dict.fromkeys(names, rate) for name, rate in rates.items()})
    assert compared["fp32 against fp32"]["ratio"]["median"] == pytest.approx(120 / 110, abs=1e-3)
    assert compared["bf16 against bf16"]["ratio"]["median"] == pytest.approx(1.25)
    assert compared["as shipped against Keras as it comes"]["ratio"]["median"] == pytest.approx(2.0)


def test_the_noise_dataset_is_one_that_training_accepts(script: Any, tmp_path: Path) -> None:
    dataset = script("noise_dataset").write_noise_dataset(tmp_path / "dataset", train=20, size=16)
    assert len(dataset.rows("train")) == 20
    assert (dataset.channels, dataset.size, len(dataset.classes)) == (3, (16, 16), 9)


def test_static_batches_stay_at_their_addresses(script: Any) -> None:
    module = script("gpu_skin_cgan")

    def batch(value: float) -> Any:
        whole = torch.full((2,), int(value))
        scalar = torch.tensor(value)
        return module.Batch(torch.full((2, 3, 4, 4), value), whole, torch.full((2, 5), value), whole, scalar, scalar)

    static = module.StaticBatches([batch(0.0), batch(1.0)])
    addresses = [tensor.data_ptr() for tensor in module.tensors(static[0])]
    static.fill(0, batch(7.0))
    assert [tensor.data_ptr() for tensor in module.tensors(static[0])] == addresses
    assert all(bool((tensor == 7).all()) for tensor in module.tensors(static[4]))
    assert all(bool((tensor == 1).all()) for tensor in module.tensors(static[5]))
