"""The search for the most similar image: equal to brute force, and quick without losing anything."""

import itertools

import numpy as np
import pytest

from make_dataset import smooth_images
from synthoma.errors import EvaluationError
from synthoma.evaluation.privacy.plant import KINDS, planted
from synthoma.metrics.correlation import aligned_pairs, flat, largest_shift, positions
from synthoma.metrics.similarity import EXHAUSTIVE, Search, nearest_images
from synthoma.transforms.symmetries import Symmetry

WHITE = (0.0, 255.0)
SHAPES = [(1, 16, 16), (3, 20, 16), (1, 8, 12, 10)]


def turn(image: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """One image [c, *spatial] turned by plain numpy."""
    turned = image.transpose(0, *(axis + 1 for axis in symmetry.axes))
    return np.flip(turned, tuple(axis + 1 for axis, flip in enumerate(symmetry.flips) if flip))


def brute_force(a: np.ndarray, b: np.ndarray) -> float:
    """The largest correlation over all positions and shifts, in float64."""
    size = a.shape[1:]
    shift = largest_shift(size)
    axes = tuple(range(1, a.ndim))

    def normal(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64)
        x = x - x.mean(axis=axes, keepdims=True)
        return x / np.sqrt((x**2).sum())

    centre = normal(a[(slice(None), *(slice(s, n - s) for s, n in zip(shift, size, strict=True)))])
    best = -1.0
    for symmetry in positions(size):
        turned = turn(b, symmetry)
        for place in itertools.product(*(range(2 * s + 1) for s in shift)):
            window = turned[(slice(None), *(slice(p, p + n) for p, n in zip(place, centre.shape[1:], strict=True)))]
            best = max(best, float((centre * normal(window)).sum()))
    return best


def noise(n: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_exhaustive_search_equals_brute_force(shape: tuple[int, ...]) -> None:
    a, b = noise(3, shape, 0), noise(4, shape, 1)
    found = nearest_images(a, b, WHITE, search=EXHAUSTIVE)
    truth = np.array([[brute_force(x, y) for y in b] for x in a])
    np.testing.assert_array_equal(found.rows, truth.argmax(axis=1))
    np.testing.assert_allclose(found.similarity, truth.max(axis=1), atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 24), (1, 16, 16, 16)])
def test_quick_search_finds_what_the_exhaustive_one_finds(shape: tuple[int, ...]) -> None:
    train = smooth_images(60 if len(shape) == 3 else 20, shape[0], shape[1:], 1, seed=3)[0]
    for kind, images in planted(train[:6], WHITE, 0).items():
        quick = nearest_images(images, train, WHITE)
        full = nearest_images(images, train, WHITE, search=EXHAUSTIVE)
        np.testing.assert_array_equal(quick.rows, np.arange(6), err_msg=kind)
        np.testing.assert_allclose(quick.similarity, full.similarity, atol=1e-6, err_msg=kind)


def test_blocks_do_not_change_the_result() -> None:
    a, b = noise(70, (1, 16, 16), 0), noise(90, (1, 16, 16), 1)
    whole = nearest_images(a, b, WHITE)
    small = nearest_images(a, b, WHITE, search=Search(memory=2**20))
    np.testing.assert_array_equal(whole.rows, small.rows)
    np.testing.assert_allclose(whole.similarity, small.similarity, atol=1e-6)


def test_alignment_lays_the_images_over_each_other() -> None:
    train = smooth_images(10, 3, (32, 32), 1, seed=4)[0]
    moved = planted(planted(train, WHITE, 1, ["shifted"])["shifted"], WHITE, 2, ["flipped"])["flipped"]
    found = nearest_images(moved, train, WHITE)
    first, second = aligned_pairs(moved, train[found.rows], found.elements, found.shifts, WHITE)
    np.testing.assert_array_equal(found.rows, np.arange(10))
    np.testing.assert_allclose(first.numpy(), second.numpy(), atol=1e-6)


def test_images_of_one_group_are_no_pair() -> None:
    images = smooth_images(30, 1, (16, 16), 1, seed=5)[0]
    groups = np.repeat(np.arange(10), 3)
    found = nearest_images(images, images, WHITE, groups_a=groups, groups_b=groups)
    assert (groups[found.rows] != groups).all()
    alone = nearest_images(images, images, WHITE, groups_a=np.zeros(30), groups_b=np.zeros(30))
    assert (alone.rows == -1).all()


def test_brightness_contrast_and_hounsfield_beyond_the_window_do_not_count() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(-100, 200, (5, 1, 16, 16)).astype(np.int16)
    window = (-160.0, 240.0)
    found = nearest_images((images * 0.5 + 30).astype(np.int16), images, window)
    assert (found.rows == np.arange(5)).all()
    assert found.similarity.min() > 0.999
    dense = images.copy()
    dense[:, :, :4, :4] = 3000
    bone = dense.copy()
    bone[:, :, :4, :4] = 240
    np.testing.assert_allclose(nearest_images(dense, bone, window).similarity, 1, atol=1e-6)


def test_flat_images_resemble_nothing_and_damaged_ones_are_refused() -> None:
    images = noise(4, (1, 16, 16), 0)
    images[1] = 7
    assert flat(images, WHITE).tolist() == [False, True, False, False]
    assert nearest_images(images, images, WHITE).similarity[1] == 0
    floats = images.astype(np.float32)
    floats[2, 0, 3, 3] = np.nan
    with pytest.raises(EvaluationError, match="image 2 of 4 has values that are not finite"):
        nearest_images(floats, floats, WHITE)
    with pytest.raises(EvaluationError, match="one size"):
        nearest_images(images, noise(4, (3, 16, 16), 0), WHITE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_made_on_purpose_are_copies_and_not_the_same(shape: tuple[int, ...], kind: str) -> None:
    images = smooth_images(8, shape[0], shape[1:], 1, seed=6)[0]
    made = planted(images, WHITE, 0, [kind])[kind]
    assert made.dtype == images.dtype
    assert made.shape == images.shape
    same = (made == images).reshape(8, -1).all(axis=1)
    assert same.all() if kind == "exact" else not same.any()
    assert max(brute_force(x, y) for x, y in zip(made, images, strict=True)) > 0.97
