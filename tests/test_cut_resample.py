"""Cubes out of volumes of any spacing and direction: what is at a place in the world is there in the cube."""

import numpy as np
import pytest
from numpy.typing import NDArray

from synthoma.formats.volumes.geometry import Geometry
from synthoma.preparation.ct.resample import axis_weights, cube_geometry, resample, resample_mask

AIR, TISSUE = -850.0, 40.0


def turned(degrees: float, axis: int = 0) -> tuple[tuple[float, float, float], ...]:
    """Directions of the usual axes (z, y, x), turned around one of the world's (x, y, z)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = [a for a in range(3) if a != axis]
    turn = np.eye(3)
    turn[[first, first, second, second], [first, second, first, second]] = [c, -s, s, c]
    rows = np.array([(0, 0, 1), (0, 1, 0), (1, 0, 0)], dtype=np.float64) @ turn.T
    return tuple(tuple(row) for row in rows.tolist())


def places(geometry: Geometry) -> NDArray[np.float64]:
    """World place [z, y, x, 3] of each voxel."""
    return geometry.world(np.moveaxis(np.indices(geometry.size), 0, -1))


def ball(geometry: Geometry, center: tuple[float, float, float], diameter: float) -> NDArray[np.float64]:
    """Share of each voxel in a ball, by 4 x 4 x 4 points a voxel."""
    offsets = (np.arange(4) + 0.5) / 4 - 0.5
    share = np.zeros(geometry.size)
    away = places(geometry) - center
    near = np.linalg.norm(away, axis=-1) < diameter / 2 + 3
    for offset in np.array(np.meshgrid(offsets, offsets, offsets)).reshape(3, -1).T:
        share[near] += np.linalg.norm(away[near] + offset @ geometry.steps, axis=-1) <= diameter / 2
    return share / 64


FLIPPED = ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0))
GRIDS = {
    "anisotropic": Geometry((40, 90, 90), (2.5, 0.7, 0.7), (-30.0, -32.0, -50.0)),
    "flipped": Geometry((40, 90, 90), (2.5, 0.7, 0.7), (-30.0, 30.0, 48.0), FLIPPED),
    "sagittal": Geometry((90, 40, 90), (0.7, 2.5, 0.7), (-31.0, -31.0, -48.0), ((1.0, 0, 0), (0, 0, 1.0), (0, 1.0, 0))),
    "fine": Geometry((120, 110, 110), (0.6, 0.55, 0.55), (-30.0, -30.0, -36.0)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_field_that_is_linear_in_the_world_stays_what_it_is(name: str) -> None:
    geometry = GRIDS[name]
    field = places(geometry) @ (3.0, -2.0, 1.5) + 7
    target = cube_geometry((1.3, -2.1, 0.4), 24, 1.0)
    found = resample(field.astype(np.float32), geometry, target, 0.0)
    assert found.outside == 0
    # Averaging over parts of voxels shifts a slope by less than a twelfth of a voxel.
    tolerance = 1e-3 if max(1.0 / np.asarray(geometry.spacing)) <= 1 else 0.25
    assert np.abs(found.values - (places(target) @ (3.0, -2.0, 1.5) + 7)).max() < tolerance * (3 + 2 + 1.5)


def test_an_oblique_volume_keeps_places_too() -> None:
    geometry = Geometry((60, 60, 60), (1.1, 1.2, 1.3), (-35.0, -20.0, -45.0), turned(20))
    field = places(geometry) @ (3.0, -2.0, 1.5) + 7
    middle = geometry.world((30, 30, 30))
    target = cube_geometry(tuple(middle.tolist()), 20, 1.0)
    found = resample(field.astype(np.float32), geometry, target, 0.0)
    assert found.outside == 0
    assert np.abs(found.values - (places(target) @ (3.0, -2.0, 1.5) + 7)).max() < 1e-3


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("diameter", [6.0, 10.0, 20.0])
def test_a_ball_keeps_its_centre_diameter_and_volume(name: str, diameter: float) -> None:
    geometry = GRIDS[name]
    center = (0.37, -0.81, 0.23)
    share = ball(geometry, center, diameter)
    target = cube_geometry(center, 32, 1.0)
    values = resample(AIR + (TISSUE - AIR) * share, geometry, target, AIR).values
    inside = (values - AIR) / (TISSUE - AIR)
    weights = inside / inside.sum()
    found = np.array([(index * weights).sum() for index in np.indices(target.size)])
    assert np.abs(found - 15.5).max() < 0.1
    volume = np.pi / 6 * diameter**3
    assert inside.sum() == pytest.approx(volume, rel=0.02)
    mask = resample_mask(share >= 0.5, geometry, target)
    assert mask.sum() == pytest.approx(volume, rel=0.1)
    assert (6 * mask.sum() / np.pi) ** (1 / 3) == pytest.approx(diameter, rel=0.05)


def test_an_oblique_ball_keeps_its_centre_and_volume() -> None:
    geometry = Geometry((50, 100, 100), (2.0, 0.7, 0.7), (-37.0, -18.0, -57.0), turned(12))
    center = tuple(geometry.world((24.3, 50.6, 49.2)).tolist())
    share = ball(geometry, center, 12.0)
    target = cube_geometry(center, 32, 1.0)
    inside = (resample(AIR + (TISSUE - AIR) * share, geometry, target, AIR).values - AIR) / (TISSUE - AIR)
    found = np.array([(index * inside).sum() / inside.sum() for index in np.indices(target.size)])
    assert np.abs(found - 15.5).max() < 0.1
    assert inside.sum() == pytest.approx(np.pi / 6 * 12**3, rel=0.02)
    mask = resample_mask(share >= 0.5, geometry, target)
    assert mask.sum() == pytest.approx(np.pi / 6 * 12**3, rel=0.1)


def test_the_same_grid_gives_the_same_numbers() -> None:
    geometry = Geometry((9, 8, 7), (1.0, 1.0, 1.0), (5.0, 6.0, 7.0))
    array = np.random.default_rng(0).integers(-1024, 3000, (9, 8, 7), dtype=np.int16)
    found = resample(array, geometry, geometry, -1000.0)
    assert found.outside == 0
    np.testing.assert_array_equal(found.values, array)


def test_beyond_the_volume_is_air_and_its_share_is_told() -> None:
    geometry = Geometry((10, 10, 10), (1.0, 1.0, 1.0))
    array = np.full((10, 10, 10), 40, np.int16)
    # Half of the cube's height is below the lowest slice.
    found = resample(array, geometry, cube_geometry((4.5, 4.5, -0.5), 8, 1.0), -1000.0)
    assert found.outside == pytest.approx(0.5, abs=1e-6)
    assert (found.values[:4] == -1000).all()
    np.testing.assert_allclose(found.values[4:], 40, atol=1e-3)
    away = resample(array, geometry, cube_geometry((90.0, 4.5, 4.5), 8, 1.0), -1000.0)
    assert away.outside == 1
    assert (away.values == -1000).all()


def test_shrinking_averages_over_whole_voxels() -> None:
    stripes = np.zeros((4, 4, 40), np.float32)
    stripes[..., ::2] = 100
    geometry = Geometry((4, 4, 40), (4.0, 4.0, 0.5))
    found = resample(stripes, geometry, cube_geometry((10.0, 6.0, 6.0), 4, 1.0), 0.0).values
    np.testing.assert_allclose(found, 50, atol=1e-3)


@pytest.mark.parametrize("step", [0.3, 1.0, 1.7, 5.0])
def test_weights_add_up_to_the_part_within_the_volume(step: float) -> None:
    weights = axis_weights(20, -3.0, step, 30)
    assert weights.min() >= 0
    totals = weights.sum(axis=1)
    centres = -3 + step * np.arange(30)
    whole = (centres - step / 2 >= -0.5) & (centres + step / 2 <= 19.5)
    np.testing.assert_allclose(totals[whole], 1, atol=1e-6)
    gone = (centres + step / 2 < -0.5) | (centres - step / 2 > 19.5)
    assert (totals[gone] == 0).all()
