"""Adaptive strength: it rises where the discriminator knows its training set by heart, and falls where it does not."""

import json

import pytest
import torch
from torch import Tensor

from synthoma.errors import TrainingError
from synthoma.settings import AugmentSection
from synthoma.training.adaptive import AdaptiveStrength, overfitting


def sets(seed: int, count: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Training and held-out points [n, 2] of one distribution, and fakes beside it."""
    source = torch.Generator().manual_seed(seed)
    train, val, fake = torch.randn(3, count, 2, generator=source, dtype=torch.float64)
    return train, val, fake + 3.0


def remembering(known: Tensor, points: Tensor, width: float) -> Tensor:
    """Scores [n] of a discriminator that believes in what is near the points it `knows`; narrow: it learned them by heart."""
    return torch.exp(-0.5 * torch.cdist(points, known).square() / width**2).sum(1)


@pytest.mark.parametrize(("width", "rises"), [(1e-3, True), (2.0, False)])
def test_strength_rises_with_overfitting_and_falls_without(width: float, rises: bool) -> None:
    adaptive = AdaptiveStrength(kimg=10, strength=0.4)
    for step in range(20):
        train, val, fake = sets(step)
        adaptive.update(overfitting(*(remembering(train, points, width) for points in (train, val, fake))), images=100)
    assert adaptive.strength == pytest.approx(0.6 if rises else 0.2)


def test_strength_settles_where_the_overfitting_is_the_target() -> None:
    """A discriminator that augmentation keeps from learning by heart: r_v = 1 - strength."""
    adaptive = AdaptiveStrength(target=0.6, kimg=10)
    for _ in range(500):
        adaptive.update(1.0 - adaptive.strength, images=50)
    assert adaptive.strength == pytest.approx(0.4, abs=0.05)


def test_strength_moves_at_the_rate_asked_for_and_stays_within_its_bounds() -> None:
    adaptive = AdaptiveStrength(kimg=2, most=0.85)
    adaptive.update(1.0, images=500)
    assert adaptive.strength == pytest.approx(0.25)
    for _ in range(20):
        adaptive.update(1.0, images=500)
    assert adaptive.strength == 0.85
    for _ in range(40):
        adaptive.update(0.0, images=500)
    assert adaptive.strength == 0.0


def test_one_stray_comparison_does_not_turn_it() -> None:
    adaptive = AdaptiveStrength(kimg=10, strength=0.5)
    for signal in (0.2, 0.2, 1.0, 0.2):
        adaptive.update(signal, images=100)
    assert adaptive.strength == pytest.approx(0.46)


def test_the_signal_does_not_change_with_shift_or_scale_of_the_scores() -> None:
    """What Wasserstein and relativistic critics leave open; the share of positive scores would change."""
    train, val, fake = sets(0)
    scores = [remembering(train, points, 0.1) for points in (train, val, fake)]
    plain = overfitting(*scores)
    assert 0.1 < plain < 0.9
    for scale, shift in ((1.0, -100.0), (1e-3, 7.0), (50.0, 0.0)):
        assert overfitting(*(scale * score + shift for score in scores)) == pytest.approx(plain, abs=1e-9)


def test_the_signal_is_0_for_unseen_as_good_as_seen_and_1_for_unseen_as_bad_as_fakes() -> None:
    assert overfitting(2.0, 2.0, -1.0) == 0.0
    assert overfitting(2.0, -1.0, -1.0) == 1.0
    assert overfitting(2.0, 0.5, -1.0) == 0.5
    assert overfitting(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]), torch.tensor([-2.0, 0.0])) == 0.5


def test_a_discriminator_that_knows_nothing_has_nothing_by_heart() -> None:
    assert overfitting(1.0, 0.0, 1.0) == 0.0
    assert overfitting(1.0, 0.0, 2.0) == 0.0


def test_scores_that_are_no_numbers_are_told() -> None:
    with pytest.raises(TrainingError, match="learning_rate"):
        overfitting(float("nan"), 0.0, 1.0)


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    settings = AugmentSection(policy=["colour"], strength="adaptive", target=0.4, adapt_kimg=7.0)
    signals = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    whole = AdaptiveStrength.begin(settings, None)
    assert (whole.target, whole.kimg, whole.strength) == (0.4, 7.0, 0.0)
    first = AdaptiveStrength.begin(settings, None)
    for signal in signals[:20]:
        first.update(signal, 64)
    second = AdaptiveStrength.begin(settings, json.loads(json.dumps(first.to_json())))
    assert second == first
    for signal in signals:
        whole.update(signal, 64)
    for signal in signals[20:]:
        second.update(signal, 64)
    assert second == whole
    assert AdaptiveStrength.from_json(whole.to_json()) == whole
