"""Normalised cross-correlation of pairs of images at small shifts: similarity that brightness and contrast do not change.

Each channel is taken without its mean, the whole image at length one. The middle of the one image is compared with
windows of the same size of the other, so that what leaves the picture never enters the number.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from synthoma.transforms.degrade import gaussian_blur
from synthoma.transforms.symmetries import Symmetry, apply, symmetry_group

SHIFT = 2  # pixels an axis; fewer in images that are shorter than 16 pixels along it
FLAT = 1e-4  # standard deviation below which an image has no structure, of the range from black to white
SMOOTHING = 1.0  # pixels, standard deviation
_LUMA = (0.299, 0.587, 0.114)
_BATCH = 256

ValueRange = tuple[float, float]


def positions(size: Sequence[int]) -> list[Symmetry]:
    """The positions in which images of a size are compared, as they are first.

    In 2D the 8 symmetries of the square (4 where it is none), in 3D the 8 mirror images along the axes.
    """
    if len(size) == 2:
        return symmetry_group("dihedral", 2, size)
    return [Symmetry((0, 1, 2), flips) for flips in itertools.product((False, True), repeat=3)]


def largest_shift(size: Sequence[int]) -> tuple[int, ...]:
    """Largest shift along each axis, in pixels."""
    return tuple(min(SHIFT, n // 8) for n in size)


def unit(images: NDArray[np.generic], value_range: ValueRange) -> Tensor:
    """Images as float32 within [0, 1], black to white; what lies beyond the range is cut off."""
    low, high = value_range
    values = torch.from_numpy(np.array(images, dtype=np.float32))
    return values.sub_(low).div_(high - low).clamp_(0, 1)


def smooth_luma(images: Tensor) -> Tensor:
    """Brightness [n, 1, *spatial] of images [n, c, *spatial], smoothed by a Gaussian of one pixel.

    The luma of ITU-R BT.601 where there are three channels; others stay by themselves. JPEG spends its bits on just this:
    what it loses of a picture of 64 px with little contrast (fine grain, and colour at half the resolution) makes a copy
    less like its original than another patient may be, though nobody would see a difference.
    """
    if images.shape[1] == 3:
        weights = torch.tensor(_LUMA).reshape(1, 3, *[1] * (images.ndim - 2))
        images = (images * weights).sum(dim=1, keepdim=True)
    return gaussian_blur(images, SMOOTHING)


def turn_each(
    images: NDArray[np.generic], elements: NDArray[np.int64], group: Sequence[Symmetry]
) -> NDArray[np.generic]:
    """Images [n, c, *spatial], each in the position of `group` with its number in `elements` [n]."""
    result = np.empty_like(images)
    for number in np.unique(elements):
        axes, flips = group[number]
        chosen = elements == number
        block = images[chosen].transpose(0, 1, *(axis + 2 for axis in axes))
        result[chosen] = np.flip(block, tuple(axis + 2 for axis, flip in enumerate(flips) if flip))
    return result


def flat(images: NDArray[np.generic], value_range: ValueRange) -> NDArray[np.bool_]:
    """Which images [n, c, *spatial] have no structure, and so are similar to nothing: Boolean [n]."""
    result = np.zeros(len(images), dtype=bool)
    for start in range(0, len(images), _BATCH):
        block = unit(images[start : start + _BATCH], value_range).flatten(2)
        spread = block.var(dim=2, correction=0).mean(dim=1).sqrt()
        result[start : start + _BATCH] = (spread <= FLAT).numpy()
    return result


def correlations(fixed: Tensor, moving: Tensor, shift: Sequence[int]) -> Tensor:
    """Correlation of the middle of each `fixed` image with every window of its `moving` one.

    Both [n, c, *spatial] float32, black to white from 0 to 1; the result [n, 2 shift + 1, ...], the image that has not
    moved in its middle. 0 where either has no structure.
    """
    dim = fixed.ndim - 2
    centre = middle(fixed, shift)
    centre = centre - centre.mean(dim=tuple(range(2, fixed.ndim)), keepdim=True)
    moving = moving - moving.mean(dim=tuple(range(2, fixed.ndim)), keepdim=True)  # short numbers lose fewer digits
    pixels = math.prod(centre.shape[2:])
    lengths = _window_sums(moving * moving, shift) - _window_sums(moving, shift).square() / pixels
    lengths = lengths.sum(dim=1).clamp_min(0).sqrt()
    own = centre.flatten(1).norm(dim=1).reshape(-1, *[1] * dim)
    # Every channel of every pair is a convolution of its own whose kernel is the whole middle: all shifts at once.
    convolve = F.conv2d if dim == 2 else F.conv3d
    products = convolve(
        moving.flatten(0, 1)[None], centre.flatten(0, 1)[:, None], groups=moving.shape[0] * moving.shape[1]
    )
    products = products.reshape(*moving.shape[:2], *lengths.shape[1:]).sum(dim=1)
    least = FLAT * math.sqrt(pixels * fixed.shape[1])
    known = (own > least) & (lengths > least)
    return torch.where(known, products / (own * lengths).clamp_min(least**2), torch.zeros(())).clamp(-1, 1)


def aligned_pairs(
    a: NDArray[np.generic],
    b: NDArray[np.generic],
    elements: NDArray[np.int64],
    shifts: NDArray[np.int64],
    value_range: ValueRange,
) -> tuple[Tensor, Tensor]:
    """What was compared of each pair a[i], b[i]: the middle of a, and the window of b, turned and moved.

    elements [n]: number of the symmetry in `positions`; shifts [n, dim]. Two float32 [n, c, *smaller] within [0, 1].
    """
    size = a.shape[2:]
    shift = largest_shift(size)
    smaller = [n - 2 * s for n, s in zip(size, shift, strict=True)]
    turned = apply(unit(b, value_range), torch.from_numpy(elements), positions(size))
    places = (shifts + np.array(shift)).tolist()
    windows = [image[_window(place, smaller)[1:]] for image, place in zip(turned, places, strict=True)]
    return middle(unit(a, value_range), shift), torch.stack(windows)


def middle(images: Tensor, shift: Sequence[int]) -> Tensor:
    """Images without `shift` pixels at each border."""
    return images[(slice(None), slice(None), *(slice(s, n - s) for s, n in zip(shift, images.shape[2:], strict=True)))]


def _window(place: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return slice(None), slice(None), *(slice(p, p + n) for p, n in zip(place, size, strict=True))


def _window_sums(images: Tensor, shift: Sequence[int]) -> Tensor:
    """Sums over all windows, an axis after the other: [n, c, 2 shift + 1, ...]."""
    for axis, s in enumerate(shift, start=2):
        length = images.shape[axis] - 2 * s
        sums = [images.narrow(axis, 0, length).sum(dim=axis)]
        for p in range(2 * s):  # the next window has one row more, and one less
            sums.append(sums[-1] + images.select(axis, p + length) - images.select(axis, p))
        images = torch.stack(sums, dim=axis)
    return images
