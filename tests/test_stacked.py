"""Stacked shapes: pictures by number, equally likely modes, ten shapes that differ, and a classifier that counts them."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthoma.errors import DataError
from synthoma.phantoms.stacked import SHAPES, draw_stacked, mode_count


def numbers(count: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + count)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [16, 21, 32])
def test_shapes_and_modes_have_the_stated_form(channels: int, size: int) -> None:
    images, modes = draw_stacked(0, numbers(50), channels, size)
    assert (images.shape, images.dtype) == ((50, channels, size, size), np.uint8)
    assert (modes.shape, modes.dtype) == ((50,), np.int64)
    assert 0 <= modes.min() <= modes.max() < mode_count(channels)


def test_a_picture_depends_on_seed_and_number_alone() -> None:
    images, modes = draw_stacked(3, numbers(40))
    some, same_modes = draw_stacked(3, np.array([31, 7, 7]))
    np.testing.assert_array_equal(some, images[[31, 7, 7]])
    np.testing.assert_array_equal(same_modes, modes[[31, 7, 7]])
    assert (draw_stacked(4, numbers(40))[0] != images).any(axis=(1, 2, 3)).all()
    assert len({image.tobytes() for image in images}) == 40


def test_all_modes_are_equally_likely() -> None:
    modes = draw_stacked(0, numbers(20_000))[1]
    counts = np.bincount(modes, minlength=100)
    # Chi squared with 99 degrees of freedom: 99 +- 14.
    assert ((counts - 200.0) ** 2 / 200.0).sum() < 99 + 5 * 14


def test_the_mode_is_read_channel_by_channel() -> None:
    images, modes = draw_stacked(0, numbers(4000))
    for channel, digit in enumerate((modes // 10, modes % 10)):
        for shape in (SHAPES.index("horizontal bar"), SHAPES.index("vertical bar")):
            chosen = images[digit == shape, channel].astype(float)
            high, wide = (np.ptp(chosen.mean(axis=axis), axis=1).mean() for axis in (2, 1))
            assert (high > wide) == (shape == SHAPES.index("horizontal bar"))


def test_every_shape_differs_from_the_others_and_stays_within_the_picture() -> None:
    images, modes = draw_stacked(1, numbers(6000), channels=1, size=24)
    means = np.stack([images[modes == shape, 0].mean(axis=0) for shape in range(len(SHAPES))])
    apart = np.abs(means[:, None] - means[None]).mean(axis=(2, 3)) + 1e3 * np.eye(len(SHAPES))
    assert apart.min() > 5
    # Radius and shift end before the border, so the border shows the ground.
    assert np.concatenate((images[..., 0, :], images[..., -1, :])).max() <= 64


def test_borders_are_smooth_and_the_contrast_is_kept() -> None:
    images, _ = draw_stacked(2, numbers(500))
    low, high = images.min(axis=(2, 3)).astype(int), images.max(axis=(2, 3)).astype(int)
    assert (high - low).min() >= 0.35 * 255
    between = (images > low[..., None, None] + 5) & (images < high[..., None, None] - 5)
    assert between.mean() > 0.05


def test_the_same_picture_at_every_size() -> None:
    coarse, modes = draw_stacked(5, numbers(60), size=16)
    fine, same = draw_stacked(5, numbers(60), size=64)
    np.testing.assert_array_equal(modes, same)
    reduced = fine.reshape(60, 2, 16, 4, 16, 4).mean(axis=(3, 5))
    assert np.abs(reduced - coarse).mean() < 3


def test_too_small_pictures_and_too_many_channels_are_refused() -> None:
    with pytest.raises(DataError, match="11 px"):
        draw_stacked(0, numbers(2), size=11)
    with pytest.raises(DataError, match="4"):
        draw_stacked(0, numbers(2), channels=4)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's classifier module, imported as the benchmark does."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module("modes_classifier")


def test_modes_are_counted_with_their_divergence_from_equal_shares(judge: Any) -> None:
    even = judge.count_modes(np.arange(1000) % 100)
    assert (even.covered, even.good) == (100, 1.0)
    assert even.divergence == pytest.approx(0.0, abs=1e-12)
    half = judge.count_modes(np.arange(1000) % 50)
    assert half.covered == 50
    assert half.divergence == pytest.approx(np.log(2))
    assert judge.count_modes(np.array([7, -1, 7, -1]))[:2] == (1, 0.5)
    assert judge.count_modes(np.array([-1, -1])) == (0, 0.0, pytest.approx(np.log(100)))


@pytest.mark.slow
def test_the_classifier_knows_the_shapes_and_takes_noise_for_none(judge: Any) -> None:
    classify = judge.train_classifier(seed=0)
    images, modes = draw_stacked(77, numbers(2000))
    assert (classify(images) == modes).mean() > 0.98
    noise = np.random.default_rng(0).integers(0, 256, (500, 2, 16, 16), dtype=np.uint8)
    assert (classify(noise) == -1).all()
    # One channel of noise is enough.
    images[:, 1] = np.resize(noise[:, 1], images[:, 1].shape)
    assert (classify(images) == -1).all()
