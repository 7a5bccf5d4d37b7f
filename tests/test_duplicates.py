"""The same picture twice: dropped, in conflict, or kept in one split."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from preparation_fixture import make_recipe, run
from synthoma.dataset import Dataset
from synthoma.preparation.duplicates import group_images
from synthoma.preparation.items import Item
from synthoma.preparation.near_duplicates import Pair, apply_symmetry, find_near_duplicates, symmetries
from synthoma.preparation.resize import resampling_matrix
from synthoma.records import Origin, Record


def test_exact_duplicates_are_dropped(image_tree, tmp_path):
    root = image_tree({"a": 20, "b": 20})
    shutil.copy(root / "a" / "0.png", root / "a" / "again.png")
    # The same pixels in another file format are the same picture.
    Image.open(root / "a" / "1.png").save(root / "a" / "again.bmp")
    result = run(root, tmp_path / "out")
    assert len(result.dataset) == 40
    assert result.dataset.info["preparation"]["duplicates"] == 2
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [row["reason"] for row in rejected] == ["exact duplicate of another image"] * 2
    assert any("2 exact duplicates" in note for note in result.notes)


@pytest.mark.parametrize("conflicts", ["drop", "keep"])
def test_the_same_picture_under_two_labels(image_tree, tmp_path, conflicts):
    root = image_tree({"a": 20, "b": 20})
    shutil.copy(root / "a" / "0.png", root / "b" / "again.png")
    result = run(root, tmp_path / "out", make_recipe(conflicts=conflicts))
    dataset = result.dataset
    assert dataset.info["preparation"]["conflicts"] == 1
    assert any("1 picture under more than one label" in warning for warning in result.warnings)
    contents = dataset.column("content")
    twice = [row for row, content in enumerate(contents) if contents.count(content) == 2]
    if conflicts == "drop":
        assert len(dataset) == 39
        assert dataset.info["preparation"]["rejected"] == {"same picture under several labels": 2}
    else:
        assert len(dataset) == 41
        assert {dataset.column("label")[row] for row in twice} == {"a", "b"}
        assert len({dataset.column("group")[row] for row in twice}) == 1


def near_copies(picture: np.ndarray) -> list[np.ndarray]:
    """The picture turned, mirrored, saved anew and moved a little."""
    noise = np.random.default_rng(0).integers(-3, 4, picture.shape)
    return [
        np.rot90(picture).copy(),
        picture[:, ::-1].copy(),
        np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8),
    ]


def test_near_duplicates_stay_in_one_split(image_tree, tmp_path, picture):
    root = image_tree({"a": 60, "b": 60})
    for i in range(6):
        raw = np.asarray(Image.open(root / "a" / f"{i}.png"))
        for k, copy in enumerate(near_copies(raw)):
            Image.fromarray(copy).save(root / "a" / f"near {i} {k}.png")
    result = run(root, tmp_path / "out")
    dataset = result.dataset
    links = {
        link["key"]: link["file"] for link in pq.read_table(tmp_path / "out" / "private" / "links.parquet").to_pylist()
    }
    group = {links[key]: name for key, name in zip(dataset.column("key"), dataset.column("group"), strict=True)}
    for i in range(6):
        assert len({group[f"a/{i}.png"], *(group[f"a/near {i} {k}.png"] for k in range(3))}) == 1
    assert len(set(group.values())) == 120
    assert dataset.info["preparation"]["near_duplicate_groups"] == 6
    assert len(run(root, tmp_path / "without", make_recipe(near_duplicates=False)).dataset.info["groups"]) == 3
    assert len(set(Dataset.open(tmp_path / "without").column("group"))) == 138


@pytest.mark.parametrize(("dim", "shift"), [(2, 1), (2, 2), (3, 1)])
def test_every_symmetry_and_small_shifts_are_found(dim, shift):
    side = {2: 64, 3: 20}[dim]
    random = np.random.default_rng(0)
    cells = {2: 6, 3: 4}[dim]
    coarse = random.random((40, *(cells,) * dim)).astype(np.float32)
    for axis in range(1, dim + 1):
        matrix = resampling_matrix(cells, 0.0, float(cells), side + 4)
        coarse = np.moveaxis(np.tensordot(matrix, coarse, axes=(1, axis)), 0, axis)
    large = np.rint(255 * coarse).astype(np.uint8)
    plain = large[(slice(None), *(slice(2, -2),) * dim)]
    for number, symmetry in enumerate(symmetries(dim)):
        moved = large[
            (
                slice(None),
                *(slice(2 + shift * (-1) ** (number + k), side + 2 + shift * (-1) ** (number + k)) for k in range(dim)),
            )
        ]
        other = apply_symmetry(moved[:1], symmetry)
        pairs = find_near_duplicates(np.concatenate([plain, other]))
        assert [(pair.first, pair.second) for pair in pairs] == [(0, 40)], symmetry
        assert pairs[0].correlation >= 0.98


def test_noise_and_flat_pictures_are_no_duplicates():
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (60, 64, 64), dtype=np.uint8)
    flat = np.full((10, 64, 64), 200, dtype=np.uint8)
    assert find_near_duplicates(np.concatenate([noise, flat])) == []


def make_items(count: int, groups=None, splits=None) -> list[Item]:
    return [
        Item(
            i,
            Record(f"k{i}", "a", groups and groups[i], Origin(Path("x")), splits and splits[i]),
            f"c{i:03d}",
            "grey8",
            None,
            False,
            False,
        )
        for i in range(count)
    ]


def test_a_long_chain_is_reported_and_not_merged():
    pairs = [Pair(i, i + 1, 0.99) for i in range(10)] + [Pair(50, 51, 0.99)]
    grouping = group_images(make_items(100), pairs, respect_splits=False)
    assert grouping.chains == [11]
    assert len(set(grouping.groups)) == 99
    assert grouping.groups[50] == grouping.groups[51]


def test_given_groups_win_over_near_duplicates():
    groups = ["p", "p", "q", None, None, *[f"r{i}" for i in range(95)]]
    # An image without a group joins one of two given groups, and never ties them together.
    pairs = [Pair(0, 2, 0.99), Pair(1, 3, 0.995), Pair(2, 3, 0.99), Pair(3, 4, 0.99)]
    grouping = group_images(make_items(100, groups), pairs, respect_splits=False)
    assert grouping.groups[0] == grouping.groups[1] == grouping.groups[3] == grouping.groups[4] != grouping.groups[2]
    assert grouping.straddling == 2
    assert len(set(grouping.groups)) == 97
