"""Phantom CT volumes: what is said of a nodule is what is drawn, and simulated readers disagree a little."""

import numpy as np
import pytest
from scipy import ndimage

from synthoma.errors import DataError
from synthoma.formats.marks import fill_contour
from synthoma.formats.volumes import Geometry
from synthoma.phantoms.ct import TEXTURES, draw_chest, malignancy_of, read_phantom
from synthoma.phantoms.ct.acquisition import KERNELS, add_noise
from synthoma.phantoms.ct.anatomy import draw_anatomy
from synthoma.phantoms.ct.frame import Frame
from synthoma.phantoms.ct.readers import READERS, outline_of
from synthoma.phantoms.registry import stream


def centred(size, spacing, directions=None) -> Geometry:
    return Geometry(size, spacing, (0.0, 0.0, 0.0), directions or Geometry((1, 1, 1), (1, 1, 1)).directions)


def turned(degrees: float) -> tuple[tuple[float, float, float], ...]:
    """Axes z, y, x turned about (1, 2, 3)."""
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return tuple(tuple(row) for row in (np.eye(3)[::-1] @ rotation).tolist())


@pytest.fixture(scope="module")
def chest():
    return draw_chest(3, 0, centred((96, 128, 128), (2.8, 2.6, 2.6)), nodules=(6, 6), spots=(2, 2))


@pytest.fixture(scope="module")
def balls():
    """Perfect balls without noise, on slices that are much thicker than pixels are wide."""
    geometry = centred((64, 320, 320), (2.5, 0.7, 0.7))
    return draw_chest(5, 0, geometry, nodules=(6, 6), diameters=(6, 24), textures=("solid",), spheres=True, noise=0.0)


def at_nodule(phantom, number: int, margin: int = 2) -> tuple[tuple[slice, ...], np.ndarray]:
    """A box about a nodule with a margin, and the mask in it."""
    mask = phantom.masks[number]
    low = np.maximum(np.array(mask.start) - margin, 0)
    high = np.minimum(np.array(mask.start) + mask.mask.shape + margin, phantom.hu.shape)
    whole = np.zeros(phantom.hu.shape, dtype=bool)
    whole[tuple(slice(a, a + n) for a, n in zip(mask.start, mask.mask.shape, strict=True))] = mask.mask
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return box, whole[box]


# Anatomy -------------------------------------------------------------------------------------------------------------


def test_the_same_arguments_draw_the_same_voxels_and_others_do_not():
    geometry = centred((24, 48, 48), (6.0, 7.0, 7.0))
    first, again, other = (draw_chest(1, number, geometry) for number in (4, 4, 5))
    np.testing.assert_array_equal(first.hu, again.hu)
    assert first.nodules == again.nodules
    assert (first.hu != other.hu).mean() > 0.5


def test_tissues_have_the_hounsfield_units_of_textbooks(chest):
    hu, lungs = chest.hu, chest.lung_mask
    assert hu.dtype == np.int16
    assert hu.min() >= -1024
    assert hu.max() <= 3071
    assert hu[:, 2, :].mean() == pytest.approx(-1000, abs=8)
    assert np.median(hu[lungs]) == pytest.approx(-860, abs=40)
    assert 2.0 < lungs.sum() * np.prod(chest.geometry.spacing) / 1e6 < 6.0
    # The lower lobes lie on the back, and are denser there.
    rows = np.nonzero(lungs)[1]
    front, back = (
        np.median(hu[lungs][rows <= np.quantile(rows, 0.2)]),
        np.median(hu[lungs][rows >= np.quantile(rows, 0.8)]),
    )
    assert 15 < back - front < 110
    # Soft tissue, fat and bone are there in the amounts of a chest.
    assert 0.1 < ((hu > 0) & (hu < 110)).mean() < 0.5
    assert 0.02 < ((hu > -140) & (hu < -50)).mean() < 0.2
    assert 0.003 < (hu > 350).mean() < 0.05


def test_lungs_are_two_and_hold_vessels_and_airways(chest):
    labels, count = ndimage.label(chest.lung_mask)
    sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
    assert count >= 2
    assert sizes[1] > 0.6 * sizes[0]
    assert sizes[:2].sum() > 0.98 * sizes.sum()
    inner = ndimage.binary_erosion(chest.lung_mask, iterations=3)
    assert 0.01 < (chest.hu[inner] > -600).mean() < 0.15
    # The trachea: air in the middle of the highest slices, with no lung around.
    top = chest.hu[-3]
    middle = top[48:76, 54:74]
    assert (middle < -900).sum() * 2.6**2 == pytest.approx(np.pi * 8.5**2, rel=0.5)


def test_a_grid_that_is_flipped_or_permuted_shows_the_same_chest():
    plain = centred((36, 48, 52), (7.0, 7.0, 6.6))
    (z, y, x), (up, back, left) = plain.size, plain.directions
    opposite = tuple(-value for value in back)
    flipped = Geometry((y, z, x), (7.0, 7.0, 6.6), (0.0, 0.0, 0.0), (opposite, up, left))
    anatomy = draw_anatomy(stream(0, "person"), Frame(plain))
    hu, lungs = anatomy.paint(Frame(plain))
    other, other_lungs = anatomy.paint(Frame(flipped))
    np.testing.assert_allclose(other.transpose(1, 0, 2)[:, ::-1], hu, atol=0.05)
    np.testing.assert_allclose(other_lungs.transpose(1, 0, 2)[:, ::-1], lungs, atol=0.01)
    assert hu.dtype == lungs.dtype == np.float32


def test_a_narrow_view_gets_a_smaller_person_and_a_flat_one_a_part():
    narrow = draw_chest(0, 0, centred((60, 64, 64), (3.5, 2.6, 2.6)), nodules=(0, 0))
    columns = np.nonzero(narrow.lung_mask.any(axis=(0, 1)))[0]
    assert columns[0] >= 4
    assert columns[-1] < 60
    flat = draw_chest(0, 0, centred((24, 64, 64), (2.0, 5.2, 5.2)), nodules=(0, 0))
    assert flat.lung_mask.any(axis=(1, 2)).all()
    with pytest.raises(DataError, match="no lung"):
        draw_chest(0, 0, centred((24, 24, 24), (0.2, 0.2, 20.0)), nodules=(0, 0))


def test_noise_has_the_deviation_that_was_asked_for_and_is_smooth():
    geometry = centred((40, 96, 96), (6.0, 3.5, 3.5))
    quiet, loud = (draw_chest(2, 1, geometry, nodules=(0, 0), spots=(0, 0), noise=noise) for noise in (0.0, 25.0))
    noise = (loud.hu.astype(float) - quiet.hu)[quiet.hu > -900]
    assert noise.std() == pytest.approx(25, rel=0.03)
    assert abs(noise.mean()) < 1


def test_the_kernel_grains_the_noise_within_slices_only():
    frame = Frame(centred((12, 96, 96), (2.0, 0.7, 0.7)))
    likeness = {}
    for kernel in KERNELS:
        hu = np.zeros(frame.size, dtype=np.float32)
        add_noise(stream(0, "noise"), hu, frame, kernel, 20.0)
        assert hu.std() == pytest.approx(20, rel=1e-4)
        likeness[kernel] = np.corrcoef(hu[:, :, 1:].ravel(), hu[:, :, :-1].ravel())[0, 1]
        assert abs(np.corrcoef(hu[1:].ravel(), hu[:-1].ravel())[0, 1]) < 0.02
    # exp(-(spacing / 2 grain)^2) for a Gaussian grain, less what a sharp kernel takes away.
    assert likeness["soft"] == pytest.approx(np.exp(-(0.35**2)), abs=0.02)
    assert likeness["standard"] == pytest.approx(np.exp(-((0.35 / 0.75) ** 2)), abs=0.02)
    assert 0.3 < likeness["sharp"] < np.exp(-((0.35 / 0.5) ** 2))


# Nodules -------------------------------------------------------------------------------------------------------------


def test_balls_on_anisotropic_voxels_measure_as_they_are_said_to(balls):
    """Line 4 of the acceptance: diameter within 5 %, volume within 10 %, centre within half a voxel."""
    assert len(balls.nodules) == 6
    voxel = float(np.prod(balls.geometry.spacing))
    for number, nodule in enumerate(balls.nodules):
        assert nodule.volume_mm3 == pytest.approx(np.pi / 6 * nodule.diameter_mm**3, rel=1e-9)
        box, mask = at_nodule(balls, number)
        hu = balls.hu[box].astype(float)
        near = ndimage.binary_dilation(mask, iterations=2)
        lung = np.median(hu[~near])
        share = np.where(near, np.clip((hu - lung) / (nodule.mean_hu - lung), 0, 1), 0)
        assert share.sum() * voxel == pytest.approx(nodule.volume_mm3, rel=0.03)
        half = share >= 0.5
        # The lung is not quite even, so that a few voxels that are nearly half nodule are told wrongly.
        assert (half != mask).sum() < 0.03 * mask.sum()
        assert half.sum() * voxel == pytest.approx(nodule.volume_mm3, rel=0.1)
        assert (6 * half.sum() * voxel / np.pi) ** (1 / 3) == pytest.approx(nodule.diameter_mm, rel=0.05)
        middle = np.argwhere(half).mean(axis=0) + [part.start for part in box]
        assert np.abs(middle - balls.geometry.index(nodule.center)).max() < 0.5


def test_balls_on_an_oblique_grid_lie_where_they_are_said_to():
    geometry = centred((80, 150, 150), (2.4, 1.6, 1.6), turned(14.0))
    phantom = draw_chest(
        6, 2, geometry, nodules=(5, 5), diameters=(9, 20), textures=("solid",), spheres=True, noise=0.0
    )
    assert len(phantom.nodules) >= 3
    voxel = float(np.prod(geometry.spacing))
    for number, nodule in enumerate(phantom.nodules):
        box, mask = at_nodule(phantom, number)
        assert mask.sum() * voxel == pytest.approx(nodule.volume_mm3, rel=0.1)
        middle = np.argwhere(mask).mean(axis=0) + [part.start for part in box]
        assert np.abs(middle - geometry.index(nodule.center)).max() < 0.5
        assert phantom.hu[box][mask].mean() > -120


def test_nodules_lie_in_the_lungs_and_apart(chest):
    assert len(chest.nodules) == 6
    taken = np.zeros(chest.hu.shape, dtype=int)
    for number in range(len(chest.nodules)):
        box, mask = at_nodule(chest, number)
        assert mask.any()
        assert chest.lung_mask[box][mask].mean() > 0.97
        taken[box] += mask
    assert taken.max() == 1


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_have_their_hounsfield_units(texture):
    geometry = centred((80, 130, 130), (2.4, 1.9, 1.9))
    phantom = draw_chest(
        9, 0, geometry, nodules=(4, 4), diameters=(14, 22), textures=(texture,), spheres=True, noise=0.0
    )
    assert phantom.nodules
    for number, nodule in enumerate(phantom.nodules):
        box, mask = at_nodule(phantom, number)
        inner = phantom.hu[box][ndimage.binary_erosion(mask)]
        if texture == "solid":
            assert 18 <= inner.mean() <= 62
            assert inner.mean() == pytest.approx(nodule.mean_hu, abs=3)
        elif texture == "ground_glass":
            assert -702 <= inner.mean() <= -498
            assert inner.mean() == pytest.approx(nodule.mean_hu, abs=3)
        else:
            assert (inner > 0).any()
            assert (inner < -480).any()
            assert -700 < nodule.mean_hu < 0


def test_strands_and_the_chest_wall_change_the_shape():
    geometry = centred((80, 130, 130), (2.5, 2.4, 2.4))
    ragged, cut = [], []
    for number in range(3):
        phantom = draw_chest(11, number, geometry, nodules=(9, 9), diameters=(10, 26), textures=("solid",), noise=0.0)
        for place, nodule in enumerate(phantom.nodules):
            shape = phantom.shapes[place]
            body = 4 / 3 * np.pi * float(np.prod(shape.radii))
            if nodule.juxtapleural:
                cut.append(nodule.volume_mm3 / body)
                box, mask = at_nodule(phantom, place)
                assert (ndimage.binary_dilation(mask, iterations=2) & ~phantom.lung_mask[box]).any()
            else:
                ragged.append((nodule.spiculation, shape.reach / shape.radius))
                assert body * 0.98 < nodule.volume_mm3 < body * 2.2
    assert cut
    assert min(cut) < 1.0
    spiculated = [reach for spiculation, reach in ragged if spiculation > 0.3]
    smooth = [reach for spiculation, reach in ragged if spiculation < 0.1]
    assert len(spiculated) >= 3
    assert np.mean(spiculated) > 1.15 * np.mean(smooth)


def test_larger_spiculated_and_part_solid_nodules_are_rated_worse():
    sizes = [malignancy_of(diameter, "solid", 0.0) for diameter in (4, 7, 12, 17, 25)]
    assert sizes == [1, 2, 3, 4, 5]
    assert malignancy_of(8, "solid", 0.7) == malignancy_of(8, "solid", 0.0) + 1
    assert [malignancy_of(12, texture, 0.0) for texture in ("ground_glass", "solid", "part_solid")] == [2, 3, 4]
    assert malignancy_of(4, "ground_glass", 0.0) == 1
    assert malignancy_of(30, "part_solid", 1.0) == 5


def test_what_cannot_be_drawn_is_refused():
    geometry = centred((40, 64, 64), (6.0, 5.2, 5.2))
    for arguments in ({"nodules": (3, 2)}, {"diameters": (1, 5)}, {"textures": ("liquid",)}, {"textures": ()}):
        with pytest.raises(DataError):
            draw_chest(0, 0, geometry, **arguments)


# Readers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_an_outline_lies_just_outside_and_encloses_the_part_again(seed):
    random = np.random.default_rng(seed)
    for _ in range(25):
        mask = ndimage.gaussian_filter(random.normal(size=(14, 16)), 1.3) > random.uniform(0.05, 0.3)
        if not mask.any():
            continue
        labels, _ = ndimage.label(mask)
        part = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
        points = outline_of(mask)
        steps = np.abs(np.diff(np.vstack([points, points[:1]]), axis=0)).max(axis=1)
        assert (steps == 1).all()
        inside, _ = fill_contour(points)
        whole = np.zeros((18, 20), dtype=bool)
        x, y = points.min(axis=0) + 2
        whole[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        padded = np.pad(part, 2)
        assert (whole >= padded).all()
        assert (whole <= ndimage.binary_fill_holes(ndimage.binary_dilation(padded))).all()
        on_outline = padded[points[:, 1] + 2, points[:, 0] + 2]
        assert not on_outline.any()


def test_the_outline_of_a_disc_encloses_just_the_disc():
    y, x = np.mgrid[:41, :41]
    for radius in (0.5, 1.2, 3.3, 8.0, 17.9):
        disc = np.hypot(y - 20.3, x - 19.8) < radius
        points = outline_of(disc)
        inside, _ = fill_contour(points)
        x0, y0 = points.min(axis=0)
        assert inside.sum() == disc.sum()
        np.testing.assert_array_equal(inside, disc[y0 : y0 + inside.shape[0], x0 : x0 + inside.shape[1]])
    with pytest.raises(ValueError, match="empty"):
        outline_of(np.zeros((5, 5), dtype=bool))


def test_readers_disagree_a_little(chest):
    readings = read_phantom(stream(0, "readers"), chest)
    assert len(readings) == READERS
    for number, nodule in enumerate(chest.nodules):
        seen = [read for reading in readings for read in reading.nodules if read.number == number]
        assert seen
        for read in seen:
            assert abs(read.ratings["malignancy"] - nodule.malignancy) <= 1
            assert read.ratings["calcification"] == 6
        ratings = {tuple(read.ratings.values()) for read in seen}
        assert len(ratings) > 1
    many = [read_phantom(stream(1, "readers", repeat), chest) for repeat in range(30)]
    small = [n for n, nodule in enumerate(chest.nodules) if nodule.diameter_mm < 6]
    large = [n for n, nodule in enumerate(chest.nodules) if nodule.diameter_mm >= 6]
    found = [read.number for readings in many for reading in readings for read in reading.nodules]
    assert np.isin(found, large).sum() > 0.95 * len(large) * READERS * 30
    assert np.isin(found, small).sum() < 0.9 * len(small) * READERS * 30 + 1e-9
