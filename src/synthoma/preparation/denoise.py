"""Remove noise from a raw image and keep its edges: bilateral filter, total variation, or median; and how much noise there is.

`strength` is the standard deviation of the noise to remove, in grey levels of 0 to 255. What each method makes of it:

    bilateral   means over a small window, weighted by distance (standard deviation 1 pixel) and by likeness of colour
                (twice the strength a channel): Tomasi and Manduchi, ICCV 1998; the factor after Zhang and Gunturk,
                "Multiresolution bilateral filtering for image denoising", IEEE Trans Image Process 17:2324 (2008)
    tv          total variation, each channel by itself: Chambolle, J Math Imaging Vis 20:89 (2004); its weight is 0.75 of the
                strength: on phantom cells with known noise, more brought them no nearer to the clean ones and cost texture
    median      over the smallest window (3 or 5 pixels a side) whose median of so strong a noise is at most 2.5 grey levels

Texture that is as weak as the noise goes with it, whatever the method: `texture_check` measures how much.

The bilateral filter is written out here, for two and three axes. That of scikit-image (0.26) has two only, its table of
distances is one column too wide for an odd window, so that weights lie askew, and it divides differences of colour by the
number of channels.
"""

from collections.abc import Callable
from itertools import product
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from synthoma.errors import MissingExtraError

Method = Literal["none", "bilateral", "tv", "median"]
Strength = float | Literal["auto"]

# Below this an image of 8 bits holds no noise but that of rounding (1 / sqrt(12) = 0.29), and is left as it is.
LEAST_NOISE = 0.5
_REACH, _SPREAD = 2, 1.0  # bilateral: pixels to each side, standard deviation of the weights by distance
_LIKENESS = 2.0  # bilateral: standard deviation of the weights by colour, in those of the noise
_WEIGHT = 0.75  # tv: in standard deviations of the noise
_MEDIAN_LEAVES = 2.5  # grey levels
# High-pass filter of the Daubechies wavelet with two vanishing moments.
_DB2 = np.array((-0.12940952255126037, -0.2241438680420134, 0.8365163037378079, -0.48296291314453414))
_NORMAL_MEDIAN = 0.6744897501960817  # median of the absolute value of a standard normal


def denoise(image: NDArray[np.uint8], method: Method, strength: Strength = "auto") -> NDArray[np.uint8]:
    """`image` [*spatial, c] uint8, two or three axes in space, with noise of `strength` grey levels removed.

    strength: "auto" takes `estimate_noise` of this image. An image with less than half a grey level to remove comes back
    unchanged, as does every image with method "none". Raises `MissingExtraError` for "tv" without scikit-image and
    `TypeError` for other types of pixel.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"denoise takes images of 8 bits (uint8), not {image.dtype}.")
    if method == "none":
        return image
    sigma = estimate_noise(image) if strength == "auto" else float(strength)
    if sigma < LEAST_NOISE:
        return image
    return _METHODS[method](image, sigma)


def require_method(method: Method) -> None:
    """Raises `MissingExtraError` where what `method` needs is not installed."""
    if method == "tv":
        _restoration()


def estimate_noise(image: NDArray[np.generic]) -> float:
    """Standard deviation of the noise of `image` [*spatial, c] in grey levels, mean over its channels.

    From the finest diagonal wavelet coefficients (`fine_details`): their median absolute value over that of a standard
    normal, after Donoho and Johnstone, Biometrika 81:425 (1994). Coefficients of exactly 0 are left out, as they come from
    black or white areas where the camera was saturated. An even image has 0. Noise that was smoothed afterwards, by
    enlargement or JPEG, is underestimated.
    """
    details = (fine_details(image[..., channel]) for channel in range(image.shape[-1]))
    return float(np.mean([spread_of(part[part != 0]) for part in details]))


def spread_of(details: NDArray[np.float64]) -> float:
    """Standard deviation of noise from its wavelet coefficients, robust to the few that come from edges; 0 for none."""
    return float(np.median(np.abs(details))) / _NORMAL_MEDIAN if details.size else 0.0


def fine_details(channel: NDArray[np.generic]) -> NDArray[np.float64]:
    """Diagonal coefficients of the finest level of the wavelet transform of [*spatial] by Daubechies' filter of length 4.

    The filter runs along every axis; white noise keeps its standard deviation. Only places where it lies within the image
    count: beside a mirrored border noise is weaker, which a small volume would show (20 voxels a side: a fifth too low).
    """
    values = channel.astype(np.float64)
    for axis in range(values.ndim):
        values = np.moveaxis(values, axis, -1)
        stop = max(values.shape[-1] - len(_DB2) + 1, 0)
        parts = [weight * values[..., i : i + stop : 2] for i, weight in enumerate(_DB2)]
        values = np.moveaxis(np.sum(parts, axis=0), -1, axis)
    # The weights add up to 0, but for the last bit.
    values[np.abs(values) < 1e-9] = 0
    return values


def _bilateral(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Every pixel of the window is added with its weight, one offset at a time over the whole image."""
    dim = image.ndim - 1
    values = image.astype(np.float32)
    around = np.pad(values, [(_REACH, _REACH)] * dim + [(0, 0)], mode="edge")
    # Distances over c channels are sqrt(c) times as large, those of noise as well.
    likeness = -0.5 / (image.shape[-1] * (_LIKENESS * sigma) ** 2)
    total = np.zeros_like(values)
    weights = np.zeros((*image.shape[:-1], 1), np.float32)
    for offset in product(range(2 * _REACH + 1), repeat=dim):
        window = tuple(slice(start, start + own) for start, own in zip(offset, image.shape[:-1], strict=True))
        other = around[window]
        apart = sum((start - _REACH) ** 2 for start in offset)
        weight = np.square(other - values).sum(axis=-1, keepdims=True)
        weight *= likeness
        weight -= apart / (2 * _SPREAD**2)
        np.exp(weight, out=weight)
        total += weight * other
        weights += weight
    return np.rint(total / weights).astype(np.uint8)


def _tv(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    values, weight = image.astype(np.float32) / 255, _WEIGHT * sigma / 255
    smooth = _restoration().denoise_tv_chambolle(values, weight=weight, channel_axis=-1)
    result: NDArray[np.uint8] = np.rint(np.clip(smooth, 0, 1) * 255).astype(np.uint8)
    return result


def _median(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    # The median of n normal values has a standard deviation of sqrt(pi / 2n).
    dim = image.ndim - 1
    side = 3 if sigma * np.sqrt(np.pi / (2 * 3**dim)) <= _MEDIAN_LEAVES else 5
    result: NDArray[np.uint8] = median_filter(image, size=(side,) * dim + (1,), mode="nearest")
    return result


def _restoration() -> ModuleType:
    try:
        from skimage import restoration
    except ImportError as error:
        raise MissingExtraError(
            "preparation.denoise: tv needs scikit-image, which is not installed: pip install 'synthoma[denoise]'. "
            "bilateral and median do without."
        ) from error
    module: ModuleType = restoration
    return module


_METHODS: dict[str, Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]] = {
    "bilateral": _bilateral,
    "tv": _tv,
    "median": _median,
}
