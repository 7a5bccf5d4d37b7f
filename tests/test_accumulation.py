"""Gradients in parts, by one process or by two: equal to those of the whole batch to rounding."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from exact_steps import MODELS, steps
from make_dataset import make_dataset

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "blobs"
    make_dataset(folder, count=96)
    return folder


def agree(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    for name, values in one.items():
        scale = np.abs(values).max()
        assert scale > 0
        assert np.abs(values - other[name]).max() < 1e-10 * max(scale, 1.0), name


@pytest.mark.parametrize("family", list(MODELS))
def test_accumulated_steps_equal_whole_ones(family: str, data: Path) -> None:
    agree(steps(data, family), steps(data, family, micro=5))


@pytest.mark.slow
@pytest.mark.parametrize("family", list(MODELS))
def test_two_processes_equal_one(family: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "two.npz"
    run_processes([sys.executable, str(TESTS / "exact_steps.py"), str(data), family, str(out)])
    agree(steps(data, family), dict(np.load(out)))


def run_processes(command: list[str], count: int = 2) -> list[str]:
    """Start `count` processes that meet on this machine, as torchrun does; returns what they printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                **meeting,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(TESTS)]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    printed = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, "\n".join(printed)
    return printed
