"""Augmentation of one nodule cube with its mask: the deformation of `deform.py` for numpy arrays [z, y, x]."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.draws import StepDraws
from synthoma.transforms.deform import (
    Deformation,
    DeformationRanges,
    Padding,
    Spacing,
    draw_deformation,
    numbers,
    resample_batch,
)


class AugmentedNodule(NamedTuple):
    """A changed volume, its mask (None where none was given), and the parameters that make it again."""

    volume: NDArray[Any]
    mask: NDArray[Any] | None
    parameters: Deformation


def augment_nodule(
    volume: NDArray[Any],
    mask: NDArray[Any] | None = None,
    *,
    rotation_range: float | Sequence[float] = 15.0,
    scaling_range: Sequence[float] = (0.9, 1.1),
    elastic_deformation: bool | float = True,
    gaussian_noise: float | Sequence[float] = 0.0,
    flips: Sequence[str] = (),
    spacing: Spacing = 1.0,
    padding: Padding = "border",
    control_points: int = 7,
    seed: int = 0,
    number: int = 0,
) -> AugmentedNodule:
    """A volume [z, y, x] and its mask, turned, scaled and deformed at random; both keep shape and dtype.

    rotation_range: largest angle in degrees, one or three (about z, y, x). scaling_range: lowest and highest factor.
    elastic_deformation: largest displacement of a control point in mm; True means a quarter of their distance, False none.
    gaussian_noise: standard deviation in the unit of the volume, or a range of them; 10 to 30 are usual in HU, 0.01 in
    [0, 1]. spacing: mm along z, y, x, or one for all. The other ranges are those of `DeformationRanges`. (seed, number) decide the draws: number them by
    image and repetition. `deform_nodule` makes the result again from its parameters. Raises `ValueError` for arguments
    out of range, and for volumes that are not three-dimensional, are not finite, or do not fit their mask.

        augmented = synthoma.augment_nodule(cube, mask, gaussian_noise=20, padding=-1000, seed=7, number=3)
        Path("parameters.json").write_text(json.dumps(augmented.parameters.to_json()))
    """
    ranges = DeformationRanges(
        numbers(rotation_range, 3),  # type: ignore[arg-type]  # the lengths of tuples are checked there
        tuple(scaling_range),  # type: ignore[arg-type]
        _elastic(elastic_deformation),
        control_points,
        numbers(gaussian_noise, 2),  # type: ignore[arg-type]
        tuple(flips),
        padding,
    )
    _check_volume(volume, mask)
    draws = StepDraws(seed, 0, torch.tensor([number]))
    return deform_nodule(volume, mask, draw_deformation(ranges, draws, volume.shape, spacing), spacing)


def _elastic(wanted: bool | float) -> float | None:
    """What `DeformationRanges` calls it: None for its default, 0 for none."""
    if isinstance(wanted, bool):
        return None if wanted else 0.0
    return wanted


def deform_nodule(
    volume: NDArray[Any], mask: NDArray[Any] | None, parameters: Deformation, spacing: Spacing = 1.0
) -> AugmentedNodule:
    """A volume [z, y, x] and its mask, changed by the parameters of one sample; both keep shape and dtype.

    volume: float32, float64, or integers that lie within int16. mask: 0 outside and one other value inside.
    """
    _check_volume(volume, mask)
    if len(parameters) != 1:
        raise ValueError(f"expected the parameters of one sample, got {len(parameters)}; see Deformation.part")
    # torch reads native byte order only.
    working = volume.dtype.newbyteorder("=") if volume.dtype.kind == "f" else np.dtype(np.int16)
    images = torch.from_numpy(np.array(volume, dtype=working, order="C"))[None, None]
    masks = None if mask is None else torch.from_numpy(np.array(mask != 0, order="C"))[None, None]
    images, masks = resample_batch(images, masks, parameters, spacing)
    result = images[0, 0].numpy()
    if volume.dtype.kind != "f":
        # Noise must not take a type that is narrower than int16, or has no sign, around its limits.
        limits = np.iinfo(volume.dtype)
        result = result.clip(max(limits.min, -32768), min(limits.max, 32767))
    result = result.astype(volume.dtype)
    if mask is None or masks is None:
        return AugmentedNodule(result, None, parameters)
    return AugmentedNodule(result, np.where(masks[0, 0].numpy(), mask.max(), 0).astype(mask.dtype), parameters)


def _check_volume(volume: NDArray[Any], mask: NDArray[Any] | None) -> None:
    """Raises `ValueError` for volumes and masks that cannot be resampled without losing something."""
    if volume.ndim != 3 or 0 in volume.shape:
        raise ValueError(f"expected a volume [z, y, x], got an array of shape {volume.shape}")
    if volume.dtype.kind == "f":
        if volume.dtype.itemsize not in (4, 8):
            raise ValueError(f"expected a volume of float32, float64 or integers, got {volume.dtype}")
        if not np.isfinite(volume).all():
            raise ValueError("the volume has values that are not finite; interpolation would spread them")
    elif volume.dtype.kind not in "iu":
        raise ValueError(f"expected a volume of float32, float64 or integers, got {volume.dtype}")
    elif volume.min() < -32768 or volume.max() > 32767:
        raise ValueError("the volume has integers beyond int16; convert it to float32 first")
    if mask is None:
        return
    if mask.shape != volume.shape:
        raise ValueError(f"the mask {mask.shape} and the volume {volume.shape} differ in shape")
    if not ((mask == 0) | (mask == mask.max())).all():
        raise ValueError(
            "expected a mask of 0 and one other value; give labels one at a time, with the same parameters"
        )
