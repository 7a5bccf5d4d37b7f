"""Stains of histology as mathematics on pixels: one fit a slide, one transform for all its tiles, and augmentation.

Stains absorb light, so that amounts of stain add up in optical density (Beer and Lambert). The density of a pixel value
v is -ln((v + 1) / 256): 0 for white, so that white stays white, and finite for black. What moves the colours of one
slide to those of another is then a single affine map of densities, whichever method found it, and no tile is solved on
its own. Fits need sharp pixels: at 8 microns a pixel nuclei are mixed with what surrounds them, and the stains found
are closer together than they are.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synthoma.errors import DataError

Vector = NDArray[np.float64]

# Macenko et al. 2009: pixels below this density hold no stain to speak of; angles between these percentiles count.
MIN_DENSITY, ANGLE_PERCENTILES, STRENGTH_PERCENTILE = 0.15, (1.0, 99.0), 99.0
# Fewer pixels than these say nothing about a slide.
MIN_PIXELS = 1000
# Mean squares of density across a hue that are below this come from rounding to 8 bits: the pixels have one hue.
_ONE_COLOUR = 2e-5
# Two stains less than about 8 degrees apart can't be told apart: errors in their amounts grow by the condition number.
MAX_CONDITION = 15.0
# Stains further than this from the usual ones are something else: ink, another staining.
MAX_ANGLE_DEGREES = 40.0
# Amounts of stain below this are too small to be scaled to those of a target.
_MIN_STRENGTH = 0.1
_CHUNK = 1 << 15

_DENSITIES = -np.log((np.arange(256) + 1) / 256)
_LOG_256 = np.float32(np.log(256))

# Reinhard et al. 2001: light that the three cones of the eye see, and Ruderman's axes of their logarithms.
_CONES = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_AXES = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])

# Haematoxylin and eosin as Ruifrok and Johnston measured them (2001), as columns: the fixed basis of augmentation.
RUIFROK = np.array([[0.65, 0.07], [0.70, 0.99], [0.29, 0.11]])


@dataclass(frozen=True, eq=False)
class StainFit:
    """Haematoxylin and eosin of a slide.

    matrix: float64 [3, 2], densities (R, G, B) of the two stains as columns of length 1, haematoxylin first.
    strength: float64 [2], 99th percentile of the amount of each. ok: whether this may be used; reason: why not, in words
    (matrix and strength are then zero).
    """

    matrix: Vector
    strength: Vector
    ok: bool
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ReinhardFit:
    """Mean and standard deviation, float64 [3] each, of a slide's pixels in Ruderman's space (l, alpha, beta)."""

    mean: Vector
    std: Vector
    ok: bool
    reason: str = ""


# The reference picture of Macenko's method as the field uses it (M. Veta's implementation, torchstain, TIAToolbox).
MACENKO_TARGET = StainFit(
    np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]]), np.array([1.9705, 1.0308]), True
)
# Slide TCGA-A2-A3XS-DX1 (Amgad et al. 2019), the standard of HistomicsTK; there with pixels up to 255, here up to 1.
REINHARD_TARGET = ReinhardFit(
    np.array([8.74108109 - np.sqrt(3) * np.log(256), -0.12440419, 0.0444982]),
    np.array([0.6135447, 0.10989545, 0.0286032]),
    True,
)


def optical_density(pixels: NDArray[np.uint8]) -> Vector:
    """-ln((v + 1) / 256) of each value, float64; 0 for white, ln 256 for black."""
    return np.asarray(_DENSITIES[pixels])


def fit_macenko(pixels: NDArray[np.uint8]) -> StainFit:
    """Haematoxylin and eosin of tissue pixels uint8 [m, 3], after Macenko et al. 2009 (ISBI).

    The stains are the extreme directions (1st and 99th percentile of the angle) in the plane of the two largest singular
    vectors of the densities. As in the paper these are not centred: stains mix through the origin, and the plane of the
    centred ones, which much code takes, misses the mean colour of real slides by up to a tenth. A pixel counts from a mean
    density of 0.15 on: asked of each channel, as is also usual, pure eosin would never count, as it hardly absorbs red.
    Never raises: what cannot be fitted is `ok=False`.
    """
    density = optical_density(pixels.reshape(-1, 3))
    stained = density[density.mean(axis=1) >= MIN_DENSITY]
    if len(stained) < MIN_PIXELS:
        return _no_stains(f"only {len(stained)} stained pixels; {MIN_PIXELS} are needed")
    energies, axes = np.linalg.eigh(stained.T @ stained / len(stained))  # in ascending order
    if energies[1] < _ONE_COLOUR:
        return _no_stains("the stained pixels have one hue, so that there are no two stains in them")
    plane = axes[:, 1:]
    # Angles from the mean direction: singular vectors have no sign, and one that is taken wrongly turns angles by 180°.
    along = plane @ (plane.T @ stained.mean(axis=0))
    along /= np.linalg.norm(along)
    across = plane @ np.array([[0, -1], [1, 0]]) @ (plane.T @ along)
    angles = np.arctan2(stained @ across, stained @ along)
    extremes = np.percentile(angles, ANGLE_PERCENTILES)
    matrix = np.outer(along, np.cos(extremes)) + np.outer(across, np.sin(extremes))
    if matrix[0, 0] < matrix[0, 1]:  # haematoxylin absorbs more red than eosin
        matrix = matrix[:, ::-1]
    amounts = stained @ np.linalg.pinv(matrix).T
    strength = np.percentile(amounts, STRENGTH_PERCENTILE, axis=0)
    reason = _implausible(matrix, strength)
    return _no_stains(reason) if reason else StainFit(np.ascontiguousarray(matrix), strength, True)


def _implausible(matrix: Vector, strength: Vector) -> str:
    """Why these cannot be haematoxylin and eosin, or an empty string."""
    condition = np.linalg.cond(matrix)
    if not condition <= MAX_CONDITION:
        return f"the two stains can't be told apart (condition number {condition:.0f}, at most {MAX_CONDITION:.0f})"
    for number, name in enumerate(("haematoxylin", "eosin")):
        usual = MACENKO_TARGET.matrix[:, number]
        cosine = matrix[:, number] @ usual / np.linalg.norm(usual)
        degrees = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        if degrees > MAX_ANGLE_DEGREES:
            return f"what would be {name} is {degrees:.0f}° from its usual colour (at most {MAX_ANGLE_DEGREES:.0f}°)"
        if strength[number] < _MIN_STRENGTH:
            return f"there is hardly any {name}"
    return ""


def _no_stains(reason: str) -> StainFit:
    return StainFit(np.zeros((3, 2)), np.zeros(2), False, reason)


def fit_reinhard(pixels: NDArray[np.uint8]) -> ReinhardFit:
    """Mean and deviation of tissue pixels uint8 [m, 3] in Ruderman's l-alpha-beta, as Reinhard et al. 2001 have it.

    Natural logarithms instead of theirs to base 10, as in HistomicsTK; not CIELAB, which other tools use. Never raises:
    what cannot be fitted is `ok=False`.
    """
    pixels = pixels.reshape(-1, 3)
    if len(pixels) < MIN_PIXELS:
        return ReinhardFit(
            np.zeros(3), np.zeros(3), False, f"only {len(pixels)} tissue pixels; {MIN_PIXELS} are needed"
        )
    values = np.log(((pixels + 1.0) / 256) @ _CONES.T) @ _AXES.T
    mean, std = values.mean(axis=0), values.std(axis=0)
    if (std < np.sqrt(_ONE_COLOUR)).any():
        return ReinhardFit(np.zeros(3), np.zeros(3), False, "the tissue pixels have one colour")
    return ReinhardFit(mean, std, True)


@dataclass(frozen=True, eq=False)
class ColourTransform:
    """Changes each pixel x in (0, 1] to outward · exp(matrix · ln(inward · x) + offset).

    matrix, inward, outward: float32 [3, 3], the last two None where there is nothing to do; offset: float32 [3].
    `unchanged`: nothing is done at all, since there was no fit.
    """

    matrix: NDArray[np.float32]
    offset: NDArray[np.float32]
    inward: NDArray[np.float32] | None = None
    outward: NDArray[np.float32] | None = None
    unchanged: bool = False

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Images uint8 [..., 3] of any number and size -> the same shape; the input itself where nothing is done."""
        if images.dtype != np.uint8 or images.shape[-1:] != (3,):
            raise ValueError(f"images uint8 [..., 3] are expected, not {images.dtype} {list(images.shape)}")
        if self.unchanged:
            return images
        pixels = images.reshape(-1, 3)
        result = np.empty_like(pixels)
        # In parts that stay in the processor's cache.
        for start in range(0, len(pixels), _CHUNK):
            self._change(pixels[start : start + _CHUNK], result[start : start + _CHUNK])
        return result.reshape(images.shape)

    def _change(self, pixels: NDArray[np.uint8], result: NDArray[np.uint8]) -> None:
        """[k, 3] -> [k, 3]. Channels are rows meanwhile: a product of [3, 3] and [3, k] is fast, of [k, 3] and [3, 3] not.

        The 256 of (v + 1) / 256 drops out of all but the offset, as both stages beside the logarithm are linear.
        """
        values = np.empty((3, len(pixels)), np.float32)
        for channel in range(3):
            np.add(pixels[:, channel], np.float32(1), out=values[channel], casting="unsafe")
        if self.inward is not None:
            values = self.inward @ values
        np.log(values, out=values)
        values = self.matrix @ values
        values += (self.offset + (1 - self.matrix.sum(axis=1)) * _LOG_256)[:, None]
        np.exp(values, out=values)
        if self.outward is not None:
            values = self.outward @ values
        values -= np.float32(0.5)  # v + 1 is what 256 stands for, and cutting off what follows the point then rounds
        np.clip(values, 0, 255, out=values)
        for channel in range(3):
            result[:, channel] = values[channel]


def stain_transform(source: StainFit | ReinhardFit, target: StainFit | ReinhardFit) -> ColourTransform:
    """What gives a slide with the stains `source` the look of `target`; leaves it unchanged where `source` is not ok.

    Macenko: the amounts of both stains are scaled to the target's strength and shown in its colours. What is neither is
    dropped, as in the paper: blood and pigment come out as mixtures. (Kept, it tinted real slides: a scanner's colours are
    not quite Beer's law.) Reinhard: mean and deviation along each axis become the target's.
    Raises `DataError` for a target that is not ok.
    """
    if not target.ok:
        raise DataError(f"The stain target cannot be used: {target.reason}. Give a picture of stained tissue.")
    if not source.ok:
        return ColourTransform(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), unchanged=True)
    if isinstance(source, StainFit) and isinstance(target, StainFit):
        matrix = target.matrix * (target.strength / source.strength) @ np.linalg.pinv(source.matrix)
        return ColourTransform(matrix.astype(np.float32), np.zeros(3, np.float32))
    if isinstance(source, ReinhardFit) and isinstance(target, ReinhardFit):
        back = np.linalg.inv(_AXES)
        matrix = back * (target.std / source.std) @ _AXES
        offset = back @ target.mean - matrix @ (back @ source.mean)
        inward, outward = _CONES.astype(np.float32), np.linalg.inv(_CONES).astype(np.float32)
        return ColourTransform(matrix.astype(np.float32), offset.astype(np.float32), inward, outward)
    raise TypeError(f"{type(source).__name__} and {type(target).__name__} are fits of different methods")


def stain_basis(stains: Vector) -> Vector:
    """Two stains [3, 2] and the direction of length 1 across both, as columns [3, 3]."""
    across = np.cross(stains[:, 0], stains[:, 1])
    return np.column_stack((stains, across / np.linalg.norm(across)))


@dataclass(frozen=True)
class StainChange:
    """What is done to the stains (haematoxylin, eosin, residual) of n samples: amounts c become scale * c + shift.

    Both float [n, 3]; (1, 0) leaves a sample as it is.
    """

    scale: Tensor
    shift: Tensor


def stain_change(draws: Tensor, sigma: float) -> StainChange:
    """Scale within 1 ± sigma and shift within ± sigma, from uniform draws [n, 6] in [0, 1).

    Tellez et al. 2018 (IEEE TMI 37, 2126): sigma 0.05 is light, 0.2 strong.
    """
    if draws.ndim != 2 or draws.shape[1] != 6:
        raise ValueError(f"six draws for each sample are expected, not {list(draws.shape)}")
    scale, shift = ((2 * draws - 1) * sigma).split(3, dim=1)
    return StainChange(1 + scale, shift)


def augment_stain(
    images: Tensor, sigma: float, draws: Tensor, range: tuple[float, float] = (-1.0, 1.0), stains: Vector = RUIFROK
) -> Tensor:
    """Vary the stains of images [n, 3, *spatial] at random: `change_stain` by `stain_change(draws, sigma)`.

    sigma 0 gives the images back, bit for bit. An image does not depend on which others are beside it.

    >>> tiles = torch.full((2, 3, 8, 8), 180, dtype=torch.uint8)
    >>> augment_stain(tiles, 0.05, torch.rand(2, 6)).shape
    torch.Size([2, 3, 8, 8])
    """
    return images if sigma <= 0 else change_stain(images, stain_change(draws, sigma), range, stains)


def change_stain(
    images: Tensor, change: StainChange, range: tuple[float, float] = (-1.0, 1.0), stains: Vector = RUIFROK
) -> Tensor:
    """Change the amounts of stain in images [n, 3, *spatial]; uint8, or float with values in `range`; dtype is kept.

    stains: float [3, 2], haematoxylin and eosin as columns; the third axis, across both, is the residual. With W the
    three as columns, densities d become W diag(scale) W^-1 d + W shift. Results are cut off at the range.
    """
    if images.ndim < 3 or images.shape[1] != 3 or len(change.scale) != len(images):
        raise ValueError(
            f"images [n, 3, *spatial] and n changes are expected, not {list(images.shape)}, {len(change.scale)}"
        )
    whole = images.dtype == torch.uint8
    low, high = (0.0, 255.0) if whole else range
    basis = torch.as_tensor(stain_basis(stains), device=images.device).float()
    matrix = basis * change.scale[:, None].float() @ torch.linalg.inv(basis)
    offset = change.shift.float() @ basis.T
    # In place: most of the time would go into fresh memory. 256 drops out of all but the offset, as in ColourTransform.
    logs = (
        images.to(torch.float32, copy=True).sub_(low).mul_(255 / (high - low)).clamp_(min=0).add_(1).log_().flatten(2)
    )
    constant = (1 - matrix.sum(dim=2)) * math.log(256) - offset
    # A batched product of [3, 3] and [3, k] is many times as slow on a CPU as these three sums.
    changed = torch.addcmul(constant[:, :, None], matrix[:, :, :1], logs[:, :1])
    for channel in (1, 2):
        changed.addcmul_(matrix[:, :, channel, None], logs[:, channel, None])
    values = changed.exp_().sub_(1).clamp_(0, 255).reshape(images.shape)
    return values.round_().to(torch.uint8) if whole else values.mul_((high - low) / 255).add_(low).to(images.dtype)
