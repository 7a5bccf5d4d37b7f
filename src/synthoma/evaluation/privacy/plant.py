"""Copies made on purpose: what a copy may look like, to set thresholds by and to measure how many would be found."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from synthoma.draws import Draws
from synthoma.metrics.correlation import ValueRange, largest_shift, positions
from synthoma.transforms.symmetries import apply

QUALITY = 75  # of the JPEG
_BRIGHTER = (0.04, 0.12)  # of the range from black to white
_CONTRAST = (0.85, 1.15)

Images = NDArray[np.generic]


def exact(images: Images, value_range: ValueRange, seed: int) -> Images:
    """The very images."""
    return np.array(images)


def flipped(images: Images, value_range: ValueRange, seed: int) -> Images:
    """Each in another position: mirrored or turned, never as it was."""
    group = positions(images.shape[2:])
    elements = 1 + Draws(seed, "plant/flip").integers(0, torch.arange(len(images)), len(group) - 1)
    # Whole numbers of any type of pixel pass through float64 unchanged.
    return apply(torch.from_numpy(np.asarray(images, dtype=np.float64)), elements, group).numpy().astype(images.dtype)


def shifted(images: Images, value_range: ValueRange, seed: int) -> Images:
    """Each moved by 1 pixel up to the largest shift that is sought along some axis; the border is continued."""
    shift = largest_shift(images.shape[2:])
    draws = Draws(seed, "plant/shift")
    index = torch.arange(len(images))
    moves = torch.stack([draws.integers(step, index, 2 * s + 1) - s for step, s in enumerate(shift)], dim=1)
    longest = int(np.argmax(shift))
    moves[(moves == 0).all(dim=1), longest] = shift[longest]
    result = np.empty_like(images)
    for image, move, target in zip(images, moves.tolist(), result, strict=True):
        places = [np.clip(np.arange(n) + m, 0, n - 1) for n, m in zip(image.shape[1:], move, strict=True)]
        target[:] = image[np.ix_(np.arange(len(image)), *places)]
    return result


def brightened(images: Images, value_range: ValueRange, seed: int) -> Images:
    """Each with another brightness and contrast; what gets brighter than white is white."""
    low, high = value_range
    index = torch.arange(len(images))
    draws = Draws(seed, "plant/brightness")
    shape = (-1, *[1] * (images.ndim - 1))
    add = _between(draws.uniform(0, index), _BRIGHTER).reshape(shape)
    factor = _between(draws.uniform(1, index), _CONTRAST).reshape(shape)
    values = (np.asarray(images, dtype=np.float64) - low) / (high - low)
    return _encoded((values * factor + add) * (high - low) + low, images.dtype, value_range)


def compressed(images: Images, value_range: ValueRange, seed: int) -> Images:
    """Each saved as JPEG of quality 75 and read again; volumes slice by slice, within their window, at 8 bits."""
    low, high = value_range
    values = np.clip((np.asarray(images, dtype=np.float64) - low) / (high - low), 0, 1) * 255
    pictures = np.rint(values).astype(np.uint8)
    result = np.empty(pictures.shape, dtype=np.float64)
    volumes = pictures.ndim == 5
    for image, target in zip(pictures, result, strict=True):
        if volumes:
            for z in range(image.shape[1]):
                target[:, z] = _jpeg(image[:, z])
        else:
            target[:] = _jpeg(image)
    return _encoded(result / 255 * (high - low) + low, images.dtype, value_range)


KINDS: dict[str, Callable[[Images, ValueRange, int], Images]] = {
    "exact": exact,
    "flipped": flipped,
    "shifted": shifted,
    "brightened": brightened,
    "jpeg": compressed,
}


def planted(
    images: Images, value_range: ValueRange, seed: int, kinds: Sequence[str] = tuple(KINDS)
) -> dict[str, Images]:
    """Copies of every kind of `images` [n, c, *spatial], in the same encoding: kind -> [n, c, *spatial]."""
    return {kind: KINDS[kind](images, value_range, seed) for kind in kinds}


def _between(uniform: torch.Tensor, ends: tuple[float, float]) -> NDArray[np.float64]:
    return ends[0] + (ends[1] - ends[0]) * uniform.double().numpy()


def _encoded(values: NDArray[np.float64], dtype: np.dtype[np.generic], value_range: ValueRange) -> Images:
    """Within the range, in the type of the images."""
    values = np.clip(values, *value_range)
    return (np.rint(values) if np.issubdtype(dtype, np.integer) else values).astype(dtype)


def _jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[c, y, x] through JPEG: three channels as colour, others each as grey."""
    if len(image) == 3:
        return np.moveaxis(_round_trip(np.moveaxis(image, 0, -1)), -1, 0)
    return np.stack([_round_trip(channel) for channel in image])


def _round_trip(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(buffer))
