"""fidelity.json beyond the feature spaces: appearance, slices, generation seeds, and what is refused or withheld."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from synthoma.errors import EvaluationError
from synthoma.evaluation.checks import shared_images
from synthoma.evaluation.fidelity import evaluate_fidelity, split_in_halves
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.evaluation.protocol import check_comparable
from synthoma.evaluation.slicewise import PLANES, middle_slices
from synthoma.recipe import EvaluationSection
from synthoma.report.metrics import space_views
from synthoma.transforms.degrade import gaussian_blur

SECTION = EvaluationSection(subsamples=10, floors=2, spaces=["randconv"])


def image_set(n: int, seed: int, per_group: int = 1, size: int = 24, classes: int = 2, channels: int = 1) -> ImageSet:
    """Smooth noise, brighter with the class, and a shade that images of one group share."""
    rng = np.random.default_rng(seed)
    groups, labels = np.arange(n) // per_group, np.arange(n) % classes
    noise = ndimage.gaussian_filter(rng.standard_normal((n, channels, size, size)), (0, 0, 1.5, 1.5), mode="wrap")
    shade = rng.normal(0, 6, groups.max() + 1)[groups] + 30 * labels
    images = 100 + 40 * noise / noise.std() + shade[:, None, None, None]
    return of_images(np.clip(images, 0, 255).astype(np.uint8), labels, [f"{seed}-{g}" for g in groups])


def of_images(images: np.ndarray, labels: np.ndarray, groups: Any, value_range: Any = None) -> ImageSet:
    names = ["dark", "light"]
    return ImageSet(
        images, labels.astype(np.int64), names, np.array(groups, dtype=np.str_), pixel_hash(images), value_range
    )


def volumes(n: int, seed: int, shift: float = 0.0, sigma: float = 1.0) -> ImageSet:
    """Cubes in Hounsfield units, int16 [n, 1, 10, 12, 14]."""
    noise = np.random.default_rng(seed).standard_normal((n, 1, 10, 12, 14))
    noise = ndimage.gaussian_filter(noise, (0, 0, sigma, sigma, sigma), mode="wrap")
    images = (-500 + 150 * noise / noise.std() + shift).astype(np.int16)
    return of_images(images, np.full(n, -1), [f"{seed}-{i}" for i in range(n)], (-1000.0, 200.0))


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    """The evaluation of a generator that is as good as real."""
    return evaluate_fidelity(*standard_sets(), SECTION)


def standard_sets() -> tuple[ImageSet, ImageSet, ImageSet]:
    return image_set(160, 0), image_set(120, 1, 2), image_set(280, 2, 2)


def test_appearance_has_the_form_of_a_space_and_its_units(good: dict[str, Any]) -> None:
    result = good
    json.dumps(result, allow_nan=False)
    part = result["appearance"]
    assert set(part["all"]) == {"spectrum", "texture", "ms_ssim"}  # no Hounsfield units in 8-bit pictures
    assert set(part["classes"]) == {"dark", "light"}
    assert part["units"]["spectrum"] == "dB"
    for results in (part["all"], *part["classes"].values()):
        for value in results.values():
            assert value["kind"] == "estimate", value
            assert value["protocol"] == part["protocol"] != result["protocol"]["hash"]
            assert value["floor"]["low"] <= value["floor"]["value"] <= value["floor"]["high"]
    assert part["all"]["spectrum"]["yardstick"]["value"] > 3 * part["all"]["spectrum"]["floor"]["high"]
    assert part["all"]["spectrum"]["value"] < part["all"]["spectrum"]["floor"]["high"] * 1.5
    assert len(part["spectra"]["all"]["synthetic"]) == len(part["spectra"]["all"]["test"]) == 12
    view = space_views(result)[0]  # the report reads it as before
    labels = [*(row.label for row in view.rows), *(label for label, _ in view.withheld)]
    assert all(name in ", ".join(labels).lower() for name in ("kid", "fd", "infinity", "vendi"))


def test_worse_images_are_worse_in_appearance(good: dict[str, Any]) -> None:
    made, test, train = standard_sets()
    blurred = gaussian_blur(torch.from_numpy(made.images).float(), 0.8).round().byte().numpy()
    repeated = made.images[np.arange(160) % 4]
    soft, few = (
        evaluate_fidelity(of_images(images, made.labels, made.groups), test, train, SECTION)
        for images in (blurred, repeated)
    )
    for metric in ("spectrum", "texture"):
        assert soft["appearance"]["all"][metric]["low"] > good["appearance"]["all"][metric]["high"]
    likeness = [result["appearance"]["all"]["ms_ssim"] for result in (good, few)]
    assert likeness[0]["low"] <= likeness[0]["floor"]["high"]
    assert likeness[1]["low"] > likeness[1]["floor"]["high"]
    assert any("exact repetitions" in warning for warning in few["warnings"])
    assert few["spaces"]["randconv"]["all"]["vendi"]["high"] < few["spaces"]["randconv"]["all"]["vendi"]["floor"]["low"]


def test_difference_from_the_floor_stands_beside_each_space(good: dict[str, Any]) -> None:
    made, test, train = standard_sets()
    dim = of_images(made.images // 2, made.labels, made.groups)
    for result, worse in ((good, False), (evaluate_fidelity(dim, test, train, SECTION), True)):
        above = result["spaces"]["randconv"]["above_floor"]
        for part in (above["all"], *above["classes"].values()):
            assert (part["kid_above_floor"]["low"] > 0) == worse
            assert (part["permutation"]["p"] <= 0.01) == worse
        assert above["all"]["permutation"]["units"] == {"synthetic": 160, "training": 140}


def test_volumes_are_measured_on_three_planes_and_in_hounsfield_units() -> None:
    test, train = volumes(60, 1), volumes(130, 2)
    near, moved = (evaluate_fidelity(made, test, train, SECTION) for made in (volumes(60, 0), volumes(60, 3, 60.0)))
    assert list(near["spaces"]) == ["randconv", *(f"randconv_{plane}" for plane in PLANES)]
    for plane in PLANES:
        space = near["spaces"][f"randconv_{plane}"]
        assert set(space["all"]) == {"kid", "fd"}
        assert f"middle {plane} slices" in space["title"]
        assert space["all"]["kid"]["low"] < space["all"]["kid"]["floor"]["high"]
        assert moved["spaces"][f"randconv_{plane}"]["all"]["kid"]["low"] > space["all"]["kid"]["floor"]["high"]
    hounsfield = moved["appearance"]["all"]["hu_histogram"]
    assert hounsfield["low"] <= 60 <= hounsfield["high"]
    assert hounsfield["value"] == pytest.approx(60, abs=6)
    assert near["appearance"]["all"]["hu_histogram"]["high"] < 20
    hashes = {space["all"]["kid"]["protocol"] for space in near["spaces"].values()}
    assert len(hashes) == 4


def test_middle_slices_are_those_of_each_axis() -> None:
    cubes = volumes(3, 0)
    for plane, axis in PLANES.items():
        cut = middle_slices(cubes, plane)
        expected = np.take(cubes.images, cubes.images.shape[axis + 2] // 2, axis=axis + 2)
        assert np.array_equal(cut.images, expected)
        assert cut.range == (-1000.0, 200.0)
    with pytest.raises(EvaluationError, match="cut from volumes"):
        middle_slices(image_set(3, 0), "axial")


def test_generation_seeds_give_mean_and_spread() -> None:
    _, test, train = standard_sets()
    sets = [image_set(120, seed) for seed in (0, 10, 11)]
    result = evaluate_fidelity(sets[0], test, train, SECTION, replicas=sets[1:])
    alone = evaluate_fidelity(sets[1], test, train, SECTION)
    for part in (result["spaces"]["randconv"], result["appearance"]):
        for metric, found in part["seeds"]["all"].items():
            assert len(found["values"]) == 3
            assert found["mean"] == pytest.approx(np.mean(found["values"]))
            assert found["sd"] == pytest.approx(np.std(found["values"], ddof=1))
            assert found["values"][0] == part["all"][metric]["value"]
    assert set(result["spaces"]["randconv"]["seeds"]["all"]) >= {"kid", "fd", "coverage"}
    assert set(result["appearance"]["seeds"]["all"]) == {"spectrum", "texture"}
    kid = result["spaces"]["randconv"]["seeds"]["classes"]["dark"]["kid"]["values"][1]
    assert kid == pytest.approx(alone["spaces"]["randconv"]["classes"]["dark"]["kid"]["value"], rel=1e-9)
    assert "seeds" not in alone["spaces"]["randconv"]


def test_fewer_than_50_images_are_withheld_and_the_run_goes_on() -> None:
    result = evaluate_fidelity(image_set(40, 0), image_set(60, 1), image_set(130, 2), SECTION)
    measured = result["spaces"]["randconv"]["all"]
    assert measured["kid"]["kind"] == "estimate"
    for metric in ("fd", "fd_infinity", "vendi", "precision"):
        assert "40 synthetic images" in measured[metric]["reason"]
    for metric in ("spectrum", "texture", "ms_ssim"):
        assert "40 synthetic images" in result["appearance"]["all"][metric]["reason"]


def test_a_class_absent_on_one_side_is_withheld_and_told() -> None:
    made, test, train = image_set(120, 0), image_set(60, 1), image_set(130, 2)
    dark = made.take(made.rows_of("dark"))
    result = evaluate_fidelity(dark, test, train, SECTION)
    assert "No synthetic image of light." in result["warnings"]
    for part in (result["spaces"]["randconv"], result["appearance"]):
        for value in part["classes"]["light"].values():
            assert value["kind"] == "withheld"
            assert "0 synthetic images" in value["reason"] or "no class probabilities" in value["reason"]
    assert result["spaces"]["randconv"]["above_floor"]["classes"]["light"]["permutation"]["kind"] == "withheld"
    third = dataclasses.replace(made, classes=["dark", "light", "odd"], labels=np.where(made.labels == 0, 2, 1))
    warnings = evaluate_fidelity(third, test, train, SECTION)["warnings"]
    assert any("No real image of odd" in warning for warning in warnings)


def test_broken_images_are_refused_and_blank_ones_told() -> None:
    def floats(images: ImageSet, **changes: Any) -> ImageSet:
        values = images.images.astype(np.float32) / 255
        return of_images(values, images.labels, images.groups, (0.0, 1.0))

    made, test, train = (floats(image_set(n, seed)) for seed, n in enumerate((60, 60, 130)))
    for name, value in (("synthetic", np.nan), ("test", np.inf)):
        sets = {"synthetic": made, "test": test, "train": train}
        broken = sets[name].images.copy()
        broken[5, 0, 0, 0] = value
        sets[name] = dataclasses.replace(sets[name], images=broken)
        with pytest.raises(
            EvaluationError, match=f"1 of the {len(sets[name])} {name} images hold values that are not finite"
        ):
            evaluate_fidelity(sets["synthetic"], sets["test"], sets["train"], SECTION)
    blank = made.images.copy()
    blank[:7] = 0.25
    result = evaluate_fidelity(dataclasses.replace(made, images=blank, content="blank"), test, train, SECTION)
    assert any(warning.startswith("7 of the 60 synthetic images have one value") for warning in result["warnings"])
    assert result["spaces"]["randconv"]["all"]["fd"]["kind"] == "estimate"


def test_all_synthetic_images_blank_are_measured_as_bad() -> None:
    made, test, train = image_set(60, 0), image_set(60, 1), image_set(130, 2)
    blank = of_images(np.full_like(made.images, 120), made.labels, made.groups)
    result = evaluate_fidelity(blank, test, train, SECTION)
    json.dumps(result, allow_nan=False)
    assert (
        result["spaces"]["randconv"]["all"]["kid"]["low"] > result["spaces"]["randconv"]["all"]["kid"]["floor"]["high"]
    )
    assert result["spaces"]["randconv"]["all"]["vendi"]["value"] == pytest.approx(1.0, abs=1e-6)
    assert result["appearance"]["all"]["ms_ssim"]["value"] == pytest.approx(1.0)


@pytest.mark.parametrize("which", ["test", "training"])
def test_real_images_that_are_all_the_same_have_nothing_to_be_compared_with(which: str) -> None:
    made, test, train = image_set(60, 0), image_set(60, 1), image_set(130, 2)
    if which == "test":
        test = of_images(np.repeat(test.images[:1], 60, axis=0), test.labels, test.groups)
    else:
        train = of_images(np.repeat(train.images[:1], 130, axis=0), train.labels, train.groups)
    result = evaluate_fidelity(made, test, train, SECTION)
    for value in result["spaces"]["randconv"]["all"].values():
        assert value == {
            "kind": "withheld",
            "reason": f"all {which} images are the same: there is nothing to compare with",
        }
    assert result["warnings"] == [f"All {which} images are the same: there is nothing to compare with."]
    assert "appearance" not in result


def test_one_patient_only_is_withheld() -> None:
    made, test, train = image_set(60, 0), image_set(60, 1, per_group=60), image_set(130, 2)
    result = evaluate_fidelity(made, test, train, SECTION)
    measured = {**result["spaces"]["randconv"]["all"], **result["appearance"]["all"]}
    reasons = {name: value["reason"] for name, value in measured.items()}  # no number at all
    assert "466 features" in reasons.pop("fd_infinity")
    assert all("come from 1 patients or groups" in reason for reason in reasons.values()), reasons
    one_trained = evaluate_fidelity(made, image_set(60, 1), image_set(130, 2, per_group=130), SECTION)
    assert "no floor" in one_trained["spaces"]["randconv"]["all"]["kid"]["reason"]
    assert one_trained["spaces"]["randconv"]["above_floor"]["all"]["permutation"]["kind"] == "withheld"


def test_a_reference_that_overlaps_the_training_set_gives_no_numbers() -> None:
    made, test, train = image_set(60, 0), image_set(60, 1), image_set(130, 2)
    images = test.images.copy()
    images[[3, 50]] = train.images[[7, 120]]
    images[40] = 128  # blank images are everywhere
    leaky = of_images(images, test.labels, test.groups)
    blank = train.images.copy()
    blank[0] = 128
    train = of_images(blank, train.labels, train.groups)
    assert shared_images(leaky, train) == 2
    result = evaluate_fidelity(made, leaky, train, SECTION)
    for value in result["spaces"]["randconv"]["all"].values():
        assert value["kind"] == "withheld"
        assert "2 of the 60 test images are training images too" in value["reason"]
    with pytest.raises(EvaluationError, match="both the training and the test"):
        evaluate_fidelity(made, test, dataclasses.replace(train, groups=np.resize(test.groups, 130)), SECTION)


def test_halves_keep_equal_images_of_different_groups_together() -> None:
    images = image_set(80, 0, per_group=2)
    copied = images.images.copy()
    copied[40], copied[60] = copied[1], copied[41]  # groups 0, 20 and 30 hang together
    first, second = split_in_halves(of_images(copied, images.labels, images.groups), seed=0)
    assert shared_images(first, second) == 0
    assert len(first) + len(second) == 80
    assert abs(len(first) - len(second)) <= 6


def test_numbers_of_other_sizes_and_protocols_are_refused() -> None:
    made, test, train = image_set(60, 0), image_set(60, 1), image_set(130, 2)
    for other in (image_set(60, 3, size=32), image_set(60, 3, channels=3)):
        with pytest.raises(EvaluationError, match="differ in shape"):
            evaluate_fidelity(other, test, train, SECTION)
        with pytest.raises(EvaluationError, match="differ in shape"):
            evaluate_fidelity(made, test, train, SECTION, replicas=[other])
    first = evaluate_fidelity(made, test, train, SECTION)["appearance"]["all"]["texture"]
    more = SECTION.model_copy(update={"subsamples": 12})
    second = evaluate_fidelity(made, test, train, more)["appearance"]["all"]["texture"]
    check_comparable(first, first)
    with pytest.raises(EvaluationError, match="different protocols"):
        check_comparable(first, second)


def test_small_images_have_no_ms_ssim_and_say_so(tmp_path: Path) -> None:
    sets = [image_set(n, seed, size=8) for seed, n in enumerate((60, 60, 120))]
    result = evaluate_fidelity(*sets, SECTION, cache=tmp_path)["appearance"]["all"]
    assert "8 pixels a side are too small" in result["ms_ssim"]["reason"]
    assert result["spectrum"]["kind"] == "estimate"
