"""Differentiable augmentation of what a discriminator is shown, real and fake alike.

After Zhao et al. 2020 ("Differentiable augmentation for data-efficient GAN training") and Karras et al. 2020 ("Training
generative adversarial networks with limited data"): a discriminator that never sees an image as it is cannot learn a
small training set by heart, and as the fakes are changed in the same way, the generator need not imitate the changes.

Parameters are drawn first, by sample number, then a deterministic function changes the images with them. Each operation
acts on a sample on its own, so that an image does not depend on which others are beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from synthoma.draws import StepDraws
from synthoma.errors import RecipeError, nearest_name_hint
from synthoma.settings import POLICIES
from synthoma.transforms.stain import RUIFROK, StainChange, stain_basis, stain_change
from synthoma.transforms.symmetries import Symmetry, pick, source_offsets

# As DiffAugment: brightness moves by at most a quarter of the range, saturation is multiplied by 0 to 2, contrast by
# 1/2 to 3/2, pictures are shifted by an eighth of their side, and boxes of half the side are cut out.
BRIGHTNESS = 0.25
SHIFT = 0.125
CUT = 0.5
# How far the amounts of haematoxylin and eosin vary: half of what Tellez et al. 2018 call strong.
STAIN = 0.1
# A share of the images must keep its position: where all are turned at random, a generator of turned images looks like
# one of upright images, and its error can't be seen. Below 0.8 such leaks are unlikely (Karras et al. 2020, section 2.2).
MOST_TURNED = 0.8


@dataclass(frozen=True)
class Colour:
    """What is done to the colours of n samples: float [n] each. (0, 1, 1) leaves a sample as it is."""

    brightness: Tensor
    saturation: Tensor
    contrast: Tensor


class Augmentation:
    """Augments images [n, c, *size] with values in `range`, in two or three dimensions.

    policy: which of
      colour       brightness and contrast, with three image channels saturation too; greys stay grey
      stain        the amounts of haematoxylin and eosin, of pictures of stained tissue in three channels
      symmetry     an element of `group` (see `symmetry_group`)
      translation  whole pixels, up to an eighth of each axis; what is missing is filled by reflection
      cutout       a box of half of each axis, filled with the middle of the range
    They are done in this order, whatever the order in `policy`. image_channels: how many channels are colours; those
    that follow (a mask) are moved and cut with them, but keep their values.

    Raises `RecipeError` for an unknown policy, for symmetry without a symmetry to apply, and for stain without colours.
    """

    def __init__(
        self,
        policy: Sequence[str],
        *,
        group: Sequence[Symmetry] = (),
        image_channels: int = 3,
        range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        unknown = [name for name in policy if name not in POLICIES]
        if unknown:
            hint = nearest_name_hint(unknown[0], POLICIES)
            raise RecipeError(
                f"training.augment.policy: there is no '{unknown[0]}'{hint}; known: {', '.join(POLICIES)}."
            )
        if "symmetry" in policy and len(group) < 2:
            raise RecipeError(
                "training.augment.policy: symmetry turns images by training.symmetries, which leaves them only one position; "
                "set training.symmetries to what the anatomy permits, or take symmetry out of the policy."
            )
        if "stain" in policy and image_channels < 3:
            raise RecipeError(
                "training.augment.policy: stain varies haematoxylin and eosin, and these images have no colours; take it out."
            )
        if image_channels < 1 or not range[0] < range[1]:
            raise ValueError(f"expected at least one image channel and a range, got {image_channels} and {range}")
        self.policy, self.group = frozenset(policy), tuple(group)
        self.image_channels, self.range = image_channels, range

    def __call__(self, images: Tensor, draw: StepDraws, which: str, strength: float | Tensor = 1.0) -> Tensor:
        """The images, each operation applied to each of them with probability `strength` (symmetry with at most 0.8).

        which: "real" or "fake", two independent sets of draws. strength: 0 (nothing, bit for bit) to 1, a number or a
        0-d tensor. Differentiable any number of times; keeps shape, dtype and memory format.
        """
        if which not in ("real", "fake"):
            raise ValueError(f"which images are augmented is 'real' or 'fake', not {which!r}")
        if isinstance(strength, float | int) and strength <= 0:
            return images
        purpose = f"augment {which}"
        if "colour" in self.policy:
            colour = draw_colour(draw, f"{purpose} colour", strength, self.range[1] - self.range[0])
            images = change_colour(images, colour, self.image_channels)
        if "stain" in self.policy:
            images = vary_stain(images, draw_stain(draw, f"{purpose} stain", strength), self.range)
        size = tuple(images.shape[2:])
        if self.policy & {"symmetry", "translation"}:
            elements = torch.zeros_like(draw.index)
            shifts = torch.zeros(len(elements), len(size), dtype=torch.int64, device=elements.device)
            if "symmetry" in self.policy:
                elements = draw_elements(draw, f"{purpose} symmetry", strength, len(self.group))
            if "translation" in self.policy:
                shifts = draw_shifts(draw, f"{purpose} translation", strength, size)
            group = self.group if "symmetry" in self.policy else (identity(len(size)),)
            images = move(images, shifts, elements, group)
        if "cutout" in self.policy:
            corners = draw_corners(draw, f"{purpose} cutout", strength, size)
            images = cut_out(images, corners, sum(self.range) / 2)
        return images


def identity(dim: int) -> Symmetry:
    """The symmetry that leaves images as they are."""
    return Symmetry(tuple(range(dim)), (False,) * dim)


def draw_colour(draw: StepDraws, purpose: str, strength: float | Tensor, width: float) -> Colour:
    """Colour changes of each sample; width: of the range of values."""
    chosen, brightness, saturation, contrast = draw.uniform(purpose, (4,)).unbind(1)
    acts = chosen < strength
    return Colour(
        torch.where(acts, (2 * brightness - 1) * BRIGHTNESS * width, 0.0),
        torch.where(acts, 2 * saturation, 1.0),
        torch.where(acts, 0.5 + contrast, 1.0),
    )


def draw_stain(draw: StepDraws, purpose: str, strength: float | Tensor) -> StainChange:
    """Change of each sample's stains; (1, 0) where nothing is done."""
    chosen, amounts = draw.uniform(purpose, (7,)).tensor_split([1], dim=1)
    change, acts = stain_change(amounts, STAIN), chosen < strength
    return StainChange(torch.where(acts, change.scale, 1.0), torch.where(acts, change.shift, 0.0))


def draw_elements(draw: StepDraws, purpose: str, strength: float | Tensor, order: int) -> Tensor:
    """Number of each sample's symmetry, int64 [n]: any of the group, the identity (0) included, or left as it is."""
    chosen, which = draw.uniform(purpose, (2,)).unbind(1)
    return torch.where((chosen < strength) & (chosen < MOST_TURNED), (which * order).long(), 0)


def draw_shifts(draw: StepDraws, purpose: str, strength: float | Tensor, size: Sequence[int]) -> Tensor:
    """Translation of each sample in pixels, int64 [n, dim], each of -most ... most equally likely."""
    chosen, places = draw.uniform(purpose, (1 + len(size),)).tensor_split([1], dim=1)
    most = torch.tensor([int(length * SHIFT + 0.5) for length in size], device=places.device)
    return torch.where(chosen < strength, (places * (2 * most + 1)).long() - most, 0)


def draw_corners(draw: StepDraws, purpose: str, strength: float | Tensor, size: Sequence[int]) -> Tensor:
    """First pixel of each sample's box, int64 [n, dim]; outside the image where nothing is cut out.

    The middle of the box lies anywhere in the image, so that a box at the border is smaller.
    """
    chosen, places = draw.uniform(purpose, (1 + len(size),)).tensor_split([1], dim=1)
    lengths = torch.tensor(size, device=places.device)
    middles = (places * (lengths + 1)).long()
    sides = torch.tensor([box_side(length) for length in size], device=places.device)
    return torch.where(chosen < strength, middles - sides // 2, lengths)


def box_side(length: int) -> int:
    """Side of the box that is cut out of an axis of this length, in pixels."""
    return int(length * CUT + 0.5)


def change_colour(images: Tensor, colour: Colour, image_channels: int) -> Tensor:
    """Brightness b is added, then saturation s stretches each pixel about its grey, then contrast k about the mean.

    As neither of the first two moves pixels about the mean of the whole image m but for b, all three are

        y = k s x + k (1 - s) grey(x) + (1 - k) m + b

    with grey(x) [n, 1, *size] the mean of the three colours of a pixel. With other than three image channels there is
    no saturation: y = k x + (1 - k) m + b. Values may leave the range, as in DiffAugment: clipping would stop gradients.
    """
    ones = [1] * (images.ndim - 1)
    brightness, saturation, contrast = (
        value.to(images.dtype).reshape(-1, *ones) for value in (colour.brightness, colour.saturation, colour.contrast)
    )
    pixels = images[:, :image_channels]
    mean = pixels.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
    offset = (1 - contrast) * mean + brightness
    if image_channels == 3:
        # The pixels come first: they decide the memory format of the product.
        changed = pixels * (contrast * saturation) + (
            pixels.mean(1, keepdim=True) * (contrast * (1 - saturation)) + offset
        )
    else:
        changed = pixels * contrast + offset
    return changed if image_channels == images.shape[1] else torch.cat((changed, images[:, image_channels:]), dim=1)


def vary_stain(images: Tensor, change: StainChange, range: tuple[float, float]) -> Tensor:
    """Scale and shift the stains of images [n, 3 or more, *spatial] with values in `range`; channels after three stay.

    As `transforms.stain.change_stain`, but differentiable everywhere: what lies outside of the range is changed as its nearest
    value within is, and keeps its distance from it, where clipping would stop the generator's gradients.
    """
    low, high = range
    pixels = images[:, :3]
    values = (pixels - low) * (255 / (high - low))
    inside = values.clamp(0, 255)
    basis = torch.as_tensor(stain_basis(RUIFROK), device=images.device, dtype=images.dtype)
    matrix = basis * change.scale[:, None].to(images.dtype) @ torch.linalg.inv(basis)
    logs = torch.log((inside + 1) / 256)
    channels = [
        sum(matrix[:, out, of].reshape(-1, *[1] * (images.ndim - 2)) * logs[:, of] for of in (0, 1, 2))
        for out in (0, 1, 2)
    ]
    offset = (change.shift.to(images.dtype) @ basis.T).reshape(-1, 3, *[1] * (images.ndim - 2))
    changed = torch.exp(torch.stack(channels, dim=1) - offset) * 256 - 1 + (values - inside)
    same = ((change.scale == 1) & (change.shift == 0)).all(dim=1).reshape(-1, *[1] * (images.ndim - 1))
    changed = torch.where(same, pixels, changed * ((high - low) / 255) + low)
    return changed if images.shape[1] == 3 else torch.cat((changed, images[:, 3:]), dim=1)


def move(images: Tensor, shifts: Tensor, elements: Tensor, group: Sequence[Symmetry]) -> Tensor:
    """Turn each image by its element of `group`, then shift it by whole pixels (int64 [n, dim]): one gather.

    What a shift uncovers is filled by reflection at the border pixel. DiffAugment fills with zeros, the middle of the
    range: a grey bar beside the black air of a CT or the pale glass of a slide is an edge that no real image has, and
    its width tells the shift; a reflected border looks like tissue where there was tissue and like background where
    there was background.
    """
    places = []
    for a, length in enumerate(images.shape[2:]):
        wanted = torch.arange(length, device=images.device) - shifts[:, a, None]
        places.append(length - 1 - (length - 1 - wanted.abs()).abs())
    return pick(images, source_offsets(places, elements, group))


def cut_out(images: Tensor, corners: Tensor, fill: float) -> Tensor:
    """Fill a box of half of each axis, from its first pixel (int64 [n, dim], may lie outside), with one value."""
    inside = torch.ones([], dtype=torch.bool, device=images.device)
    dim = images.ndim - 2
    for a, length in enumerate(images.shape[2:]):
        from_corner = torch.arange(length, device=images.device) - corners[:, a, None]
        within = (from_corner >= 0) & (from_corner < box_side(length))
        inside = inside & within.reshape(-1, 1, *[length if a == b else 1 for b in range(dim)])
    return torch.where(inside, fill, images)
