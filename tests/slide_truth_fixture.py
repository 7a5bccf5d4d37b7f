"""What phantom slides truly show at a tile, and what was made of it; counted from the scene's polygons, pixel by pixel."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.tiles import Shard
from synthoma.phantoms.slides import ARTEFACTS, CLASSES, MPP, Scene
from synthoma.phantoms.slides.fields import Window
from synthoma.preparation.slides.artefacts import REASONS
from synthoma.preparation.slides.places import NO_TISSUE
from synthoma.slide_settings import PENS

Shares = NDArray[np.float64]
# A tile is one of an artefact that covers half of it or more; a clean one has none, nor one less than so many pixels away.
SHOWN, MARGIN = 0.5, 16
# Tiles begin and end at multiples of so many level-0 pixels, and so does the margin: sums over blocks are exact.
_BLOCK = 16
# What says that something is wrong with a tile; an empty one is none of these.
WRONG = frozenset(reason for name, reason in REASONS.items() if name != "background")


class Truth:
    """Shares of boxes that truly are of each class, tissue or artefact."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._sums: dict[str, NDArray[np.int64]] = {}

    @cached_property
    def _window(self) -> Window:
        return Window(0, 0, *self.scene.size)

    def share(self, what: str, boxes: NDArray[np.int64]) -> Shares:
        """Share of pixels [n] in boxes [n, 4] (x0, y0, x1, y1): `what` is "tissue", a class, or an artefact."""
        if what not in self._sums:
            if what == "tissue":
                mask = self.scene.tissue(self._window)
            elif what in CLASSES:
                mask = self.scene.annotated(self._window, what)
            else:
                mask = self.scene.artefact(self._window, what)
            height, width = (side // _BLOCK for side in mask.shape)
            counts = mask.reshape(height, _BLOCK, width, _BLOCK).sum(axis=(1, 3))
            sums = np.zeros((height + 1, width + 1), np.int64)
            sums[1:, 1:] = counts.cumsum(axis=0).cumsum(axis=1)
            self._sums[what] = sums
        assert (boxes % _BLOCK == 0).all()
        width, height = (side // _BLOCK for side in self.scene.size)
        x0, y0, x1, y1 = np.clip(boxes // _BLOCK, 0, (width, height, width, height)).T
        sums = self._sums[what]
        covered = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        return np.asarray(covered / np.maximum((x1 - x0) * (y1 - y0) * _BLOCK**2, 1))


@dataclass(frozen=True)
class Cut:
    """The places of a slide's grid and what was made of them. boxes: [n, 4] level-0 pixels; reasons: "" where taken."""

    boxes: NDArray[np.int64]
    labels: Sequence[str | None]
    reasons: Sequence[str]


def cut_of(shard: Shard, size: tuple[int, int], tile: int, mpp: float) -> Cut:
    """All places of a grid without overlap; those that the shard's table leaves out have no tissue."""
    side = round(tile * mpp / MPP)
    table = shard.table()
    known = {
        (round(x), round(y)): (label, reason)
        for x, y, label, reason in zip(table["x"], table["y"], table["label"], table["reason"], strict=True)
    }
    corners = [(x, y) for y in range(0, size[1] - side + 1, side) for x in range(0, size[0] - side + 1, side)]
    assert set(known) <= set(corners)
    found = [known.get(corner, (None, NO_TISSUE)) for corner in corners]
    boxes = np.array([(x, y, x + side, y + side) for x, y in corners], dtype=np.int64)
    return Cut(boxes, [label for label, _ in found], [reason for _, reason in found])


def in_its_class(truth: Truth, cut: Cut, least: float) -> tuple[int, int]:
    """How many taken tiles lie within their class by ground truth (most of the tile, and at least `least`), of how many."""
    taken = [i for i, reason in enumerate(cut.reasons) if not reason]
    boxes = cut.boxes[taken]
    shares = np.stack([truth.share(name, boxes) for name in CLASSES])
    own = np.array([CLASSES.index(cut.labels[i] or "") for i in taken], dtype=np.int64)
    most = shares[own, np.arange(len(taken))]
    # Pixels on an outline belong to one side of it; areas are exact.
    right = (most >= shares.max(axis=0)) & (most >= least - 0.005)
    return int(right.sum()), len(taken)


def outcomes(truth: Truth, cut: Cut, twin: Cut) -> Mapping[str, Counter[str]]:
    """Kind of artefact -> what was made of tiles that show it, by reason ("taken" for none).

    twin: the same slide without artefacts; only tiles that were taken of it count, so that all that is wrong with a tile is
    the artefact. A tile of several kinds counts for the one that covers most of it.
    """
    shares = np.stack([truth.share(kind, cut.boxes) for kind in ARTEFACTS])
    shown = np.array([not reason for reason in twin.reasons]) & (shares.max(axis=0) >= SHOWN)
    found = {kind: Counter[str]() for kind in ARTEFACTS}
    for place in np.flatnonzero(shown):
        found[ARTEFACTS[int(shares[:, place].argmax())]][cut.reasons[place] or "taken"] += 1
    return found


def of_clean(truth: Truth, cut: Cut) -> Counter[str]:
    """What was made of tiles of tissue that show no artefact and have none beside them, by reason."""
    around = cut.boxes + np.array((-MARGIN, -MARGIN, MARGIN, MARGIN))
    touched = np.stack([truth.share(kind, around) for kind in ARTEFACTS]).max(axis=0) > 0
    clean = np.flatnonzero((truth.share("tissue", cut.boxes) >= 0.5) & ~touched)
    return Counter(cut.reasons[place] or "taken" for place in clean)


def right_reasons(kind: str) -> frozenset[str]:
    """What a tile with an artefact is rightly rejected for: its own reason; any colour of ink for a pen."""
    names = PENS if kind in PENS else (kind,)
    return frozenset(REASONS[name] for name in names)


def shards_of(out: Path, keys: Mapping[Path, str]) -> dict[str, Shard]:
    """Name of a slide without its ending -> its shard."""
    return {file.stem: Shard.open(out / key) for file, key in keys.items()}
