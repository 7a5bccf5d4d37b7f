"""Four simulated radiologists who read a phantom as those of LIDC did: each outlines and rates alone.

They see the truth with small errors: outlines a little too wide or too tight and a little to the side, ratings a grade off,
and small nodules that one of them overlooks. Armato et al., Med. Phys. 38 (2011) 915-931, describe the true reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthoma.formats.marks import CHARACTERISTICS
from synthoma.phantoms.ct.chest import ChestPhantom
from synthoma.phantoms.ct.frame import Frame
from synthoma.phantoms.ct.nodules import NoduleShape, PhantomNodule

READERS = 4
# Errors of an outline in parts of a pixel's side: of its radius and of its centre along each axis.
_RADIUS_ERROR, _CENTER_ERROR = 0.2, 0.2
_RATING_ERROR = 0.35
_SMALL_MM, _MISSED_SMALL, _MISSED = 6.0, 0.2, 0.02
_POINT_SEEN = 0.6
_TEXTURE_GRADE: Mapping[str, int] = {"ground_glass": 1, "part_solid": 3, "solid": 5}
# The eight steps around a pixel (y, x), clockwise on the screen.
_AROUND = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))


@dataclass(frozen=True, eq=False)
class Outline:
    """On slice `number`, pixels (x, y) just outside the nodule, in order around it: [n, 2]."""

    number: int
    points: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ReadNodule:
    """A nodule of 3 mm or more as one reader saw it. number: of the phantom's nodule, from 0."""

    number: int
    outlines: tuple[Outline, ...]
    ratings: Mapping[str, int]


@dataclass(frozen=True)
class ReadPoint:
    """One pixel (x, y) on one slice: a nodule below 3 mm, or something that is no nodule."""

    kind: Literal["small_nodule", "non_nodule"]
    slice: int
    x: int
    y: int


@dataclass(frozen=True, eq=False)
class Reading:
    """All that one reader marked."""

    nodules: tuple[ReadNodule, ...]
    points: tuple[ReadPoint, ...]


def read_phantom(random: np.random.Generator, phantom: ChestPhantom) -> tuple[Reading, ...]:
    """Four readings of a phantom. Every nodule of 3 mm or more is seen by at least one reader.

    Slices are those of the array's first axis; x is the column (last axis), y the row.
    """
    frame = Frame(phantom.geometry)
    seen = [_who_sees(random, nodule) for nodule in phantom.nodules]
    readings = []
    for reader in range(READERS):
        nodules = tuple(
            _read_nodule(random, phantom, frame, number)
            for number in range(len(phantom.nodules))
            if seen[number][reader]
        )
        readings.append(Reading(nodules, _points(random, phantom, frame)))
    return tuple(readings)


def outline_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The pixels (x, y) just outside the largest part of a mask [y, x], in order: [n, 2], at least 4.

    Moore's tracing around the mask and its four-neighbours. By LIDC's rule, what lies strictly within the outline is the
    part again, with its holes, and clefts of up to two pixels, filled. A pixel may have coordinates of -1 or of the mask's size.
    """
    labels, count = ndimage.label(mask)
    if count == 0:
        raise ValueError("an empty mask has no outline")
    sizes = np.bincount(labels.ravel())[1:]
    wide = ndimage.binary_dilation(np.pad(labels == 1 + int(sizes.argmax()), 2))
    start_y, start_x = (int(value) for value in np.argwhere(wide)[0])
    # The first pixel of the first row: the neighbour that was looked at last, above it, is outside.
    y, x, direction = start_y, start_x, 7
    points = []
    while True:
        points.append((x - 2, y - 2))
        for turn in range(8):
            step = (direction + turn) % 8
            dy, dx = _AROUND[step]
            if wide[y + dy, x + dx]:
                break
        y, x, direction = y + dy, x + dx, (step + 6) % 8 if step % 2 == 0 else (step + 5) % 8
        if (y, x) == (start_y, start_x) and len(points) >= 4:
            return np.array(points, dtype=np.int64)


def _who_sees(random: np.random.Generator, nodule: PhantomNodule) -> NDArray[np.bool_]:
    missed = _MISSED_SMALL if nodule.diameter_mm < _SMALL_MM else _MISSED
    seen: NDArray[np.bool_] = random.random(READERS) >= missed
    if not seen.any():
        seen[int(random.integers(READERS))] = True
    return seen


def _read_nodule(random: np.random.Generator, phantom: ChestPhantom, frame: Frame, number: int) -> ReadNodule:
    nodule, shape = phantom.nodules[number], phantom.shapes[number]
    pixel = float(np.sqrt(np.prod(phantom.geometry.spacing[1:])))
    # No error across the slices: a reader sees on which of them the nodule is.
    right, down = (np.asarray(phantom.geometry.directions[axis]) for axis in (2, 1))
    shift = (random.normal(0, _CENTER_ERROR, 2).clip(-0.5, 0.5) * pixel) @ np.stack([right, down])
    margin = float(np.clip(random.normal(0, _RADIUS_ERROR), -0.5, 0.5)) * pixel
    seen = replace(shape, center=shape.center + shift)
    return ReadNodule(number, _outlines(phantom, frame, seen, margin), _ratings(random, nodule))


def _outlines(phantom: ChestPhantom, frame: Frame, shape: NoduleShape, margin: float) -> tuple[Outline, ...]:
    """Outlines of the voxels whose centres lie in the shape grown by `margin` mm, and in the lungs."""
    box = frame.box_around(shape.center, shape.reach + abs(margin) + max(frame.geometry.spacing))
    if box is None:
        raise ValueError("the nodule lies outside the volume")
    mask = (shape.distance(frame.in_box(box)) < margin) & phantom.lung_mask[box]
    if not mask.any():
        # Thinner than the distance of slices: the reader marks the voxel at its middle.
        middle = np.rint(frame.index(shape.center)).astype(int) - [part.start for part in box]
        mask[tuple(middle)] = True
    _, rows, columns = phantom.geometry.size
    outlines = []
    for number in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        points = outline_of(mask[number]) + np.array([box[2].start, box[1].start])
        # At the border of the image the outline runs along its outermost pixels.
        outlines.append(Outline(box[0].start + number, points.clip(0, (columns - 1, rows - 1))))
    return tuple(outlines)


def _ratings(random: np.random.Generator, nodule: PhantomNodule) -> dict[str, int]:
    """The true grades, each a grade off with the probability 0.35, within its scale."""
    texture, strands = nodule.texture, nodule.spiculation
    truth = {
        "subtlety": 2 + int(nodule.diameter_mm > 6) + int(nodule.diameter_mm > 12) + int(texture == "solid"),
        "internal_structure": 1,
        "calcification": 6,
        "sphericity": 5 - int(strands > 0.4),
        "margin": 5 - round(3 * strands) - int(texture == "ground_glass"),
        "lobulation": 1 + int(nodule.diameter_mm > 10),
        "spiculation": 1 + round(4 * strands),
        "texture": _TEXTURE_GRADE[texture],
        "malignancy": nodule.malignancy,
    }
    ratings = {}
    for name, highest in CHARACTERISTICS.items():
        off = 0
        # Soft tissue within and no calcium is what all of them see.
        if name not in ("internal_structure", "calcification") and random.random() < _RATING_ERROR:
            off = int(random.choice((-1, 1)))
        ratings[name] = int(np.clip(truth[name] + off, 1, highest))
    return ratings


def _points(random: np.random.Generator, phantom: ChestPhantom, frame: Frame) -> tuple[ReadPoint, ...]:
    places: list[tuple[Literal["small_nodule", "non_nodule"], tuple[float, float, float]]] = [
        *(("small_nodule", spot.center) for spot in phantom.spots),
        *(("non_nodule", decoy) for decoy in phantom.decoys),
    ]
    found = []
    for kind, center in places:
        index = np.rint(phantom.geometry.index(center)).clip(0, np.asarray(frame.size) - 1).astype(int).tolist()
        if random.random() < _POINT_SEEN:
            found.append(ReadPoint(kind, index[0], index[2], index[1]))
    return tuple(found)
