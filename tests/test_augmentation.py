"""Augmentation: what each operation does to an image, that draws are by sample number, and that it can be differentiated."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.transforms.augmentation import (
    MOST_TURNED,
    Augmentation,
    Colour,
    box_side,
    change_colour,
    cut_out,
    draw_colour,
    draw_corners,
    draw_elements,
    draw_shifts,
    identity,
    move,
    vary_stain,
)
from synthoma.transforms.stain import StainChange, change_stain, stain_change
from synthoma.transforms.symmetries import apply, symmetry_group

POLICY = ("colour", "symmetry", "translation", "cutout")
SHAPES = [(6, 1, 16, 16), (6, 3, 16, 12), (6, 4, 16, 16), (6, 1, 8, 8, 8), (6, 3, 8, 16, 16), (6, 4, 8, 8, 8)]


def draws(count: int, step: int = 0, seed: int = 0) -> StepDraws:
    return StepDraws(seed, step, torch.arange(count))


def augmentation(size: Sequence[int], channels: int, policy: Sequence[str] = POLICY) -> Augmentation:
    group = symmetry_group("cube" if len(size) == 3 else "dihedral", len(size), size)
    return Augmentation(policy, group=group, image_channels=min(channels, 3), range=(-1.0, 1.0))


def images_of(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1)) * 2 - 1


def plain(count: int) -> Colour:
    return Colour(torch.zeros(count), torch.ones(count), torch.ones(count))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strength", [0.0, torch.zeros(())], ids=["number", "tensor"])
def test_strength_zero_changes_no_bit(shape: tuple[int, ...], strength: float | Tensor) -> None:
    images = images_of(shape)
    result = augmentation(shape[2:], shape[1])(images, draws(6), "real", strength)
    assert torch.equal(result, images)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_operation_changes_every_image_at_full_strength(shape: tuple[int, ...]) -> None:
    """Symmetry, which may choose the identity and leaves some images alone, changes some; shape and dtype are kept."""
    images = images_of(shape)
    for name in POLICY:
        result = augmentation(shape[2:], shape[1], [name])(images, draws(6), "real", 1.0)
        assert (result.shape, result.dtype) == (images.shape, images.dtype)
        changed = (result != images).flatten(1).any(1)
        assert changed.any() if name in ("symmetry", "translation") else changed.all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("last", [False, True])
def test_a_part_of_the_batch_is_augmented_as_the_whole(shape: tuple[int, ...], last: bool) -> None:
    layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    images = images_of(shape).contiguous(memory_format=layout if last else torch.contiguous_format)
    change, draw = augmentation(shape[2:], shape[1]), draws(6, step=7)
    whole = change(images, draw, "fake", 0.7)
    assert whole.is_contiguous(memory_format=layout if last else torch.contiguous_format)
    parts = [change(images[i:j], draw.part(i, j), "fake", 0.7) for i, j in ((0, 1), (1, 4), (4, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    alone = change(images[[4]], StepDraws(0, 7, torch.tensor([4])), "fake", 0.7)
    torch.testing.assert_close(alone, whole[[4]], rtol=0, atol=1e-6)


def test_moves_and_cuts_of_a_part_are_those_of_the_whole_to_the_bit() -> None:
    images, draw = images_of((6, 3, 16, 16)), draws(6)
    change = augmentation((16, 16), 3, ["symmetry", "translation", "cutout"])
    assert torch.equal(change(images[2:5], draw.part(2, 5), "real"), change(images, draw, "real")[2:5])


def test_seed_step_and_kind_of_image_give_other_draws_and_nothing_else_does() -> None:
    images, change = images_of((1, 3, 16, 16)).expand(8, 3, 16, 16), augmentation((16, 16), 3)
    results = [
        change(images, draws(8), "real"),
        change(images, draws(8), "fake"),
        change(images, draws(8, step=1), "real"),
        change(images, draws(8, seed=1), "real"),
    ]
    torch.manual_seed(5)
    assert torch.equal(change(images, draws(8), "real"), results[0])
    for i, first in enumerate(results):
        assert all(not torch.equal(first, second) for second in results[i + 1 :])


def test_the_order_in_the_policy_does_not_matter() -> None:
    images = images_of((6, 3, 16, 16))
    there, back = (augmentation((16, 16), 3, policy)(images, draws(6), "real") for policy in (POLICY, POLICY[::-1]))
    assert torch.equal(there, back)


@pytest.mark.parametrize("shape", [(2, 1, 4, 6), (2, 4, 3, 3), (1, 3, 3, 3, 3)])
def test_derivatives_are_right_twice(shape: tuple[int, ...]) -> None:
    images = images_of(shape, torch.float64).requires_grad_()
    change = augmentation(shape[2:], shape[1])

    def augmented(x: Tensor) -> Tensor:
        return change(x, draws(shape[0]), "real", 1.0)

    assert torch.autograd.gradcheck(augmented, images)
    assert torch.autograd.gradgradcheck(lambda x: augmented(x) ** 3, images)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_each_operation_acts_with_the_probability_asked_for(strength: float) -> None:
    draw, size, n = draws(20_000), (64, 64), 20_000
    tolerance = 4 * (0.25 / n) ** 0.5
    share = {
        "colour": (draw_colour(draw, "c", strength, 2.0).contrast != 1).float().mean(),
        "cutout": (draw_corners(draw, "k", strength, size) < 64).all(1).float().mean(),
        # 17 x 17 shifts and 8 positions, of which one is none.
        "translation": (draw_shifts(draw, "t", strength, size) != 0).any(1).float().mean() / (1 - 17**-2),
        "symmetry": (draw_elements(draw, "s", strength, 8) != 0).float().mean() / (1 - 1 / 8),
    }
    for name, value in share.items():
        expected = min(strength, MOST_TURNED) if name == "symmetry" else strength
        assert value == pytest.approx(expected, abs=tolerance * 1.2), name


def test_draws_cover_their_ranges_evenly() -> None:
    draw = draws(20_000)
    shifts = draw_shifts(draw, "t", 1.0, (64, 40, 8))
    assert shifts.amin(0).tolist() == [-8, -5, -1]
    assert shifts.amax(0).tolist() == [8, 5, 1]
    assert shifts.float().mean(0).abs().max() < 0.2
    elements = draw_elements(draw, "s", 1.0, 48)
    assert torch.bincount(elements, minlength=48)[1:].min() > 0.7 * MOST_TURNED * 20_000 / 48
    corners = draw_corners(draw, "k", 1.0, (64, 64))
    assert corners.amin(0).tolist() == [-16, -16]
    assert corners.amax(0).tolist() == [48, 48]
    colour = draw_colour(draw, "c", 1.0, 255.0)
    assert colour.brightness.abs().max() == pytest.approx(63.75, rel=0.01)
    assert float(colour.saturation.max()) == pytest.approx(2.0, rel=0.01)
    assert (float(colour.contrast.min()), float(colour.contrast.max())) == pytest.approx((0.5, 1.5), rel=0.01)


def test_colour_is_brightness_then_saturation_then_contrast() -> None:
    """Held against the three steps one after the other, as they are defined."""
    x = images_of((4, 3, 5, 6), torch.float64)
    colour = Colour(*(torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.3))
    brightness, saturation, contrast = (
        v[:, None, None, None] for v in (colour.brightness, colour.saturation, colour.contrast)
    )
    step = x + brightness
    grey = step.mean(1, keepdim=True)
    step = grey + saturation * (step - grey)
    mean = step.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(change_colour(x, colour, 3), mean + contrast * (step - mean), rtol=0, atol=1e-12)


def test_greys_stay_grey_and_one_channel_has_no_saturation() -> None:
    grey = images_of((4, 1, 8, 8))
    colour = draw_colour(draws(4), "c", 1.0, 2.0)
    three = change_colour(grey.expand(4, 3, 8, 8), colour, 3)
    torch.testing.assert_close(three[:, :1].expand_as(three), three)
    assert not torch.allclose(three[:, :1], grey, atol=1e-3)
    torch.testing.assert_close(change_colour(grey, colour, 1), three[:, :1])


@pytest.mark.parametrize(("channels", "colours"), [(2, 1), (4, 3), (3, 1)])
def test_colour_leaves_further_channels_alone(channels: int, colours: int) -> None:
    images = images_of((4, channels, 8, 8))
    change = Augmentation(["colour"], image_channels=colours)
    result = change(images, draws(4), "real")
    assert torch.equal(result[:, colours:], images[:, colours:])
    # Nor does a mask's content change what is done to the image.
    other = torch.cat((images[:, :colours], -images[:, colours:]), dim=1)
    assert torch.equal(change(other, draws(4), "real")[:, :colours], result[:, :colours])


def test_masks_move_with_their_image() -> None:
    image = images_of((6, 1, 16, 16))
    change = augmentation((16, 16), 1, ["symmetry", "translation", "cutout"])
    result = change(image.repeat(1, 2, 1, 1), draws(6), "real")
    assert torch.equal(result[:, 0], result[:, 1])


@pytest.mark.parametrize("dim", [2, 3])
def test_translation_moves_by_whole_pixels_and_reflects_at_the_border(dim: int) -> None:
    size = (5, 6, 7)[:dim]
    images = images_of((1, 2, *size))
    shift = torch.tensor([(2, -1, 3)[:dim]])
    result = move(images, shift, torch.tensor([0]), [identity(dim)])
    pad = [edge for length in shift[0].flip(0).tolist() for edge in (max(length, 0), max(-length, 0))]
    padded = torch.nn.functional.pad(images, pad, mode="reflect")
    start = [max(-s, 0) for s in shift[0].tolist()]
    inside = tuple(slice(s, s + length) for s, length in zip(start, size, strict=True))
    assert torch.equal(result, padded[(slice(None), slice(None), *inside)])


def test_images_are_turned_first_and_shifted_then() -> None:
    images, group = images_of((8, 3, 6, 6)), symmetry_group("dihedral", 2, (6, 6))
    elements, shifts = torch.arange(8), torch.randint(-2, 3, (8, 2), generator=torch.Generator().manual_seed(3))
    together = move(images, shifts, elements, group)
    apart = move(apply(images, elements, group), shifts, torch.zeros_like(elements), [identity(2)])
    assert torch.equal(together, apart)


@pytest.mark.parametrize("size", [(8, 8), (8, 5), (4, 6, 8)])
def test_cutout_fills_one_box_of_half_the_side(size: tuple[int, ...]) -> None:
    images = torch.ones(2, 3, *size)
    corner = torch.tensor([[1] * len(size), list(size)])
    result = cut_out(images, corner, 0.25)
    expected = images.clone()
    expected[(slice(0, 1), slice(None), *(slice(1, 1 + box_side(length)) for length in size))] = 0.25
    assert torch.equal(result, expected)
    assert box_side(8) == 4


def test_cutout_takes_the_middle_of_the_range() -> None:
    change = Augmentation(["cutout"], range=(0.0, 4.0))
    assert set(change(torch.full((4, 1, 8, 8), 3.0), draws(4), "real").unique().tolist()) == {2.0, 3.0}


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'colour'"):
        Augmentation(["color"])
    with pytest.raises(RecipeError, match=r"training\.symmetries"):
        Augmentation(["symmetry"], group=symmetry_group("none", 2, (8, 8)))
    with pytest.raises(ValueError, match="'real' or 'fake'"):
        Augmentation(["colour"])(torch.zeros(1, 3, 8, 8), draws(1), "synthetic")


def test_stain_varies_as_on_stored_pictures_and_keeps_what_is_not_chosen() -> None:
    images = images_of((6, 4, 16, 12))
    change = stain_change(torch.rand(6, 6, generator=torch.Generator().manual_seed(2)), 0.1)
    varied = vary_stain(images, change, (-1.0, 1.0))
    expected = change_stain(images[:, :3], change)
    inside = expected.abs() < 0.999
    torch.testing.assert_close(varied[:, :3][inside], expected[inside], rtol=0, atol=2e-5)
    assert torch.equal(varied[:, 3:], images[:, 3:])
    nothing = StainChange(torch.ones(6, 3), torch.zeros(6, 3))
    assert torch.equal(vary_stain(images, nothing, (-1.0, 1.0)), images)
    augment = augmentation((16, 12), 4, ("stain",))
    half = augment(images, draws(6), "real", 0.5)
    kept = (half == images).flatten(1).all(dim=1)
    assert 0 < int(kept.sum()) < 6


def test_stain_has_a_gradient_outside_of_the_range_too() -> None:
    images = (images_of((2, 3, 4, 4), torch.float64) * 1.5).requires_grad_()
    change = stain_change(torch.rand(2, 6, generator=torch.Generator().manual_seed(3)), 0.1)
    change = StainChange(change.scale.double(), change.shift.double())
    assert torch.autograd.gradcheck(lambda x: vary_stain(x, change, (-1.0, 1.0)), images)
    (slope,) = torch.autograd.grad(vary_stain(images, change, (-1.0, 1.0)).sum(), images)
    assert (slope.abs() > 1e-3).all()


def test_stain_needs_colours() -> None:
    with pytest.raises(RecipeError, match="these images have no colours"):
        Augmentation(("stain",), image_channels=1)
