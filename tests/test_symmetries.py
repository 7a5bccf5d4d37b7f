"""Exact symmetries: the groups are groups, and images are turned as numpy turns them."""

import itertools

import numpy as np
import pytest
import torch

from synthoma.errors import RecipeError
from synthoma.transforms.symmetries import Symmetry, apply, symmetry_group

GROUPS = [
    ("none", (6, 6), 1),
    ("mirror", (6, 6), 2),
    ("dihedral", (6, 6), 8),
    ("dihedral", (4, 6), 4),
    ("none", (4, 4, 4), 1),
    ("mirror", (4, 4, 4), 2),
    ("dihedral", (3, 4, 4), 8),
    ("dihedral", (4, 4, 6), 4),
    ("cube", (4, 4, 4), 48),
    ("cube", (6, 4, 4), 16),
    ("cube", (3, 4, 5), 8),
]


def turned(image: torch.Tensor, element: Symmetry) -> torch.Tensor:
    """[*size] turned by numpy."""
    array = image.numpy().transpose(element.axes)
    return torch.from_numpy(np.flip(array, [a for a, flip in enumerate(element.flips) if flip]).copy())


def orbit(name: str, size: tuple[int, ...]) -> list[torch.Tensor]:
    """A picture of distinct numbers in all positions of the group, each [*size]."""
    group = symmetry_group(name, len(size), size)
    picture = torch.arange(float(np.prod(size))).reshape(1, 1, *size).expand(len(group), 1, *size)
    return list(apply(picture, torch.arange(len(group)), group)[:, 0])


@pytest.mark.parametrize(("name", "size", "order"), GROUPS)
def test_groups_have_their_order_and_distinct_elements(name: str, size: tuple[int, ...], order: int) -> None:
    group = symmetry_group(name, len(size), size)
    assert len(set(group)) == len(group) == order
    assert group[0] == Symmetry(tuple(range(len(size))), (False,) * len(size))
    assert len({tuple(image.flatten().tolist()) for image in orbit(name, size)}) == order


@pytest.mark.parametrize(("name", "size", "order"), [row for row in GROUPS if row[2] <= 16])
def test_groups_are_closed_and_have_inverses(name: str, size: tuple[int, ...], order: int) -> None:
    """Turning an image of the orbit gives an image of the orbit, and each can be turned back."""
    group, images = symmetry_group(name, len(size), size), orbit(name, size)
    known = {tuple(image.flatten().tolist()) for image in images}
    for image in images:
        again = apply(image.expand(order, 1, *size), torch.arange(order), group)
        assert {tuple(other.flatten().tolist()) for other in again} == known
        assert any(torch.equal(other[0], images[0]) for other in again)


def test_the_cube_group_is_closed_and_has_inverses() -> None:
    group, images = symmetry_group("cube", 3, (2, 2, 2)), torch.stack(orbit("cube", (2, 2, 2)))
    left, right = torch.tensor(list(itertools.product(range(48), repeat=2))).T
    products = apply(images[left][:, None], right, group).flatten(1).long()
    known = {tuple(image.flatten().long().tolist()) for image in images}
    table = [tuple(row) for row in products.tolist()]
    assert set(table) == known
    identity = tuple(range(8))
    assert all(table[48 * i : 48 * (i + 1)].count(identity) == 1 for i in range(48))


@pytest.mark.parametrize(("name", "size", "order"), GROUPS)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_turned_as_numpy_turns_them(name: str, size: tuple[int, ...], order: int, channels: int) -> None:
    group = symmetry_group(name, len(size), size)
    x = torch.randn(order, channels, *size, generator=torch.Generator().manual_seed(0))
    elements = torch.arange(order).flip(0)
    result = apply(x, elements, group)
    for image, element, shown in zip(x, elements.tolist(), result, strict=True):
        assert all(torch.equal(turned(a, group[element]), b) for a, b in zip(image, shown, strict=True))


@pytest.mark.parametrize(
    ("size", "layout"), [((6, 6), torch.channels_last), ((4, 4, 4), torch.channels_last_3d)], ids=["2d", "3d"]
)
def test_memory_format_is_kept_and_changes_no_bit(size: tuple[int, ...], layout: torch.memory_format) -> None:
    group = symmetry_group("dihedral", len(size), size)
    x = torch.randn(8, 3, *size)
    plain = apply(x, torch.arange(8), group)
    last = apply(x.contiguous(memory_format=layout), torch.arange(8), group)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=layout)
    assert torch.equal(plain, last)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_turned_back(layout: torch.memory_format) -> None:
    group = symmetry_group("dihedral", 2, (3, 3))
    x = torch.randn(8, 2, 3, 3, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    seen = torch.randn(8, 2, 3, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((apply(x, torch.arange(8), group) * seen).sum(), x)
    assert torch.equal(apply(gradient, torch.arange(8), group), seen)


def test_a_group_turns_smaller_levels_of_the_same_shape() -> None:
    group = symmetry_group("dihedral", 2, (8, 4))
    picture = torch.arange(8.0).reshape(1, 1, 4, 2)
    assert torch.equal(apply(picture, torch.tensor([3]), group), picture.flip(2, 3))


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(RecipeError, match="dihedral"):
        symmetry_group("cube", 2, (8, 8))
    with pytest.raises(RecipeError, match="did you mean 'dihedral'"):
        symmetry_group("dihedrall", 2, (8, 8))
    with pytest.raises(ValueError, match="different length"):
        apply(torch.zeros(1, 1, 4, 6), torch.tensor([0]), symmetry_group("dihedral", 2, (6, 6)))
