"""What accuses a pair: its similarity, or its lead over the images of other patients; and what similarity does not see."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from make_dataset import make_dataset, smooth_images
from privacy_fixture import pictures
from synthoma.evaluation.privacy.plant import KINDS, planted
from synthoma.evaluation.privacy.thresholds import FALSE_RUNS, Pairs, lead_of, set_thresholds, tail_level
from synthoma.metrics.correlation import smooth_luma
from synthoma.metrics.similarity import nearest_images

WHITE = (0.0, 255.0)


def test_lead_compares_with_the_nearest_of_another_patient() -> None:
    nearest = np.array([0.9, 0.9, 1.0, 0.5, 0.9])
    others = np.array([0.9, 0.5, 0.99, 0.6, -1.0])  # the last: there is no other patient
    np.testing.assert_allclose(lead_of(nearest, others), [0, 0.8, 1, 0, 0], atol=1e-12)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of a hundred nearest pairs of which some are look-alikes, and leads that are all small."""
    random = np.random.default_rng(seed)
    return 1 - 10 ** -random.uniform(0.3, 1.7, 100), 1 - np.exp(-random.exponential(0.1, 100))


def test_copy_below_the_look_alikes_is_accused_by_its_lead() -> None:
    similarities, leads = drawn(0)
    copies = Pairs(np.full(20, 0.93), np.full(20, 0.97), np.full(20, 0.1))
    found = set_thresholds(similarities, leads, np.full(10, 0.5), copies, {"jpeg": copies}, 100)
    assert copies.similarity[0] < similarities.max() <= found.level <= found.similarity
    assert leads.max() < found.lead_level < found.lead < 0.97
    assert found.recall == {"jpeg": 1.0}
    assert not found.overlap
    both = found.accuses(np.array([0.93, 0.93, 0.9999]), np.array([0.97, 0.5, 0.0]))
    assert both.tolist() == [True, False, True]
    assert found.confirms(np.array([0.93]), np.array([0.97]), np.array([0.6])).tolist() == [
        False
    ]  # not alike in features


def test_both_share_the_false_alarms_and_few_held_out_images_give_no_lead() -> None:
    similarities, leads = drawn(1)
    copies = Pairs(np.full(20, 0.5), np.full(20, 0.2), np.full(20, 0.1))
    found = set_thresholds(similarities, leads, np.full(10, 0.5), copies, {}, 50)
    assert found.similarity == found.level == pytest.approx(tail_level(similarities, FALSE_RUNS / 2 / 50))
    assert found.lead == found.lead_level == pytest.approx(tail_level(leads, FALSE_RUNS / 2 / 50))
    assert found.overlap
    assert set_thresholds(similarities, leads[:10], np.full(10, 0.5), copies, {}, 50).lead == 1


def test_similarity_of_smoothed_luma_does_not_see_what_jpeg_leaves_out() -> None:
    """Pictures of little contrast with grain and colour noise: compressed, they differ from themselves in these."""
    random = np.random.default_rng(0)
    smooth = smooth_images(20, 1, (32, 32), 1, seed=2)[0].astype(np.float64)
    grainy = 128 + (smooth - 128) * 0.15 + random.normal(0, 3, (20, 3, 32, 32))
    images = np.clip(grainy, 0, 255).astype(np.uint8)
    compressed = planted(images, WHITE, 0, ["jpeg"])["jpeg"]
    plain = nearest_images(compressed, images, WHITE).similarity
    seen = nearest_images(compressed, images, WHITE, view=smooth_luma)
    assert np.median(plain) < 0.95
    assert seen.similarity.min() > 0.98
    np.testing.assert_array_equal(seen.rows, np.arange(20))


def test_smoothed_luma_keeps_size_and_grey_values() -> None:
    grey = torch.full((2, 3, 9, 7), 0.4)
    torch.testing.assert_close(smooth_luma(grey), torch.full((2, 1, 9, 7), 0.4))
    assert smooth_luma(torch.rand(1, 1, 8, 8, 8)).shape == (1, 1, 8, 8, 8)
    assert smooth_luma(torch.rand(1, 2, 8, 8)).shape == (1, 2, 8, 8)


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))


def test_benchmark_plants_what_it_says(on_path: None) -> None:
    copies = importlib.import_module("copies")
    posing, train = pictures(100, 3, "S"), pictures(50, 4, "T")
    made = copies.plant(posing, train, 0.03, np.random.default_rng(0))
    assert {kind: len(truth) for kind, truth in made.truth.items()} == dict.fromkeys(KINDS, 3)
    places = [place for truth in made.truth.values() for place in truth]
    assert len(set(places)) == 15
    untouched = np.setdiff1d(np.arange(100), places)
    np.testing.assert_array_equal(made.images.images[untouched], posing.images[untouched])
    for place, row in made.truth["exact"].items():
        np.testing.assert_array_equal(made.images.images[place], train.images[row])
    assert copies.plant(posing, train, 0.0, np.random.default_rng(0)).truth == {}


def test_posing_images_are_of_other_patients_and_of_all_classes(on_path: None, tmp_path: Path) -> None:
    posing = importlib.import_module("posing")
    dataset = make_dataset(tmp_path / "set", count=300)
    sides = posing.deal(dataset, 0)
    assert sum(len(side) for side in sides) == 300
    groups = [set(side.groups) for side in sides]
    assert len(set.union(*groups)) == sum(map(len, groups))
    for side, share in zip(sides, (*posing.SHARES, 1 - sum(posing.SHARES)), strict=True):
        counts = np.bincount(side.labels, minlength=3) / np.bincount(dataset.labels)
        np.testing.assert_allclose(counts, share, atol=0.06)
