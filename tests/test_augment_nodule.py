"""Augmentation of one nodule from Python: types, masks, noise, repeatable results, and refusals in words."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import synthoma
from synthoma.transforms.deform import Deformation
from synthoma.transforms.nodules import deform_nodule

VOLUME = np.zeros((8, 8, 8), np.int16)


def hounsfield(size: tuple[int, ...]) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1000, 400, size).astype(np.int16)


def ball(size: int, radius: float) -> NDArray[np.bool_]:
    axis = np.arange(size) - (size - 1) / 2
    inside: NDArray[np.bool_] = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < radius**2
    return inside


def test_no_ranges_draw_the_identity() -> None:
    volume = hounsfield((8, 9, 10)).astype(np.float32)
    result = synthoma.augment_nodule(volume, rotation_range=0, scaling_range=(1, 1), elastic_deformation=0)
    assert result.mask is None
    np.testing.assert_array_equal(result.volume, volume)
    assert not np.array_equal(synthoma.augment_nodule(volume).volume, volume)


def test_the_parameters_make_it_again() -> None:
    volume = hounsfield((10, 12, 14))
    mask = (volume > 0).astype(np.uint8)
    made = synthoma.augment_nodule(
        volume, mask, gaussian_noise=20, spacing=(2, 1, 1), padding=np.float32(-1000), seed=np.int64(3), number=4
    )
    content = json.loads(json.dumps(made.parameters.to_json()))
    again = deform_nodule(volume, mask, Deformation.from_json(content), (2, 1, 1))
    np.testing.assert_array_equal(made.volume, again.volume)
    assert made.mask is not None
    assert again.mask is not None
    np.testing.assert_array_equal(made.mask, again.mask)


def test_numbers_may_come_from_numpy() -> None:
    volume = hounsfield((10, 12, 14))
    plain = synthoma.augment_nodule(volume, rotation_range=10.0, gaussian_noise=20.0, spacing=(2, 1, 1), seed=3)
    arrays = synthoma.augment_nodule(
        volume, rotation_range=np.full(3, 10), gaussian_noise=np.float32(20), spacing=np.array([2.0, 1, 1]), seed=3
    )
    np.testing.assert_array_equal(plain.volume, arrays.volume)


def test_hounsfield_units_stay_and_are_rounded() -> None:
    volume = hounsfield((10, 10, 10))
    kept = synthoma.augment_nodule(volume, gaussian_noise=20, seed=1)
    exact = synthoma.augment_nodule(volume.astype(np.float32), gaussian_noise=20, seed=1)
    assert kept.volume.dtype == np.int16
    np.testing.assert_array_equal(kept.volume, np.rint(exact.volume))
    loud = synthoma.augment_nodule(np.full((8, 8, 8), 32767, np.int16), gaussian_noise=1000)
    assert loud.volume.max() == 32767
    assert loud.volume.min() > 20000  # cut off, not wrapped round


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "float64", ">i2", ">f4"])
def test_other_types_come_back_as_they_were(dtype: str) -> None:
    volume = np.random.default_rng(0).integers(0, 120, (6, 7, 8)).astype(dtype)
    result = synthoma.augment_nodule(volume[:, ::-1], gaussian_noise=100, seed=2).volume
    expected = synthoma.augment_nodule(volume[:, ::-1].astype(np.float64), gaussian_noise=100, seed=2).volume
    assert result.dtype == volume.dtype
    if volume.dtype.kind != "f":
        limits = np.iinfo(volume.dtype)
        expected = np.rint(expected).clip(limits.min, limits.max)
    np.testing.assert_allclose(result.astype(np.float64), expected, atol=1 if volume.dtype.kind != "f" else 1e-3)


@pytest.mark.parametrize("label", [1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_masks_keep_type_and_value(dtype: type, label: int) -> None:
    mask = ball(16, 5) * dtype(label)
    result = synthoma.augment_nodule(hounsfield((16, 16, 16)), mask.astype(dtype), gaussian_noise=50)
    assert result.mask is not None
    assert result.mask.dtype == dtype
    assert np.unique(result.mask).tolist() == [0, label]
    empty = synthoma.augment_nodule(hounsfield((16, 16, 16)), np.zeros((16, 16, 16), bool))
    assert empty.mask is not None
    assert empty.mask.dtype == bool
    assert not empty.mask.any()


def test_noise_has_its_standard_deviation_and_leaves_the_mask() -> None:
    volume = np.zeros((32, 32, 32), np.float32)
    mask = ball(32, 9)
    fixed = {"rotation_range": 0, "scaling_range": (1, 1), "elastic_deformation": 0}
    result = synthoma.augment_nodule(volume, mask, gaussian_noise=25, **fixed)
    assert result.volume.std() == pytest.approx(25, rel=0.02)
    assert abs(result.volume.mean()) < 0.5
    np.testing.assert_array_equal(result.mask, mask)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rotation_range": -1}, "rotation range"),
        ({"rotation_range": (5, 5)}, "rotation range"),
        ({"rotation_range": float("nan")}, "rotation range"),
        ({"scaling_range": (1.1, 0.9)}, "scaling range"),
        ({"scaling_range": (0, 1)}, "scaling range"),
        ({"elastic_deformation": -1}, "0 mm or more"),
        ({"elastic_deformation": 0.9}, "0.8 mm at most"),
        ({"elastic_deformation": 0.9, "spacing": (2, 2, 1)}, "0.8 mm at most"),
        ({"control_points": 3}, "4 control points"),
        ({"gaussian_noise": -1}, "standard deviation"),
        ({"gaussian_noise": (3, 1)}, "standard deviation"),
        ({"flips": ("left",)}, "'left'"),
        ({"spacing": (1, 1)}, "spacing"),
        ({"spacing": (1, 0, 1)}, "spacing"),
        ({"padding": "reflect"}, "'reflect'"),
        ({"padding": float("inf")}, "padding"),
        ({"mask": np.zeros((8, 8, 7), bool)}, "differ in shape"),
        ({"mask": np.arange(512).reshape(8, 8, 8)}, "one other value"),
        ({"volume": np.zeros((8, 8), np.int16)}, "z, y, x"),
        ({"volume": np.zeros((0, 8, 8), np.int16)}, "z, y, x"),
        ({"volume": np.zeros((8, 8, 8), np.float16)}, "float16"),
        ({"volume": np.zeros((8, 8, 8), complex)}, "complex"),
        ({"volume": np.full((8, 8, 8), 40000)}, "beyond int16"),
        ({"volume": np.full((8, 8, 8), np.nan, np.float32)}, "not finite"),
    ],
)
def test_bad_arguments_are_refused_in_words(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        synthoma.augment_nodule(**{"volume": VOLUME, **arguments})


def test_the_package_offers_it_and_nothing_unknown() -> None:
    assert synthoma.augment_nodule.__module__ == "synthoma.transforms.nodules"
    with pytest.raises(AttributeError, match="no attribute 'augment_nodules'"):
        synthoma.augment_nodules  # noqa: B018  # type: ignore[attr-defined]
