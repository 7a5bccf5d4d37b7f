"""Volume, surface, diameters, roughness and density of shapes whose truth is known."""

import itertools
import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from synthoma.measure.nodule import dice, measure_nodule, segmenter_error
from synthoma.measure.shape import (
    longest_in_plane,
    roughness_of,
    sphericity_of,
    surface_area,
    volume_of,
)
from synthoma.measure.texture import density_of, texture_class

CUBIC = (1.0, 1.0, 1.0)
THICK = (2.5, 0.7, 0.7)


def ellipsoid(radii, spacing, rotation=None, shift=(0.0, 0.0, 0.0)):
    """Voxels [z, y, x] whose centres lie in an ellipsoid (radii in mm); shift in voxels."""
    reach = max(radii)
    axes = [(np.arange(-int(reach / s) - 2, int(reach / s) + 3) - d) * s for s, d in zip(spacing, shift, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    turned = points if rotation is None else points @ rotation.as_matrix()
    return ((turned / np.array(radii)) ** 2).sum(axis=-1) <= 1


def spiky_ball(height, radius=10.0, spikes=40):
    """A ball with cone-like spikes that are `height` radii long."""
    directions = np.random.default_rng(1).normal(size=(spikes, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    half = int(1.7 * radius) + 2
    grid = np.indices((2 * half + 1,) * 3) - float(half)
    distance = np.sqrt((grid**2).sum(axis=0))
    cosine = (np.moveaxis(grid, 0, -1) / np.maximum(distance, 1e-9)[..., None] @ directions.T).max(axis=-1)
    return distance <= radius * (1 + height * np.exp(-(1 - cosine) / 0.01))


def prolate_area(short, long):
    eccentricity = math.sqrt(1 - (short / long) ** 2)
    return 2 * math.pi * short**2 * (1 + long / (short * eccentricity) * math.asin(eccentricity))


@pytest.mark.parametrize("diameter", [6, 8, 10, 15, 20, 30])
def test_balls_with_thick_slices_keep_diameter_and_volume(diameter):
    shifts = np.random.default_rng(diameter).random((6, 3)) - 0.5
    for shift in shifts:
        mask = ellipsoid((diameter / 2,) * 3, THICK, shift=shift)
        measures = measure_nodule(np.zeros(mask.shape), mask, THICK, "hu")
        assert measures.diameter_mm == pytest.approx(diameter, rel=0.02 if diameter >= 8 else 0.03)
        assert measures.volume_mm3 == pytest.approx(math.pi * diameter**3 / 6, rel=0.05 if diameter >= 8 else 0.08)
        assert measures.longest_axial_mm == pytest.approx(diameter, rel=0.08)
        if diameter >= 10:
            assert 0.97 <= measures.sphericity <= 1.03


@pytest.mark.parametrize("radius", [4, 5, 6, 8, 12])
def test_surface_of_balls_is_within_three_percent(radius):
    for shift in np.random.default_rng(radius).random((6, 3)) - 0.5:
        mask = ellipsoid((radius,) * 3, CUBIC, shift=shift)
        area = surface_area(mask, CUBIC)
        assert area == pytest.approx(4 * math.pi * radius**2, rel=0.03)
        assert 0.97 <= sphericity_of(volume_of(mask), area) <= 1.03


@pytest.mark.parametrize("spacing", [CUBIC, THICK])
def test_surface_of_turned_ellipsoids(spacing):
    short, long = 8.0, 16.0
    area, volume = prolate_area(short, long), 4 / 3 * math.pi * short * short * long
    for seed in range(6):
        mask = ellipsoid((short, short, long), spacing, Rotation.random(random_state=seed))
        measured = surface_area(mask, spacing)
        assert measured == pytest.approx(area, rel=0.03)
        assert sphericity_of(volume_of(mask, spacing), measured) == pytest.approx(
            sphericity_of(volume, area), abs=0.035
        )


def test_surface_follows_the_unit_of_the_spacing():
    mask = ellipsoid((6.0,) * 3, CUBIC)
    assert surface_area(mask, (0.5, 0.5, 0.5)) == pytest.approx(surface_area(mask) / 4)
    assert volume_of(mask, (0.5, 0.5, 0.5)) == pytest.approx(volume_of(mask) / 8)
    assert surface_area(np.zeros((3, 3, 3))) == 0.0


def test_longest_diameter_lies_in_a_slice_and_heeds_both_pixel_lengths():
    mask = np.zeros((5, 30, 30), dtype=bool)
    mask[:, 10, 10] = True  # long across slices, which does not count
    mask[2, 10, 5:25] = True
    assert longest_in_plane(mask, (9.0, 1.0, 0.5)) == pytest.approx(10.0)
    assert longest_in_plane(mask, (9.0, 0.5, 1.0)) == pytest.approx(20.0)
    assert longest_in_plane(mask.transpose(0, 2, 1), (9.0, 1.0, 0.5)) == pytest.approx(20.0)
    assert longest_in_plane(np.zeros((2, 3, 3))) == 0.0
    # A slanted needle: by Pythagoras, up to the half pixels at its ends.
    slanted = np.zeros((1, 40, 40))
    slanted[0, range(5, 35), range(5, 35)] = 1
    assert 29 * math.sqrt(2) < longest_in_plane(slanted) < 30 * math.sqrt(2)


def test_roughness_is_none_of_a_ball_and_rises_with_spicules_whatever_the_size():
    for radius in (3, 5, 8, 12):
        assert roughness_of(ellipsoid((radius,) * 3, CUBIC)) < 0.02
    assert roughness_of(ellipsoid((7.0, 7.0, 14.0), CUBIC)) < 0.02
    values = [roughness_of(spiky_ball(height)) for height in (0.0, 0.1, 0.2, 0.4, 0.6)]
    assert all(low + 0.015 < high for low, high in itertools.pairwise(values))
    assert values[-1] > 0.3
    rough = spiky_ball(0.4)
    assert roughness_of(rough, (0.3, 0.3, 0.3)) == pytest.approx(roughness_of(rough), rel=1e-6)
    larger = [roughness_of(spiky_ball(0.4, radius)) for radius in (16.0, 24.0)]
    assert larger[0] == pytest.approx(larger[1], abs=0.03)


def nodule_in_lung(core_hu, core_radius, glass_hu=-600.0, radius=9.0, lung=-850.0, noise=40.0):
    grid = np.indices((31, 31, 31)) - 15.0
    distance = np.sqrt((grid**2).sum(axis=0))
    volume = np.where(distance <= radius, glass_hu, lung)
    volume = np.where(distance <= core_radius, core_hu, volume)
    return volume + np.random.default_rng(0).normal(0, noise, volume.shape), distance <= radius


@pytest.mark.parametrize(
    ("core_radius", "texture"), [(9.0, "solid"), (5.0, "part_solid"), (4.0, "part_solid"), (0.0, "ground_glass")]
)
def test_texture_classes(core_radius, texture):
    volume, mask = nodule_in_lung(30.0, core_radius)
    density = density_of(volume, mask, CUBIC)
    assert density.texture == texture
    # 1.5 mm of the margin are left out.
    assert density.solid_fraction == pytest.approx(min(1.0, (core_radius / 7.5) ** 3), abs=0.04)
    assert density.solid_fraction + density.ground_glass_fraction == pytest.approx(1.0, abs=0.01)
    assert density.mean_hu == pytest.approx(float(volume[mask].mean()))


def test_a_solid_nodule_stays_solid_though_its_margin_is_part_lung():
    volume, mask = nodule_in_lung(30.0, 3.0, glass_hu=-420.0, radius=4.0)
    assert density_of(volume, mask, CUBIC).texture == "solid"
    assert texture_class(0.8) == "solid"
    assert texture_class(0.0599) == "ground_glass"


def test_mask_of_one_voxel_is_measured():
    mask = np.zeros((5, 5, 5))
    mask[2, 2, 2] = 1
    measures = measure_nodule(np.full(mask.shape, 20.0), mask, (1.0, 2.0, 2.0), "hu")
    assert measures.volume_mm3 == 4.0
    assert measures.solid_fraction == 1.0
    assert 0 <= measures.margin_roughness < 1


def test_without_unit_and_spacing_nothing_is_told_in_hu_or_mm():
    mask = ellipsoid((5.0,) * 3, CUBIC)
    measures = measure_nodule(np.zeros(mask.shape, dtype=np.uint8), mask, None, "unknown")
    attributes = measures.to_attributes()
    assert measures.units == "voxels"
    assert not any("mm" in name for name in attributes)
    assert attributes["diameter_voxels"] == pytest.approx(10, rel=0.02)
    assert attributes["volume_voxels"] == mask.sum()
    assert [attributes[n] for n in ("mean_hu", "solid_fraction", "ground_glass_fraction", "texture")] == [None] * 4
    known = measure_nodule(np.zeros(mask.shape), mask, (2.0, 2.0, 2.0), "hu").to_attributes()
    assert known["diameter_mm"] == pytest.approx(20, rel=0.02)
    assert known["volume_mm3"] == 8 * mask.sum()
    assert not any("voxels" in name for name in known)
    assert len(known) == len(attributes) == 9


def test_what_cannot_be_measured_is_refused():
    cube = np.zeros((4, 4, 4))
    full = np.ones((4, 4, 4))
    with pytest.raises(ValueError, match="mask is empty"):
        measure_nodule(cube, cube, None, "hu")
    with pytest.raises(ValueError, match="must be equal"):
        measure_nodule(cube, np.ones((4, 4, 5)), None, "hu")
    with pytest.raises(ValueError, match="NaN"):
        measure_nodule(np.full((4, 4, 4), np.nan), full, None, "hu")
    with pytest.raises(ValueError, match="three axes"):
        measure_nodule(cube[0], full[0], None, "hu")
    with pytest.raises(ValueError, match="spacing"):
        measure_nodule(cube, full, (1.0, 0.0, 1.0), "hu")
    with pytest.raises(ValueError, match="unit"):
        measure_nodule(cube, full, None, "grey8")  # type: ignore[arg-type]


def test_dice():
    a = np.zeros((2, 2, 4))
    b = np.zeros((2, 2, 4))
    assert dice(a, b) == 1.0
    a[0, 0, :2] = 1
    assert dice(a, b) == 0.0
    b[0, 0, 1:4] = 1
    assert dice(a, b) == dice(b, a) == pytest.approx(2 * 1 / 5)
    with pytest.raises(ValueError, match="must be equal"):
        dice(a, b[:1])


def test_segmenter_error_counts_what_it_says():
    volume, mask = nodule_in_lung(30.0, 8.0, glass_hu=30.0, radius=8.0, noise=10.0)
    empty = np.full(volume.shape, -850.0)
    error = segmenter_error([volume, empty], [mask, mask], [(1.0, 1.0, 1.0)] * 2, "hu")
    assert (error.n, error.empty, error.units) == (2, 1, "mm")
    assert 0.46 < error.dice_mean < 0.5
    # The second is missed altogether: its whole diameter and volume is the error.
    assert error.diameter_error == pytest.approx(8.0, abs=0.4)
    assert error.diameter_bias == pytest.approx(-8.0, abs=0.4)
    assert error.volume_bias == pytest.approx(-0.5, abs=0.06)
    with pytest.raises(ValueError, match="some cubes only"):
        segmenter_error([volume, volume], [mask, mask], [None, CUBIC], "hu")
    with pytest.raises(ValueError, match="as many"):
        segmenter_error([volume], [mask, mask], [None], "hu")
    with pytest.raises(ValueError, match="mask 0 is empty"):
        segmenter_error([volume], [mask * 0], [None], "hu")
