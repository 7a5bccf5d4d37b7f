"""The detector: finds what differs, finds nothing where nothing does, and is kept without pickle."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from synthoma.errors import EvaluationError
from synthoma.evaluation.detector import FILE, WEIGHTS, Detector, auc_of, detector_json, train_detector
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.metrics.estimate import Estimate, Withheld


def image_set(
    n: int, seed: int, per_group: int = 1, sigma: float = 1.2, size: int = 16, shade: float = 0.0
) -> ImageSet:
    """Smoothed noise, which images of one group share a shade of: uint8 [n, 1, size, size]."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) // per_group
    noise = ndimage.gaussian_filter(rng.standard_normal((n, 1, size, size)), (0, 0, sigma, sigma), mode="wrap")
    shades = rng.normal(0, shade, groups.max() + 1)[groups]
    images = np.clip(120 + 35 * noise / noise.std() + shades[:, None, None, None], 0, 255).astype(np.uint8)
    names = np.array([f"{seed}-{g}" for g in groups])
    return ImageSet(images, np.full(n, -1, dtype=np.int64), [], names, pixel_hash(images))


@pytest.fixture(scope="module")
def found() -> tuple[Detector, Estimate]:
    """A detector of images that are a little too smooth."""
    detector, result = train_detector(image_set(200, 0, sigma=1.5), image_set(100, 1, 2), image_set(200, 2, 2))
    assert detector is not None
    assert isinstance(result, Estimate)
    return detector, result


def test_too_smooth_images_are_told_from_real_ones(found: tuple[Detector, Estimate]) -> None:
    detector, result = found
    assert result.value > 0.95
    assert result.low > 0.85 > result.floor.high
    assert result.floor.low <= 0.5 <= result.floor.high
    assert result.direction == "lower"
    assert result.n == {"synthetic": 100, "reference": 100}
    assert result.groups == 50
    fresh = detector.score(image_set(200, 5, sigma=1.5).images)
    reals = detector.score(image_set(200, 6).images)
    assert auc_of(fresh, reals) == pytest.approx(result.value, abs=0.05)
    assert (fresh > detector.threshold).mean() > 0.7
    assert (reals > detector.threshold).mean() < 0.15
    json.dumps(detector_json(result), allow_nan=False)


def test_images_like_real_ones_are_not_told_from_them() -> None:
    made, test, train = image_set(300, 0, shade=10), image_set(120, 1, 2, shade=10), image_set(320, 2, 2, shade=10)
    detector, result = train_detector(made, test, train)
    assert detector is not None
    assert isinstance(result, Estimate)
    assert result.low < 0.5 < result.high
    assert result.floor.low < 0.5 < result.floor.high
    assert result.high - result.low < 0.3


def test_detector_is_kept_without_pickle_and_comes_back_as_it_was(
    found: tuple[Detector, Estimate], tmp_path: Path
) -> None:
    detector, _ = found
    detector.save(tmp_path / "detector")
    assert {file.name for file in (tmp_path / "detector").iterdir()} == {FILE, WEIGHTS}
    again = Detector.load(tmp_path / "detector")
    images = image_set(20, 7).images
    assert np.array_equal(again.score(images), detector.score(images))
    assert again.threshold == detector.threshold
    with pytest.raises(EvaluationError, match=r"takes images of shape \(1, 16, 16\)"):
        again.score(image_set(3, 0, size=20).images)


@pytest.mark.parametrize("damage", ["flipped", "short", "no json", "version", "space", "missing"])
def test_damaged_detectors_are_refused(found: tuple[Detector, Estimate], tmp_path: Path, damage: str) -> None:
    found[0].save(tmp_path)
    weights, fields = tmp_path / WEIGHTS, json.loads((tmp_path / FILE).read_text())
    content = bytearray(weights.read_bytes())
    if damage == "flipped":
        content[-3] ^= 1
        weights.write_bytes(content)
    elif damage == "short":
        weights.write_bytes(content[:50])
    elif damage == "no json":
        (tmp_path / FILE).write_text("{")
    elif damage == "missing":
        weights.unlink()
    else:
        fields |= {"schema": 99} if damage == "version" else {"extractor": "0" * 16}
        (tmp_path / FILE).write_text(json.dumps(fields))
    with pytest.raises(EvaluationError, match="train"):
        Detector.load(tmp_path)


def test_scan_finds_how_many_of_a_folder_are_synthetic(found: tuple[Detector, Estimate], tmp_path: Path) -> None:
    detector, _ = found
    reals, made = image_set(60, 8).images, image_set(60, 9, sigma=1.5).images
    for name, pictures in (("clean", [*reals]), ("mixed", [*reals[:40], *made[:20]]), ("made", [*made])):
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture[0]).save(tmp_path / name / f"{number:03d}.png")
    clean, mixed, all_made = (detector.scan(tmp_path / name) for name in ("clean", "mixed", "made"))
    assert clean["p"] > 0.01
    assert clean["low"] < clean["expected"]
    assert mixed["p"] < 1e-4
    assert 12 <= sum(number >= 40 for number in mixed["flagged_numbers"]) <= 20
    assert all_made["share"] > 0.7
    assert all_made["flagged"] == len(all_made["flagged_numbers"])
    assert "000.png" not in json.dumps(mixed)


def test_auc_counts_pairs_and_ties_half() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 30).astype(float)
    pairs = np.sign(a[:, None] - b[None, :])
    assert auc_of(a, b) == pytest.approx((pairs + 1).mean() / 2)
    assert auc_of(a, b) == pytest.approx(stats.mannwhitneyu(a, b).statistic / 1200)


def test_few_images_and_few_patients_make_no_detector() -> None:
    made, test, train = image_set(120, 0), image_set(60, 1), image_set(120, 2)
    cases = {
        "90 synthetic images": (made.take(np.arange(90)), test, train),
        "80 training images": (made, test, train.take(np.arange(80))),
        "20 test images": (made, test.take(np.arange(20)), train),
        "test images come from 1 patients": (made, dataclasses.replace(test, groups=np.full(60, "1-0")), train),
        "training images come from 12 patients": (made, test, image_set(120, 2, 10)),
        "no independent test set": (made, test.take(np.zeros(0, np.int64)), train),
    }
    for words, sets in cases.items():
        detector, result = train_detector(*sets)
        assert detector is None
        assert isinstance(result, Withheld)
        assert words in result.reason


def test_a_constant_feature_does_no_harm() -> None:
    """A channel that is empty everywhere: its features do not vary."""
    sets = [image_set(n, seed) for seed, n in enumerate((120, 60, 120))]
    wide = []
    for images in sets:
        pixels = np.concatenate((images.images, np.zeros_like(images.images)), axis=1)
        wide.append(dataclasses.replace(images, images=pixels, content=pixel_hash(pixels)))
    detector, _ = train_detector(*wide)
    assert detector is not None
    assert torch.isfinite(detector.weight).all()


@pytest.mark.slow
def test_interval_of_the_auc_covers_the_truth_and_the_control_lies_at_a_half() -> None:
    """40 detectors of images that are like real ones, whose AUC is 0.5 whatever the classifier has learnt."""
    hits = control = 0
    widths = []
    for repetition in range(40):
        seeds = (3 * repetition + part for part in range(3))
        sets = [
            image_set(n, seed, per, shade=10) for n, seed, per in zip((160, 80, 160), seeds, (1, 2, 2), strict=True)
        ]
        _, result = train_detector(*sets, seed=repetition)
        assert isinstance(result, Estimate)
        hits += result.low <= 0.5 <= result.high
        control += result.floor.low <= 0.5 <= result.floor.high
        widths.append(result.high - result.low)
    assert hits >= 35
    assert control >= 35
    assert np.mean(widths) < 0.25
