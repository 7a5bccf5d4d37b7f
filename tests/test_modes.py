"""benchmarks/modes.py: what counts as a covered mode, and that a stopped measurement goes on where it was."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from synthoma.dataset import Dataset
from synthoma.phantoms.stacked import draw_stacked


def test_modes_are_counted_among_samples_that_show_one(script: Any) -> None:
    count_modes = script("modes_classifier").count_modes
    even = count_modes(np.repeat(np.arange(100), 50))
    assert even == (100, 1.0, pytest.approx(0.0, abs=1e-12))
    half = count_modes(np.array([3, 3, 7, 7, -1, -1, -1, -1]))
    assert half == (2, 0.5, pytest.approx(math.log(50)))
    assert count_modes(np.full(10, -1)) == (0, 0.0, pytest.approx(math.log(100)))


class Centres(nn.Module):
    """Puts every sample on one of the first `count` centres, `off` standard deviations away."""

    def __init__(self, target: Any, count: int, off: float) -> None:
        super().__init__()
        self.target, self.count, self.off = target, count, off

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        chosen = self.target.centres[torch.arange(len(z)) % self.count]
        return chosen + torch.tensor([self.off * self.target.sigma, 0.0])


def test_points_count_within_three_sigma(script: Any) -> None:
    points = script("modes_points")
    for target in points.TARGETS:
        total = len(target.centres)
        assert points.measure(Centres(target, total, 2.9), target)["covered"] == total
        assert points.measure(Centres(target, 3, 0.0), target)["covered"] == 3
        missed = points.measure(Centres(target, total, 3.1), target)
        assert (missed["covered"], missed["good"]) == (0, 0.0)


def test_training_brings_points_nearer_to_their_modes(script: Any) -> None:
    points = script("modes_points")
    contestant = next(one for one in points.CONTESTANTS if one.name == "relativistic + R1 + R2")
    ring = points.TARGETS[0]
    before, after = (points.train_points(contestant, ring, 0, updates) for updates in (1, 600))
    assert before["good"] < after["good"]
    assert after["covered"] >= 4


def test_what_was_measured_is_not_measured_again(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modes = script("modes")
    asked: list[int] = []

    def job(seed: int) -> Any:
        def work() -> dict[str, Any]:
            asked.append(seed)
            return {"covered": 90 + seed, "modes": 100, "good": 0.5, "divergence": 0.1, "cpu_seconds": 1.0}

        return {"family": "r3", "seed": seed, "kimg": 1.0}, work

    out = tmp_path / "modes.json"
    modes.run_all(out, "images", iter([job(0)]))
    modes.run_all(out, "images", iter([job(0), job(1)]))
    assert asked == [0, 1]
    assert "90 of 100 modes" in capsys.readouterr().out
    assert "| r3 | 1.0 | 2 | 90, 91 of 100 | 50% | 0.100 | 1 |" in modes.table(json.loads(out.read_text()))


def test_stacked_shapes_as_a_dataset(script: Any, tmp_path: Path) -> None:
    images = script("modes_images")
    made = images.write_stacked_dataset(tmp_path / "data", train_images=40)
    assert (len(made.rows("train")), len(made.rows("val")), len(made.rows("test"))) == (40, 8, 8)
    expected, modes = draw_stacked(0, np.arange(56), images.CHANNELS, images.SIZE)
    assert np.array_equal(made.images, expected)
    shapes = [made.classes[label] for label in made.labels]
    assert shapes == [images.SHAPES[mode // 10] for mode in modes]
    assert Dataset.open(tmp_path / "data").content_hash == made.content_hash


@pytest.mark.slow
def test_the_judge_knows_shapes_and_refuses_noise(script: Any) -> None:
    torch.set_num_threads(1)
    judge = script("modes_classifier")
    classify = judge.train_classifier()
    real, modes = draw_stacked(77, np.arange(1000), 2, 16)
    found = classify(real)
    assert (found == modes).mean() > 0.97
    noise = np.random.default_rng(0).integers(0, 256, (500, 2, 16, 16), dtype=np.uint8)
    assert (classify(noise) == -1).mean() > 0.99
    assert (classify(np.full((10, 2, 16, 16), 128, np.uint8)) == -1).all()
