"""Nodules of synthetic cubes against real ones: the right measure moves, and the segmenter's own error is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from synthoma.errors import EvaluationError
from synthoma.evaluation.anatomy import evaluate_anatomy, ks_distance, measure_nodules
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.recipe import EvaluationSection

SECTION = EvaluationSection(subsamples=20, floors=2)
SPACING = (1.0, 1.0, 1.0)
SIZE = 22


def cubes(
    n: int, seed: int, radius: float = 4.0, density: float = 30.0, per_group: int = 1
) -> tuple[ImageSet, np.ndarray]:
    """Balls of about `radius` mm and `density` HU in lung: int16 [n, 1, 22, 22, 22] and their masks."""
    rng = np.random.default_rng(seed)
    axes = np.mgrid[:SIZE, :SIZE, :SIZE] - (SIZE - 1) / 2
    images = np.empty((n, 1, SIZE, SIZE, SIZE), dtype=np.int16)
    masks = np.zeros(images.shape, dtype=np.uint8)
    for i in range(n):
        distance = np.sqrt((axes**2).sum(axis=0))
        ball = distance < radius * rng.normal(1, 0.12)
        soft = ndimage.gaussian_filter(ball.astype(float), 0.6)
        lung = -850 + rng.normal(0, 25, ball.shape)
        images[i, 0] = lung * (1 - soft) + soft * (density + rng.normal(0, 15))
        masks[i, 0] = ball
    groups = np.array([f"{seed}-{i // per_group}" for i in range(n)])
    none = np.full(n, -1, dtype=np.int64)
    return ImageSet(images, none, [], groups, pixel_hash(images), (-1000.0, 400.0)), masks


@pytest.fixture(scope="module")
def real() -> tuple[ImageSet, ImageSet, np.ndarray]:
    pytest.importorskip("synthoma.measure.segment")
    test, masks = cubes(32, 1)
    return test, cubes(64, 2)[0], masks


@pytest.fixture(scope="module")
def good(real: tuple[ImageSet, ImageSet, np.ndarray]) -> dict[str, Any]:
    """The evaluation of cubes that are like the real ones."""
    test, train, masks = real
    return evaluate_anatomy(cubes(32, 0)[0], test, train, SECTION, spacing=SPACING, unit="hu", masks=masks)


def test_nodules_like_real_ones_lie_at_the_floor(good: dict[str, Any]) -> None:
    result = good
    json.dumps(result, allow_nan=False)
    assert set(result["all"]) == {
        "diameter_mm",
        "volume_mm3",
        "sphericity",
        "margin_roughness",
        "mean_hu",
        "solid_fraction",
    }
    for measure in ("diameter_mm", "sphericity", "mean_hu"):
        value = result["all"][measure]
        assert value["kind"] == "estimate"
        assert value["low"] <= value["floor"]["high"]
    assert result["found"]["test"] == {"images": 32, "nodules": 32}
    assert result["textures"]["all"]["synthetic"]["solid"] > 0.9
    quantiles = result["quantiles"]["all"]["diameter_mm"]["test"]
    assert len(quantiles) == 41
    assert quantiles == sorted(quantiles)
    assert quantiles[20] == pytest.approx(8, abs=1)


def test_the_segmenters_error_stands_beside_the_distances(
    good: dict[str, Any], real: tuple[ImageSet, ImageSet, np.ndarray]
) -> None:
    test, train, masks = real
    made, error = cubes(4, 0)[0], good["segmenter_error"]
    assert error["n"] == 32
    assert error["dice_mean"] > 0.85
    assert abs(error["diameter_bias"]) < 1
    with pytest.raises(EvaluationError, match="31 masks for 32 test cubes"):
        evaluate_anatomy(made, test, train, SECTION, spacing=SPACING, unit="hu", masks=masks[:31])


@pytest.mark.parametrize(("change", "moved"), [({"radius": 5.6}, "diameter_mm"), ({"density": -450.0}, "mean_hu")])
def test_what_differs_shows_in_its_own_measure(
    real: tuple[ImageSet, ImageSet, np.ndarray], change: dict[str, float], moved: str
) -> None:
    test, train, _ = real
    result = evaluate_anatomy(cubes(32, 0, **change)[0], test, train, SECTION, spacing=SPACING, unit="hu")
    value = result["all"][moved]
    assert value["value"] > 0.8
    assert value["low"] > value["floor"]["high"]
    assert value["groups"] == 32
    if moved == "mean_hu":
        assert result["textures"]["all"]["synthetic"]["ground_glass"] > 0.9


def test_unknown_units_have_no_densities_and_lengths_in_voxels(real: tuple[ImageSet, ImageSet, np.ndarray]) -> None:
    found = measure_nodules(real[0].take(np.arange(6)), None, "unknown")
    assert {"diameter_voxels", "volume_voxels", "sphericity", "margin_roughness"} == set(found.values)
    assert found.textures == []
    assert all(len(values) == 6 for values in found.values.values())


def test_empty_lung_has_no_nodules_and_distances_are_withheld(real: tuple[ImageSet, ImageSet, np.ndarray]) -> None:
    test, train, _ = real
    empty = np.full((40, 1, SIZE, SIZE, SIZE), -850, dtype=np.int16)
    empty[:, 0, 0, 0, 0] = np.arange(40)
    made = ImageSet(empty, np.full(40, -1), [], np.arange(40).astype(str), "empty", (-1000.0, 400.0))
    result = evaluate_anatomy(made, test, train, SECTION, spacing=SPACING, unit="hu")
    assert result["found"]["synthetic"] == {"images": 40, "nodules": 0}
    assert set(result["all"]) >= {"diameter_mm", "mean_hu"}
    assert all("0 synthetic images" in value["reason"] for value in result["all"].values())


def test_one_patient_and_no_patient_are_withheld(real: tuple[ImageSet, ImageSet, np.ndarray]) -> None:
    test, train, _ = real
    made = cubes(32, 0)[0]
    one = ImageSet(test.images, test.labels, [], np.full(32, "p"), "one", test.value_range)
    result = evaluate_anatomy(made, one, train, SECTION, spacing=SPACING, unit="hu")
    assert all("1 patients or groups" in value["reason"] for value in result["all"].values())
    assert result["segmenter_error"]["kind"] == "withheld"  # no masks were given
    nobody = evaluate_anatomy(made, test.take(np.zeros(0, np.int64)), train, SECTION, spacing=SPACING, unit="hu")
    assert "no independent test set" in nobody["reason"]
    assert nobody["all"] == {}


def test_pictures_are_refused() -> None:
    pytest.importorskip("synthoma.measure.segment")
    flat = np.zeros((3, 1, 8, 8), dtype=np.uint8)
    pictures = ImageSet(flat, np.full(3, -1), [], np.arange(3).astype(str), "flat")
    with pytest.raises(EvaluationError, match=r"cubes \[n, 1, z, y, x\]"):
        measure_nodules(pictures, SPACING, "hu")


def test_ks_distance_is_the_largest_difference_of_distribution_functions() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 50), rng.normal(0.5, 2, 70).round(1)
    points = np.concatenate((x, y))
    expected = max(abs((x <= p).mean() - (y <= p).mean()) for p in points)
    assert ks_distance(torch.from_numpy(x[:, None]), torch.from_numpy(y[:, None])) == pytest.approx(expected)
    assert expected == pytest.approx(stats.ks_2samp(x, y).statistic)


@pytest.mark.slow
def test_real_nodules_of_held_out_patients_pose_as_synthetic(data_root: Path) -> None:
    """LIDC cubes of unknown unit: one part of the patients against another; no measure is beyond its floor."""
    pytest.importorskip("synthoma.measure.segment")
    file = data_root / "nodules3d" / "lidc_nodules_51.npz"
    if not file.is_file():
        pytest.skip("no nodule cubes")
    with np.load(file, allow_pickle=False) as arrays:
        images = np.moveaxis(np.concatenate((arrays["train_images"], arrays["val_images"])), -1, 1)[:, None]
        masks = np.moveaxis(np.concatenate((arrays["train_masks"], arrays["val_masks"])), -1, 1)[:, None]
    order = np.random.default_rng(0).permutation(100)
    parts = order[:30], order[30:60], order[60:]
    sets: list[Any] = [
        ImageSet(images[rows], np.full(len(rows), -1), [], rows.astype(str), f"part {i}")
        for i, rows in enumerate(parts)
    ]
    result = evaluate_anatomy(*sets, SECTION, spacing=None, unit="unknown", masks=masks[parts[1]])
    assert result["segmenter_error"]["dice_mean"] > 0.6
    assert result["found"]["test"]["nodules"] >= 28
    for name, value in result["all"].items():
        if value["kind"] == "estimate":
            assert value["low"] <= value["floor"]["high"], name
