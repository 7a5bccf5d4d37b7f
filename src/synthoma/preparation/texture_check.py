"""Does fine texture survive the removal of noise? Measured on images before and after it, no clean image needed.

Three numbers an image. *Noise*: standard deviation by the finest wavelet coefficients, before and after. *Edges*: the slope
at the strongest edges, across them and at a fine scale, after against before. *Texture*: the share of power that is kept in
the band of structures of about 3 to 12 pixels, away from those edges, where it stands clear above the noise.

Power in a band holds texture and noise, and noise that is removed must not count as lost texture, nor noise that stays as
kept texture. So the floor of noise is subtracted first, and what is kept is the part of the new band that goes along with
the old one: with b and a the bands before and after, h = sum(a b - floor(a b)) / sum(b b - floor(b b)) is the amplitude
that texture has kept (the transfer function by the cross spectrum: Bendat and Piersol, "Random Data", ch. 6), its square
the power. The floors are those of the flattest tenth of the image, or those of white noise as strong as the wavelet
coefficients say where they are lower: texture that is everywhere leaves no flat place to look at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter

from synthoma.preparation.denoise import estimate_noise, fine_details, spread_of

Array = NDArray[np.float64]

FEWEST_PIXELS = 16  # a side: smaller images show no band of 12 pixels
_FINE, _COARSE, _FLAT = (
    0.7,
    2.0,
    6.0,
)  # scales in pixels: the fine band lies between the first two, flatness is judged above
_EDGE_SCALE = 1.5
_STRONG_SHARE, _STRONG_SLOPE = 0.03, 1.0  # strong edges: at most so many pixels, at least so many grey levels a pixel
_AROUND_EDGES = 4  # pixels that do not count as texture
_CLEAR = 3.0  # power of textured places against the floor of noise
_LEAST_POWER = 0.25  # half a grey level: what rounding leaves
_LEAST_AREA = 0.02


@dataclass(frozen=True)
class Comparison:
    """One image. noise: standard deviations before and after, in grey levels. edges, texture: share kept, if there are any."""

    noise: tuple[float, float]
    edges: float | None
    texture: float | None


@dataclass(frozen=True)
class TextureCheck:
    """What became of noise, edges and texture. Medians over the images in which each can be seen; None where in none.

    noise_before, noise_after: standard deviations in grey levels. edges: share of their slope that is kept, more than 1 where
    they became sharper. texture: share of its power. edges_low, texture_low: the same in the worst tenth of the images.
    """

    images: int
    noise_before: float
    noise_after: float
    edges: float | None
    edges_low: float | None
    texture: float | None
    texture_low: float | None

    @classmethod
    def over(cls, comparisons: Sequence[Comparison]) -> "TextureCheck":
        """The medians. Raises `ValueError` where there is no image."""
        if not comparisons:
            raise ValueError("there are no images to compare.")
        before, after = (float(value) for value in np.median([one.noise for one in comparisons], axis=0))
        edges = _middle_and_low([one.edges for one in comparisons if one.edges is not None])
        texture = _middle_and_low([one.texture for one in comparisons if one.texture is not None])
        return cls(len(comparisons), before, after, *edges, *texture)

    @property
    def noise_removed(self) -> float | None:
        """Share of the standard deviation; None without noise."""
        return 1.0 - self.noise_after / self.noise_before if self.noise_before > 0 else None


def texture_kept(before: Sequence[NDArray[np.uint8]], after: Sequence[NDArray[np.uint8]]) -> TextureCheck:
    """Compare images [*spatial, c] of grey levels, two or three axes in space, with what denoising made of them.

    Raises `ValueError` where there are none or where they do not come in pairs of the same shape.
    """
    return TextureCheck.over([compare(old, new) for old, new in zip(before, after, strict=True)])


def compare(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Comparison:
    """One image [*spatial, c] before and after. Raises `ValueError` where the shapes differ."""
    if before.shape != after.shape:
        raise ValueError(f"an image changed its shape from {before.shape} to {after.shape}.")
    noise = noise_of_both(before, after)
    if min(before.shape[:-1]) < FEWEST_PIXELS:
        return Comparison(noise, None, None)
    grey, new_grey = (image.mean(axis=-1, dtype=np.float64) for image in (before, after))
    sigma = estimate_noise(grey[..., None])
    slope = _slope(grey, _EDGE_SCALE)
    strong = _strong_edges(np.sqrt(np.square(slope).sum(axis=0)), sigma)
    edges = _edges_kept(grey, new_grey, slope, strong) if strong.any() else None
    return Comparison(noise, edges, _texture_share(grey, new_grey, strong, sigma))


def noise_of_both(before: NDArray[np.generic], after: NDArray[np.generic]) -> tuple[float, float]:
    """Standard deviations of the noise before and after, over the places where there was any before.

    An estimate of each by itself would leave out other places, and miss that noise is gone where nothing is left.
    """
    spreads = []
    for channel in range(before.shape[-1]):
        old, new = fine_details(before[..., channel]), fine_details(after[..., channel])
        there = old != 0
        spreads.append((spread_of(old[there]), spread_of(new[there])))
    mean = np.mean(spreads, axis=0)
    return float(mean[0]), float(mean[1])


def _middle_and_low(values: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    if not values:
        return None, None
    return float(np.median(values)), float(np.quantile(values, 0.1))


def _slope(grey: Array, scale: float) -> Array:
    """Gradient [axes, *spatial] of the image smoothed by a Gaussian of `scale` pixels, in grey levels a pixel."""
    dim = grey.ndim
    orders = np.eye(dim, dtype=int)
    return np.stack([gaussian_filter(grey, scale, order=tuple(order), mode="nearest") for order in orders])


def _strong_edges(steepness: Array, sigma: float) -> NDArray[np.bool_]:
    """The steepest places, where they are steeper than noise of `sigma` makes any."""
    dim = steepness.ndim
    # Standard deviation of the slope of white noise along one axis.
    chance = sigma * np.sqrt(
        1 / (4 * np.sqrt(np.pi) * _EDGE_SCALE**3) * (1 / (2 * np.sqrt(np.pi) * _EDGE_SCALE)) ** (dim - 1)
    )
    least = max(float(np.quantile(steepness, 1 - _STRONG_SHARE)), 6 * chance, _STRONG_SLOPE)
    return np.asarray(steepness >= least)


def _edges_kept(grey: Array, new_grey: Array, slope: Array, strong: NDArray[np.bool_]) -> float:
    """Mean slope across strong edges at the fine scale, after against before. Signed, so that noise averages out."""
    across = slope[:, strong]
    across = across / np.sqrt(np.square(across).sum(axis=0))
    old, new = ((across * _slope(values, _FINE)[:, strong]).sum() for values in (grey, new_grey))
    return float(new / old)


def _texture_share(grey: Array, new_grey: Array, strong: NDArray[np.bool_], sigma: float) -> float | None:
    """Share of the power of fine texture that is kept, or None where none stands clear above the noise."""
    band, new_band = (gaussian_filter(v, _FINE) - gaussian_filter(v, _COARSE) for v in (grey, new_grey))
    power, common = gaussian_filter(band * band, 3.0), gaussian_filter(band * new_band, 3.0)
    floor, common_floor = _floors(grey, power, common, sigma)
    around = binary_dilation(strong, iterations=_AROUND_EDGES) if strong.any() else strong
    textured = ~around & (power >= max(_CLEAR * floor, _LEAST_POWER))
    if textured.mean() < _LEAST_AREA:
        return None
    kept = (common[textured] - common_floor).sum() / (power[textured] - floor).sum()
    return float(max(kept, 0.0) ** 2)


def _floors(grey: Array, power: Array, common: Array, sigma: float) -> tuple[float, float]:
    """What noise contributes to `power` and to `common`, each a pixel."""
    coarse = gaussian_filter(grey, _COARSE) - gaussian_filter(grey, _FLAT)
    # Flatness is judged at coarser structures, whose noise is another one: picked by their own power, places would be too quiet.
    unrest = gaussian_filter(coarse * coarse, 4.0)
    flat = unrest <= np.quantile(unrest, 0.1)
    found, kept = float(power[flat].mean()), float(common[flat].mean())
    floor = min(found, _white_power(grey.ndim) * sigma**2)
    return floor, floor * kept / found if found > 0 else 0.0


def _white_power(dim: int) -> float:
    """Variance of the band for white noise of variance 1: the integral over the square of its kernel."""

    def overlap(variance: float) -> float:
        return float((2 * np.pi * variance) ** (-dim / 2))

    return overlap(2 * _FINE**2) + overlap(2 * _COARSE**2) - 2 * overlap(_FINE**2 + _COARSE**2)
