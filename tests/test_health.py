"""The health watch on rows as a training logs them: each sign where it is, and none where there is none."""

import json
from typing import Any

import numpy as np
import pytest

from synthoma.settings import HealthSection
from synthoma.training.health import (
    COLLAPSED_FOR_LONG,
    COLLAPSED_VALIDATIONS,
    KID_VALIDATIONS,
    LEAST_TICKS,
    SATURATED_FOR_LONG,
    SATURATED_TICKS,
    Finding,
    Health,
    small_data_warning,
)

Rows = list[dict[str, Any]]


def tick(number: int, **values: float) -> dict[str, Any]:
    """A tick of a healthy run with the non-saturating loss: values as in the shipped runs."""
    noise = np.random.default_rng(number).uniform(-1, 1, 6)
    healthy = {
        "loss_discriminator": 1.0 + 0.3 * noise[0],
        "loss_generator": 1.8 + 0.5 * noise[1],
        "d_real": 0.8 + 0.1 * noise[2],
        "d_fake": 0.2 + 0.1 * noise[3],
        "ahead": 0.85 + 0.08 * noise[4],
        "gradient_generator": 0.9 * np.exp(noise[5]),
        "gradient_discriminator": 2.0 * np.exp(noise[4]),
    }
    return {"kind": "tick", "images_seen": 1000 * number, **healthy, **values}


def validation(number: int, kid: float, **values: Any) -> dict[str, Any]:
    nearest = {
        "share_closer": 0.04,
        "expected": 0.05,
        "auc": 0.52,
        "auc_error": 0.03,
        "near_train": 0.05,
        "near_held_out": 0.06,
        "near_error": 0.03,
    }
    usual = {"kid_se": 0.03, "count": 100, "diversity": {"benign": 0.8, "malignant": 0.7}, "nearest": nearest}
    return {"kind": "validation", "images_seen": 1000 * number, "kid": kid, **usual, **values}


def watch(**settings: Any) -> Health:
    return Health(HealthSection(**settings), "probability")


def told(health: Health, rows: Rows) -> list[Finding]:
    return [finding for row in rows for finding in health.observe(row)]


def signs(health: Health, rows: Rows) -> list[tuple[str, str]]:
    return [(finding.sign, finding.severity) for finding in told(health, rows)]


def test_a_healthy_run_gives_no_finding() -> None:
    rows: Rows = []
    for number in range(1, 301):
        rows.append(tick(number))
        if number % 10 == 0:
            rows.append(validation(number, 0.4 + 2.0 * np.exp(-number / 50)))
    assert told(watch(patience=50), rows) == []


@pytest.mark.parametrize("scores", ["probability", "raw"])
def test_a_strong_start_of_the_discriminator_is_not_told(scores: str) -> None:
    health = Health(HealthSection(), scores)
    sure = {"d_real": 0.99, "d_fake": 0.005, "ahead": 1.0}
    rows = [tick(n, **sure) for n in range(SATURATED_TICKS - 1)] + [tick(n) for n in range(10, 40)]
    assert told(health, rows) == []


def test_a_wasserstein_critic_that_is_always_right_is_healthy_while_images_get_better() -> None:
    health = Health(HealthSection(), "raw")
    rows: Rows = []
    for number in range(1, 100):
        rows.append(tick(number, d_real=40.0, d_fake=-30.0, ahead=1.0, loss_discriminator=-60.0, loss_generator=30.0))
        if number % 10 == 0:
            rows.append(validation(number, 10.0 / number))
    assert told(health, rows) == []


@pytest.mark.parametrize("scores", ["probability", "raw"])
def test_a_saturated_discriminator_is_told_once_then_as_grave_where_nothing_gets_better(scores: str) -> None:
    health = Health(HealthSection(), scores)
    sure = {"d_real": 0.999, "d_fake": 0.001, "ahead": 1.0}
    begin = [validation(n, 2.0) for n in (1, 2, 3)]
    rows = begin + [tick(n, **sure) for n in range(4, 4 + 3 * SATURATED_FOR_LONG)]
    found = told(health, rows)
    assert [(finding.sign, finding.severity) for finding in found] == [
        ("saturated_discriminator", "warning"),
        ("saturated_discriminator", "grave"),
    ]
    assert "no signal" in found[0].message
    assert "discriminator_learning_rate" in found[0].advice


def test_smoothed_labels_do_not_hide_saturation() -> None:
    # Targets of U(0.85, 1) and U(0, 0.15): a saturated discriminator says 0.925 and 0.075.
    health = watch()
    sure = {"d_real": 0.925, "d_fake": 0.075, "ahead": 1.0}
    rows = [validation(n, 2.0) for n in (1, 2, 3)] + [tick(n, **sure) for n in range(4, 12)]
    assert signs(health, rows) == [("saturated_discriminator", "warning")]


def test_moderate_probabilities_are_no_saturation_although_all_pairs_are_in_order() -> None:
    unsure = {"d_real": 0.85, "d_fake": 0.15, "ahead": 1.0}
    rows = [validation(n, 2.0) for n in (1, 2, 3)] + [tick(n, **unsure) for n in range(4, 60)]
    assert told(watch(), rows) == []


def test_a_vanished_gradient_of_the_generator_counts_without_validations() -> None:
    health = Health(HealthSection(), "raw")
    rows = [tick(n) for n in range(20)] + [tick(n, ahead=1.0, gradient_generator=1e-4) for n in range(20, 30)]
    assert signs(health, rows) == [("saturated_discriminator", "warning")]


def test_a_finding_is_told_again_only_after_it_went_away() -> None:
    health = watch()
    sure = {"d_real": 0.99, "d_fake": 0.01, "ahead": 1.0}
    at_the_limit = {"d_real": 0.96, "d_fake": 0.04, "ahead": 0.98}
    bad = [tick(n, **sure) for n in range(SATURATED_TICKS)]
    assert len(told(health, bad)) == 1
    assert told(health, [tick(9, **at_the_limit), *bad]) == []
    assert len(told(health, [tick(9), *bad])) == 1


def test_collapse_names_the_class_and_becomes_grave_when_it_lasts() -> None:
    health = watch()
    rows = [validation(n, 1.0 / n, diversity={"benign": 0.8, "malignant": 0.1}) for n in range(1, 12)]
    found = told(health, rows)
    assert [(finding.sign, finding.severity) for finding in found] == [("collapse", "warning"), ("collapse", "grave")]
    assert "malignant" in found[0].message
    assert "benign" not in found[0].message + found[0].advice
    assert "10 %" in found[0].message


def test_untrained_samples_that_are_alike_and_middling_diversity_are_no_collapse() -> None:
    rows = [validation(1, 5.0, diversity={"all": 0.01})]
    rows += [validation(n, 4.0 / n, diversity={"all": 0.3}) for n in range(2, 10)]
    assert COLLAPSED_VALIDATIONS > 1
    assert told(watch(), rows) == []


def test_each_class_has_its_own_finding() -> None:
    rows = [validation(n, 1.0 / n, diversity={"a": 0.1, "b": 0.2}) for n in range(COLLAPSED_FOR_LONG - 1)[1:]]
    rows += [validation(9, 0.01, diversity={"a": 0.1, "b": 0.2})]
    assert len([f for f in told(watch(), rows) if "class a" in f.message]) == 1
    assert len([f for f in told(watch(), rows) if "class b" in f.message]) == 1


def test_repeated_training_images_are_told_and_blur_is_not() -> None:
    nearest = validation(0, 1.0)["nearest"]
    copied = {**nearest, "share_closer": 0.4, "auc": 0.8, "near_train": 0.6, "near_held_out": 0.1}
    blurred = {**nearest, "share_closer": 0.9, "auc": 0.95, "near_train": 0.62, "near_held_out": 0.6}
    assert told(watch(), [validation(n, 1.0 / n, nearest=blurred) for n in range(1, 9)]) == []
    found = told(watch(), [validation(n, 1.0 / n, nearest=copied) for n in range(1, 9)])
    assert [(finding.sign, finding.severity) for finding in found] == [
        ("memorisation", "warning"),
        ("memorisation", "grave"),
    ]
    assert "40 %" in found[0].message


@pytest.mark.parametrize(
    "name", ["loss_discriminator", "loss_generator", "gradient_generator", "gradient_discriminator"]
)
def test_values_that_run_away_are_told_once_as_grave(name: str) -> None:
    health = watch()
    rows = [tick(n) for n in range(LEAST_TICKS + 5)] + [tick(n, **{name: 1000.0}) for n in range(30, 60)]
    found = told(health, rows)
    assert [(finding.sign, finding.severity) for finding in found] == [("divergence", "grave")]
    assert "1e+03" in found[0].message


def test_one_odd_tick_is_no_divergence() -> None:
    rows = [tick(n) for n in range(20)] + [tick(20, gradient_generator=1e4)] + [tick(n) for n in range(21, 40)]
    assert told(watch(), rows) == []


def test_a_loss_that_is_beyond_use_from_the_start_is_told() -> None:
    assert signs(watch(), [tick(n, loss_generator=45.0) for n in range(4)]) == [("divergence", "grave")]


def test_a_slow_climb_of_the_discriminators_loss_is_told() -> None:
    rows = [tick(n, loss_discriminator=1.05**n) for n in range(150)]
    assert signs(watch(), rows) == [("divergence", "grave")]


def test_raw_scores_of_any_height_are_healthy() -> None:
    # Without a drift term the critic's scores wander; losses of -1000 are usual for large images.
    rows = [
        tick(n, d_real=900.0 + n, d_fake=300.0 + n, loss_discriminator=-600.0, loss_generator=-300.0 - n)
        for n in range(200)
    ]
    assert told(Health(HealthSection(), "raw"), rows) == []


def test_a_kid_that_rises_by_far_is_told_after_several_validations() -> None:
    health = watch()
    good = [validation(n, 0.5) for n in range(1, 6)]
    assert told(health, [*good, validation(6, 3.0), validation(7, 0.6)]) == []
    found = told(health, [validation(8 + n, 3.0) for n in range(2 * KID_VALIDATIONS)])
    assert [(finding.sign, finding.severity) for finding in found] == [("divergence", "grave")]
    assert "0.5" in found[0].message
    assert "1 kimg" in found[0].message


def test_a_kid_about_nought_does_not_rise_by_noise() -> None:
    kids = np.random.default_rng(0).normal(0.0, 0.03, 200)
    assert told(watch(), [validation(n, float(kid)) for n, kid in enumerate(kids)]) == []


def test_patience_ends_a_run_without_a_better_kid() -> None:
    rows = [validation(1, 1.0), validation(2, 0.5), validation(3, 0.49), validation(4, 0.6), validation(5, 0.6)]
    assert told(watch(), rows) == []
    found = told(watch(patience=3), rows)
    assert [finding.sign for finding in found] == ["no_progress"]
    assert "3 validations" in found[0].message
    assert told(watch(patience=4), rows) == []


def test_a_new_level_of_growth_begins_anew() -> None:
    rows: Rows = [tick(n, level=0, gradient_generator=0.001) for n in range(30)]
    rows += [validation(n, 1.0) for n in range(30, 33)]
    rows += [tick(n, level=1, gradient_generator=1.0) for n in range(33, 50)]
    # A level that is new makes worse images for a while than the last one made.
    rows += [validation(n, 5.0, kid_se=0.01) for n in range(50, 53)]
    assert told(watch(patience=3), rows) == []


def test_the_memory_goes_through_json_and_changes_nothing() -> None:
    rows: Rows = []
    for number in range(1, 80):
        sick = 30 < number < 60
        rows.append(tick(number, **({"d_real": 0.99, "d_fake": 0.01, "gradient_generator": 500.0} if sick else {})))
        if number % 5 == 0:
            rows.append(validation(number, 0.5, diversity={"all": 0.1 if sick else 0.8}))
    whole = watch(patience=9)
    expected = told(whole, rows)
    assert len({finding.sign for finding in expected}) == 4
    for cut in (3, 36, 41, 60):
        first = watch(patience=9)
        begun = told(first, rows[:cut])
        second = Health(HealthSection(patience=9), "probability", json.loads(json.dumps(first.memory)))
        assert begun + told(second, rows[cut:]) == expected
        assert second.memory == whole.memory


def test_the_memory_of_a_watch_is_a_copy() -> None:
    health = watch()
    told(health, [tick(1)])
    before = health.memory
    kept = json.dumps(before)
    told(health, [tick(n) for n in range(2, 9)])
    assert json.dumps(before) == kept


def test_small_data_are_warned_about_by_size() -> None:
    assert small_data_warning(1000) is None
    few, very_few = small_data_warning(600), small_data_warning(299)
    assert few is not None
    assert very_few is not None
    assert "600 training images" in few
    assert "very few" in very_few
    for words in (few, very_few):
        for remedy in ("augment", "symmetries", "init_from", "freeze", "r3"):
            assert remedy in words


def test_a_critic_that_is_still_finding_its_scale_is_not_stuck() -> None:
    """As in the first updates of WGAN-GP: always right, the KID stands still, and the generator's gradient grows."""
    health = Health(HealthSection(), "raw")
    rows: Rows = []
    for number in range(1, 40):
        rows.append(tick(number, ahead=1.0, gradient_generator=0.002 * number**2))
        if number % 2 == 0:
            rows.append(validation(number, 2.0))
    assert told(health, rows) == []


def test_a_kid_that_is_far_too_high_is_told_although_it_is_uncertain() -> None:
    health = Health(HealthSection(), "raw")
    rows = [validation(1, 28.0, kid_se=3.0)] + [validation(n, 900.0, kid_se=300.0) for n in range(2, 5)]
    assert signs(health, rows) == [("divergence", "grave")]


def test_a_lucky_best_kid_near_zero_is_no_sign_of_divergence() -> None:
    health = Health(HealthSection(), "raw")
    rows = [validation(1, -0.01, kid_se=0.02)] + [validation(n, 0.08, kid_se=0.02) for n in range(2, 12)]
    assert signs(health, rows) == []


def test_what_was_forgotten_is_told_anew() -> None:
    health = watch(patience=1)
    rows = [validation(1, 0.4), validation(2, 0.4)]
    assert signs(health, rows) == [("no_progress", "warning")]
    assert health.since_best == 1
    assert told(health, [validation(3, 0.4)]) == []
    health.forget("no_progress")
    assert signs(health, [validation(4, 0.4)]) == [("no_progress", "warning")]


def test_a_run_that_never_left_flat_pictures_behind_is_told() -> None:
    never = [validation(5 * n, 900.0 + n, kid_flat=800.0) for n in range(1, 12)]
    assert signs(watch(), never) == [("divergence", "warning"), ("divergence", "grave")]
    (finding,) = told(watch(), never[:4])
    assert "Nothing was learned in 20 kimg" in finding.message
    assert "(KID 901 at best) than pictures of one flat colour are (800)" in finding.message
    # Early validations, one that was better once, and a network that grows say nothing.
    assert told(watch(), [validation(n, 900.0, kid_flat=800.0) for n in range(1, 10)]) == []
    assert told(watch(), [validation(1, 300.0, kid_flat=800.0), *never[:2]]) == []
    assert told(watch(), [tick(1, level=1), *never]) == []
