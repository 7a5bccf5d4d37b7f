"""Means over rectangles of pixels: how a slide is reduced to an exact resolution.

An output pixel is the integral of the input over the square that it covers, with fractional shares at the edges (box
filter). That is what a sensor with larger pixels would see; it neither aliases nor shifts, at any ratio.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Bytes = NDArray[np.uint8]

# Sums of so many 8-bit values, with half of it added for rounding, stay within 16 bits.
_LARGEST_SUM = 256
_OPAQUE = 0xFF000000
# Output rows at a time: the C library hands larger arrays back to the kernel and pays for every page anew, which made
# whole tiles take twice as long.
_STRIP = 64


def on_white(pixels: Bytes) -> Bytes:
    """RGBA uint8 [h, w, 4] laid on white: the same array where all is opaque, else a new one [h, w, 4]."""
    # As one number, a pixel is at least that if and only if its alpha, the highest byte, is 255.
    if pixels.size == 0 or int(np.ascontiguousarray(pixels).view("<u4").min()) >= _OPAQUE:
        return pixels
    share = pixels[..., 3:].astype(np.uint16)
    laid = np.full_like(pixels, 255)
    laid[..., :3] = (pixels[..., :3] * share + np.uint16(255) * (np.uint16(255) - share) + np.uint16(127)) // 255
    return laid


def without_alpha(pixels: Bytes) -> Bytes:
    """RGBA [h, w, 4] -> RGB [h, w, 3]; channel by channel is several times faster than a copy of a slice."""
    colours = np.empty((*pixels.shape[:2], 3), dtype=np.uint8)
    for channel in range(3):
        colours[..., channel] = pixels[..., channel]
    return colours


def whole_mean(pixels: Bytes, down: int, across: int) -> Bytes:
    """Mean over `down` x `across` pixels: uint8 [h * down, w * across, 4] -> uint8 [h, w, 4], halves rounded up."""
    height, width = pixels.shape[0] // down, pixels.shape[1] // across
    if down == across == 1:
        return pixels
    count = down * across
    if count > _LARGEST_SUM:
        rows = pixels.reshape(height, down, -1).sum(axis=1, dtype=np.uint32)
        sums = rows.reshape(height, width, across, 4).sum(axis=2, dtype=np.uint32)
        return np.asarray((sums + count // 2) // count).astype(np.uint8)
    stack = pixels.reshape(height, down, pixels.shape[1], 4)
    total = stack[:, 0].astype(np.uint16)
    for row in range(1, down):
        total += stack[:, row]
    # The four sums of a pixel are added at once, as one number of 64 bits: none of them outgrows its 16.
    packed = total.view(np.uint64).reshape(height, width, across)
    wide = packed[:, :, 0].copy()
    for column in range(1, across):
        wide += packed[:, :, column]
    mean = wide.view(np.uint16).reshape(height, width, 4)
    mean += count // 2
    mean //= count
    return mean.astype(np.uint8)


def area_mean(pixels: Bytes, start: tuple[float, float], scale: tuple[float, float], size: tuple[int, int]) -> Bytes:
    """Mean over squares with fractional edges: uint8 [h, w, 4] -> uint8 [size y, size x, 4].

    Output pixel (j, i) covers start + (j, i) * scale to start + (j + 1, i + 1) * scale, in (y, x) pixels of the input,
    where pixel n covers n to n + 1. The input must hold all that is covered.
    """
    mean = np.empty((*size, 4), dtype=np.uint8)
    for top in range(0, size[0], _STRIP):
        count = min(_STRIP, size[0] - top)
        first = start[0] + top * scale[0]
        source = pixels[math.floor(first) : math.ceil(first + count * scale[0] - 1e-6)]
        mean[top : top + count] = _strip_mean(source, (first % 1.0, start[1]), scale, (count, size[1]))
    return mean


def _strip_mean(pixels: Bytes, start: tuple[float, float], scale: tuple[float, float], size: tuple[int, int]) -> Bytes:
    """As `area_mean`, all at once."""
    rows, columns = pixels.shape[:2]
    down = _weights(start[0], scale[0], size[0], rows)
    across = _weights(start[1], scale[1], size[1], columns)
    half = down @ pixels.reshape(rows, -1).astype(np.float32)
    turned = _turned(half, (size[0], columns), np.complex128)
    mean = np.rint(across @ turned).astype(np.uint8)
    return _turned(mean, (size[1], size[0]), np.uint32).reshape(*size, 4)


def _turned(pixels: NDArray[Any], shape: tuple[int, int], whole: type) -> NDArray[Any]:
    """Rows of pixels of four channels [a, b * 4] as columns [b, a * 4]; `whole` is a type as large as one pixel."""
    turned: NDArray[Any] = np.ascontiguousarray(pixels).view(whole).reshape(shape).T
    return np.ascontiguousarray(turned).view(pixels.dtype)


@lru_cache(maxsize=64)
def _weights(start: float, scale: float, count: int, length: int) -> sparse.csr_matrix:
    """Share of each of `length` input pixels in each of `count` output pixels, float32 [count, length]; rows sum to 1."""
    edges = start + scale * np.arange(count + 1)
    if edges[0] < -1e-6 or edges[-1] > length + 1e-6:
        raise ValueError(f"{edges[0]:.3f} to {edges[-1]:.3f} lies outside the {length} pixels at hand")
    taps = int(np.ceil(scale)) + 1
    index = np.floor(edges[:-1]).astype(np.int64)[:, None] + np.arange(taps)
    overlap = np.minimum(edges[1:, None], index + 1) - np.maximum(edges[:-1, None], index)
    weights = np.clip(overlap, 0.0, None) / scale
    places = np.clip(index, 0, length - 1).ravel()
    return sparse.csr_matrix((weights.astype(np.float32).ravel(), places, np.arange(count + 1) * taps), (count, length))
