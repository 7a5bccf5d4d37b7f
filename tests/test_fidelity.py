"""The evaluation of image sets: monotone, honest about what it cannot say, and comparable only with its like."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synthoma.errors import EvaluationError
from synthoma.evaluation import features as feature_cache
from synthoma.evaluation.features import cached_features
from synthoma.evaluation.fidelity import evaluate_fidelity, evaluate_folders, split_in_halves
from synthoma.evaluation.folders import read_folder
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.evaluation.neighbours import nearest_training
from synthoma.evaluation.protocol import check_comparable
from synthoma.metrics.frechet import fd
from synthoma.metrics.kid import kid, kid_with_error
from synthoma.networks.features import build_extractor
from synthoma.recipe import EvaluationSection
from synthoma.transforms.degrade import add_noise, gaussian_blur

SECTION = EvaluationSection(subsamples=10, floors=2)
METRICS = ("kid", "fd", "fd_infinity", "precision", "recall", "density", "coverage", "vendi", "inception_score")


def textures(n: int, seed: int, channels: int = 1, size: int = 32, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Waves whose direction and length say the class, over a bright spot somewhere: uint8 [n, c, y, x] and labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    labels = np.arange(n) % classes
    angle = np.pi * labels / classes + rng.normal(0, 0.1, n)
    length = 3 + 2.5 * (labels % 2) + rng.normal(0, 0.2, n)
    direction = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    waves = np.sin(2 * np.pi * (length[:, None, None] * direction + rng.random((n, 1, 1))))
    centre = rng.uniform(0.2, 0.8, (2, n, 1, 1))
    spot = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 0.05)
    images = 0.45 + rng.uniform(0.05, 0.2, (n, 1, 1)) * waves + 0.3 * spot + rng.normal(0, 0.02, (n, size, size))
    tint = rng.uniform(0.8, 1.0, (n, channels, 1, 1))
    return np.clip(images[:, None] * tint * 255, 0, 255).astype(np.uint8), labels.astype(np.int64)


def image_set(n: int, seed: int, group_size: int = 1, **options: Any) -> ImageSet:
    images, labels = textures(n, seed, **options)
    groups = np.array([f"{seed}-{i // group_size}" for i in range(n)])
    return ImageSet(images, labels, ["a", "b", "c", "d"], groups, pixel_hash(images))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["blur", "noise", "modes"])
def test_kid_and_fd_rise_with_blur_noise_and_dropped_modes(damage: str) -> None:
    """Three well-separated levels on the same 2,000 base images, against 2,000 others, in both weight-free spaces."""
    (base, labels), (reference, _) = textures(2000, 0), textures(2000, 1)
    floats = torch.from_numpy(base).float()
    if damage == "blur":
        levels = [gaussian_blur(floats, sigma).round().byte().numpy() for sigma in (0.5, 1.0, 2.0)]
    elif damage == "noise":
        levels = [add_noise(floats, std, 0).clamp(0, 255).round().byte().numpy() for std in (6.0, 15.0, 40.0)]
    else:  # images of dropped classes are replaced by those of classes that stay, so that n does not change
        levels = [base[np.resize(np.flatnonzero(labels < kept), len(base))] for kept in (3, 2, 1)]
    for space in ("randconv", "pca"):
        extractor = build_extractor(space, 1, 2, reference=textures(1000, 2)[0], reference_key="train")
        real = extractor.features(reference)
        sets = [extractor.features(images) for images in (base, *levels)]
        step = 3 * kid_with_error(sets[0], real).error
        for metric in (kid, fd):
            values = [metric(features, real) for features in sets]
            if space == "randconv" or damage == "modes":
                assert values == sorted(values), (space, metric.__name__, values)
            if space == "randconv" and metric is kid:
                assert np.diff(values).min() > step, values
            # Averaged pixels hardly see faint noise and blur; they see the strong ones.
            assert values[3] > 2 * values[0] + step, (space, metric.__name__, values)


def test_result_has_the_form_that_reports_read() -> None:
    result = evaluate_fidelity(image_set(240, 0), image_set(200, 1), image_set(480, 2), SECTION)
    assert set(result) == {"schema", "protocol", "reference", "counts", "spaces", "warnings", "appearance"}
    assert result["schema"] == 1
    assert result["counts"]["groups_test"] == 200
    assert set(result["spaces"]) == {"randconv", "pca"}
    for space in result["spaces"].values():
        assert space["fd_name"].startswith("FD (")  # never "FID" without the standard Inception
        assert set(space["classes"]) == {"a", "b", "c", "d"}
        for part in (space["all"], *space["classes"].values()):
            assert tuple(part) == METRICS
            for value in part.values():
                if value["kind"] == "withheld":
                    assert value["reason"]
                    continue
                assert value["low"] <= value["value"] <= value["high"]
                assert value["floor"]["low"] <= value["floor"]["value"] <= value["floor"]["high"]
                assert value["n"]["reference"] in (200, 50)
                assert "blur of 0.75 px" in value["yardstick"]["what"]  # 1.5 px at 64 px
        assert space["all"]["kid"]["kind"] == "estimate"
        assert space["all"]["inception_score"]["kind"] == "withheld"
        protocols = {value["protocol"] for value in space["all"].values() if value["kind"] == "estimate"}
        assert len(protocols) == 1
    json.dumps(result, allow_nan=False)
    values = result["spaces"]["randconv"]["all"]
    assert values["kid"]["yardstick"]["value"] > 3 * values["kid"]["floor"]["high"]
    assert values["kid"]["low"] < values["kid"]["floor"]["high"]  # the same distribution: at the floor


def test_volumes_are_measured_too() -> None:
    rng = np.random.default_rng(0)

    def volumes(n: int, seed: int, spread: float = 60) -> ImageSet:
        images = (rng.normal(0, spread, (n, 1, 8, 10, 12)) + 40).astype(np.int16)
        groups = np.array([f"{seed}-{i}" for i in range(n)])
        return ImageSet(images, np.full(n, -1), [], groups, pixel_hash(images), (-160.0, 240.0))

    real = volumes(60, 1), volumes(130, 2)
    good, noisy = (
        evaluate_fidelity(made, *real, SECTION)["spaces"]["randconv"]["all"]["kid"]
        for made in (volumes(60, 0), volumes(60, 3, spread=90))
    )
    assert good["low"] < good["floor"]["high"]
    assert noisy["low"] > noisy["floor"]["high"]


def test_worse_images_measure_worse_by_class() -> None:
    good, test, train = image_set(240, 0), image_set(200, 1), image_set(480, 2)
    images = good.images.copy()
    of_a = good.labels == 0
    images[of_a] = np.random.default_rng(0).integers(0, 256, images[of_a].shape, dtype=np.uint8)
    bad = ImageSet(images, good.labels, good.classes, good.groups, pixel_hash(images))
    classes = evaluate_fidelity(bad, test, train, SECTION)["spaces"]["randconv"]["classes"]
    assert classes["a"]["kid"]["low"] > classes["a"]["kid"]["yardstick"]["value"]
    assert classes["b"]["kid"]["value"] < 0.1 * classes["a"]["kid"]["value"]


def test_without_independent_test_images_everything_is_withheld() -> None:
    train = image_set(60, 0, group_size=30)
    result = evaluate_fidelity(image_set(60, 1), train.take(np.zeros(0, np.int64)), train, SECTION)
    values = result["spaces"]["randconv"]["all"].values()
    assert all(value["kind"] == "withheld" and "too few patients or groups" in value["reason"] for value in values)
    assert "no independent test set" in result["warnings"][0]


def test_sets_that_do_not_fit_are_refused() -> None:
    small, large = image_set(60, 0), image_set(60, 1, size=48)
    with pytest.raises(EvaluationError, match=r"48 x 48 with 1 channel and 32 x 32.*prepare"):
        evaluate_fidelity(large, small, image_set(60, 2), SECTION)
    with pytest.raises(EvaluationError, match="3 channels"):
        evaluate_fidelity(image_set(60, 1, channels=3), small, image_set(60, 2), SECTION)
    with pytest.raises(EvaluationError, match="both the training and the test"):
        evaluate_fidelity(image_set(60, 1), small, small, SECTION)
    deep = ImageSet(small.images.astype(np.uint16), small.labels, small.classes, small.groups, "deep", (0.0, 255.0))
    with pytest.raises(EvaluationError, match="do not mean the same"):
        evaluate_fidelity(deep, small, image_set(60, 2), SECTION)


def test_numbers_of_different_protocols_are_not_compared() -> None:
    sets = image_set(60, 0), image_set(60, 1), image_set(130, 2)
    first = evaluate_fidelity(*sets, SECTION)["spaces"]["randconv"]["all"]["kid"]
    again = evaluate_fidelity(*sets, SECTION.model_copy(update={"spaces": ["randconv"]}))["spaces"]["randconv"]["all"][
        "kid"
    ]
    check_comparable(first, again)  # what other spaces were measured does not matter
    assert first == again
    other = evaluate_fidelity(sets[0], image_set(60, 3), sets[2], SECTION)["spaces"]["randconv"]["all"]["kid"]
    pca = evaluate_fidelity(*sets, SECTION)["spaces"]["pca"]["all"]["kid"]
    for wrong in (other, pca):
        with pytest.raises(EvaluationError, match="different protocols"):
            check_comparable(first, wrong)


def test_features_are_taken_once_and_damaged_files_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, extractor = image_set(20, 0), build_extractor("randconv", 1, 2)
    first = cached_features(images, extractor, tmp_path)
    (file,) = tmp_path.glob("*.npz")
    monkeypatch.setattr(type(extractor), "measure", None)  # any further use of the network would fail
    assert np.array_equal(cached_features(images, extractor, tmp_path).features, first.features)
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(cached_features(images, extractor, tmp_path).features, first.features)
    assert feature_cache._read(file, 20, extractor.dimension) is not None
    changed = ImageSet(images.images, images.labels, images.classes, images.groups, "another")
    cached_features(changed, extractor, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_nearest_training_images_are_found_with_their_rows() -> None:
    train, synthetic = image_set(80, 0), image_set(30, 1)
    rows = np.arange(100, 180)
    train = ImageSet(train.images, train.labels, train.classes, train.groups, train.content, None, rows)
    images = synthetic.images.copy()
    images[17] = train.images[42]  # a copy
    images[3] = np.clip(train.images[7].astype(int) + 2, 0, 255)  # nearly one
    synthetic = ImageSet(images, synthetic.labels, synthetic.classes, synthetic.groups, pixel_hash(images))
    found = nearest_training(synthetic, train, top=5)
    assert found["space"] == "randconv"
    assert len(found["pairs"]) == 5
    assert found["pairs"][0] == {
        "synthetic": 17,
        "train_row": 142,
        "distance": pytest.approx(0, abs=1e-5),
        "pixel_distance": 0,
    }
    assert (found["pairs"][1]["synthetic"], found["pairs"][1]["train_row"]) == (3, 107)
    assert found["pairs"][1]["pixel_distance"] == pytest.approx(2 / 255, rel=0.05)


def write_tree(root: Path, images: ImageSet, *, flat: bool = False, groups: bool = False) -> Path:
    lines = ["file,class,group"]
    for number, (image, label) in enumerate(zip(images.images, images.labels, strict=True)):
        name = f"{number:04d}.png" if flat else f"{images.classes[label]}/bild ü {number:04d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1)
        Image.fromarray(pixels).save(root / name)
        lines.append(f"{name},{images.classes[label]},{images.groups[number]}")
    if groups:
        (root / "groups.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_folders_are_read_with_classes_groups_and_colour(tmp_path: Path) -> None:
    images = image_set(24, 0, group_size=3, channels=3)
    found = read_folder(write_tree(tmp_path / "tree", images, groups=True))
    assert found.shape == (3, 32, 32)
    assert found.classes == ["a", "b", "c", "d"]
    assert np.bincount(found.labels).tolist() == [6, 6, 6, 6]
    assert len(np.unique(found.groups)) == 8
    assert not any("0-" in group for group in found.groups)  # pseudonyms
    flat = read_folder(write_tree(tmp_path / "flat", images, flat=True))
    assert flat.classes == []
    assert set(flat.labels.tolist()) == {-1}
    assert len(np.unique(flat.groups)) == 24
    assert np.array_equal(flat.images, images.images)
    grey = image_set(4, 1)
    write_tree(tmp_path / "grey", ImageSet(grey.images.repeat(3, 1), grey.labels, grey.classes, grey.groups, ""))
    assert read_folder(tmp_path / "grey").shape == (1, 32, 32)


def test_folders_that_cannot_be_measured_are_told(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no folder"):
        read_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="holds no images"):
        read_folder(tmp_path / "empty")
    mixed = write_tree(tmp_path / "mixed", image_set(3, 0), flat=True)
    Image.new("L", (40, 20)).save(mixed / "z.png")
    with pytest.raises(EvaluationError, match=r"z\.png is 20 x 40.*prepare"):
        read_folder(mixed)


def test_evaluating_two_trees_splits_the_real_one_by_group(tmp_path: Path) -> None:
    real = write_tree(tmp_path / "real", image_set(240, 0, group_size=4), groups=True)
    made = write_tree(tmp_path / "made", image_set(120, 1), flat=True)
    result = evaluate_folders(real, made, SECTION)
    assert result["reference"] == "half of the real images"
    assert result["counts"]["test"] + result["counts"]["train"] == 240
    assert result["counts"]["groups_test"] + result["counts"]["groups_train"] == 60
    assert result["spaces"]["randconv"]["all"]["kid"]["kind"] == "estimate"
    assert result["spaces"]["randconv"]["classes"] == {}
    assert any("no labels" in warning for warning in result["warnings"])
    assert not any("No patients" in warning for warning in result["warnings"])
    (real / "groups.csv").unlink()
    assert any("No patients" in warning for warning in evaluate_folders(real, made, SECTION)["warnings"])
    (real / "manifest.parquet").touch()
    with pytest.raises(EvaluationError, match="never a reference"):
        evaluate_folders(real, made, SECTION)


def test_halves_follow_pixels_and_not_names() -> None:
    images = image_set(60, 0, group_size=5)
    first, second = split_in_halves(images, seed=0)
    assert len(first) == len(second) == 30
    assert not set(first.groups) & set(second.groups)
    renamed = ImageSet(
        images.images, images.labels, images.classes, np.char.add("x", images.groups[::-1]), images.content
    )
    same = split_in_halves(renamed, seed=0)[0]
    assert np.array_equal(same.images, first.images)
