"""Tissue: found on glass of any tint, not where there is none, the same at other resolutions, and its share of boxes exact."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage

from synthoma.preparation.slides.artefacts import Reference, reject, score_tiles
from synthoma.preparation.slides.tissue import (
    Tissue,
    otsu,
    slide_reference,
    tissue_fraction,
    tissue_mask,
)
from synthoma.slide_settings import Limits, TissueSettings
from tissue_fixture import STAINS, draw_coarse_amounts, inked, render

Thumbnail = NDArray[np.uint8]
GLASS = (244, 242, 245)


def noisy(picture: NDArray[np.float64], seed: int = 0, std: float = 1.5) -> Thumbnail:
    noise = np.random.default_rng(seed).normal(0, std, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def outline(size: int, mpp: float, seed: int = 1) -> NDArray[np.bool_]:
    """A smooth piece of tissue about 2 mm wide in the midst of a field of size * mpp microns."""
    angles, y, x = np.random.default_rng(seed).uniform(0, 6.3, 5), *np.mgrid[:size, :size].astype(float)
    dy, dx = (y + 0.5) * mpp - size * mpp / 2, (x + 0.5) * mpp - size * mpp / 2
    turn = np.arctan2(dy, dx)
    radius = 1000 + sum(120 / (k + 1) * np.sin((k + 2) * turn + angle) for k, angle in enumerate(angles))
    return np.hypot(dy, dx) < radius


def section(
    mpp: float = 8.0,
    glass: tuple[int, int, int] = GLASS,
    strength: float = 1.0,
    stains: str = "macenko",
    field_um: float = 3200,
) -> tuple[Thumbnail, NDArray[np.bool_]]:
    """A slide with one piece of tissue, and where it is."""
    size = round(field_um / mpp)
    inside = outline(size, mpp)
    # What a thumbnail shows of nuclei and fibres is their mean.
    amounts = ndimage.zoom(draw_coarse_amounts(2, 100), (size / 100, size / 100, 1), order=1, mode="grid-wrap")
    light = render(strength * amounts * inside[..., None], STAINS[stains]) / 255 * np.array(glass)
    return noisy(light), inside


def overlap(found: Tissue, expected: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((found.mask & expected).sum() / (found.mask | expected).sum())


@pytest.mark.parametrize("mpp", [4.0, 8.0, 16.0])
@pytest.mark.parametrize("stains", list(STAINS))
def test_tissue_is_found_at_any_scale(mpp: float, stains: str) -> None:
    picture, inside = section(mpp, stains=stains)
    found = tissue_mask(picture, mpp)
    assert overlap(found, inside) > 0.95
    assert not found.blank
    assert found.reason == ""
    assert found.share == pytest.approx(found.mask.mean())
    assert 0.05 <= found.threshold <= 0.1


@pytest.mark.parametrize("glass", [(255, 255, 255), (220, 218, 222), (248, 244, 232), (236, 240, 248)])
@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
def test_tissue_is_found_on_any_glass(glass: tuple[int, int, int], strength: float) -> None:
    picture, inside = section(glass=glass, strength=strength)
    assert overlap(tissue_mask(picture, 8.0), inside) > 0.95


def test_a_tiny_piece_on_a_large_slide_is_found() -> None:
    picture = noisy(np.full((1000, 1000, 3), GLASS, float))
    piece = render(draw_coarse_amounts(3, 30), STAINS["macenko"])
    picture[400:430, 600:630] = piece
    found = tissue_mask(picture, 8.0)
    assert not found.blank
    assert 800 < found.mask.sum() < 1100
    assert found.mask[405:425, 605:625].all()


def vignette(size: int) -> NDArray[np.float64]:
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    return 1 - 0.15 * (x * x + y * y)


BLANK = {
    "white": np.full((200, 300, 3), 255, np.uint8),
    "glass": noisy(np.full((200, 300, 3), GLASS, float)),
    "dim glass": noisy(np.full((200, 300, 3), (205, 206, 208), float), std=3),
    "yellowish glass": noisy(np.full((200, 300, 3), (250, 244, 225), float)),
    "tint of pink": noisy(np.full((200, 300, 3), (250, 228, 242), float)),
    "shaded glass": noisy(np.array(GLASS) * vignette(200)[..., None]),
    "black": np.zeros((200, 300, 3), np.uint8),
    "grey": noisy(np.full((200, 300, 3), 128, float)),
    "half black, half white": np.repeat(np.array([0, 255], np.uint8), 100)[:, None, None].repeat(90, 1).repeat(3, 2),
    "one pixel": np.full((1, 1, 3), 255, np.uint8),
}


@pytest.mark.parametrize("name", list(BLANK))
def test_a_blank_slide_has_no_tissue(name: str) -> None:
    found = tissue_mask(BLANK[name], 8.0)
    assert found.blank
    assert found.reason.startswith("no tissue: ")
    assert not found.mask.any()
    assert found.mask.shape == BLANK[name].shape[:2]
    assert found.share == 0


PENS = {"blue": (40, 70, 170), "green": (30, 135, 80), "red": (215, 40, 50), "black": (24, 24, 28)}


def stroke(size: int, middle: float, width: float) -> NDArray[np.float64]:
    """A stroke that goes down the picture in a slight wave, with a soft rim."""
    y, x = np.mgrid[:size, :size].astype(float)
    return np.clip((width / 2 - np.abs(x - middle - 8 * np.sin(y / 30))) / 1.5 + 0.5, 0, 1)


@pytest.mark.parametrize("ink", list(PENS))
def test_a_slide_of_pure_pen_is_blank(ink: str) -> None:
    where = stroke(400, 200, 60)
    picture = noisy((1 - where[..., None]) * np.array(GLASS) + where[..., None] * np.array(PENS[ink]))
    found = tissue_mask(picture, 8.0)
    assert found.blank
    assert "only pen marks" in found.reason


@pytest.mark.parametrize("ink", list(PENS))
def test_pen_beside_and_over_tissue_is_not_tissue(ink: str) -> None:
    picture, inside = section()
    beside, over = stroke(400, 40, 30), stroke(400, 200, 40)
    marked = inked(picture, np.maximum(beside, over), PENS[ink])
    found = tissue_mask(marked, 8.0)
    assert not found.blank
    ink_core = np.maximum(beside, over) == 1
    assert found.mask[ink_core].mean() < 0.02
    untouched = inside & (ndimage.maximum_filter(np.maximum(beside, over), 13) == 0)
    assert found.mask[untouched].mean() > 0.98
    assert found.mask[~inside].mean() < 0.03


def test_a_picture_filled_with_tissue_is_tissue() -> None:
    for strength in (0.6, 1.0, 2.0):
        picture = noisy(render(strength * draw_coarse_amounts(4, 200), STAINS["macenko"]).astype(float))
        assert tissue_mask(picture, 8.0).share > 0.97


@pytest.mark.parametrize("mpp", [4.0, 8.0, 16.0])
def test_small_pieces_and_holes_go_by_square_microns(mpp: float) -> None:
    size = round(3200 / mpp)
    y, x = ((np.arange(size) + 0.5) * mpp for _ in range(2))

    def at(centre: tuple[float, float], radius: float) -> NDArray[np.bool_]:
        return np.hypot(y[:, None] - centre[0], x[None] - centre[1]) < radius

    tissue = at((1400, 1400), 900)
    for centre, radius in (((1400, 1100), 60.0), ((1400, 1700), 250.0)):  # 0.011 mm² is filled, 0.2 mm² stays
        tissue &= ~at(centre, radius)
    for centre, radius in (((2900, 400), 50.0), ((2900, 2400), 150.0)):  # 0.008 mm² goes, 0.07 mm² stays
        tissue |= at(centre, radius)
    picture = noisy(np.where(tissue[..., None], (200.0, 120.0, 180.0), GLASS))
    found = tissue_mask(picture, mpp).mask

    def value(y_um: float, x_um: float) -> bool:
        return bool(found[int(y_um / mpp), int(x_um / mpp)])

    assert value(1400, 1100)
    assert not value(1400, 1700)
    assert not value(2900, 400)
    assert value(2900, 2400)


def test_a_bay_at_the_border_is_no_hole() -> None:
    picture = np.full((200, 200, 3), (200.0, 120.0, 180.0))
    picture[:8, 90:110] = GLASS  # 0.01 mm², below the limit for holes
    assert not tissue_mask(noisy(picture), 8.0, TissueSettings(close_um=0)).mask[0:6, 95:105].any()


def test_reference_is_the_median_colour_of_tissue_on_its_glass() -> None:
    picture = np.full((50, 50, 3), (230, 235, 240), np.uint8)
    picture[10:40, 10:40] = (115, 59, 120)
    found = tissue_mask(picture, 8.0)
    reference = slide_reference(picture, found)
    np.testing.assert_allclose(reference.glass, (230, 235, 240))
    # Half, a quarter and half of the light: densities ln 2, ln 4 and ln 2.
    np.testing.assert_allclose(reference.spread, 3 / 4, rtol=0.02)
    np.testing.assert_allclose(reference.double, 2 * 4 / 3 * np.log(2), rtol=0.01)
    assert len(reference.double) == len(reference.hues) + 1
    blank = np.full((50, 50, 3), (230, 235, 240), np.uint8)
    assert slide_reference(blank, tissue_mask(blank, 8.0)) == Reference((230.0, 235.0, 240.0))


def test_otsu_is_the_split_of_greatest_variance_between() -> None:
    random = np.random.default_rng(5)
    values = np.concatenate((random.normal(40, 8, 3000), random.normal(130, 20, 1000))).clip(0, 255).astype(np.uint8)

    def between(threshold: int) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2 if len(low) and len(high) else 0.0

    assert between(int(otsu(values) * 255)) == pytest.approx(max(map(between, range(256))))
    assert otsu(np.full(10, 7, np.uint8)) == 0.0
    assert otsu(np.array([10, 10, 20, 20], np.uint8)) * 255 == pytest.approx(14.5)


def test_settings_and_input_are_checked() -> None:
    with pytest.raises(ValidationError, match="above most_saturation"):
        TissueSettings(least_saturation=0.2, most_saturation=0.1)
    with pytest.raises(ValueError, match="thumbnail"):
        tissue_mask(np.zeros((4, 4), np.uint8), 8.0)
    with pytest.raises(ValueError, match="x0 < x1"):
        tissue_fraction(np.ones((2, 2), bool), 8.0, np.array([[0.0, 0, 0, 4]]), 1.0)


def test_share_of_boxes_against_a_fine_grid() -> None:
    """Boxes whose corners lie on a grid that divides the mask's pixels: counted on that grid, pixel by pixel."""
    random = np.random.default_rng(6)
    mask = random.random((13, 17)) < 0.5
    fine = np.zeros((13 * 8 + 40, 17 * 8 + 40), bool)  # an eighth of a pixel, and 20 cells of no tissue around
    fine[20:-20, 20:-20] = mask.repeat(8, axis=0).repeat(8, axis=1)
    corners = np.stack([random.integers(-20, end, 200) for end in (17 * 8 + 8, 13 * 8 + 8)], axis=1)
    sides = random.integers(1, 12, (200, 2))
    boxes = np.concatenate((corners, corners + sides), axis=1)
    expected = [fine[y0 + 20 : y1 + 20, x0 + 20 : x1 + 20].mean() for x0, y0, x1, y1 in boxes]
    # A level-0 pixel of 0.25 µm, a mask of 8 µm: an eighth of its pixel is 4 level-0 pixels.
    np.testing.assert_allclose(tissue_fraction(mask, 8.0, boxes * 4.0, 0.25), expected, atol=1e-12)
    # And with pixels that are not square.
    stretched = boxes * [4.0, 2.0, 4.0, 2.0]
    np.testing.assert_allclose(tissue_fraction(mask, (8.0, 8.0), stretched, (0.25, 0.5)), expected, atol=1e-12)


def test_share_of_boxes_at_the_ends() -> None:
    full = np.ones((10, 20), bool)
    boxes = np.array([[0, 0, 20, 10], [-5, -5, 5, 5], [30, 30, 40, 40], [19.5, 9.5, 20, 10], [-9, 0, -1, 5]], float)
    np.testing.assert_allclose(tissue_fraction(full, 1.0, boxes, 1.0), [1, 0.25, 0, 1, 0])
    np.testing.assert_allclose(tissue_fraction(~full, 1.0, boxes, 1.0), 0)
    assert tissue_fraction(full, 1.0, np.zeros((0, 4)), 1.0).shape == (0,)


# Real slides: share of the picture that is tissue, of overlays that are right to the eye; microns a pixel where the file
# does not say them.
REAL = {
    "CMU-1-Small-Region.svs": (0.385, None),
    "CMU-1-Small-Region_pyramid.tif": (0.385, 0.499),
    "TCGA-CR-7395-01A-01-TS1.svs": (0.64, 0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(REAL))
def test_real_slides(name: str, data_root: Path) -> None:
    openslide = pytest.importorskip("openslide")
    expected, mpp = REAL[name]
    with openslide.OpenSlide(data_root / "wsi" / name) as slide:
        mpp = mpp or float(slide.properties["openslide.mpp-x"])
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    reduce = 16
    height, width = (length // reduce * reduce for length in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // reduce, reduce, width // reduce, reduce, 3)
    thumbnail = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    found = tissue_mask(thumbnail, mpp * reduce)
    assert not found.blank
    assert found.share == pytest.approx(expected, abs=0.02)

    side = 256
    corners = [(x, y) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)]
    boxes = np.array([(x, y, x + side, y + side) for x, y in corners], float)
    shares = tissue_fraction(found.mask, mpp * reduce, boxes, mpp)
    assert (shares * side * side).sum() == pytest.approx(
        found.mask[: height // side * 16, : width // side * 16].sum() * reduce**2
    )
    wanted = boxes[shares >= 0.5].astype(int)
    tiles = np.stack([pixels[y0:y1, x0:x1] for x0, y0, x1, y1 in wanted])
    scores = score_tiles(tiles, mpp, reference=slide_reference(thumbnail, found))
    reasons = reject(scores, Limits())
    # These are sharp slides without pen, dirt or air on their tissue.
    assert sum(reason != "" for reason in reasons) <= 0.05 * len(reasons), reasons
