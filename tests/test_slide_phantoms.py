"""Phantom slides on disk: what is drawn is what is written beside it, in files that other readers open."""

import json
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from slide_phantom_fixture import SMALL, centres, inside
from synthoma.errors import DataError
from synthoma.formats.slides import open_slide, slide_files
from synthoma.phantoms.slides import ARTEFACTS, CLASSES, draw_block, make_scene, write_slide_phantoms
from synthoma.phantoms.slides.fields import Window
from synthoma.phantoms.slides.pyramid import TILE, level_sizes, write_pyramid
from synthoma.records import Origin, Record
from synthoma.sources import data_terms
from synthoma.sources.groups import apply_groups

needs_openslide = pytest.mark.skipif(find_spec("openslide") is None, reason="openslide-python is not installed")
FORMATS = ("annotations-asap", "annotations-imagescope", "annotations-geojson")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three small slides with all that belongs to them."""
    path = tmp_path_factory.mktemp("phantoms") / "slides"
    write_slide_phantoms(path, count=3, size=SMALL, seed=5)
    return path


# Pyramids ------------------------------------------------------------------------------------------------------------


@needs_openslide
def test_levels_are_means_of_the_finer_ones(folder):
    import openslide

    with openslide.OpenSlide(folder / "slide_000.tif") as slide:
        assert slide.level_dimensions == ((1024, 1024), (512, 512))
        assert slide.level_downsamples == (1.0, 2.0)
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert float(slide.properties["openslide.mpp-y"]) == 0.5
        assert not slide.associated_images
        levels = [
            np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))[..., :3] for level in (0, 1)
        ]
    mean = levels[0].reshape(512, 2, 512, 2, 3).mean(axis=(1, 3))
    assert np.abs(levels[1] - mean).mean() < 3.0  # JPEG
    drawn = draw_block(make_scene(5, 0, 0, SMALL), 1, 0)
    assert drawn is not None
    assert np.abs(levels[0][512:, :512].astype(int) - drawn).mean() < 4.0


@needs_openslide
def test_a_sparse_slide_of_gigabytes_is_a_small_file(tmp_path):
    """32768 x 25600 pixels (2.5 GB), of which three tiles show something; sizes need not be multiples of anything."""
    random = np.random.default_rng(0)
    shown = {place: random.integers(0, 255, (TILE, TILE, 3), dtype=np.uint8) for place in ((0, 0), (50, 77), (99, 127))}
    path = tmp_path / "sparse.tif"
    size = (32768, 25600)
    drawn = write_pyramid(path, size, 0.25, (240, 241, 242), lambda row, column: shown.get((row, column)), "test")
    assert drawn == 3
    assert path.stat().st_size < 1_500_000
    slide = open_slide(path)
    assert slide.size == size
    assert slide.mpp == (0.25, 0.25)
    assert [level.size for level in slide.levels] == level_sizes(size)
    assert [level.downsample for level in slide.levels] == [2.0**k for k in range(7)]
    glass = slide.read(5000, 5000, 300, 300, 0.25).astype(int)
    assert np.abs(glass - (240, 241, 242)).max() <= 2  # JPEG
    there = slide.read(77 * TILE, 50 * TILE, TILE, TILE, 0.25)
    assert np.abs(there.astype(int) - shown[50, 77]).mean() < 60.0
    assert there.std() > 10.0
    thumbnail = slide.thumbnail(64.0)
    assert thumbnail.shape == (100, 128, 3)
    assert np.abs(thumbnail[50, 77] - 127.0).max() < 12.0
    assert np.abs(thumbnail[10, 10] - np.array((240.0, 241.0, 242.0))).max() <= 2.0


def test_other_readers_find_the_same_structure(folder):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(folder / "slide_001.tif") as file:
        assert file.is_bigtiff
        assert [page.shape for page in file.pages] == [(1024, 1024, 3), (512, 512, 3)]
        assert all(page.is_tiled and page.compression == 7 and page.tilewidth == TILE for page in file.pages)
        assert [int(page.subfiletype) for page in file.pages] == [0, 1]
        assert [page.tags["XResolution"].value[0] / page.tags["XResolution"].value[1] for page in file.pages] == [
            2e4,
            1e4,
        ]


# Folders -------------------------------------------------------------------------------------------------------------


def test_what_lies_in_the_folder(folder):
    assert [path.name for path in slide_files(folder)] == ["slide_000.tif", "slide_001.tif", "slide_002.tif"]
    for kind, suffix in zip((*FORMATS, "truth", "truth-tissue"), ("xml", "xml", *("geojson",) * 3), strict=True):
        assert [path.name for path in sorted((folder / kind).iterdir())] == [
            f"slide_{n:03d}.{suffix}" for n in range(3)
        ]
    records = [Record(path.name, None, None, Origin(path)) for path in slide_files(folder)]
    grouped, _, warnings = apply_groups(records, folder, folder / "groups.csv")
    assert not warnings
    assert [record.origin.group for record in grouped] == ["patient-00000", "patient-00001", "patient-00002"]
    terms = data_terms(folder)
    assert terms.licence == "CC0-1.0"
    assert terms.may_release is True


def test_the_same_arguments_give_the_same_bytes(folder, tmp_path):
    report = write_slide_phantoms(tmp_path / "again", count=3, size=SMALL, seed=5)
    assert not report.reused
    assert (report.slides, report.count, report.patients, report.mpp) == (3, 3, 3, 0.5)
    assert report.regions == {"adenocarcinoma": 2, "benign": 3, "squamous": 1}
    assert set(report.artefacts) == set(ARTEFACTS)
    assert str(report).startswith("Wrote 3 phantom slides of 3 invented patients, 1024x1024 pixels at 0.5 µm")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 3 * 6 + 3
    assert files == sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.*"))
    assert all((folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)
    again = write_slide_phantoms(folder, count=3, size=SMALL, seed=5)
    assert again.reused
    assert "nothing was written" in str(again)
    with pytest.raises(DataError, match="another seed"):
        write_slide_phantoms(folder, count=3, size=SMALL, seed=6)
    (tmp_path / "again" / "truth" / "slide_000.geojson").write_text("{}")
    with pytest.raises(DataError, match="was changed"):
        write_slide_phantoms(tmp_path / "again", count=3, size=SMALL, seed=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "at least one slide"),
        ({"count": 2, "patients": 3}, "2 slides cannot be shared by 3 patients"),
        ({"size": (1000, 1024)}, "multiples of 256, not 1000x1024"),
        ({"size": (256, 1024)}, "1024 to 131072"),
    ],
)
def test_arguments_that_do_not_go_together(tmp_path, arguments, message):
    with pytest.raises(DataError, match=message):
        write_slide_phantoms(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(DataError, match="not empty"):
        write_slide_phantoms(tmp_path / "mine")


def geojson_shapes(path: Path) -> list[tuple[str, list[np.ndarray]]]:
    features = json.loads(path.read_text())["features"]
    assert all(feature["geometry"]["type"] == "Polygon" for feature in features)
    rings = [[np.array(ring) for ring in feature["geometry"]["coordinates"]] for feature in features]
    assert all((ring[0] == ring[-1]).all() for shape in rings for ring in shape)
    names = [feature["properties"]["classification"]["name"] for feature in features]
    return list(zip(names, rings, strict=True))


def annotated_pixels(folder: Path, kind: str, name: str, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Pixels of each class by an annotation file alone: its polygons, less holes and what is negative or excluded."""
    plus: dict[str, np.ndarray] = {}
    minus: dict[str, np.ndarray] = {}

    def add(side: dict[str, np.ndarray], label: str, points: np.ndarray) -> None:
        side[label] = side.get(label, np.zeros(x.shape, dtype=bool)) | inside(points, x, y)

    if kind == "annotations-geojson":
        for label, rings in geojson_shapes(folder / kind / f"{name}.geojson"):
            add(minus if label == "exclusion" else plus, label, rings[0])
            for hole in rings[1:]:
                add(minus, label, hole)
    else:
        root = ElementTree.parse(folder / kind / f"{name}.xml").getroot()  # noqa: S314
        for annotation in root.iter("Annotation"):
            if kind == "annotations-asap":
                points = [(float(c.get("X")), float(c.get("Y"))) for c in annotation.iter("Coordinate")]
                label = str(annotation.get("PartOfGroup"))
                add(minus if label == "exclusion" else plus, label, np.array(points))
            for region in annotation.iter("Region"):
                points = [(float(v.get("X")), float(v.get("Y"))) for v in region.iter("Vertex")]
                side = minus if region.get("NegativeROA") == "1" else plus
                add(side, str(annotation.get("Name")), np.array(points))
    excluded = minus.pop("exclusion", np.zeros(x.shape, dtype=bool))
    return {label: mask & ~minus.get(label, excluded) & ~excluded for label, mask in plus.items() if label in CLASSES}


@pytest.mark.parametrize("number", range(3))
def test_the_three_formats_say_what_was_drawn(folder, number):
    """Every third pixel: the class by which it was drawn is that of each of the three files."""
    scene = make_scene(5, number, number, SMALL)
    x, y = (each[1::3, 1::3] for each in centres(SMALL))
    window = Window(0, 0, *SMALL)
    tumour = "squamous" if number == 1 else "adenocarcinoma"
    drawn = {name: scene.annotated(window, name)[1::3, 1::3] for name in (tumour, "benign")}
    assert all(mask.sum() > 500 for mask in drawn.values())
    assert bool(scene.regions[0].holes) == (number % 2 == 0)
    assert bool(scene.exclusions) == (number == 1)
    for kind in FORMATS:
        written = annotated_pixels(folder, kind, scene.name, x, y)
        assert set(written) == set(drawn)
        for name, mask in drawn.items():
            assert np.array_equal(written[name], mask), (kind, name)


@needs_openslide
@pytest.mark.parametrize("number", range(3))
def test_artefacts_are_where_the_truth_says(folder, number):
    slide = open_slide(folder / f"slide_{number:03d}.tif")
    # Every fourth pixel of both directions.
    pixels = slide.read(0, 0, *SMALL, 0.5)[2::4, 2::4].astype(float)
    x, y = (each[2::4, 2::4] for each in centres(SMALL))
    red, green, blue = np.moveaxis(pixels, -1, 0)
    looks = {
        "pen_blue": (blue > red + 20) & (blue > green + 10),
        "pen_green": (green > red + 20) & (green > blue + 5),
        "pen_red": (red > green + 60) & (red > blue + 40),
        "pen_black": pixels.max(axis=-1) < 110,
        "dark": pixels.max(axis=-1) < 60,
    }
    found = geojson_shapes(folder / "truth" / f"slide_{number:03d}.geojson")
    assert {name for name, _ in found} >= {"blur", "fold", "bubble", "dark"}
    for name, rings in found:
        mask = inside(rings[0], x, y)
        assert mask.sum() > 20
        if name in looks:
            assert looks[name][mask].mean() > 0.85, name  # edges are soft
    tissue = np.zeros(x.shape, dtype=bool)
    for _, rings in geojson_shapes(folder / "truth-tissue" / f"slide_{number:03d}.geojson"):
        tissue |= inside(rings[0], x, y)
    planted = np.logical_or.reduce([inside(rings[0], x, y) for _, rings in found])
    # JPEG with halved colour resolution smears edges by up to a block of 16 pixels.
    glass = ~ndimage.binary_dilation(tissue | planted, iterations=5)
    assert pixels[glass].min() > 225
    assert 0.15 < tissue.mean() < 0.6


@pytest.mark.slow
@needs_openslide
def test_slides_of_the_usual_size_hold_enough_of_everything(tmp_path):
    """Four slides of 4096 pixels: tiles of 256 pixels in each class, all artefacts planted, clean tiles left over."""
    report = write_slide_phantoms(tmp_path / "slides", seed=0)
    assert report.patients == 3
    assert set(report.artefacts) == set(ARTEFACTS)
    tiles = dict.fromkeys(CLASSES, 0)
    clean = 0
    for number in range(4):
        scene = make_scene(0, number, number % 3, (4096, 4096))
        window = Window(0, 0, 4096, 4096)
        dirty = np.logical_or.reduce([scene.artefact(window, name) for name in ARTEFACTS])
        for name in CLASSES:
            covered = scene.annotated(window, name).reshape(16, 256, 16, 256).mean(axis=(1, 3)) > 0.95
            tiles[name] += int(covered.sum())
            clean += int((covered & (dirty.reshape(16, 256, 16, 256).mean(axis=(1, 3)) == 0)).sum())
    assert min(tiles.values()) >= 15
    assert clean >= 25
