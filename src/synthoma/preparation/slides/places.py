"""Where tiles may be cut: the grid over a slide, what covers each place, and which places are worth reading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.draws import Draws
from synthoma.slide_settings import SlidesSection

OUTSIDE, UNDECIDED, NO_TISSUE, SPARED = (
    "outside the annotations",
    "too little of it within one class",
    "too little tissue",
    "more tiles than slides.most_tiles",
)


@dataclass
class Places:
    """The grid of a slide. boxes: float64 [n, 4], (x0, y0, x1, y1) in level-0 pixels, row by row.

    labels: class of each place or None; reasons: why a place is not taken, "" where nothing speaks against it yet.
    covered: label -> share of each place that lies within it; tissue: share that is tissue. doubtful: numbers of places that
    seem to have too little tissue because something hides it: what that is, their pixels say.
    """

    boxes: NDArray[np.float64]
    labels: list[str | None]
    reasons: list[str]
    tissue: NDArray[np.float64]
    covered: Mapping[str | None, NDArray[np.float64]] = field(default_factory=dict)
    doubtful: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def wanted(self) -> NDArray[np.int64]:
        """Numbers of the places that nothing speaks against."""
        return np.flatnonzero([reason == "" for reason in self.reasons])


def grid(size: tuple[int, int], mpp: tuple[float, float], section: SlidesSection, tile: int) -> NDArray[np.float64]:
    """Boxes [n, 4] of whole tiles, row by row from the top left corner; size: (width, height) of level 0; mpp: (x, y)."""
    side = [tile * section.mpp / own for own in mpp]
    step = [(section.stride or tile) * section.mpp / own for own in mpp]
    # A box that ends a hair beyond the edge by rounding is whole.
    counts = [max(0, int((whole - part) / by + 1e-6) + 1) if whole + 1e-6 >= part else 0
              for whole, part, by in zip(size, side, step, strict=True)]  # fmt: skip
    y, x = np.meshgrid(np.arange(counts[1]) * step[1], np.arange(counts[0]) * step[0], indexing="ij")
    corners = np.stack((x.ravel(), y.ravel()), axis=1)
    return np.concatenate((corners, corners + side), axis=1)


def judge(
    boxes: NDArray[np.float64],
    tissue: NDArray[np.float64],
    covered: Mapping[str | None, NDArray[np.float64]] | None,
    folder_label: str | None,
    section: SlidesSection,
    hidden: NDArray[np.float64] | float = 0.0,
) -> Places:
    """Label and first reason of each place.

    covered: share of each place within each class; None for a slide without annotations, whose tissue has the label of its
    folder. A place is of the class that covers most of it, if that is `min_annotated`. hidden: share of each place of which
    nobody can tell from afar whether it is tissue.
    """
    count = len(boxes)
    reasons = np.full(count, "", dtype=object)
    labels = np.full(count, folder_label, dtype=object)
    if covered is not None:
        # Annotations without a class make tiles without a label.
        names = sorted(covered, key=lambda name: name or "")
        shares = np.stack([covered[name] for name in names]) if names else np.zeros((1, count))
        most, which = shares.max(axis=0), shares.argmax(axis=0)
        labels = np.array([names[i] for i in which] if names else [None] * count, dtype=object)
        outside = shares.sum(axis=0) <= 0
        labels[most < section.min_annotated] = None
        reasons[(most < section.min_annotated) & ~outside] = UNDECIDED
        if not section.unannotated:
            reasons[outside] = OUTSIDE
    bare = (reasons == "") & (tissue < section.min_tissue)
    reasons[bare] = NO_TISSUE
    doubtful = np.flatnonzero(bare & (tissue + hidden >= section.min_tissue))
    return Places(boxes, labels.tolist(), reasons.tolist(), tissue, covered or {}, frozenset(doubtful.tolist()))


def spare(places: Places, most: int | None, key: str) -> None:
    """Mark places beyond `most` as spared: which ones is drawn by the key of the slide, evenly over it."""
    wanted = places.wanted
    if most is None or len(wanted) <= most:
        return
    drawn = np.argsort(_order(key, len(wanted)), kind="stable")
    for number in wanted[drawn[most:]]:
        places.reasons[int(number)] = SPARED


def _order(key: str, count: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = Draws(0, f"tiles of {key}").uniform(0, torch.arange(count)).numpy()
    return values


def runs(places: Sequence[int] | NDArray[np.int64], boxes: NDArray[np.float64], longest: int) -> list[list[int]]:
    """Numbers of places, in order, put together where one box touches the next in its row; at most `longest` in a run.

    A run is read as one strip: decoders work by tiles of their own, which touching boxes share.
    """
    found: list[list[int]] = []
    for number in map(int, places):
        if found and len(found[-1]) < longest:
            last = boxes[found[-1][-1]]
            box = boxes[number]
            if box[1] == last[1] and abs(box[0] - last[2]) < 1e-6 * max(1.0, abs(box[0])):
                found[-1].append(number)
                continue
        found.append([number])
    return found
