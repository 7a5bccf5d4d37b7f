"""Slides in memory and in files, and their exact pixels."""

from pathlib import Path

import numpy as np

SIZE = (640, 512)


def texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise over a slope: uint8 [height, width, 3], different everywhere."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    slope = np.stack((x * 180 / width, y * 180 / height, (x + y) * 90 / width), axis=-1)
    return np.clip(slope + random.integers(0, 70, (height, width, 3)), 0, 255).astype(np.uint8)


def box_integral(pixels: np.ndarray, left: float, top: float, step: float, width: int, height: int) -> np.ndarray:
    """Mean of `pixels` [h, w, 3], white outside, over squares of `step`: by differences of the interpolated integral."""
    rim = 700
    wide = np.pad(pixels.astype(np.float64), ((rim, rim), (rim, rim), (0, 0)), constant_values=255.0)
    for axis, (start, count) in enumerate(((top, height), (left, width))):
        integral = np.cumsum(wide, axis=axis)
        integral = np.concatenate((np.zeros_like(np.take(integral, [0], axis)), integral), axis=axis)
        edges = rim + start + step * np.arange(count + 1)
        low = np.floor(edges).astype(int)
        share = (edges - low).reshape([-1 if axis == k else 1 for k in range(3)])
        at = np.take(integral, low, axis) * (1 - share) + np.take(integral, low + 1, axis) * share
        wide = np.diff(at, axis=axis) / step
    return wide


def openslide_level(path: Path, level: int) -> np.ndarray:
    import openslide

    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))[..., :3]
