"""Label agreement: what classifiers of real images take synthetic ones for, beside real test images."""

import numpy as np
import pytest

from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.utility import UtilitySettings
from synthoma.evaluation.utility.agreement import (
    MOST_OF_CLASS,
    UNASKED,
    Answers,
    confusion,
    looked_at,
    measure_agreement,
)
from synthoma.evaluation.utility.study import numbered

SETTINGS = UtilitySettings(bootstraps=400)
NAMES = ("a", "b", "c")


def answers(right: float, per_class: int, columns: int = 3, seed: int = 0) -> Answers:
    """Three classes; a share `right` is taken for its class, all others for the next one."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    hit = random.random((columns, len(labels))) < right
    return Answers(labels, np.where(hit, labels, (labels + 1) % 3), numbered(len(labels)))


def test_agreement_is_the_share_of_a_class_with_an_interval_of_the_right_width() -> None:
    synthetic, real = answers(0.6, 200, columns=12), answers(0.9, 50, seed=1)
    told = measure_agreement(synthetic, real, NAMES, (0, 1, 2), SETTINGS)
    for number, name in enumerate(NAMES):
        for which, said in (("synthetic", synthetic), ("real", real)):
            rows = said.labels == number
            one = told["classes"][name][which]
            assert one["value"] == pytest.approx((said.said[:, rows] == number).mean(), abs=1e-5)
            assert one["low"] < one["value"] < one["high"]
    # Classifiers that are of one mind: what is left is the chance of 200 images, a binomial share.
    alike = Answers(synthetic.labels, synthetic.said[:1].repeat(3, axis=0), synthetic.groups)
    one = measure_agreement(alike, real, NAMES, (0, 1, 2), SETTINGS)["classes"]["a"]["synthetic"]
    error = np.sqrt(one["value"] * (1 - one["value"]) / 200)
    assert one["high"] - one["low"] == pytest.approx(2 * 1.97 * error, rel=0.12)
    mean = told["all"]["synthetic"]
    assert mean["value"] == pytest.approx(np.mean([told["classes"][n]["synthetic"]["value"] for n in NAMES]), abs=1e-5)
    assert mean["high"] - mean["low"] < one["high"] - one["low"]  # three times as many images


def test_the_confusion_matrix_has_a_row_of_shares_for_each_class() -> None:
    said = answers(0.6, 100)
    told = confusion(said, 4)  # a fourth class that no image has
    assert told["images"] == [100, 100, 100, 0]
    assert told["shares"][3] is None
    for number, row in enumerate(told["shares"][:3]):
        assert sum(row) == pytest.approx(1, abs=2e-4)
        own = (said.said[:, said.labels == number] == number).mean()
        assert row[number] == pytest.approx(own, abs=1e-4)
        assert row[(number + 1) % 3] == pytest.approx(1 - own, abs=1e-4)


def test_classifiers_that_were_not_asked_do_not_count() -> None:
    both = answers(0.5, 60, columns=2)
    half = both.said.copy()
    half[0, 1::2], half[1, ::2] = UNASKED, UNASKED
    told = measure_agreement(Answers(both.labels, half, both.groups), both, NAMES, (0, 1, 2), SETTINGS)
    rows = both.labels == 0
    asked = [half[column, rows][half[column, rows] != UNASKED] for column in (0, 1)]
    expected = [float((said == 0).mean()) for said in asked]
    assert told["classes"]["a"]["synthetic"]["per_seed"] == pytest.approx(expected, abs=1e-5)


def test_a_class_with_few_images_is_withheld_and_so_is_the_mean() -> None:
    said = answers(0.5, 30)
    few = Answers(*(part[..., :65] for part in (said.labels, said.said, said.groups)))  # five of class c
    told = measure_agreement(few, said, NAMES, (0, 1, 2), SETTINGS)
    assert told["classes"]["c"]["synthetic"] == {"kind": "withheld", "reason": "5 images of this class; 10 are needed"}
    assert told["all"]["synthetic"]["kind"] == "withheld"
    assert told["classes"]["c"]["real"]["kind"] == told["all"]["real"]["kind"] == "estimate"


def test_at_most_so_many_images_of_a_class_are_looked_at() -> None:
    labels = np.array([0] * (MOST_OF_CLASS + 7) + [1] * 5, dtype=np.int64)
    images = np.zeros((len(labels), 1, 8, 8), dtype=np.uint8)
    shown = looked_at(ImageSet(images, labels, ["a", "b"], numbered(len(labels)), "many"))
    assert np.bincount(shown.labels).tolist() == [MOST_OF_CLASS, 5]
