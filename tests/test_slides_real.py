"""Real whole slides: regions against the levels that OpenSlide reads."""

from pathlib import Path

import numpy as np
import pytest

from slide_file_fixture import box_integral, openslide_level
from synthoma.errors import SlideError
from synthoma.formats.slides import open_slide


@pytest.fixture(scope="module")
def wsi(data_root: Path) -> Path:
    pytest.importorskip("openslide")
    if not (data_root / "wsi").is_dir():
        pytest.skip(f"{data_root} has no folder wsi")
    return data_root / "wsi"


@pytest.mark.slow
def test_a_real_slide_without_resolution(wsi):
    path = wsi / "TCGA-CR-7395-01A-01-TS1.svs"
    slide = open_slide(path)
    assert slide.mpp is None
    assert slide.vendor == "aperio"
    assert [level.downsample for level in slide.levels] == [1.0, 2.0]
    with pytest.raises(SlideError, match=r"TS1.svs has no resolution: give --mpp, or slides.mpp_table"):
        slide.read(0, 0, 256, 256, 0.5)
    # A flat-looking file it is not: it has two levels.
    assert slide.warnings == ()
    slide = open_slide(path, 0.5)
    read = slide.read(1700.0, 1500.0, 256, 256, 1.0)
    # OpenSlide calls the downsample 2.0005 and takes whole level-0 pixels as places; it interpolates what lies between.
    downsample = (4443 / 2221 + 3567 / 1783) / 2
    left, top = round(850 * downsample) / downsample, round(750 * downsample) / downsample
    assert max(abs(left - 850), abs(top - 750)) < 0.25
    level = openslide_level(path, 1).astype(float)
    rows = level[int(top) : int(top) + 257] * (1 - top % 1) + level[int(top) + 1 : int(top) + 258] * (top % 1)
    exact = rows[:256, int(left) : int(left) + 256] * (1 - left % 1) + rows[:256, int(left) + 1 : int(left) + 257] * (
        left % 1
    )
    assert np.abs(read - exact).mean() < 0.5
    thumbnail = slide.thumbnail(8.0)
    assert thumbnail.shape == (223, 278, 3)
    expected = box_integral(openslide_level(path, 1), 0, 0, 8.0, 278, 223)
    assert np.abs(thumbnail[:-1, :-1] - expected[:-1, :-1]).mean() < 0.5


@pytest.mark.slow
def test_a_real_slide_of_one_level_and_its_pyramid(wsi):
    single, pyramid = open_slide(wsi / "CMU-1-Small-Region.svs"), open_slide(wsi / "CMU-1-Small-Region_pyramid.tif")
    assert single.mpp == pyramid.mpp == (0.499, 0.499)
    assert single.objective == 20.0
    assert (len(single.levels), len(pyramid.levels)) == (1, 3)
    full = openslide_level(wsi / "CMU-1-Small-Region.svs", 0)
    assert np.array_equal(single.read(700, 900, 256, 256, 0.5), full[900:1156, 700:956])
    for mpp in (0.998, 1.0, 1.7):
        expected = box_integral(full, 700.3, 900.7, mpp / 0.499, 200, 150)
        assert np.abs(single.read(700.3, 900.7, 200, 150, mpp) - expected).max() <= 0.51
        # The pyramid was compressed once more, and its levels were made by somebody else: alike, and at the same place
        # to half a pixel (at 1.0 the level of 0.998 is taken as it is, which drifts by a pixel in five hundred).
        there = pyramid.read(700.3, 900.7, 200, 150, mpp)[5:-5, 5:-5]
        moved = [np.roll(expected, shift, (0, 1))[5:-5, 5:-5] for shift in np.ndindex(3, 3)]
        differences = [float(np.abs(there - part).mean()) for part in moved]
        assert differences[0] < 15.0
        assert mpp == 1.0 or differences[0] == min(differences)
    assert np.abs(single.thumbnail(8.0).astype(int) - pyramid.thumbnail(8.0)).mean() < 3.0
