"""Conditions: what an image's class and attributes are as numbers, and what is drawn where nobody said."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch

from make_dataset import make_dataset
from synthoma.conditions import Conditions
from synthoma.conditions.distribution import Copula, Marginal, harrell_davis
from synthoma.dataset import Dataset
from synthoma.errors import DatasetError, ModelError, RecipeError

COUNT = 600


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    """Attributes of images whose class is their number modulo 3: the diameter grows with the class, and volume with it."""
    random = np.random.default_rng(0)
    label = np.arange(COUNT) % 3
    score = random.normal(size=COUNT)
    diameter = np.exp(1.5 + 0.5 * label + 0.2 * score)
    noise = random.normal(size=COUNT)
    volume = 100 + 30 * (0.9 * score + np.sqrt(1 - 0.81) * noise)
    return {
        "diameter_mm": np.where(np.arange(COUNT) % 5 == 0, np.nan, diameter),
        "volume": volume,
        "rating": random.integers(1, 6, COUNT).astype(float),
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, values) -> Dataset:
    texts = ["left" if i % 2 else "right" for i in range(COUNT)]
    rare = [1.0 * i if i < 8 else None for i in range(COUNT)]
    attributes = {**values, "side": texts, "constant": [4.0] * COUNT, "rare": rare}
    return make_dataset(
        tmp_path_factory.mktemp("conditions") / "data", count=COUNT, size=(4, 4), channels=1, attributes=attributes
    )


@pytest.fixture(scope="module")
def fitted(dataset) -> Conditions:
    return Conditions.fit(dataset, ["class", "diameter_mm", "volume", "rating"])[0]


def test_codes_of_a_dataset(dataset, fitted):
    rows = dataset.rows("train")
    codes = fitted.encode_dataset(dataset, rows)
    assert (codes.shape, codes.dtype) == ((len(rows), fitted.width), np.float32)
    assert fitted.width == 3 + 2 * 3
    np.testing.assert_array_equal(codes[:, :3], np.eye(3)[dataset.labels[rows]])
    diameter = dataset.attribute("diameter_mm")[rows]
    known = np.isfinite(diameter)
    np.testing.assert_array_equal(codes[:, 4], known)
    assert not codes[~known, 3].any()
    assert abs(codes[known, 3].mean()) < 1e-6
    assert abs(codes[known, 3].std() - 1) < 1e-5
    # The training rows alone decide the moments: those of other splits are not of mean 0 by construction.
    others = np.concatenate([dataset.rows("val"), dataset.rows("test")])
    assert abs(fitted.encode_dataset(dataset, others)[:, 5].mean()) > 1e-4


def test_missing_labels_and_attributes_are_zeros(fitted):
    codes = fitted.encode(np.array([2, -1]), {"volume": np.array([np.nan, 100.0])})
    np.testing.assert_array_equal(codes[0], [0, 0, 1, 0, 0, 0, 0, 0, 0])
    assert not codes[1, :3].any()
    assert codes[1, 6] == 1
    with pytest.raises(ModelError, match="from 0 to 2"):
        fitted.encode(np.array([3]))


def test_grades_are_a_thermometer(dataset):
    conditions, _ = Conditions.fit(dataset, ["class"], class_order=["class1", "class2", "class0"])
    assert conditions.width == 2
    codes = conditions.encode(np.array([1, 2, 0, -1]))
    np.testing.assert_array_equal(codes, [[-1, -1], [1, -1], [1, 1], [0, 0]])
    for order in (["class1", "class2"], ["class0", "class1", "class3"]):
        with pytest.raises(RecipeError, match=r"each class once.*class0, class1, class2"):
            Conditions.fit(dataset, ["class"], class_order=order)


def test_what_is_absent_is_dropped_or_refused(dataset):
    conditions, notes = Conditions.fit(
        dataset, ["class", "diametre_mm", "side", "rare", "constant"], when_absent="drop"
    )
    assert conditions.width == 3
    assert [note.split("'")[1] for note in notes] == ["diametre_mm", "side", "rare", "constant"]
    assert "did you mean 'diameter_mm'" in notes[0]
    assert "is text" in notes[1]
    with pytest.raises(RecipeError, match=r"did you mean 'diameter_mm'.*diameter_mm, volume, rating"):
        Conditions.fit(dataset, ["diametre_mm"])
    with pytest.raises(RecipeError, match="text, not a number"):
        Conditions.fit(dataset, ["side"])
    with pytest.raises(RecipeError, match="more than once"):
        Conditions.fit(dataset, ["class", "class"])
    # An attribute that says nothing is no error of the recipe's.
    assert Conditions.fit(dataset, ["constant"])[0].width == 0


def test_data_without_classes(tmp_path):
    plain = make_dataset(tmp_path / "data", classes=0, size=(4, 4))
    assert plain.attribute_names == []
    conditions, notes = Conditions.fit(plain, ["class", "age"], when_absent="drop")
    assert (conditions.width, len(notes)) == (0, 2)
    with pytest.raises(RecipeError, match="no classes"):
        Conditions.fit(plain, ["class"])
    labels, attributes, codes = conditions.draw(0, np.arange(5))
    assert (labels.tolist(), attributes, codes.shape) == ([-1] * 5, {}, (5, 0))


def test_draws_are_a_function_of_seed_and_index(fitted):
    labels, attributes, codes = fitted.draw(3, torch.arange(200))
    part = fitted.draw(3, np.array([7, 150]))
    np.testing.assert_array_equal(part[0], labels[[7, 150]])
    np.testing.assert_array_equal(part[1]["volume"], attributes["volume"][[7, 150]])
    np.testing.assert_array_equal(part[2], codes[[7, 150]])
    np.testing.assert_array_equal(codes, fitted.encode(labels, attributes))
    assert (fitted.draw(4, np.arange(200))[2] != codes).any()
    assert (fitted.draw(3, np.arange(200), step=1)[2] != codes).any()


def test_drawn_attributes_follow_the_training_images_of_their_class(dataset, fitted):
    rows = dataset.rows("train")
    drawn, attributes, codes = fitted.draw(0, np.arange(20_000))
    assert codes[:, [4, 6, 8]].all()
    for label in range(3):
        share = (dataset.labels[rows] == label).mean()
        assert abs((drawn == label).mean() - share) < 0.015
        for name in ("diameter_mm", "volume"):
            own = dataset.attribute(name)[rows][dataset.labels[rows] == label]
            own = own[np.isfinite(own)]
            made = attributes[name][drawn == label]
            assert abs(np.median(made) - np.median(own)) < 0.15 * own.std()
            assert 0.75 < made.std() / own.std() < 1.15
            assert own.min() < made.min() < made.max() < own.max()
    third = drawn == 1
    correlation = np.corrcoef(attributes["diameter_mm"][third], attributes["volume"][third])[0, 1]
    assert 0.7 < correlation < 0.95
    assert abs(np.corrcoef(attributes["rating"], attributes["volume"])[0, 1]) < 0.2


def test_no_patients_value_is_drawn_or_kept(dataset, fitted, values):
    _, attributes, _ = fitted.draw(0, np.arange(20_000))
    text = json.dumps(fitted.to_json())
    for name in ("diameter_mm", "volume"):
        train = dataset.attribute(name)[dataset.rows("train")]
        train = train[np.isfinite(train)]
        assert not np.isin(attributes[name], train).any()
        assert not [value for value in train if repr(float(value)) in text]


def test_what_is_fixed_stays_and_moves_the_rest(fitted):
    labels, attributes, _ = fitted.draw(1, np.arange(4000), labels=2, attributes={"diameter_mm": 15.0})
    assert set(labels.tolist()) == {2}
    assert set(attributes["diameter_mm"].tolist()) == {15.0}
    smaller = fitted.draw(1, np.arange(4000), labels=2, attributes={"diameter_mm": 10.0})[1]["volume"]
    assert attributes["volume"].mean() > smaller.mean() + 15
    # A value for some images only: the others are drawn as if nothing had been said.
    some = np.where(np.arange(4000) % 2, 15.0, np.nan)
    mixed = fitted.draw(
        1, np.arange(4000), labels=np.where(np.arange(4000) % 2, 2, -1), attributes={"diameter_mm": some}
    )
    np.testing.assert_array_equal(mixed[1]["volume"][1::2], attributes["volume"][1::2])
    np.testing.assert_array_equal(mixed[1]["volume"][::2], fitted.draw(1, np.arange(4000))[1]["volume"][::2])


def test_ranges_are_rounded_and_watched(dataset, fitted):
    train = dataset.attribute("diameter_mm")[dataset.rows("train")]
    low, high = fitted.range("diameter_mm")
    assert low <= np.nanmin(train)
    assert np.nanmax(train) <= high < np.nanmax(train) + 2
    assert {low, high} & set(train.tolist()) == set()
    assert fitted.range("rating") == (1.0, 5.0)
    with pytest.raises(ModelError, match=r"diameter_mm = 900 .* training images have [\d.]+ to [\d.]+"):
        fitted.draw(0, np.arange(3), attributes={"diameter_mm": 900.0})
    # Sizes are never below 0, although a quarter of the range below the smallest would be.
    with pytest.raises(ModelError, match=r"Ask for 0 to"):
        fitted.check("diameter_mm", -0.1)
    fitted.check("diameter_mm", high + 0.2 * (high - low))


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.range("diametermm"),
        lambda c: c.encode(np.zeros(2, np.int64), {"diametermm": np.zeros(2)}),
        lambda c: c.draw(0, np.arange(2), attributes={"diametermm": 1.0}),
    ],
)
def test_an_unknown_attribute_is_named(fitted, ask: Callable[[Conditions], object]):
    with pytest.raises(ModelError, match=r"did you mean 'diameter_mm'"):
        ask(fitted)


def test_conditions_survive_a_model_file(dataset, fitted):
    again = Conditions.from_json(json.loads(json.dumps(fitted.to_json())))
    assert again == fitted
    np.testing.assert_array_equal(again.draw(5, np.arange(50))[2], fitted.draw(5, np.arange(50))[2])
    ordered = Conditions.fit(dataset, ["class"], class_order=["class2", "class0", "class1"])[0]
    assert Conditions.from_json(ordered.to_json()) == ordered
    damaged = {**fitted.to_json(), "attributes": [{"name": "x"}]}
    with pytest.raises(ModelError, match="damaged"):
        Conditions.from_json(damaged)


def test_another_dataset_may_number_its_classes_otherwise(tmp_path, fitted, dataset):
    two = make_dataset(tmp_path / "two", classes=2, size=(4, 4))
    codes = fitted.encode_dataset(two, two.rows("val"))
    np.testing.assert_array_equal(codes[:, :3], np.eye(3)[two.labels[two.rows("val")]])
    assert not codes[:, 3:].any()
    narrow, _ = Conditions.fit(two, ["class"])
    with pytest.raises(DatasetError, match="class2"):
        narrow.encode_dataset(dataset, dataset.rows("val"))


def test_a_small_class_takes_what_all_know():
    random = np.random.default_rng(0)
    everything = Copula.fit(random.normal(size=(200, 2)))
    few = random.normal(9, 1, size=(30, 2))
    few[15:, 1] = np.nan
    own = Copula.fit(few, everything)
    assert own.marginals[0] != everything.marginals[0]
    assert own.marginals[1] == everything.marginals[1]
    assert own.correlation == pytest.approx(np.array(everything.correlation))


def test_quantiles_of_harrell_and_davis():
    # Of two values the median is their mean; of many normal ones, the quantiles of the normal distribution.
    assert harrell_davis(np.array([1.0, 3.0]), np.array([0.5])) == pytest.approx([2.0])
    sample = np.random.default_rng(0).normal(size=20_000)
    assert harrell_davis(sample, np.array([0.1, 0.5, 0.9])) == pytest.approx([-1.2816, 0, 1.2816], abs=0.03)


@pytest.mark.parametrize("count", [1, 2, 10, 25])
def test_few_values_are_blurred(count):
    """The outermost knots are means over several patients, not the extreme one's value."""
    values = np.arange(count, dtype=np.float64) ** 2
    marginal = Marginal.fit(values)
    assert list(marginal.knots) == sorted(marginal.knots)
    if count >= 10:
        assert marginal.knots[0] > values[0] + 0.3
        assert marginal.knots[-1] < values[-1] - 0.05 * np.ptp(values)
    score = np.linspace(-1.5, 1.5, 7)
    if count >= 10:
        np.testing.assert_allclose(marginal.score(marginal.value(score)), score, atol=1e-6)


def test_contradictory_correlations_become_possible():
    """Pairs known in different rows need not agree with one another: the matrix is made positive definite."""
    random = np.random.default_rng(0)
    rows = np.full((300, 3), np.nan)
    one = random.normal(size=100)
    rows[:100, 0], rows[:100, 1] = one, one
    rows[100:200, 1], rows[100:200, 2] = one, one
    rows[200:, 0], rows[200:, 2] = one, -one
    matrix = np.array(Copula.fit(rows).correlation)
    assert np.linalg.eigvalsh(matrix).min() > 0
    np.testing.assert_allclose(np.diag(matrix), 1)
