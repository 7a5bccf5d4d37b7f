"""Scores of tiles: each flaw is found and named, sharp tissue of any stain is not, and the numbers are what they say."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage, stats

from synthoma.errors import DataError, RecipeError
from synthoma.preparation.slides.artefacts import (
    REASONS,
    Reference,
    _Scales,
    _without_specks,
    reject,
    relative_to_slide,
    score_tiles,
)
from synthoma.preparation.slides.tissue import Tissue, slide_reference
from synthoma.slide_settings import PENS, Limits
from tissue_fixture import STAINS, draw_amounts, draw_tissue, inked, painted, render

Tile = NDArray[np.uint8]
SIZE = 256
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float64)


def soft(inside: NDArray[np.float64], rim: float = 2.0) -> NDArray[np.float64]:
    """A signed distance (positive inside) as amounts 0 to 1 with a soft rim, in pixels."""
    return np.clip(inside / rim + 0.5, 0, 1)


def disc(y: float, x: float, radius: float) -> NDArray[np.float64]:
    return soft(radius - np.hypot(Y - y, X - x))


def band(width: float) -> NDArray[np.float64]:
    """A band of `width` pixels across the tile, aslant."""
    return soft(width / 2 - np.abs((Y - 128) * 0.9 + (X - 128) * 0.436))


def blurred(tile: Tile, sigma: float) -> Tile:
    soft = ndimage.gaussian_filter(tile.astype(np.float64), (sigma, sigma, 0))
    noise = np.random.default_rng(0).normal(0, 1.0, tile.shape)
    return np.clip(np.rint(soft + noise), 0, 255).astype(np.uint8)


def bubble(tile: Tile) -> Tile:
    """The rim of a large bubble: what is inside is pale and out of focus, the rim grey and dark."""
    distance = 300 - np.hypot(Y - 128, X + 160)
    inside = soft(distance)
    pale = blurred(tile, 4.0) * 0.5 + 120
    picture = painted(tile, inside, (0, 0, 0)) + np.rint(pale * inside[..., None])
    return painted(picture.clip(0, 255).astype(np.uint8), 0.9 * soft(20 - np.abs(distance)), (95, 96, 100))


def folded(tile: Tile) -> Tile:
    """Tissue in a band 40 µm wide lies twice: its densities add up with those of tissue from elsewhere."""
    return overlaid_by(tile, np.roll(tile, 90, axis=1), band(80))


def overlaid_by(tile: Tile, other: Tile, where: NDArray[np.float64]) -> Tile:
    through = ((other + 1.0) / 256) ** (1.2 * where[..., None])
    return np.clip(np.rint((tile + 1.0) * through - 1), 0, 255).astype(np.uint8)


def of_slide(stains: str, strength: float = 1.0) -> Reference:
    """What a slide with such tissue is judged against."""
    thumbnail = render(strength * draw_amounts(99, size=64, mpp=4.0), STAINS[stains])
    tissue = Tissue(
        np.ones((64, 64), bool), 0.05, 1.0, (255.0, 255.0, 255.0), blank=False, hidden=np.zeros((64, 64), bool)
    )
    return slide_reference(thumbnail, tissue)


FLAWS: dict[str, tuple[Callable[[Tile], Tile], str]] = {
    "blue pen, opaque": (lambda tile: painted(tile, band(90), (40, 70, 160)), "blue pen"),
    "blue pen over tissue": (lambda tile: inked(tile, band(90), (40, 70, 170)), "blue pen"),
    "green pen, opaque": (lambda tile: painted(tile, band(90), (30, 130, 80)), "green pen"),
    "green pen over tissue": (lambda tile: inked(tile, band(90), (25, 125, 75)), "green pen"),
    "red pen, opaque": (lambda tile: painted(tile, band(90), (210, 35, 45)), "red pen"),
    "red pen over tissue": (lambda tile: inked(tile, band(90), (205, 32, 44)), "red pen"),
    "black pen, opaque": (lambda tile: painted(tile, band(110), (22, 22, 26)), "black pen"),
    "black pen over tissue": (lambda tile: inked(tile, band(110), (28, 28, 33)), "black pen"),
    "black everywhere": (lambda tile: painted(tile, np.ones((SIZE, SIZE)), (20, 20, 22)), "black pen"),
    "dark spot": (lambda tile: painted(tile, disc(120, 140, 34), (27, 24, 20)), "dark spot"),
    "dark spots": (lambda tile: painted(tile, disc(60, 90, 22) + disc(190, 170, 25), (34, 27, 22)), "dark spot"),
    "fold": (folded, "fold"),
    "bubble": (bubble, "bubble"),
    "a little out of focus": (lambda tile: blurred(tile, 3.0), "out of focus"),
    "out of focus": (lambda tile: blurred(tile, 5.0), "out of focus"),
    "far out of focus": (lambda tile: blurred(tile, 8.0), "out of focus"),
    "glass": (lambda tile: painted(tile, soft(X - 30), (243, 241, 244)), "background"),
    "white": (lambda tile: np.full_like(tile, 255), "background"),
    "one colour": (lambda tile: np.full_like(tile, (225, 170, 205)), "no structure"),
}


@pytest.mark.parametrize("name", list(FLAWS))
@pytest.mark.parametrize("stains", ["macenko", "ruifrok"])
def test_each_flaw_is_named(name: str, stains: str) -> None:
    damage, reason = FLAWS[name]
    tiles = np.stack([damage(draw_tissue(seed, stains=stains)) for seed in range(4)])
    scores = score_tiles(tiles, 0.5, reference=of_slide(stains))
    assert reject(scores, Limits()) == [reason] * 4, {key: values.round(3) for key, values in scores.items()}


@pytest.mark.parametrize("stains", list(STAINS))
@pytest.mark.parametrize("strength", [0.35, 1.0, 1.4])
def test_sharp_tissue_of_any_stain_is_kept(stains: str, strength: float) -> None:
    tiles = np.stack(
        [
            draw_tissue(seed, stains=stains, strength=strength, density_of_nuclei=crowded)
            for seed in range(3)
            for crowded in (5e-4, 2e-3, 8e-3)
        ]
    )
    scores = score_tiles(tiles, 0.5, reference=of_slide(stains, strength))
    assert reject(scores, Limits()) == [""] * 9, {key: values.round(3) for key, values in scores.items()}


@pytest.mark.parametrize("mpp", [0.25, 1.0, 2.0])
def test_sharp_tissue_is_kept_at_other_scales(mpp: float) -> None:
    tiles = np.stack([draw_tissue(seed, mpp=mpp) for seed in range(4)])
    assert reject(score_tiles(tiles, mpp), Limits()) == [""] * 4


def test_scores_hardly_depend_on_the_scale_of_the_tile() -> None:
    """The same places at 0.5 and at 1 µm a pixel."""
    fine = np.stack([damage(draw_tissue(11)) for damage, _ in FLAWS.values()])
    coarse = np.rint(fine.reshape(len(fine), 128, 2, 128, 2, 3).mean(axis=(2, 4))).astype(np.uint8)
    first, second = score_tiles(fine, 0.5), score_tiles(coarse, 1.0)
    for name in REASONS:
        # The noise of a camera is less at a coarser scale, so that less is left of a blurred tile.
        np.testing.assert_allclose(first[name], second[name], atol=0.1 if name == "blur" else 0.03, err_msg=name)
    assert reject(first, Limits()) == reject(second, Limits())


def test_pale_tissue_is_not_called_blurred() -> None:
    amounts = [draw_amounts(seed) for seed in range(4)]
    pale, strong = (
        np.stack([render(strength * part, STAINS["macenko"]) for part in amounts]) for strength in (0.25, 1)
    )
    sharp_pale, sharp = score_tiles(pale, 0.5)["blur"], score_tiles(strong, 0.5)["blur"]
    np.testing.assert_allclose(sharp_pale, sharp, atol=0.06)
    out_of_focus = score_tiles(np.stack([blurred(tile, 4.0) for tile in pale]), 0.5)["blur"]
    assert out_of_focus.min() > sharp.max() + 0.2
    # The usual measure, the variance of the Laplacian, cannot tell pale from blurred.
    variance = [ndimage.laplace(tile[..., 1].astype(float)).var() for tile in (*pale, *strong)]
    assert max(variance[:4]) < 0.25 * min(variance[4:])


def test_blur_rises_with_defocus() -> None:
    tile = draw_tissue(3)
    scores = score_tiles(np.stack([blurred(tile, sigma) for sigma in (0.01, 1, 2, 3, 4, 5)]), 0.5)["blur"]
    assert (np.diff(scores) > 0).all()


def test_a_border_of_glass_is_no_blur() -> None:
    tiles = np.stack([painted(draw_tissue(seed), soft(X - 110), (244, 243, 245)) for seed in range(3)])
    assert reject(score_tiles(tiles, 0.5), Limits()) == [""] * 3


def test_scales_are_means_of_blocks() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (2, 67, 50, 3), dtype=np.uint8)
    scales = _Scales(tiles, 0.5)
    for um, block in ((0.5, 1), (1.0, 2), (2.0, 4), (4.0, 8)):
        rows, columns = 67 // block, 50 // block
        cut = tiles[:, : rows * block, : columns * block].astype(np.float64)
        expected = cut.reshape(2, rows, block, columns, block, 3).mean(axis=(2, 4)).transpose(3, 0, 1, 2)
        np.testing.assert_allclose(scales.at(um), expected, atol=1e-3)
        np.testing.assert_allclose(scales.green(um), expected[1], atol=1e-3)


def test_blur_is_the_ratio_of_laplacian_energies() -> None:
    tile = draw_tissue(6)
    green = tile[..., 1].astype(np.float64)

    def energies(factor: int) -> list[float]:
        reduced = green.reshape(256 // factor, factor, 256 // factor, factor).mean(axis=(1, 3))
        squares = np.full(reduced.shape, np.nan)
        squares[1:-1, 1:-1] = ndimage.laplace(reduced)[1:-1, 1:-1] ** 2
        side = len(squares) // 4
        return [
            float(np.nanmean(squares[y : y + side, x : x + side]))
            for y in range(0, 4 * side, side)
            for x in range(0, 4 * side, side)
        ]

    octaves = [
        np.log2((coarse + 24) / (max(fine - 10, 0) + 3)) for fine, coarse in zip(energies(2), energies(8), strict=True)
    ]
    expected = sorted(octaves, reverse=True)[6] / 8  # of sixteen blocks of 32 µm, 40 % are more blurred
    np.testing.assert_allclose(score_tiles(tile[None], 0.5)["blur"], expected, rtol=1e-3)


def test_most_of_a_tile_out_of_focus_is_enough_but_a_quarter_is_not() -> None:
    tile = draw_tissue(9)
    most, quarter = blurred(tile, 5.0), tile.copy()
    most[:96], quarter[:128, :128] = tile[:96], most[128:, 128:]
    assert reject(score_tiles(np.stack((most, quarter)), 0.5), Limits()) == ["out of focus", ""]


def test_specks_go_and_what_goes_on_beyond_the_border_stays() -> None:
    pixels = np.zeros((2, 12, 14), bool)
    pixels[0, 2:5, 3:7] = True
    expected = pixels.copy()
    pixels[0, 8:10, 1:13] = True  # thinner than three pixels
    pixels[1, 0:2, 5:9] = expected[1, 0:2, 5:9] = True  # thin only because the tile ends
    pixels[1, 6, 6] = True
    np.testing.assert_array_equal(_without_specks(pixels), expected)
    full = np.ones((1, 1, 1), bool)
    assert _without_specks(full).all()


def test_uniform_is_one_minus_relative_entropy() -> None:
    tile = draw_tissue(7)
    grey = tile.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3)) @ (0.299, 0.587, 0.114)
    counts = np.bincount((grey / 4).astype(int).ravel(), minlength=64)
    expected = 1 - stats.entropy(counts, base=64)
    np.testing.assert_allclose(score_tiles(tile[None], 0.5)["uniform"], expected, atol=2e-3)


def test_shares_are_shares_of_the_area() -> None:
    tile = draw_tissue(8)
    half = np.where(X < 96, 1.0, 0.0)
    for name, colour in (("pen_blue", (30, 60, 170)), ("pen_green", (20, 140, 70)), ("pen_red", (215, 30, 40))):
        scores = score_tiles(painted(tile, half, colour)[None], 0.5)
        np.testing.assert_allclose(scores[name], 0.375, atol=0.01)
        assert sum(float(scores[pen][0]) for pen in PENS if pen != name) < 0.01
    np.testing.assert_allclose(
        score_tiles(painted(tile, half, (250, 250, 250))[None], 0.5)["background"], 0.375, atol=0.02
    )


def test_batch_and_single_tiles_are_the_same() -> None:
    tiles = np.stack([damage(draw_tissue(seed)) for seed, (damage, _) in enumerate(FLAWS.values())])
    together = score_tiles(tiles, 0.5)
    assert list(together) == list(REASONS)
    for name, values in together.items():
        assert values.dtype == np.float32
        single = np.concatenate([score_tiles(tile[None], 0.5)[name] for tile in tiles])
        np.testing.assert_array_equal(values, single, err_msg=name)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 300), (77, 131), (256, 256)])
@pytest.mark.parametrize("mpp", [0.1, 0.5, 8.0])
def test_any_picture_has_scores(size: tuple[int, int], mpp: float) -> None:
    random = np.random.default_rng(0)
    tiles = np.stack(
        [
            np.zeros((*size, 3), np.uint8),
            np.full((*size, 3), 255, np.uint8),
            np.full((*size, 3), (180, 90, 160), np.uint8),
            random.integers(0, 256, (*size, 3), dtype=np.uint8),
        ]
    )
    with np.errstate(all="raise", under="ignore"):
        scores = score_tiles(tiles, mpp)
    for name, values in scores.items():
        assert values.shape == (4,)
        assert ((values >= 0) & (values <= 1)).all(), name
    assert scores["background"][1] == 1
    assert scores["pen_black"][0] == 1
    assert [len(values) for values in score_tiles(tiles[:0], mpp).values()] == [0] * len(REASONS)


def test_misuse_is_told() -> None:
    with pytest.raises(ValueError, match="uint8"):
        score_tiles(np.zeros((1, 8, 8, 3), np.float32), 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tiles"):
        score_tiles(np.zeros((8, 8, 3), np.uint8), 0.5)
    with pytest.raises(ValueError, match="above 0"):
        score_tiles(np.zeros((1, 8, 8, 3), np.uint8), 0.0)
    with pytest.raises(ValidationError, match="blurr"):
        Limits(blurr=0.5)  # type: ignore[call-arg]


def scored(**values: list[float]) -> dict[str, NDArray[np.float32]]:
    count = len(next(iter(values.values())))
    return {name: np.array(values.get(name, [0.0] * count), np.float32) for name in dict.fromkeys([*REASONS, *values])}


def test_the_first_reason_is_named() -> None:
    names = list(REASONS)
    rows = [[0.0] * i + [1.0] * (len(names) - i) for i in range(len(names) + 1)]
    scores = {name: np.array([row[i] for row in rows], np.float32) for i, name in enumerate(names)}
    assert reject(scores, Limits()) == [*REASONS.values(), ""]
    assert reject(scores, Limits(pen=1, background=1, dark=1, fold=1, bubble=1, blur=1, uniform=1)) == [""] * len(rows)


def test_limits_are_exclusive_and_nan_is_over_none() -> None:
    limits = Limits(blur=0.5)
    assert reject(scored(blur=[0.5, 0.6, float("nan")]), limits) == ["", "out of focus", ""]


def test_own_scores_are_columns_with_limits_of_their_own() -> None:
    tiles = np.stack([draw_tissue(seed) for seed in range(3)])

    def model(pixels: Tile, mpp: float) -> dict[str, list[float]]:
        assert mpp == 0.5
        return {"necrosis": [0.1, 0.9, 0.4][: len(pixels)]}

    scores = score_tiles(tiles, 0.5, model=model)
    np.testing.assert_allclose(scores["necrosis"], [0.1, 0.9, 0.4])
    assert reject(scores, Limits(own={"necrosis": 0.5})) == ["", "necrosis", ""]
    with pytest.raises(RecipeError, match="did you mean 'necrosis'"):
        reject(scores, Limits(own={"necrossis": 0.5}))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"blood": [0.1]}, r"'blood' is no finite number for each of 2 tiles"),
        ({"blood": [0.1, float("nan")]}, "finite"),
        ({"blur": [0.1, 0.2]}, "which Synthoma has itself"),
    ],
)
def test_own_scores_that_do_not_fit_are_refused(found: dict[str, list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        score_tiles(np.zeros((2, 16, 16, 3), np.uint8), 0.5, model=lambda pixels, mpp: found)


def test_blur_relative_to_the_slide() -> None:
    blur = [0.30, 0.32, 0.34, 0.36, 0.38, 0.60, float("nan"), 0.9]
    scores = relative_to_slide(scored(blur=blur, background=[0, 0, 0, 0, 0, 0, 0, 0.95]))
    spread = 1.4826 * 0.03  # median 0.35, deviations 0.05, 0.03, 0.01, 0.01, 0.03, 0.25
    np.testing.assert_allclose(scores["blur_z"][:6], (np.array(blur[:6]) - 0.35) / spread, rtol=1e-4)
    assert np.isnan(scores["blur_z"][6:]).all()
    assert reject(scores, Limits(blur=0.7, blur_z=5.0))[5] == "out of focus"
    assert reject(scores, Limits(blur=0.7, blur_z=6.0))[5] == ""
    assert reject(scores, Limits(blur=1.0, blur_z=0.1))[:6] == [""] * 5 + ["out of focus"]
    alike = relative_to_slide(scored(blur=[0.3, 0.3, 0.3, 0.32]))["blur_z"]
    np.testing.assert_allclose(alike, [0, 0, 0, 1], atol=1e-4)
    nothing = relative_to_slide(scored(blur=[float("nan")] * 2))["blur_z"]
    assert np.isnan(nothing).all()


def test_a_strongly_stained_slide_has_no_folds_but_for_its_own_reference() -> None:
    tiles = np.stack([draw_tissue(seed, strength=3.5, density_of_nuclei=4e-3) for seed in range(4)])
    assert (score_tiles(tiles, 0.5)["fold"] > Limits().fold).all()
    scores = score_tiles(tiles, 0.5, reference=of_slide("macenko", 3.5))
    assert (scores["fold"] <= Limits().fold).all()


def test_what_lies_double_is_denser_than_tissue_of_its_hue() -> None:
    """Half of a slide is dense and blue, half pale and pink: pink as dense as the blue is a fold, the blue is none."""
    thumbnail = np.empty((40, 40, 3))
    thumbnail[:20], thumbnail[20:] = (110, 70, 140), (235, 175, 205)
    thumbnail = np.rint(thumbnail + np.random.default_rng(0).normal(0, 3, thumbnail.shape)).astype(np.uint8)
    tissue = Tissue(
        np.ones((40, 40), bool), 0.05, 1.0, (255.0, 255.0, 255.0), blank=False, hidden=np.zeros((40, 40), bool)
    )
    reference = slide_reference(thumbnail, tissue)
    pink = ((235 + 1) / 256) ** 2.6, ((175 + 1) / 256) ** 2.6, ((205 + 1) / 256) ** 2.6
    tiles = np.empty((3, 64, 64, 3), np.uint8)
    tiles[0], tiles[1], tiles[2] = (110, 70, 140), (235, 175, 205), [round(256 * part - 1) for part in pink]
    assert score_tiles(tiles, 0.5, reference=reference)["fold"].tolist() == [0, 0, 1]


def test_tinted_glass_is_glass_and_no_air() -> None:
    glass = (218, 226, 205)
    tiles = np.stack([draw_tissue(seed) for seed in range(4)]) * (np.array(glass) / 255)
    tiles[:, :, 20:] = glass
    tiles = np.rint(tiles).astype(np.uint8)
    reference = Reference((218.0, 226.0, 205.0))
    assert reject(score_tiles(tiles, 0.5, reference=reference), Limits()) == ["background"] * 4
    assert set(reject(score_tiles(tiles, 0.5), Limits())) != {"background"}
