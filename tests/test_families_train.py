"""Every family through the one loop: both dimensions, conditional or not, killed and resumed to the same bits."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from family_fixture import small_family
from make_dataset import Silent, make_dataset
from synthoma.families import FAMILIES
from synthoma.model import Model
from synthoma.recipe import Recipe
from synthoma.run import Run, file_sha256
from synthoma.training import prepare_run, train
from synthoma.training.checkpoint import checkpoint_folders
from synthoma.training.iteration import one_iteration
from synthoma.training.session import begin
from synthoma.training.world import World

FLAT, SOLID = (16, 24), (8, 8, 8)
LAZY = {"style": {"lazy": {"r1": 3, "path_length": 2}}}
CASES = [
    pytest.param(family, size, conditions, id=f"{family}-{len(size)}D-{'conditional' if conditions else 'plain'}",
                 marks=[pytest.mark.slow] if len(size) == 3 else [])
    for family in FAMILIES
    for size in (FLAT, SOLID)
    for conditions in ([], ["class"])
    if conditions or not FAMILIES[family].needs_conditions
]  # fmt: skip


def trained(folder: Path, data: Any, recipe: Recipe) -> Run:
    run = Run(folder)
    prepare_run(run, recipe)
    train(run, data, Silent())
    return run


def sums(run: Run) -> dict[str, str]:
    folder = checkpoint_folders(run.checkpoints)[-1]
    return {file.name: file_sha256(file) for file in sorted(folder.glob("*.safetensors"))}


@pytest.mark.parametrize(("family", "size", "conditions"), CASES)
def test_trains_and_resumes_to_the_same_bits(
    family: str, size: tuple[int, ...], conditions: list[str], tmp_path: Path
) -> None:
    channels = 3 if len(size) == 2 else 1
    data = make_dataset(tmp_path / "data", count=64, channels=channels, size=size)
    critic = FAMILIES[family] is FAMILIES["wgan"] or FAMILIES[family] is FAMILIES["wgan-gp"]
    period = 0.16 if critic else 0.064
    recipe = small_family(
        family,
        size,
        channels,
        model={"conditions": conditions},
        kimg=2 * period,
        checkpoint_kimg=period,
        sample_kimg=2 * period,
        **LAZY.get(family, {}),
    )
    straight = trained(tmp_path / "straight", data, recipe)
    # Killed after the first checkpoint: what came later is gone.
    shutil.copytree(straight.path, tmp_path / "killed")
    killed = Run(tmp_path / "killed")
    shutil.rmtree(checkpoint_folders(killed.checkpoints)[-1])
    train(killed, data, Silent())
    assert sums(killed) == sums(straight)
    assert [row["images_seen"] for row in killed.stats()] == [row["images_seen"] for row in straight.stats()]
    samples = Model.load(straight.model).generate(3, label=data.classes[0] if conditions else None)
    assert samples.images.shape == (3, channels, *size)
    assert samples.images.dtype == np.uint8
    assert all(np.isfinite(row["loss_generator"]) for row in straight.stats() if row["kind"] == "tick")


@pytest.mark.parametrize("stop", [0.208, 0.304, 0.4], ids=["in a fade", "in another", "at the top"])
def test_growth_resumes_in_the_middle_of_a_fade(stop: float, tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=64)
    growth = {"fade_kimg": 0.096, "stable_kimg": 0.096, "batches": [16, 16, 8]}
    common = {"kimg": 0.496, "growth": growth, "sample_kimg": 1, "tick_kimg": 0.016}
    straight = trained(tmp_path / "straight", data, small_family("pggan", checkpoint_kimg=stop, **common))
    stages = {row["images_seen"]: (row["level"], row["fade"]) for row in straight.stats() if row["kind"] == "tick"}
    assert {level for level, _ in stages.values()} == {0, 1, 2}
    assert any(0 < fade < 1 for _, fade in stages.values())
    shutil.copytree(straight.path, tmp_path / "killed")
    killed = Run(tmp_path / "killed")
    for folder in checkpoint_folders(killed.checkpoints)[1:]:
        shutil.rmtree(folder)
    train(killed, data, Silent())
    assert sums(killed) == sums(straight)


def test_optimizers_begin_anew_at_a_level(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=64)
    growth = {"fade_kimg": 0.064, "stable_kimg": 0.064}
    run = trained(tmp_path / "run", data, small_family("pggan", kimg=0.336, growth=growth, checkpoint_kimg=0.336))
    from safetensors.torch import load_file

    moments = load_file(checkpoint_folders(run.checkpoints)[-1] / "generator_optimizer.safetensors")
    steps = {int(value) for name, value in moments.items() if name.endswith("/step")}
    # The last level began at 192 images: nine iterations of 16 since then, 21 since the start. (Fewer where only the
    # fade used a layer.)
    assert max(steps) == 9
    assert torch.isfinite(torch.cat([value.flatten() for value in moments.values()])).all()


def test_the_average_has_its_half_life_in_images_seen_whatever_the_critic_steps(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=64, channels=3, size=FLAT)
    recipe = small_family("wgan", FLAT, kimg=0.08, checkpoint_kimg=0.08, ema_kimg=0.08, ema_rampup=None)
    run = Run(tmp_path / "run")
    prepare_run(run, recipe)
    session = begin(run, recipe, data, Silent(), World())
    before = [weight.clone() for weight in session.state.average.parameters()]
    one_iteration(session)
    # 5 critic updates of 16 images: one half-life, so the average is half way to the trained weights.
    assert session.state.counters.images_seen == 80
    for old, now, trained_weight in zip(
        before, session.state.average.parameters(), session.family.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(now, (old + trained_weight) / 2)
