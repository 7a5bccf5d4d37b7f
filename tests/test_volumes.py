"""How images and volumes are brought to the training size: resampled, cut or filled, and their masks with them."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from preparation_fixture import make_recipe, run
from synthoma.errors import DataError
from synthoma.preparation.resize import place, resampling_matrix, resize, resize_mask
from synthoma.sources import open_source


def cubes(path, side, count=24):
    """Cubes with a bright block at the centre (its mask) and a bright outermost layer."""
    images = np.random.default_rng(0).integers(20, 60, (count, side, side, side), dtype=np.uint8)
    masks = np.zeros_like(images)
    third = side // 3
    masks[:, third : side - third, third : side - third, third : side - third] = 1
    images[masks == 1] += 150
    np.savez_compressed(path, train_images=images, train_masks=masks)
    return images, masks


def open_records(path, recipe):
    return open_source(path, recipe.source).records()


def test_volumes_with_masks(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 12, 14, 10), dtype=np.uint8)
    masks = np.zeros_like(images)
    masks[:, 3:9, 4:10, 2:8] = 1
    path = tmp_path / "a.npz"
    np.savez_compressed(path, train_images=images, train_masks=masks, train_labels=np.arange(24) % 2)
    recipe = make_recipe(source={"axes": "nyxz"}, size=[5, 6, 7], colour="grey", fit="stretch")
    dataset = run(path, tmp_path / "out", recipe).dataset
    assert dataset.images.shape == (24, 1, 5, 6, 7)
    stored = np.load(tmp_path / "out" / "masks.npy", allow_pickle=False)
    assert stored.shape == (24, 1, 5, 6, 7)
    assert stored[0, 0, 2, 3, 3] == 1
    assert stored[0, 0, 0, 0, 0] == 0
    with pytest.raises(DataError, match=r"preparation\.size has 2 numbers"):
        run(path, tmp_path / "wrong", make_recipe(size=[5, 6]))


@pytest.mark.parametrize("fill", ["black", "edge", "reflect"])
def test_cubes_are_padded_without_resampling(tmp_path, fill):
    images, masks = cubes(tmp_path / "a.npz", 9)
    recipe = make_recipe(source={"axes": "nyxz"}, size=12, colour="grey", fit="pad", resample=False, fill=fill)
    result = run(tmp_path / "a.npz", tmp_path / "out", recipe)
    dataset = result.dataset
    assert dataset.masks.shape == dataset.images.shape == (24, 1, 12, 12, 12)
    place = {key: index for index, key in enumerate(record.key for record in open_records(tmp_path / "a.npz", recipe))}
    index = place[dataset.column("key")[0]]
    # The axial slice, third in the file, comes first; voxels are what they were.
    np.testing.assert_array_equal(dataset.images[0, 0, 1:10, 1:10, 1:10], images[index].transpose(2, 0, 1))
    np.testing.assert_array_equal(dataset.masks[0, 0, 1:10, 1:10, 1:10], masks[index].transpose(2, 0, 1))
    outside = dataset.images[0, 0, 0, 1:10, 1:10]
    source = {"black": np.zeros((9, 9)), "edge": images[index][:, :, 0], "reflect": images[index][:, :, 1]}[fill]
    np.testing.assert_array_equal(outside, source)
    assert any("box of air" in warning for warning in result.warnings) == (fill == "black")
    assert dataset.info["preparation"]["upscaled_share"] == 0
    with pytest.raises(DataError, match="larger than the training size"):
        run(
            tmp_path / "a.npz",
            tmp_path / "none",
            make_recipe(source={"axes": "nyxz"}, size=8, fit="pad", resample=False),
        )


def test_cubes_are_cropped_without_resampling(tmp_path):
    images, masks = cubes(tmp_path / "a.npz", 9)
    recipe = make_recipe(source={"axes": "nzyx"}, size=6, colour="grey", resample=False)
    dataset = run(tmp_path / "a.npz", tmp_path / "out", recipe).dataset
    place = {key: index for index, key in enumerate(record.key for record in open_records(tmp_path / "a.npz", recipe))}
    index = place[dataset.column("key")[5]]
    np.testing.assert_array_equal(dataset.images[5, 0], images[index][1:7, 1:7, 1:7])
    np.testing.assert_array_equal(dataset.masks[5, 0], masks[index][1:7, 1:7, 1:7])
    with pytest.raises(DataError, match="smaller than the training size"):
        run(tmp_path / "a.npz", tmp_path / "none", make_recipe(source={"axes": "nzyx"}, size=12, resample=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "preparation"),
    [(64, {"fit": "stretch"}), (64, {"fit": "pad", "resample": False, "fill": "edge"}), (48, {"resample": False})],
)
def test_real_nodules_are_prepared(data_root, tmp_path, size, preparation):
    recipe = make_recipe(source={"axes": "nyxz"}, size=size, colour="grey", near_duplicates=False, **preparation)
    result = run(data_root / "nodules3d" / "lidc_nodules_51.npz", tmp_path / "out", recipe)
    dataset = result.dataset
    assert dataset.images.shape == dataset.masks.shape == (100, 1, size, size, size)
    assert len(set(dataset.groups)) == 100
    assert {"malignancy", "sphericity"} <= set(dataset.attribute_names)
    assert np.isfinite(dataset.attribute("malignancy")).all()
    # Label 1 is a malignancy of 4 or 5: rows of attributes and labels belong together.
    np.testing.assert_array_equal(dataset.attribute("malignancy") >= 4, dataset.labels == 1)
    brighter = []
    middle = slice(size // 2 - 6, size // 2 + 6)
    assert dataset.masks[:, 0, middle, middle, middle].any(axis=(1, 2, 3)).all()
    # A nodule is brighter than what lies right around it, so image and mask have the same axes.
    for image, mask in zip(dataset.images[:, 0], dataset.masks[:, 0], strict=True):
        shell = binary_dilation(mask, iterations=2) & (mask == 0)
        brighter.append(image[mask == 1].mean() > image[shell].mean())
    assert np.mean(brighter) > 0.9


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("crop", ((0.0, 10.0), (20.0, 20.0), (8, 8), (0, 0))),
        ("pad", ((0.0, 0.0), (20.0, 40.0), (4, 8), (2, 0))),
        ("stretch", ((0.0, 0.0), (20.0, 40.0), (8, 8), (0, 0))),
    ],
)
def test_fit(fit, expected):
    where = place((20, 40), (8, 8), fit)
    assert (where.start, where.extent, where.placed, where.offset) == expected
    assert not where.upscales
    assert place((20, 40), (50, 50), fit).upscales
    # What is cut off does not count: 40 pixels shrink to 30, 20 are enlarged only where both axes must fill.
    assert place((20, 40), (30, 30), fit).upscales == (fit != "pad")


@pytest.mark.parametrize("shape", [(40, 40), (12, 18, 24)])
def test_resizing_is_antialiased_and_keeps_the_mean(shape):
    # A checkerboard of single pixels is grey from afar; picking pixels would give black or white.
    board = (np.indices(shape).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None]
    small = resize(board, tuple(n // 4 for n in shape), "stretch")
    assert np.abs(small.astype(int) - 127).max() <= 12
    assert resize(board, shape, "crop") is board


def test_area_average_and_linear_weights():
    np.testing.assert_allclose(resampling_matrix(4, 0.0, 4.0, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(resampling_matrix(3, 0.0, 3.0, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6)
    np.testing.assert_allclose(resampling_matrix(2, 0.0, 2.0, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_padding_is_black_and_centred():
    padded = resize(np.full((10, 20, 3), 200, np.uint8), (8, 8), "pad")
    assert padded[:2].max() == padded[-2:].max() == 0
    assert padded[2:6].min() == 200
    assert resize_mask(np.ones((10, 20, 1), np.uint8), (8, 8), "pad")[:, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
