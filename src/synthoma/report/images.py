"""Pictures of a page, as data URIs. What shows real pixels is made here for the private page only."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthoma.dataset import Dataset
from synthoma.pictures import picture, png_bytes
from synthoma.report import words
from synthoma.report.facts import Facts, shown_pixels, shown_window
from synthoma.report.lookalikes import lookalike_pairs

SAMPLES_PER_CLASS = 8
SAMPLES_WITHOUT_CLASS = 24
BESIDE_PER_CLASS = 6
MOST_CLASSES = 40
MOST_PAIRS = 16
MOST_SUSPECTS = 24
LARGEST_GIF = 2 * 2**20  # bytes: a larger one is named instead of inlined
LARGEST_OVERVIEW = 1600  # pixels a side
SMALL = 96  # pixels: smaller images are enlarged by the page without smoothing


@dataclass(frozen=True)
class Tile:
    """An image of a page: data URI, words for those who cannot see it, and its own size in pixels."""

    uri: str
    alt: str
    width: int
    height: int

    @property
    def small(self) -> bool:
        return max(self.width, self.height) < SMALL


@dataclass(frozen=True)
class Captioned:
    """A tile with a title and a line below."""

    tile: Tile
    title: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """Tiles of one class: synthetic ones, and on the private page real ones."""

    name: str
    synthetic: list[Tile]
    real: list[Tile]


@dataclass(frozen=True)
class Pair:
    """Two tiles to compare, each with its caption, and what is known of the pair."""

    first: Captioned
    second: Captioned
    facts: str


def data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def tile(image: NDArray[np.uint8], alt: str) -> Tile:
    """One image uint8 [c, *spatial] as a PNG."""
    shown = picture(image)
    return Tile(data_uri(png_bytes(shown), "png"), alt, shown.width, shown.height)


def file_tile(path: Path, alt: str, largest: int | None = None) -> Tile:
    """A PNG or GIF file as it is, or reduced to at most `largest` pixels a side."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        width, height, kind = image.width, image.height, str(image.format).lower()
        if largest and max(width, height) > largest:
            image.thumbnail((largest, largest))
            return Tile(data_uri(png_bytes(image), "png"), alt, image.width, image.height)
    return Tile(data_uri(content, kind), alt, width, height)


def sample_rows(facts: Facts) -> list[Row]:
    """Synthetic images by class, the first of each; all of them in one row where there are no classes."""
    made = facts.synthetic
    if made is None:
        return []
    if not facts.classes:
        return [Row("", [tile(image, "synthetic image") for image in made.images[:SAMPLES_WITHOUT_CLASS]], [])]
    rows = []
    for index, name in enumerate(facts.classes[:MOST_CLASSES]):
        chosen = made.images[np.flatnonzero(made.labels == index)[:SAMPLES_PER_CLASS]]
        rows.append(Row(words.spoken(name), [tile(i, f"synthetic image, {words.spoken(name)}") for i in chosen], []))
    return rows


def progress_grids(facts: Facts) -> list[Captioned]:
    """The first, middle and last grid of samples."""
    files = facts.grids
    places = sorted({0, len(files) // 2, len(files) - 1}) if files else []
    names = {0: "First", len(files) - 1: "Last"}
    return [
        Captioned(
            file_tile(
                files[place], f"grid of synthetic images at {int(files[place].stem)} images seen", LARGEST_OVERVIEW
            ),
            names.get(place, "Middle"),
            f"{words.count(int(files[place].stem))} images seen",
        )
        for place in places
    ]


def progress_animation(facts: Facts) -> tuple[Captioned | None, str | None]:
    """progress.gif inlined, or the reason why it is not."""
    if facts.progress is None:
        return None, None
    size = facts.progress.stat().st_size
    if size > LARGEST_GIF:
        return (
            None,
            f"The animation samples/progress.gif is too large for this page ({words.number(size / 2**20)} MiB); it lies in the run.",
        )
    return Captioned(
        file_tile(facts.progress, "animation of the grids of synthetic images"), "Animation", "progress.gif"
    ), None


def beside_rows(facts: Facts) -> list[Row]:
    """Real training images beside synthetic ones, by class. Private."""
    dataset, made = facts.dataset, facts.synthetic
    if dataset is None:
        return []
    train = dataset.rows("train")
    rows = []
    for index, name in enumerate(facts.classes[:MOST_CLASSES] or [""]):
        mine = train
        if name:
            mine = train[dataset.labels[train] == dataset.classes.index(name)] if name in dataset.classes else train[:0]
        synthetic = []
        if made is not None:
            chosen = np.flatnonzero(made.labels == index) if name else np.arange(len(made.images))
            synthetic = [tile(made.images[i], "synthetic image") for i in chosen[: _beside(name)]]
        rows.append(Row(words.spoken(name) if name else "", synthetic, _real_tiles(dataset, mine[: _beside(name)])))
    return rows


def _beside(name: str) -> int:
    return BESIDE_PER_CLASS if name else 2 * BESIDE_PER_CLASS


def overview(dataset: Dataset | None) -> Tile | None:
    """The overview that preparation drew. Private."""
    file = dataset.path / "private" / "overview.png" if dataset is not None else None
    return (
        file_tile(file, "overview of the real images", LARGEST_OVERVIEW)
        if file is not None and file.is_file()
        else None
    )


def neighbour_pairs(facts: Facts) -> list[Pair]:
    """Synthetic images beside the training images they resemble most, closest first. Private."""
    dataset, made = facts.dataset, facts.synthetic
    if dataset is None or made is None or facts.neighbours is None:
        return []
    result = []
    for pair in facts.neighbours["pairs"][:MOST_PAIRS]:
        number, row = int(pair["synthetic"]), int(pair["train_row"])
        if not (0 <= number < len(made.images) and 0 <= row < len(dataset)):
            continue
        distances = (
            f"{words.fixed(pair['distance'], 3)} in features, {words.fixed(pair['pixel_distance'], 3)} in pixels"
        )
        first = Captioned(
            tile(made.images[number], "synthetic image"), "Synthetic", _class_of(facts.classes, made.labels[number])
        )
        second = Captioned(_real_tile(dataset, row), "Training image", _class_of(dataset.classes, dataset.labels[row]))
        result.append(Pair(first, second, distances))
    return result


def suspects(dataset: Dataset | None) -> list[Captioned]:
    """Images whose label may be wrong, most likely first. Private."""
    if dataset is None:
        return []
    row_of = {key: row for row, key in enumerate(dataset.column("key"))}
    found: Iterable[Mapping[str, object]] = dataset.info.get("label_errors", [])
    return [
        Captioned(
            _real_tile(dataset, row_of[str(error["key"])]),
            f"{words.spoken(str(error['label']))} → {words.spoken(str(error['suggested']))}?",
            f"{words.share(float(error['probability']))} sure, image {error['key']}",  # type: ignore[arg-type]
        )
        for error in list(found)[:MOST_SUSPECTS]
        if str(error["key"]) in row_of
    ]


def near_duplicates(dataset: Dataset | None) -> list[Pair]:
    """Pairs of images that are nearly the same picture, those in different splits first. Private."""
    if dataset is None:
        return []
    result = []
    for pair in lookalike_pairs(dataset, MOST_PAIRS):
        captions = [
            Captioned(
                _real_tile(dataset, row), _class_of(dataset.classes, dataset.labels[row]), str(dataset.splits[row])
            )
            for row in (pair.first, pair.second)
        ]
        apart = "" if dataset.splits[pair.first] == dataset.splits[pair.second] else ", in different splits"
        result.append(Pair(captions[0], captions[1], f"correlation {words.fixed(pair.correlation, 3)}{apart}"))
    return result


def _class_of(classes: list[str], label: np.int64 | int) -> str:
    return words.spoken(classes[label]) if 0 <= label < len(classes) else ""


def _real_tile(dataset: Dataset, row: int) -> Tile:
    return _real_tiles(dataset, np.array([row]))[0]


def _real_tiles(dataset: Dataset, rows: NDArray[np.int64]) -> list[Tile]:
    if not len(rows):
        return []
    return [tile(image, "real image") for image in shown_pixels(dataset.images[rows], shown_window(dataset))]
