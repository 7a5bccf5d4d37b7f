"""From the positions of slices to a regular grid, or to a sentence that says what is wrong (PS3.3 C.7.6.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.volumes.dicom_headers import Header
from synthoma.formats.volumes.geometry import Geometry

MAX_BYTES = 4 << 30
IN_PLANE_MM = (0.1, 5.0)
BETWEEN_MM = (0.1, 20.0)
LEAST_SLICES = 3
# Directions in headers are rounded; 1e-3 moves a pixel at the edge of a slice by less than half of its width.
_DIRECTION = 1e-3
# Shifts in plane below this share of a pixel are rounding.
_IN_PLANE_SHARE = 0.25
_TILT_DEGREES = 0.5
_NAMED_GAPS = 5


@dataclass(frozen=True, slots=True)
class Stack:
    """What the headers of slices in order say. problem: a sentence; None for a regular grid.

    geometry: of the array, of a grid to interpolate where there is a problem; None where nothing can be mended.
    """

    geometry: Geometry | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Frame:
    """Directions of a stack. row: along a row, so x of a pixel; column: along a column, so y; normal: across slices."""

    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]


def tolerance(spacing: float) -> float:
    """mm by which a distance between slices may differ: 1 %, at least 0.01 mm."""
    return max(0.01, 0.01 * spacing)


def stack_normal(orientation: Sequence[float]) -> NDArray[np.float64] | None:
    """Unit vector across slices: row direction x column direction. None where these are not at right angles."""
    frame = _frame(orientation)
    return None if frame is None else frame.normal


def along_normal(headers: Sequence[Header], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places [n] of slices along the normal, mm."""
    return np.array([header.position for header in headers], dtype=np.float64) @ normal


def find_stack(headers: Sequence[Header]) -> Stack:
    """The geometry of slices of one size and orientation, sorted along their normal, no two at one place."""
    first = headers[0]
    reason = _not_to_mend(headers)
    if reason is not None:
        return Stack(None, reason)
    assert first.orientation is not None  # _not_to_mend has looked
    assert first.spacing is not None
    frame = _frame(first.orientation)
    assert frame is not None
    positions = np.array([header.position for header in headers], dtype=np.float64)
    depths = (positions - positions[0]) @ frame.normal
    steps = np.diff(depths)
    median = float(np.median(steps))
    if not BETWEEN_MM[0] <= median <= BETWEEN_MM[1]:
        return Stack(None, f"the distance between slices is implausible ({median:.4g} mm)")
    offsets = _in_plane(positions, depths, frame) / np.asarray(first.spacing)
    shifted = bool(np.abs(offsets).max() > _IN_PLANE_SHARE)
    problems = [
        *_spacing_problems(positions, depths, median, frame),
        *_tilt_problems(first, offsets, depths, frame, shifted),
    ]
    count, spacing = _grid(depths, median)
    if count > 2 * len(headers):
        return Stack(None, "; ".join(problems) + "; more slices are missing than there are")
    low, high = _extent(offsets) if shifted else (np.zeros(2), np.zeros(2))
    rows, columns = (int(n) for n in np.array((first.pixels.rows, first.pixels.columns)) + high - low)
    if count * rows * columns * 2 > MAX_BYTES:
        return Stack(None, f"the volume would take more than {MAX_BYTES >> 30} GiB")
    origin = positions[0] + low[0] * first.spacing[0] * frame.column + low[1] * first.spacing[1] * frame.row
    steps_of_axes = np.stack((spacing * frame.normal, first.spacing[0] * frame.column, first.spacing[1] * frame.row))
    geometry = Geometry.from_steps((count, rows, columns), steps_of_axes, origin)
    return Stack(geometry, "; ".join(problems) or None)


def slice_places(positions: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """Where first pixels of slices [n, 3] lie in a grid: (slice, row, column) [n, 3], shifts below rounding taken as 0."""
    places = geometry.index(positions)
    nearest = np.rint(places[:, 1:])
    small = (np.abs(places[:, 1:] - nearest) <= _IN_PLANE_SHARE).all()
    if small and (nearest == nearest[0]).all():
        places[:, 1:] = nearest
    return places


def _not_to_mend(headers: Sequence[Header]) -> str | None:
    first, count = headers[0], len(headers)
    lost = sum(header.position is None for header in headers)
    if lost:
        return f"{lost} of {count} slices do not say their position (ImagePositionPatient)"
    if first.orientation is None:
        return "its slices do not say their orientation (ImageOrientationPatient)"
    if _frame(first.orientation) is None:
        return "the directions of its rows and columns are not at right angles"
    if first.spacing is None:
        return "its slices do not say the distance between pixels (PixelSpacing)"
    if not all(IN_PLANE_MM[0] <= length <= IN_PLANE_MM[1] for length in first.spacing):
        return f"the distance between pixels is implausible ({first.spacing[0]:.4g} x {first.spacing[1]:.4g} mm)"
    if count < LEAST_SLICES:
        return f"it has {count} slice{'s' if count > 1 else ''}; a volume needs at least {LEAST_SLICES}"
    return None


def _frame(orientation: Sequence[float]) -> _Frame | None:
    row, column = np.array(orientation[:3], dtype=np.float64), np.array(orientation[3:], dtype=np.float64)
    lengths = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(row @ column))) > _DIRECTION:
        return None
    row = row / lengths[0]
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    return _Frame(row, column, np.cross(row, column))


def _in_plane(positions: NDArray[np.float64], depths: NDArray[np.float64], frame: _Frame) -> NDArray[np.float64]:
    """Shift of each slice against the first, mm along (column direction, row direction) [n, 2]."""
    away = positions - positions[0] - depths[:, None] * frame.normal
    return np.stack((away @ frame.column, away @ frame.row), axis=1)


def _extent(offsets: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whole pixels that a grid needs beyond the first slice, before and after, to hold all shifted slices."""
    return np.floor(offsets.min(axis=0) + 1e-6), np.ceil(offsets.max(axis=0) - 1e-6)


def _multiples(steps: NDArray[np.float64], median: float) -> NDArray[np.int64] | None:
    """How many spacings each step is: 1 for neighbours, more where slices are missing. None where a step is no multiple."""
    multiples = np.rint(steps / median)
    wrong = np.abs(steps - multiples * median) > tolerance(median) * np.maximum(multiples, 1)
    return None if wrong.any() or (multiples < 1).any() else multiples.astype(np.int64)


def _grid(depths: NDArray[np.float64], median: float) -> tuple[int, float]:
    """Count of slices and mm between them.

    Where all steps are multiples of one spacing it is their mean, which equals the median within tolerance and ends on the
    last slice, however many there are. Else it is the median.
    """
    multiples = _multiples(np.diff(depths), median)
    if multiples is not None:
        steps = int(multiples.sum())
        return steps + 1, float(depths[-1] / steps)
    return int(depths[-1] / median + 0.01) + 1, median


def _spacing_problems(
    positions: NDArray[np.float64], depths: NDArray[np.float64], median: float, frame: _Frame
) -> list[str]:
    steps = np.diff(depths)
    multiples = _multiples(steps, median)
    if multiples is None:
        return [
            f"the distance between slices is uneven: {steps.min():.4g} to {steps.max():.4g} mm (median {median:.4g} mm)"
        ]
    gaps = np.flatnonzero(multiples > 1)
    if not len(gaps):
        # Small differences that all go one way add up: slices in the middle then lie beside the grid.
        beside = np.abs(depths - np.linspace(0, depths[-1], len(depths))).max()
        if beside > 0.25 * median:
            return [f"the distance between slices is uneven: it drifts by {beside:.3g} mm (median {median:.4g} mm)"]
        return []
    upright = abs(frame.normal[2]) > 0.7
    places = positions[:, 2] if upright else positions @ frame.normal
    missing = multiples[gaps] - 1
    named = [_between(places[gap], places[gap + 1], upright) for gap in gaps[:_NAMED_GAPS]]
    total = int(missing.sum())
    verb = "slice is" if total == 1 else "slices are"
    if len(gaps) == 1:
        where = f" between {named[0]}"
    else:
        more = ["..."] if len(gaps) > _NAMED_GAPS else []
        each = [f"{n} between {place}" for n, place in zip(missing, named, strict=False)]
        where = ": " + ", ".join(each + more)
    return [f"{total} {verb} missing{where} (spacing {median:.4g} mm)"]


def _between(a: float, b: float, upright: bool) -> str:
    low, high = sorted((float(a), float(b)))
    return f"{'z =' if upright else 'the places'} {low:.1f} and {high:.1f} mm" + ("" if upright else " along the stack")


def _tilt_problems(
    first: Header, offsets: NDArray[np.float64], depths: NDArray[np.float64], frame: _Frame, shifted: bool
) -> list[str]:
    """offsets: pixels [n, 2] of each slice against the first."""
    assert first.spacing is not None
    if not shifted:
        # Slices across the body's axis, and a gantry that leaned: one of the two is not true.
        if abs(first.tilt) > _TILT_DEGREES and abs(frame.normal[2]) > np.cos(np.radians(_TILT_DEGREES)):
            return [f"the header names a gantry tilt of {first.tilt:.4g} degrees that the positions do not show"]
        return []
    shifts = offsets * np.asarray(first.spacing)
    slope = depths @ shifts / (depths @ depths)
    if np.abs(shifts - depths[:, None] * slope).max() > _IN_PLANE_SHARE * min(first.spacing):
        worst = max(float(np.linalg.norm(b - a)) for a, b in pairwise(shifts))
        return [f"slices are shifted in plane against each other, by up to {worst:.3g} mm"]
    angle = np.degrees(np.arctan(np.linalg.norm(slope)))
    return [f"the gantry was tilted by {angle:.3g} degrees: slices are shifted in plane against each other"]
