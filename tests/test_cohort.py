"""The split: whole groups, near its shares, the same for the same pictures, whatever they are called."""

import hashlib
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthoma.cohort import SPLITS, TOLERANCE, assign_splits, check_cohort, cohort_hash, number_groups
from synthoma.errors import DatasetError

FRACTIONS = (0.70, 0.15, 0.15)


def contents(count):
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)]


@st.composite
def cohorts(draw):
    """(groups, labels) of up to 80 images; groups of different sizes, some of which span classes."""
    count = draw(st.integers(1, 80))
    groups = draw(st.lists(st.integers(0, draw(st.integers(0, 40))), min_size=count, max_size=count))
    labels = draw(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=count, max_size=count))
    return [f"p{group}" for group in groups], labels


@settings(max_examples=60, deadline=None)
@given(cohort=cohorts(), seed=st.integers(0, 5))
def test_groups_stay_whole_and_rare_classes_stay_in_train(cohort, seed):
    groups, labels = cohort
    plan = assign_splits(contents(len(groups)), groups, labels, FRACTIONS, seed)
    for group in set(groups):
        assert len({split for own, split in zip(groups, plan.splits, strict=True) if own == group}) == 1
    for label in set(labels):
        own = {group for group, name in zip(groups, labels, strict=True) if name == label}
        if len(own) < 3:
            assert {s for s, name in zip(plan.splits, labels, strict=True) if name == label} == {"train"}
    assert plan.independent_reference == ("test" in plan.splits)
    if len(set(groups)) < 3:
        assert set(plan.splits) == {"train"}


@settings(max_examples=40, deadline=None)
@given(cohort=cohorts(), seed=st.integers(0, 3), shuffle=st.randoms(use_true_random=False))
def test_neither_names_nor_order_matter(cohort, seed, shuffle):
    groups, labels = cohort
    hashes = contents(len(groups))
    plan = assign_splits(hashes, groups, labels, FRACTIONS, seed)
    order = list(range(len(groups)))
    shuffle.shuffle(order)
    names = {group: f"{shuffle.random()} {number}" for number, group in enumerate(sorted(set(groups)))}
    moved = assign_splits(
        [hashes[i] for i in order], [names[groups[i]] for i in order], [labels[i] for i in order], FRACTIONS, seed
    )
    assert [plan.splits[i] for i in order] == moved.splits
    numbers = number_groups(hashes, groups)
    assert [numbers[i] for i in order] == number_groups([hashes[i] for i in order], [names[groups[i]] for i in order])


@pytest.mark.parametrize("seed", range(5))
def test_each_class_comes_within_five_points(seed):
    draw = random.Random(seed)
    groups, labels = [], []
    for label, patients in {"a": 40, "b": 25, "c": 14}.items():
        for patient in range(patients):
            size = draw.choice([1, 1, 2, 3, 8])
            groups += [f"{label}{patient}"] * size
            labels += [label] * size
    plan = assign_splits(contents(len(groups)), groups, labels, FRACTIONS, seed)
    assert plan.deviations == []
    for label in "abc":
        own = [split for split, name in zip(plan.splits, labels, strict=True) if name == label]
        for split, fraction in zip(SPLITS, FRACTIONS, strict=True):
            assert abs(100 * own.count(split) / len(own) - 100 * fraction) <= TOLERANCE


def test_groups_that_span_classes_are_balanced_too():
    draw = random.Random(3)
    groups, labels = [], []
    for patient in range(90):
        for _ in range(draw.randint(1, 6)):
            groups.append(str(patient))
            labels.append(draw.choice("abcd"))
    assert assign_splits(contents(len(groups)), groups, labels, FRACTIONS, 0).deviations == []


def test_what_groups_do_not_allow_is_said():
    # One patient holds nine tenths of the class: wherever he goes, the shares are off.
    groups = ["big"] * 90 + ["x", "y"] * 2 + [f"s{i}" for i in range(6)]
    plan = assign_splits(contents(100), groups, ["a"] * 100, FRACTIONS, 0)
    assert plan.splits[0] == "train"
    assert {deviation.label for deviation in plan.deviations} == {"a"}
    assert all(abs(d.share - d.wanted) > TOLERANCE for d in plan.deviations)


def test_the_seed_changes_the_draw():
    groups = [str(i) for i in range(60)]
    plans = {tuple(assign_splits(contents(60), groups, ["a"] * 60, FRACTIONS, seed).splits) for seed in range(4)}
    assert len(plans) == 4


def test_no_fraction_no_split():
    plan = assign_splits(contents(40), [str(i) for i in range(40)], ["a"] * 40, (0.8, 0.0, 0.2), 0)
    assert Counter(plan.splits) == {"train": 32, "test": 8}
    plan = assign_splits(contents(40), [str(i) for i in range(40)], ["a"] * 40, (1.0, 0.0, 0.0), 0)
    assert set(plan.splits) == {"train"}
    assert not plan.independent_reference


def test_group_numbers_follow_the_smallest_content():
    assert number_groups(["c", "a", "b"], ["x", "y", "x"]) == ["G00002", "G00001", "G00002"]


def test_a_changed_split_is_refused():
    hashes, groups, splits = contents(4), ["1", "1", "2", "3"], ["train", "train", "val", "test"]
    frozen = cohort_hash(hashes, groups, splits)
    check_cohort(hashes, groups, splits, frozen, "here")
    with pytest.raises(DatasetError, match="not the one that was frozen"):
        check_cohort(hashes, groups, ["train", "train", "test", "val"], frozen, "here")
    with pytest.raises(DatasetError, match="in both"):
        check_cohort(hashes, groups, ["train", "test", "val", "test"], frozen, "here")
