"""Coverage by subgroup: the forgotten group shows, small groups are withheld, and nobody's own number is printed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from make_dataset import make_dataset
from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.evaluation.subgroups import columns_of, subgroup_coverage, subgroups
from synthoma.networks.features import Measured, build_extractor
from synthoma.recipe import EvaluationSection

SECTION = EvaluationSection(subsamples=20, floors=2)


def image_set(n: int, seed: int, kinds: int = 2, per_group: int = 2) -> ImageSet:
    """Bars that lie or stand: a group of patients each."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) // per_group
    kind = groups % kinds
    x = np.arange(16)
    wave = 60 * np.sin(2 * np.pi * (x / 5 + rng.random((n, 1))))
    images = (
        np.where(kind[:, None, None] == 0, wave[:, None, :], wave[:, :, None]) + 120 + rng.normal(0, 8, (n, 16, 16))
    )
    images = np.clip(images, 0, 255).astype(np.uint8)[:, None]
    names = np.array([f"{seed}-{g}" for g in groups])
    return ImageSet(images, np.full(n, -1, dtype=np.int64), [], names, pixel_hash(images))


def test_a_forgotten_group_is_not_covered() -> None:
    test, train = image_set(160, 1), image_set(320, 2)
    kind = ["lying" if g % 2 == 0 else "standing" for g in np.arange(160) // 2]
    forgetful = image_set(200, 0, kinds=1)
    fair = image_set(200, 3)
    for made, forgets in ((forgetful, True), (fair, False)):
        result = subgroup_coverage(made, test, train, {"kind": kind}, SECTION)
        json.dumps(result, allow_nan=False)
        for metric in ("coverage", "recall"):
            lying, standing = (result["columns"]["kind"][name][metric] for name in ("lying", "standing"))
            assert lying["groups"] == standing["groups"] == 40
            assert lying["high"] > lying["floor"]["low"]
            assert (standing["high"] < standing["floor"]["low"]) == forgets
            assert 0 <= standing["low"] <= standing["value"] <= standing["high"] <= 1
            assert standing["direction"] == "higher"
    assert result["columns"]["kind"]["lying"]["coverage"]["n"] == {"synthetic": 160, "reference": 80}


class Pixels:
    """The pixels themselves as features."""

    name, title, licence, preprocessing, hash = "pixels", "pixels", "none needed", "none", "pixels"
    dimension, is_fid_inception = 256, False

    def measure(self, images: Any, value_range: Any) -> Measured:
        return Measured(np.asarray(images, dtype=np.float32).reshape(len(images), -1), None)


def test_coverage_agrees_with_a_plain_computation() -> None:
    test, train, made = image_set(100, 1), image_set(240, 2), image_set(100, 0)
    extractor: Any = Pixels()
    column = np.arange(100) % 2
    result = subgroup_coverage(made, test, train, {"parity": [str(v) for v in column]}, SECTION, extractor=extractor)
    x, y = (images.images.reshape(100, -1).astype(float) for images in (made, test))
    radius_y, radius_x = (np.sort(cdist(v, v), axis=1)[:, 5] for v in (y, x))
    between = cdist(x, y)
    covered, recalled = between.min(axis=0) < radius_y, (between < radius_x[:, None]).any(axis=0)
    for value in (0, 1):
        found = result["columns"]["parity"][str(value)]
        assert found["coverage"]["value"] == pytest.approx(covered[column == value].mean())
        assert found["recall"]["value"] == pytest.approx(recalled[column == value].mean())


def test_groups_of_fewer_than_ten_patients_are_withheld() -> None:
    test, train, made = image_set(100, 1), image_set(240, 2), image_set(100, 0)
    site = ["small" if i < 18 else "large" for i in range(100)]
    found = subgroup_coverage(made, test, train, {"site": site}, SECTION)["columns"]["site"]
    assert found["small"]["coverage"] == {
        "kind": "withheld",
        "reason": "9 patients or groups; a subgroup needs at least 10",
    }
    assert found["large"]["coverage"]["kind"] == "estimate"


def test_full_coverage_has_an_interval_with_some_width() -> None:
    """Synthetic images that are the test images themselves cover all of them; 20 patients leave room for one that is not."""
    test, train = image_set(100, 1, per_group=5), image_set(240, 2)
    copies = ImageSet(test.images, test.labels, [], np.char.add("s", test.groups), "copies")
    found = subgroup_coverage(copies, test, train, {"k": ["a"] * 50 + ["b"] * 50}, SECTION)["columns"]["k"]["a"][
        "coverage"
    ]
    assert found["value"] == 1.0
    assert found["low"] == pytest.approx(0.025 ** (1 / 10))


def test_quartiles_of_numbers_name_no_extreme() -> None:
    ages = [float(v) for v in range(20, 101)]
    found = subgroups([*ages, None, float("nan")])
    assert list(found) == ["up to 40", "above 40 to 60", "above 60 to 80", "above 80"]
    assert [int(rows.sum()) for rows in found.values()] == [21, 20, 20, 20]
    assert not any(rows[-2:].any() for rows in found.values())
    assert list(subgroups([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0])) == ["up to 1", "above 1 to 2", "above 2"]


def test_columns_without_groups_are_left_out() -> None:
    assert subgroups([None, None]) == {}
    assert subgroups([5.0] * 9) == {}
    assert subgroups(["one"] * 9) == {}
    assert subgroups([f"name {i}" for i in range(13)]) == {}
    assert {name: rows.tolist() for name, rows in subgroups(["m", None, "f", "m"]).items()} == {
        "f": [False, False, True, False],
        "m": [True, False, False, True],
    }


def test_columns_are_whatever_the_dataset_has(tmp_path: Path) -> None:
    age = [float(i % 50) if i % 7 else None for i in range(96)]
    sex = ["f" if i % 3 else "m" for i in range(96)]
    dataset = make_dataset(tmp_path / "data", attributes={"age": age, "sex": sex})
    rows = dataset.rows("test")
    columns = columns_of(dataset, rows)
    assert set(columns) == {"class", "age", "sex"}
    assert columns["sex"] == [dataset.column("attr.sex")[row] for row in rows]
    assert columns["class"] == [dataset.column("label")[row] for row in rows]
    assert [value is None for value in columns["age"]] == [
        bool(np.isnan(dataset.attribute("age")[row])) for row in rows
    ]


def test_what_cannot_be_measured_says_why() -> None:
    test, train, made = image_set(100, 1), image_set(240, 2), image_set(100, 0)
    with pytest.raises(EvaluationError, match="column 'sex' has 99 values for 100 test images"):
        subgroup_coverage(made, test, train, {"sex": ["m"] * 99}, SECTION)
    few = subgroup_coverage(made.take(np.arange(30)), test, train, {}, SECTION)
    assert "30 synthetic images" in few["reason"]
    one = subgroup_coverage(made, image_set(100, 1, per_group=100), train, {}, SECTION)
    assert "1 patients or groups" in one["reason"]
    extractor = build_extractor("pca", 1, 2, reference=train.images, reference_key="k")
    first, second = (
        subgroup_coverage(made, test, train, {"k": ["a"] * 50 + ["b"] * 50}, SECTION, extractor=e)
        for e in (extractor, None)
    )
    assert first["protocol"] != second["protocol"]
