"""Pictures of phantom slides: outlines, textures and blocks depend on nothing but their place."""

from dataclasses import replace

import numpy as np
import pytest

from slide_phantom_fixture import SMALL, centres, inside
from synthoma.phantoms.slides import BLOCK, draw_block, make_scene
from synthoma.phantoms.slides.fields import Noise, Window, cells, sites
from synthoma.phantoms.slides.outlines import Region, band, blob, outline
from synthoma.phantoms.slides.scene import Scene
from synthoma.phantoms.slides.tissue import concentrations

# Outlines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_pixel_is_inside_where_its_centre_is(seed):
    rng = np.random.default_rng(seed)
    shape = blob(rng, (90.2, 70.7), 60.0, 0.15) if seed % 2 else band(rng, (90.0, 70.0), seed, 150.0, 40.0)
    x, y = centres((200, 150))
    exact = inside(shape.points, x, y)
    assert np.array_equal(shape.fill(Window(0, 0, 200, 150)), exact)
    assert np.array_equal(shape.fill(Window(61, 33, 70, 80)), exact[33:113, 61:131])
    assert not shape.fill(Window(500, 0, 50, 50)).any()
    assert abs(shape.area - shape.fill(Window(-200, -200, 700, 700)).sum()) < 0.01 * shape.area


def test_corners_on_pixel_centres_count_once():
    square = outline(np.array([[2.5, 2.5], [7.5, 2.5], [7.5, 5.5], [2.5, 5.5]]))
    assert square.fill(Window(0, 0, 10, 10)).sum() == 5 * 3
    hole = Region("a", outline(np.array([[0, 0], [10, 0], [10, 10], [0, 10]])), (square,))
    assert hole.fill(Window(0, 0, 10, 10)).sum() == 100 - 15


def test_outlines_never_cross_themselves():
    shapely = pytest.importorskip("shapely")
    for number in range(4):
        scene = make_scene(1, number, number, (4096, 4096))
        shapes = [r.outline for r in (*scene.regions, *scene.artefacts)] + list(scene.sections + scene.exclusions)
        assert all(shapely.Polygon(shape.points).is_valid for shape in shapes)
        for region in scene.regions:
            around = shapely.Polygon(region.outline.points)
            assert all(around.contains(shapely.Polygon(hole.points)) for hole in region.holes)
        # Classes do not overlap, so that a pixel has one.
        first, second = (shapely.Polygon(region.outline.points) for region in scene.regions)
        assert not first.intersects(second)


# Fields --------------------------------------------------------------------------------------------------------------


def test_a_window_of_noise_is_a_part_of_any_other():
    wide, part = Window(-300, 1000, 400, 260), Window(-110, 1130, 90, 70)
    for spacing in (7.0, 33.3, 150.0):
        field = Noise(3, "test", wide, spacing).map()
        assert np.allclose(field[130:200, 190:280], Noise(3, "test", part, spacing).map(), atol=1e-5)
        at = Noise(3, "test", part, spacing, reach=40).at(part.xs[5:60] + 20, np.full(55, part.ys[9] - 30))
        assert np.allclose(at, field[109, 215:270], atol=1e-5)
        assert not np.allclose(field, Noise(4, "test", wide, spacing).map())
    many = Noise(3, "test", Window(0, 0, 1500, 1500), 6.0).map()
    assert abs(many.mean()) < 0.03
    assert abs(many.std() - 1.0) < 0.03


def test_sites_belong_to_places():
    wide, part = sites(3, "test", Window(0, 0, 500, 400), 20.0, 2), sites(3, "test", Window(200, 100, 90, 90), 20.0, 2)
    known = {(x, y): tuple(v) for x, y, v in zip(wide.x.tolist(), wide.y.tolist(), wide.values.tolist(), strict=True)}
    found = list(zip(part.x.tolist(), part.y.tolist(), part.values.tolist(), strict=True))
    assert len(found) > 16
    assert all(known[x, y] == tuple(values) for x, y, values in found)


def test_patterns_repeat_without_a_seam():
    pattern = cells(1, "test", 8, period=256)
    field = pattern.border.map(Window(-100, 50, 512, 512))
    assert np.array_equal(field[:256, :256], field[256:, 256:])
    step = np.abs(np.diff(np.concatenate((field, field[:, :1]), axis=1), axis=1))
    assert step.max() < 6.0
    seen = pattern.sites(Window(-256, 0, 512, 256))
    assert len(seen) == 128


# Pictures ------------------------------------------------------------------------------------------------------------


def test_a_block_depends_on_nothing_but_its_place():
    scene = make_scene(5, 1, 1, SMALL)
    first = draw_block(scene, 0, 1)
    for place in ((1, 1), (1, 0)):
        draw_block(scene, *place)
    again = draw_block(make_scene(5, 1, 1, SMALL), 0, 1)
    assert first is not None
    assert again is not None
    assert first.shape == (BLOCK, BLOCK, 3)
    assert np.array_equal(first, again)
    other = draw_block(make_scene(6, 1, 1, SMALL), 0, 1)
    assert other is None or not np.array_equal(first, other)


@pytest.mark.parametrize("patient", [0, 1])
def test_neighbouring_windows_fit(patient):
    """No seams: what two windows have in common is drawn alike in both."""
    scene = make_scene(5, patient, patient, SMALL, artefacts=False)
    wide, part = concentrations(scene, Window(300, 300, 420, 420)), concentrations(scene, Window(430, 410, 150, 160))
    assert wide is not None
    assert part is not None
    for whole, piece in zip(wide, part, strict=True):
        differing = np.abs(whole[110:270, 130:280] - piece) > 1e-3
        assert differing.mean() < 1e-4
        assert piece.std() > 0.05


@pytest.mark.parametrize(("number", "name"), [(0, "adenocarcinoma"), (1, "squamous")])
def test_classes_differ_in_texture(number, name):
    """Tumours hold more haematoxylin (adenocarcinoma) or eosin (squamous) than benign tissue of the same slide."""
    scene = make_scene(2, number, number, (2048, 2048), artefacts=False)
    tumour, benign = [], []
    for region in scene.regions:
        x0, y0, x1, y1 = region.outline.box
        window = Window(int((x0 + x1) / 2) - 150, int((y0 + y1) / 2) - 150, 300, 300)
        dyes = concentrations(scene, window)
        assert dyes is not None
        here = scene.annotated(window, region.name) & scene.tissue(window)
        (benign if region.name == "benign" else tumour).append([float(dye[here].mean()) for dye in dyes])
    assert {region.name for region in scene.regions} == {"benign", name}
    gain = np.array(tumour)[0] / np.array(benign)[0]
    assert gain[0] > 1.5
    assert (name == "squamous") == (tumour[0][1] > 0.5)


def test_glass_is_blank_and_patients_differ_in_stain():
    scene = make_scene(5, 0, 0, (8192, 8192))
    assert len(scene.sections) == 2
    assert draw_block(scene, 0, 0) is None or not scene.is_blank(Window(0, 0, BLOCK, BLOCK))
    blank = [(row, column) for row in range(16) for column in range(16) if draws_nothing(scene, row, column)]
    assert 40 < len(blank) < 200
    stains = [make_scene(5, 0, patient, SMALL).stain for patient in range(6)]
    assert len({tuple(stain.haematoxylin.tolist()) for stain in stains}) == 6
    same = [make_scene(5, number, 3, SMALL).stain.eosin for number in range(3)]
    assert 0.0 < np.abs(same[0] - same[1]).max() < 0.2


def draws_nothing(scene: Scene, row: int, column: int) -> bool:
    return scene.is_blank(Window(column * BLOCK, row * BLOCK, BLOCK, BLOCK))


def test_negative_regions_take_tumour_away():
    scene = make_scene(5, 1, 1, (2048, 2048))
    window = Window(0, 0, 2048, 2048)
    tumour = scene.annotated(window, "squamous")
    excluded = scene.exclusions[0].fill(window) & scene.regions[0].outline.fill(window)
    assert excluded.sum() > 3000
    assert not (tumour & excluded).any()


def test_blur_and_folds_change_what_lies_below():
    clean, touched = (make_scene(5, 0, 0, (2048, 2048), artefacts=artefacts) for artefacts in (False, True))
    assert str(replace(touched, artefacts=())) == str(clean)
    for name, check in (("blur", lambda now, then: sharpness(now) < 0.35 * sharpness(then)), ("fold", darker)):
        region = next(region for region in touched.artefacts if region.name == name)
        x0, y0, x1, y1 = region.outline.box
        row, column = int((y0 + y1) / 2) // BLOCK, int((x0 + x1) / 2) // BLOCK
        window = Window(column * BLOCK, row * BLOCK, BLOCK, BLOCK)
        area = touched.artefact(window, name) & touched.tissue(window)
        now, then = draw_block(touched, row, column), draw_block(clean, row, column)
        assert now is not None
        assert then is not None
        assert area.sum() > 2000
        assert check(np.where(area[..., None], now, 240), np.where(area[..., None], then, 240)), name


def sharpness(pixels: np.ndarray) -> float:
    """Variance of the Laplacian of the green channel, away from what was masked out."""
    green = pixels[..., 1].astype(float)
    laplacian = 4 * green[1:-1, 1:-1] - green[:-2, 1:-1] - green[2:, 1:-1] - green[1:-1, :-2] - green[1:-1, 2:]
    kept = np.ones(green.shape, dtype=bool)
    masked = (pixels == 240).all(axis=-1)
    for shift in range(-14, 15, 7):
        for axis in (0, 1):
            kept &= ~np.roll(masked, shift, axis)
    return float(laplacian[kept[1:-1, 1:-1]].var())


def darker(now: np.ndarray, then: np.ndarray) -> bool:
    there = (then != 240).any(axis=-1)
    return float(now[there].mean()) < float(then[there].mean()) - 15.0
