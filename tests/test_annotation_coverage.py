"""Shares of boxes against plain geometry and counted points; annotations held against the slide they should be of."""

import itertools
import time

import numpy as np
import pytest
from numpy.typing import NDArray

shapely = pytest.importorskip("shapely")

from synthoma.errors import AnnotationError  # noqa: E402
from synthoma.formats.annotations import (  # noqa: E402
    Annotation,
    AnnotationFile,
    AnnotationIndex,
    check_against,
    unknown_labels,
)


def annotation(geometry: object, label: str | None = "tumor", negative: bool = False) -> Annotation:
    return Annotation(geometry, label, negative, "made up")  # type: ignore[arg-type]


def star(random: np.random.Generator, centre: NDArray[np.float64], corners: int, radius: float) -> object:
    """A ragged polygon round a centre."""
    angle = np.sort(random.uniform(0, 2 * np.pi, corners))
    distance = radius * random.uniform(0.6, 1.0, corners)
    return shapely.Polygon(centre + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def drawn(random: np.random.Generator, centre: NDArray[np.float64], corners: int, radius: float) -> object:
    """A lobed polygon as a trembling hand draws it."""
    angle = np.sort(random.uniform(0, 2 * np.pi, corners))
    distance = radius * (0.8 + 0.15 * np.sin(5 * angle) + 0.01 * random.uniform(-1, 1, corners))
    return shapely.Polygon(centre + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def test_shares_of_simple_boxes() -> None:
    index = AnnotationIndex([annotation(shapely.Polygon([(0, 0), (100, 0), (100, 100), (0, 100)]))])
    boxes = np.array(
        [
            [0, 0, 10, 10],
            [95, 95, 105, 105],
            [95, 0, 105, 10],
            [200, 0, 300, 9],
            [-50, -50, 150, 150],
            [100, 0, 110, 10],
        ]
    )
    assert index.fraction(boxes)["tumor"].tolist() == [1, 0.25, 0.5, 0, 0.25, 0]
    assert index.fraction(np.empty((0, 4)))["tumor"].shape == (0,)


def test_overlaps_count_once_and_classes_on_their_own() -> None:
    index = AnnotationIndex(
        [
            annotation(shapely.box(0, 0, 10, 10)),
            annotation(shapely.box(5, 0, 15, 10)),
            annotation(shapely.box(15, 0, 20, 10)),
            annotation(shapely.box(0, 0, 20, 5), "stroma"),
            annotation(shapely.box(0, 0, 20, 2), None),
        ]
    )
    shares = index.fraction(np.array([[0, 0, 20, 10], [2, 0, 18, 10], [0, 0, 40, 10.0]]))
    assert {label: share.tolist() for label, share in shares.items()} == {
        "tumor": [1, 1, 0.5],
        "stroma": [0.5, 0.5, 0.25],
        None: [pytest.approx(0.2), pytest.approx(0.2), pytest.approx(0.1)],
    }


def test_excluded_negative_and_holed_places_do_not_count() -> None:
    shapes = [
        annotation(
            shapely.Polygon([(0, 0), (100, 0), (100, 100), (0, 100)], [[(0, 90), (10, 90), (10, 100), (0, 100)]])
        ),
        annotation(shapely.box(90, 90, 120, 120), "necrosis"),
        annotation(shapely.box(0, 0, 10, 10), "other layer", negative=True),
        annotation(shapely.box(90, 0, 100, 10), "stroma"),
    ]
    boxes = np.array([[0, 0, 100, 100], [90, 90, 100, 100], [0, 0, 10, 10], [0, 90, 10, 100], [90, 0, 100, 10.0]])
    index = AnnotationIndex(shapes, exclude=["necrosis"])
    assert index.labels == ("tumor", "stroma")
    shares = index.fraction(boxes)
    assert shares["tumor"] == pytest.approx([0.97, 0, 0, 0, 1])
    assert shares["stroma"] == pytest.approx([0.01, 0, 0, 0, 1])
    assert {label: region.area for label, region in index.regions.items()} == {"tumor": 9700, "stroma": 100}

    index = AnnotationIndex(shapes, include=["necrosis", "absent", "tumor"])
    assert index.ignored == ("stroma",)
    shares = index.fraction(boxes)
    assert list(shares) == ["necrosis", "absent", "tumor"]
    assert shares["necrosis"] == pytest.approx([0.01, 1, 0, 0, 0])
    assert shares["tumor"] == pytest.approx([0.98, 1, 0, 0, 1])
    assert not shares["absent"].any()
    assert index.regions["absent"].is_empty


def test_shares_agree_with_plain_geometry() -> None:
    """Ragged polygons of three classes that overlap, one cut out of the others, against one union and one clip a box."""
    random = np.random.default_rng(0)
    shapes = []
    for number in range(60):
        corners = int(random.choice([5, 40, 600]))
        made = star(random, random.uniform(0, 1000, 2), corners, random.uniform(20, 200))
        shapes.append(annotation(made, ("a", "b", "cut")[number % 3]))
    low = random.uniform(-50, 1000, (400, 2))
    boxes = np.concatenate([low, low + random.uniform(1, 120, (400, 2))], axis=1)
    shares = AnnotationIndex(shapes, exclude=["cut"]).fraction(boxes)
    cut = shapely.union_all([s.geometry for s in shapes if s.label == "cut"])
    for label in ("a", "b"):
        left = shapely.union_all([s.geometry for s in shapes if s.label == label]).difference(cut)
        rectangles = shapely.box(*boxes.T)
        expected = shapely.area(shapely.intersection(left, rectangles)) / shapely.area(rectangles)
        assert shares[label] == pytest.approx(expected, abs=1e-9)
        assert (expected > 0.999999).sum() > 5, "some boxes are full, or the test shows little"
        assert ((expected > 0.01) & (expected < 0.99)).sum() > 50


def test_shares_agree_with_counting_points() -> None:
    """Without shapely: a place is inside where a ray to the right crosses the outlines an odd number of times."""
    random = np.random.default_rng(1)
    outline = np.asarray(star(random, np.array([50.0, 50.0]), 700, 45).exterior.coords)  # type: ignore[attr-defined]
    hole = np.array([(45, 45), (58, 47), (52, 60), (45, 45.0)])
    index = AnnotationIndex([annotation(shapely.Polygon(outline, [hole]))])
    low = random.uniform(0, 80, (20, 2))
    boxes = np.concatenate([low, low + 20], axis=1)
    points = low[:, None, :] + (np.stack(np.meshgrid(np.arange(60), np.arange(60)), axis=-1).reshape(-1, 2) + 0.5) / 3
    crossings = np.zeros(points.shape[:2], dtype=np.int64)
    for loop in (outline, hole):
        for (x0, y0), (x1, y1) in itertools.pairwise(loop):
            over = (y0 > points[..., 1]) != (y1 > points[..., 1])
            with np.errstate(divide="ignore", invalid="ignore"):
                crossings += over & (points[..., 0] < (x1 - x0) * (points[..., 1] - y0) / (y1 - y0) + x0)
    assert index.fraction(boxes)["tumor"] == pytest.approx((crossings % 2).mean(axis=1), abs=0.01)


def staircase(random: np.random.Generator) -> tuple[NDArray[np.bool_], object]:
    """A mask [y, x] and its outline along the sides of pixels, as programs draw it round what they found."""
    mask = np.zeros((300, 300), dtype=bool)
    rows = []
    for y in range(20, 280):
        left, right = random.integers(10, 60), random.integers(240, 290)
        mask[y, left:right] = True
        rows.append(shapely.box(left, y, right, y + 1))
    mask[100:140, 90:200] = False
    return mask, shapely.union_all(rows).difference(shapely.box(90, 100, 200, 140))


@pytest.mark.parametrize("clip_works", [True, False])
def test_shares_of_outlines_along_pixels(clip_works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts and boxes that run along the outline itself, counted in the mask; also where the quick clip goes wrong."""
    if not clip_works:
        monkeypatch.setattr(shapely, "clip_by_rect", lambda *_: shapely.Polygon())
    random = np.random.default_rng(4)
    mask, outline = staircase(random)
    assert shapely.get_num_coordinates(outline) > 1000
    index = AnnotationIndex([annotation(outline)])
    low = random.integers(0, 250, (300, 2))
    boxes = np.concatenate([low, low + random.integers(1, 50, (300, 2))], axis=1)
    expected = [mask[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in boxes]
    assert index.fraction(boxes)["tumor"] == pytest.approx(expected, abs=1e-9)
    assert 50 < sum(0 < share < 1 for share in expected) < 250


def test_boxes_must_have_an_area() -> None:
    index = AnnotationIndex([annotation(shapely.box(0, 0, 10, 10))])
    for box in ([0, 0, 0, 5], [5, 5, 1, 9], [0, 0, np.nan, 5]):
        with pytest.raises(ValueError, match="x0 < x1"):
            index.fraction(np.array([box], dtype=np.float64))


def test_names_that_no_annotation_has() -> None:
    index = AnnotationIndex([annotation(shapely.box(0, 0, 1, 1)), annotation(shapely.box(0, 0, 1, 1), "Stroma")])
    assert index.unknown_labels(["tumor", "tumour", "xyz", " Stroma "]) == {
        "tumour": "; did you mean 'tumor'?",
        "xyz": "",
    }
    assert unknown_labels(["fat"], []) == {"fat": ""}
    with pytest.raises(AnnotationError, match="'tumor' is both included and excluded"):
        AnnotationIndex([], include=["tumor", "fat"], exclude=["tumor"])


def test_an_index_of_nothing() -> None:
    assert AnnotationIndex([]).fraction(np.array([[0, 0, 1, 1.0]])) == {}
    shares = AnnotationIndex([], include=["tumor"], exclude=["necrosis"]).fraction(np.array([[0, 0, 1, 1.0]]))
    assert shares["tumor"].tolist() == [0]


@pytest.mark.slow
def test_many_boxes_against_many_polygons_take_seconds() -> None:
    random = np.random.default_rng(2)
    places = np.stack(np.meshgrid(np.arange(40), np.arange(25)), axis=-1).reshape(-1, 2)
    centres = places * 2000.0 + random.uniform(900, 1300, (1000, 2))
    shapes = [annotation(drawn(random, centre, 1000, 1200), f"class {i % 3}") for i, centre in enumerate(centres)]
    low = np.stack(np.meshgrid(np.arange(400) * 200.0, np.arange(250) * 200.0), axis=-1).reshape(-1, 2)
    boxes = np.concatenate([low, low + 256], axis=1)
    assert len(boxes) == 100_000
    start = time.perf_counter()
    shares = AnnotationIndex(shapes, exclude=["class 2"]).fraction(boxes)
    elapsed = time.perf_counter() - start
    print(f"100,000 boxes against 1,000 polygons of 1,000 points: {elapsed:.1f} s")
    assert 0.1 < np.mean(shares["class 0"]) < 0.5
    assert elapsed < 30


def a_file(*geometries: object, mpp: float | None = None) -> AnnotationFile:
    shapes = tuple(Annotation(g, "a", False, f"annotation {i}") for i, g in enumerate(geometries, 1))  # type: ignore[arg-type]
    return AnnotationFile("asap", shapes, microns_per_pixel=mpp)


def test_annotations_outside_of_a_slide() -> None:
    file = a_file(
        shapely.box(10, 10, 20, 20),
        shapely.box(990, 10, 1020, 20),
        shapely.box(1000, 0, 1010, 10),
        shapely.box(-5, -5, 0, 900),
        shapely.box(-0.5, -0.5, 1000.5, 500.9),
    )
    placement = check_against(file, (1000, 500))
    assert placement.outside == ("annotation 3", "annotation 4")
    assert placement.partly == ("annotation 2",)
    first, second = placement.warnings
    assert "2 of 5 annotations lie outside" in first
    assert "1000 x 500 pixels (annotation 3, annotation 4)" in first
    assert "1 annotations reach over" in second
    assert check_against(a_file(shapely.box(0, 0, 5, 5)), (10, 10), (0.5, 0.5)).warnings == ()
    assert check_against(a_file(), (10, 10), (0.5, 0.5)).warnings == ()


def scattered(scale: float, whole: bool = False) -> AnnotationFile:
    """Twenty ragged areas all over a slide of 40,000 x 20,000 pixels, in pixels times `scale`."""
    random = np.random.default_rng(3)
    centres = random.uniform((2000, 2000), (38000, 18000), (20, 2))
    made = [shapely.transform(star(random, c, 30, 900), lambda points: points * scale) for c in centres]
    return a_file(*(shapely.transform(g, np.round) if whole else g for g in made))


def test_coordinates_in_microns_are_suspected() -> None:
    size, mpp = (40000, 20000), (0.25, 0.25)
    (warning,) = check_against(scattered(0.25), size, mpp).warnings
    assert "first 10000 x 5000 pixels" in warning
    assert "Nothing was rescaled" in warning
    assert check_against(scattered(0.25), size).warnings == (), "without a resolution there is nothing to hold them to"
    assert check_against(scattered(1.0), size, mpp).warnings == ()
    assert check_against(scattered(0.25, whole=True), size, mpp).warnings == (), "microns are no whole numbers"
    assert check_against(scattered(0.25), size, (1.0, 1.0)).warnings == ()
    small = a_file(star(np.random.default_rng(0), np.array([3000.0, 3000.0]), 30, 900))
    assert check_against(small, size, mpp).warnings == (), "one small area in that corner shows nothing"


def test_annotations_of_another_scan_are_told() -> None:
    (warning,) = check_against(a_file(shapely.box(0, 0, 5, 5), mpp=0.252), (10000, 10000), (0.504, 0.504)).warnings
    assert "0.252 microns per pixel" in warning
    assert check_against(a_file(shapely.box(0, 0, 5, 5), mpp=0.252), (10000, 10000), (0.25, 0.25)).warnings == ()
