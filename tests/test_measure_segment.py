"""The declared segmenter on nodules of known size: alone, beside vessels and chest wall, faint, and on what is none."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from synthoma.measure.nodule import dice
from synthoma.measure.segment import DECLARED, SEGMENTER, find_nodule, segment_nodule

LUNG, SOFT, GLASS = -850.0, 40.0, -600.0


def chest(diameter, spacing, density=SOFT, wall=None, vessel=False, half=20.0, blur=0.6, shift=(0.0, 0.0, 0.0)):
    """A nodule in lung, blurred as by a scanner, noisy. wall: mm from the nodule's middle. Returns HU and the nodule."""
    axes = [np.arange(-int(half / s), int(half / s) + 1) * s - d for s, d in zip(spacing, shift, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    nodule = z**2 + y**2 + x**2 <= (diameter / 2) ** 2
    hu = np.where(nodule, density, LUNG)
    if vessel:
        hu = np.where((y**2 + z**2 <= 1.5**2) & ~nodule, SOFT, hu)
    if wall is not None:
        hu = np.where((x > wall) & ~nodule, SOFT, hu)
    hu = ndimage.gaussian_filter(hu, [blur / s for s in spacing])
    return hu + np.random.default_rng(3).normal(0, 20, hu.shape), nodule


def diameter_of(mask, spacing):
    return (6 * int(mask.sum()) * math.prod(spacing) / math.pi) ** (1 / 3)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7)])
@pytest.mark.parametrize("density", [SOFT, GLASS])
@pytest.mark.parametrize("diameter", [8, 12, 18])
def test_solid_and_ground_glass_balls(spacing, density, diameter):
    hu, nodule = chest(diameter, spacing, density)
    mask = segment_nodule(hu, spacing, "hu")
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert diameter_of(mask, spacing) == pytest.approx(diameter, rel=0.08 if diameter < 10 else 0.05)
    assert dice(mask, nodule) > 0.9


@pytest.mark.parametrize(("wall", "vessel"), [(5.0, False), (7.0, True), (None, True)])
def test_wall_and_vessels_are_cut_off(wall, vessel):
    hu, nodule = chest(12, (1.0, 1.0, 1.0), wall=wall, vessel=vessel)
    mask = segment_nodule(hu, (1.0, 1.0, 1.0), "hu")
    assert dice(mask, nodule) > 0.85
    assert ndimage.label(mask)[1] == 1


def test_the_place_that_is_told_is_the_one_that_is_segmented():
    hu, nodule = chest(9, (1.0, 1.0, 1.0), shift=(0.0, 10.0, -8.0))
    assert dice(segment_nodule(hu, (1.0, 1.0, 1.0), "hu", center=(20, 30, 12)), nodule) > 0.9
    # Two voxels beside the truth, and in the corner of a crop.
    assert dice(segment_nodule(hu, (1.0, 1.0, 1.0), "hu", center=(20, 28, 12)), nodule) > 0.9
    cropped = segment_nodule(hu[:, 26:, :16], (1.0, 1.0, 1.0), "hu", center=(20, 4, 12))
    assert dice(cropped, nodule[:, 26:, :16]) > 0.85


def test_unknown_units_give_nearly_the_mask_of_hu():
    hu, nodule = chest(12, (1.0, 1.0, 1.0), wall=12.0)
    grey = np.round((np.clip(hu, -1200, 400) + 1200) / 1600 * 255).astype(np.uint8)
    known = segment_nodule(hu, None, "hu")
    unknown = segment_nodule(grey, None, "unknown")
    assert dice(unknown, nodule) > 0.9
    assert dice(known, unknown) > 0.95
    # No constant of any unit is in it: another scale and offset change nothing but rounding.
    assert dice(segment_nodule(grey * 37.0 - 5000, None, "unknown"), unknown) > 0.999


def test_the_mask_has_no_holes_and_lies_within_reach():
    hu, nodule = chest(16, (1.0, 1.0, 1.0))
    hu[19:22, 19:22, 19:22] = LUNG  # a cavity
    mask = segment_nodule(hu, (1.0, 1.0, 1.0), "hu")
    assert mask[20, 20, 20] == 1
    assert dice(mask, nodule) > 0.9


@pytest.mark.parametrize("unit", ["hu", "unknown"])
def test_nothing_there_gives_an_empty_mask_with_a_reason(unit):
    constant = find_nodule(np.full((20, 20, 20), -850.0), (1.0, 1.0, 1.0), unit)
    assert not constant.mask.any()
    assert constant.reason == "all voxels around the centre are alike"
    one = find_nodule(np.zeros((1, 1, 1)), None, unit)
    assert one.mask.shape == (1, 1, 1)
    assert not one.mask.any()


def test_plain_lung_has_no_nodule():
    lung = np.random.default_rng(0).normal(LUNG, 20, (30, 30, 30))
    found = find_nodule(lung, (1.0, 1.0, 1.0), "hu")
    assert not found.mask.any()
    assert found.reason == "nothing near the centre is denser than the lung around it"


@pytest.mark.parametrize("seed", range(8))
def test_any_finite_volume_gives_one_component_or_none(seed):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 22, 3))
    kinds = [
        random.normal(-500, 400, shape),
        random.integers(0, 2, shape) * 255,
        random.normal(0, 1e-30, shape),
        random.normal(0, 1e9, shape),
    ]
    for volume in kinds:
        for unit in ("hu", "unknown"):
            spacing = None if seed % 2 else tuple(random.uniform(0.3, 8.0, 3))
            found = find_nodule(volume, spacing, unit)
            assert found.mask.shape == shape
            assert ndimage.label(found.mask)[1] == (1 if found.reason is None else 0)


def test_what_is_no_volume_is_refused():
    cube = np.zeros((9, 9, 9))
    broken = cube.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        segment_nodule(broken, None, "hu")
    with pytest.raises(ValueError, match="three axes"):
        segment_nodule(cube[0], None, "hu")
    with pytest.raises(ValueError, match="spacing"):
        segment_nodule(cube, (1.0, -1.0, 1.0), "hu")
    with pytest.raises(ValueError, match="centre"):
        segment_nodule(cube, None, "hu", center=(4, 4, 12))
    with pytest.raises(ValueError, match="unit"):
        segment_nodule(cube, None, "HU")  # type: ignore[arg-type]


def test_the_identity_names_every_constant():
    for name in ("fraction=0.4", "reach=1.2", "opening=0.35", "ceiling=0.45"):
        assert name in SEGMENTER
    hu, _ = chest(12, (1.0, 1.0, 1.0))
    lower = segment_nodule(hu, (1.0, 1.0, 1.0), "hu", settings=replace(DECLARED, fraction=0.2))
    assert lower.sum() > segment_nodule(hu, (1.0, 1.0, 1.0), "hu").sum()
