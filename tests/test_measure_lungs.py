"""Lungs and body in chests drawn from ellipsoids: table, windpipe, bowel gas, vessels, nodules, thick and missing slices."""

import numpy as np
import pytest

from synthoma.measure.lungs import body_mask, lung_mask, lung_share
from synthoma.measure.nodule import dice

AIR, LUNG, SOFT, TABLE = -1000.0, -850.0, 40.0, -150.0
# mm above the middle; the lungs reach from -100 to 100.
HEIGHT = 150.0


def chest(spacing=(5.0, 2.0, 2.0), joined=False):
    """HU [z, y, x] of a chest 260 mm high, first slice lowest, and what is where."""
    axes = [np.arange(-half, half, s) + s / 2 for half, s in zip((HEIGHT, 140.0, 190.0), spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    body = (y / 110) ** 2 + (x / 160) ** 2 <= 1
    lungs = np.zeros(body.shape, dtype=bool)
    for side in (-1, 1):
        lungs |= (z / 100) ** 2 + ((y + 5) / 75) ** 2 + ((x - 75 * side) / 58) ** 2 <= 1
    if joined:  # the lungs touch before the heart, as they often do
        lungs |= (np.abs(x) < 20) & (np.abs(y + 45) < 4) & (np.abs(z) < 20)
    vessels = lungs & (((y + 15) % 30 - 15) ** 2 + ((x + 15) % 30 - 15) ** 2 < 9)
    nodule = ((z - 10) ** 2 + y**2 + (x - 126) ** 2 <= 8**2) & lungs
    trachea = ((y - 10) ** 2 + x**2 <= 9**2) & (z > -10)
    bowel = (z + 130) ** 2 + (y + 50) ** 2 + (x - 40) ** 2 <= 20**2
    hu = np.where(body, SOFT, AIR)
    hu[lungs] = LUNG
    hu[vessels | nodule] = SOFT
    hu[trachea | bowel] = AIR
    table = (np.abs(y - 118) <= 4) & ~body
    hu[table] = TABLE
    hu += np.random.default_rng(0).normal(0, 25, hu.shape)
    return hu, {"body": body, "lungs": lungs, "nodule": nodule, "trachea": trachea, "bowel": bowel, "table": table}


@pytest.mark.parametrize("spacing", [(5.0, 2.0, 2.0), (8.0, 1.4, 1.4), (2.0, 2.5, 2.5), (5.0, 0.9, 0.9)])
def test_lungs_with_vessels_and_a_nodule_at_the_pleura(spacing):
    hu, parts = chest(spacing)
    found = lung_mask(hu, spacing)
    assert found.dtype == bool
    assert dice(found, parts["lungs"]) > 0.97
    # A disc of 12 mm rolls 3 mm deep into the 16 mm of pleura that the nodule takes up.
    assert found[parts["nodule"]].mean() > 0.85
    assert found[parts["trachea"]].mean() < 0.02
    assert not found[parts["bowel"]].any()


def test_body_is_without_table_and_with_all_its_air():
    hu, parts = chest()
    found = body_mask(hu, (5.0, 2.0, 2.0))
    assert dice(found, parts["body"]) > 0.985
    assert found[parts["lungs"]].all()
    assert found[parts["bowel"]].all()
    # Where the table bends towards the back a few voxels between the two are taken.
    assert found[parts["table"]].mean() < 0.06


@pytest.mark.parametrize("part", [slice(None, 30), slice(25, None), slice(22, 38), slice(29, 31), slice(30, 31)])
def test_lungs_that_are_cut_by_the_ends_of_the_volume(part):
    hu, parts = chest()
    found = lung_mask(hu[part], (5.0, 2.0, 2.0))
    assert dice(found, parts["lungs"][part]) > 0.96


def test_the_order_of_the_slices_does_not_matter():
    hu, _ = chest()
    found = lung_mask(hu, (5.0, 2.0, 2.0))
    assert dice(lung_mask(hu[::-1], (5.0, 2.0, 2.0))[::-1], found) > 0.999


def test_lungs_that_touch_are_closed_apart():
    hu, parts = chest(joined=True)
    found = lung_mask(hu, (5.0, 2.0, 2.0))
    assert dice(found, parts["lungs"]) > 0.96
    assert found[parts["trachea"]].mean() < 0.1


def test_no_lung_no_mask():
    hu, _ = chest()
    belly = hu[:8]
    assert not lung_mask(belly, (5.0, 2.0, 2.0)).any()
    assert body_mask(belly, (5.0, 2.0, 2.0)).any()
    air = np.full((4, 40, 40), AIR)
    assert not lung_mask(air, (5.0, 2.0, 2.0)).any()
    assert not body_mask(air, (5.0, 2.0, 2.0)).any()
    solid = np.full((4, 40, 40), SOFT)
    assert not lung_mask(solid, (5.0, 2.0, 2.0)).any()
    assert body_mask(solid, (5.0, 2.0, 2.0)).all()


def test_share_of_the_body_that_is_lung():
    body = np.zeros((3, 4, 4))
    body[:2] = 1
    lungs = np.zeros((3, 4, 4))
    lungs[0, :2] = 1
    lungs[2] = 1
    assert lung_share(lungs, body).tolist() == [0.5, 0.0, 0.0]
    with pytest.raises(ValueError, match="must be equal"):
        lung_share(lungs[:2], body)


def test_what_is_no_volume_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        lung_mask(np.full((2, 3, 3), np.nan), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="spacing"):
        body_mask(np.zeros((2, 3, 3)), (1.0, 1.0, np.inf))
    with pytest.raises(ValueError, match="three axes"):
        lung_mask(np.zeros((3, 3)), (1.0, 1.0, 1.0))
