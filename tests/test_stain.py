"""Stains: fits against mixtures that are known, transforms against the published formulas, augmentation against its own."""

import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from synthoma.errors import DataError
from synthoma.transforms.stain import (
    MACENKO_TARGET,
    MIN_PIXELS,
    REINHARD_TARGET,
    RUIFROK,
    StainChange,
    StainFit,
    augment_stain,
    change_stain,
    fit_macenko,
    fit_reinhard,
    optical_density,
    stain_change,
    stain_transform,
)
from tissue_fixture import STAINS, draw_tissue, render


def degrees(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle between the columns of two matrices [3, 2]."""
    cosines = (first * second).sum(0) / np.linalg.norm(first, axis=0) / np.linalg.norm(second, axis=0)
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def mixtures(stains: NDArray[np.float64], seed: int = 0, count: int = 20_000) -> NDArray[np.uint8]:
    """Pixels [count, 3] of all proportions of two stains; a twentieth each is all but pure."""
    random = np.random.default_rng(seed)
    share = random.uniform(0, 1, count)
    share[: count // 20], share[-count // 20 :] = 0, 1
    total = random.uniform(0.4, 1.8, count)
    return render(np.stack((total * share, total * (1 - share)), axis=-1), stains)


def random_pictures(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_density_is_zero_for_white_and_finite_for_black() -> None:
    density = optical_density(np.array([[255, 127, 0]], np.uint8))
    np.testing.assert_allclose(density, [[0, np.log(2), np.log(256)]], atol=1e-12)


@pytest.mark.parametrize("name", list(STAINS))
def test_macenko_recovers_the_stains_of_a_mixture(name: str) -> None:
    fit = fit_macenko(mixtures(STAINS[name]))
    assert fit.ok, fit.reason
    np.testing.assert_allclose(np.linalg.norm(fit.matrix, axis=0), 1, atol=1e-9)
    assert degrees(fit.matrix, STAINS[name]).max() < 1.5
    # 99th percentile of the amounts of either stain, which are total * share with a twentieth at share 1.
    np.testing.assert_allclose(fit.strength, [1.7, 1.7], rtol=0.08)


def test_macenko_does_not_depend_on_what_varies_most() -> None:
    """Of pixels with one total, the difference of the stains is what varies; of pixels of all totals, the total is."""
    random = np.random.default_rng(3)
    share = random.uniform(0, 1, 20_000)
    for name, stains in STAINS.items():
        for spread in (0.02, 0.3):
            total = random.normal(1.0, spread, 20_000).clip(0.4)
            fit = fit_macenko(render(np.stack((total * share, total * (1 - share)), axis=-1), stains))
            assert fit.ok, (name, fit.reason)
            assert degrees(fit.matrix, stains).max() < 1.5, name


def test_macenko_agrees_with_the_published_steps_on_tissue() -> None:
    """The steps of the paper by singular value decomposition, on pixels that are strong in each channel."""
    pixels = draw_tissue(1).reshape(-1, 3)
    pixels = pixels[(optical_density(pixels) > 0.15).all(axis=1)]
    density = -np.log((pixels + 1.0) / 256)
    _, _, axes = np.linalg.svd(density, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2].sum(1, keepdims=True))
    angles = np.arctan2(density @ axes[1], density @ axes[0])
    extremes = np.percentile(angles, [1, 99])
    vectors = (np.cos(extremes)[:, None] * axes[0] + np.sin(extremes)[:, None] * axes[1]).T
    expected = vectors[:, np.argsort(-vectors[0])]
    fit = fit_macenko(pixels)
    np.testing.assert_allclose(fit.matrix, expected, atol=1e-6)
    amounts = np.linalg.lstsq(expected, density.T, rcond=None)[0]
    np.testing.assert_allclose(fit.strength, np.percentile(amounts, 99, axis=1), rtol=1e-6)


def test_normalised_pixels_follow_macenkos_formula() -> None:
    """Amounts by least squares, scaled to the target's 99th percentiles, shown in the target's colours."""
    fit = fit_macenko(draw_tissue(5, stains="ruifrok"))
    pixels = random_pictures(5, 5000)
    amounts = np.linalg.lstsq(fit.matrix, -np.log((pixels + 1.0) / 256).T, rcond=None)[0]
    scaled = amounts * (MACENKO_TARGET.strength / fit.strength)[:, None]
    expected = np.clip(256 * np.exp(-(MACENKO_TARGET.matrix @ scaled)) - 1, 0, 255)
    found = stain_transform(fit, MACENKO_TARGET)(pixels)
    assert np.abs(found - expected.T).max() < 0.51


def test_to_its_own_stains_nothing_changes() -> None:
    tile = draw_tissue(2)
    fit = fit_reinhard(tile)
    pictures = random_pictures(0, 3, 40, 50)
    assert np.abs(stain_transform(fit, fit)(pictures).astype(int) - pictures).max() <= 1
    # Two stains cannot show other colours: for Macenko it holds of what consists of them, here but for noise.
    stains = fit_macenko(tile)
    mixed = render(np.random.default_rng(1).uniform(0, 1.5, (5000, 2)), stains.matrix)
    assert np.abs(stain_transform(stains, stains)(mixed).astype(int) - mixed).max() <= 1
    assert np.abs(stain_transform(stains, stains)(tile).astype(int) - tile).mean() < 1


def test_two_slides_have_the_same_stains_afterwards() -> None:
    first, second = draw_tissue(3, stains="bluish", strength=0.7), draw_tissue(4, stains="macenko")
    source, target = fit_macenko(first), fit_macenko(second)
    assert degrees(source.matrix, target.matrix).max() > 5
    again = fit_macenko(stain_transform(source, target)(first))
    assert degrees(again.matrix, target.matrix).max() < 1.5
    np.testing.assert_allclose(again.strength, target.strength, rtol=0.05)


def test_two_slides_have_the_same_moments_afterwards() -> None:
    first, second = draw_tissue(3, stains="bluish", strength=0.7), draw_tissue(4, stains="macenko")
    source, target = fit_reinhard(first), fit_reinhard(second)
    assert np.abs(source.mean - target.mean).max() > 0.02
    again = fit_reinhard(stain_transform(source, target)(first))
    np.testing.assert_allclose(again.mean, target.mean, atol=0.01)
    np.testing.assert_allclose(again.std, target.std, rtol=0.1)


def test_reinhard_agrees_with_the_published_formula() -> None:
    """Reinhard et al. 2001, step by step, with logarithms to base 10 as they have them: the base drops out."""
    first, second = draw_tissue(5, stains="reddish"), draw_tissue(6, stains="ruifrok")
    cones = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
    axes = np.diag([1 / 3**0.5, 1 / 6**0.5, 1 / 2**0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
    source, target = (np.log10((p.reshape(-1, 3) + 1.0) / 256 @ cones.T) @ axes.T for p in (first, second))
    moved = (source - source.mean(0)) * target.std(0) / source.std(0) + target.mean(0)
    light = 10 ** (moved @ np.linalg.inv(axes).T) @ np.linalg.inv(cones).T
    expected = np.clip(256 * light - 1, 0, 255).reshape(first.shape)
    found = stain_transform(fit_reinhard(first), fit_reinhard(second))(first)
    assert np.abs(found - expected).max() < 0.51


def flat(colour: tuple[int, int, int], count: int = 5000) -> NDArray[np.uint8]:
    return np.full((count, 3), colour, np.uint8)


DEGENERATE = {
    "white": flat((255, 255, 255)),
    "black": flat((0, 0, 0)),
    "one colour": flat((180, 90, 160)),
    "two shades": np.concatenate((flat((179, 89, 159)), flat((125, 31, 98)))),
    "one pixel": flat((180, 90, 160), 1),
    "no pixel": flat((0, 0, 0), 0),
    "few pixels": mixtures(STAINS["macenko"], count=MIN_PIXELS - 1),
    "greys": np.repeat(np.arange(256, dtype=np.uint8), 60)[:, None].repeat(3, axis=1),
}


@pytest.mark.parametrize("name", list(DEGENERATE))
def test_what_cannot_be_fitted_is_told_and_left_as_it_is(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_macenko(DEGENERATE[name])
        fit_reinhard(DEGENERATE[name])
    assert not fit.ok
    assert fit.reason
    assert not fit.matrix.any()
    pictures = random_pictures(1, 2, 8, 8)
    assert stain_transform(fit, MACENKO_TARGET)(pictures) is pictures


def test_reinhard_refuses_what_has_no_spread() -> None:
    for name in ("white", "black", "one colour", "one pixel", "no pixel", "few pixels"):
        fit = fit_reinhard(DEGENERATE[name])
        assert not fit.ok, name
        assert fit.reason
        pictures = random_pictures(1, 2, 8, 8)
        assert stain_transform(fit, REINHARD_TARGET)(pictures) is pictures


def test_inks_are_no_stains() -> None:
    inks = np.array([[1.0, 0.5], [0.4, 0.1], [0.1, 0.6]])  # blue and green ink
    fit = fit_macenko(mixtures(inks))
    assert not fit.ok
    assert "usual colour" in fit.reason


def test_stains_too_alike_are_refused() -> None:
    haematoxylin = STAINS["macenko"][:, 0]
    fit = fit_macenko(mixtures(np.stack((haematoxylin, haematoxylin + np.array([-0.02, 0.02, 0.02])), axis=1)))
    assert not fit.ok
    assert fit.reason


def test_white_stays_white() -> None:
    transform = stain_transform(fit_macenko(draw_tissue(7, stains="bluish")), MACENKO_TARGET)
    assert (transform(np.full((1, 4, 4, 3), 255, np.uint8)) == 255).all()


@pytest.mark.parametrize("target", [MACENKO_TARGET, REINHARD_TARGET])
def test_batch_and_single_pictures_are_the_same(target) -> None:  # type: ignore[no-untyped-def]
    tile = draw_tissue(8, stains="reddish")
    fit = fit_macenko(tile) if isinstance(target, StainFit) else fit_reinhard(tile)
    transform = stain_transform(fit, target)
    tiles = np.stack([draw_tissue(seed, size=200) for seed in range(5)])
    together = transform(tiles)
    assert together.shape == tiles.shape
    assert together.dtype == np.uint8
    assert np.abs(together.astype(int) - tiles).mean() > 3
    for tile, changed in zip(tiles, together, strict=True):
        np.testing.assert_array_equal(transform(tile), changed)
    np.testing.assert_array_equal(transform(tiles[:, ::-2, 1:77]), together[:, ::-2, 1:77])
    assert transform(tiles[:0]).shape == tiles[:0].shape


def test_misuse_is_told() -> None:
    fit = fit_macenko(draw_tissue(9))
    transform = stain_transform(fit, MACENKO_TARGET)
    with pytest.raises(ValueError, match="uint8"):
        transform(np.zeros((2, 2, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3"):
        transform(np.zeros((2, 2, 4), np.uint8))
    with pytest.raises(TypeError, match="different methods"):
        stain_transform(fit, REINHARD_TARGET)
    with pytest.raises(DataError, match=r"target.*only 0 stained pixels"):
        stain_transform(fit, fit_macenko(DEGENERATE["white"]))


def test_augmentation_of_nothing_is_the_picture_itself() -> None:
    pictures = torch.from_numpy(random_pictures(2, 2, 6, 6)).permute(0, 3, 1, 2)
    assert augment_stain(pictures, 0.0, torch.rand(2, 6)) is pictures
    same = StainChange(torch.ones(2, 3), torch.zeros(2, 3))
    assert torch.equal(change_stain(pictures, same), pictures)
    floats = pictures.float() / 127.5 - 1
    torch.testing.assert_close(change_stain(floats, same), floats, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(9, 7), (4, 5, 6)])
def test_augmentation_follows_its_formula(size: tuple[int, ...]) -> None:
    """Tellez et al. 2018: amounts of stain c of each pixel become alpha c + beta, here solved pixel by pixel."""
    random = np.random.default_rng(4)
    pictures = random.integers(0, 256, (3, *size, 3), dtype=np.uint8)
    alpha, beta = random.uniform(0.8, 1.2, (3, 3)), random.uniform(-0.2, 0.2, (3, 3))
    basis = np.column_stack((RUIFROK, np.cross(*RUIFROK.T) / np.linalg.norm(np.cross(*RUIFROK.T))))
    expected = np.empty(pictures.shape)
    for n in range(3):
        amounts = np.linalg.solve(basis, -np.log((pictures[n].reshape(-1, 3) + 1.0) / 256).T)
        light = np.exp(-(basis @ (alpha[n][:, None] * amounts + beta[n][:, None])))
        expected[n] = np.clip(256 * light.T - 1, 0, 255).reshape(pictures[n].shape)
    change = StainChange(torch.from_numpy(alpha).float(), torch.from_numpy(beta).float())
    images = torch.from_numpy(np.moveaxis(pictures, -1, 1).copy())
    changed = np.moveaxis(change_stain(images, change).numpy(), 1, -1)
    assert np.abs(changed - expected).max() < 0.51
    floats = np.moveaxis(change_stain(images.float() / 255, change, range=(0.0, 1.0)).numpy(), 1, -1)
    np.testing.assert_allclose(floats, expected / 255, atol=2e-4)


def test_augmentation_is_sample_by_sample_within_its_bounds() -> None:
    images = torch.from_numpy(np.stack([draw_tissue(seed, size=32) for seed in range(4)])).permute(0, 3, 1, 2)
    draws = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    change = stain_change(draws, 0.2)
    assert (change.scale - 1).abs().max() <= 0.2
    assert change.shift.abs().max() <= 0.2
    assert (change.scale - 1).abs().max() > 0.1
    torch.testing.assert_close(stain_change(torch.full((1, 6), 0.5), 0.2).scale, torch.ones(1, 3))
    together = augment_stain(images, 0.2, draws)
    assert together.dtype == torch.uint8
    assert (together.float() - images.float()).abs().mean() > 2
    for n in range(4):
        assert torch.equal(augment_stain(images[n : n + 1], 0.2, draws[n : n + 1]), together[n : n + 1])
    half = augment_stain(images.bfloat16() / 127.5 - 1, 0.2, draws)
    assert half.dtype == torch.bfloat16
    assert half.min() >= -1
    assert half.max() <= 1


def test_augmentation_refuses_wrong_shapes() -> None:
    with pytest.raises(ValueError, match="six draws"):
        stain_change(torch.rand(2, 4), 0.1)
    with pytest.raises(ValueError, match="spatial"):
        augment_stain(torch.zeros(2, 1, 4, 4), 0.1, torch.rand(2, 6))
    with pytest.raises(ValueError, match="changes"):
        augment_stain(torch.zeros(2, 3, 4, 4), 0.1, torch.rand(3, 6))
