"""Killed with SIGKILL at twenty random moments, a run ends with the bits of one that was left alone."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from make_dataset import make_dataset
from synthoma.run import file_sha256
from synthoma.training.checkpoint import checkpoint_folders

pytestmark = pytest.mark.slow

KILLS = 20
SETTINGS = [
    "preparation.size=16",
    "model.latent=16",
    "model.generator_widths=[32,16]",
    "model.discriminator_widths=[16,32]",
    "training.batch=16",
    "training.precision=fp32",
    "training.kimg=24",
    "training.tick_kimg=0.16",
    "training.sample_kimg=0.64",
    "training.checkpoint_kimg=0.32",
    "evaluation.validation_count=32",
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "synthoma", "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def test_twenty_kills_change_no_bit(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", count=320)
    first = ["demo", "--dataset", tmp_path / "data", *[part for setting in SETTINGS for part in ("--set", setting)]]
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    finish(start(*first, "--out", alone))
    random.seed(0)
    kills, reached = 0, []
    while kills < KILLS:
        begun = (killed / "recipe.yaml").exists()
        process = start(killed, "--resume") if begun else start(*first, "--out", killed)
        described = killed / "training.json"
        before = described.stat().st_mtime_ns if described.exists() else 0
        # The file is written when the networks stand; from there on any moment may be hit, saving included.
        while process.poll() is None and (not described.exists() or described.stat().st_mtime_ns == before):
            time.sleep(0.005)
        time.sleep(random.uniform(0.0, 1.2))
        assert process.poll() is None, (
            f"the run ended before kill {kills + 1}: {process.stderr.read() if process.stderr else ''!r}"
        )
        process.kill()
        process.wait()
        kills += 1
        saved = checkpoint_folders(killed / "checkpoints")
        reached.append(int(saved[-1].name) if saved else 0)
    assert reached == sorted(reached)
    assert reached[-1] > reached[0]
    finish(start(killed, "--resume"))
    ends = [checkpoint_folders(run / "checkpoints")[-1] for run in (alone, killed)]
    assert ends[0].name == ends[1].name
    sums = [{file.name: file_sha256(file) for file in end.glob("*.safetensors")} for end in ends]
    assert len(sums[0]) == 6
    assert sums[0] == sums[1]
    assert file_sha256(alone / "model" / "generator.safetensors") == file_sha256(
        killed / "model" / "generator.safetensors"
    )
