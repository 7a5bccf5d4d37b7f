"""From files to stacks: which slices belong together, which are scouts, copies or another acquisition."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.files import normal_name
from synthoma.formats.volumes.dicom_geometry import (
    LEAST_SLICES,
    Stack,
    along_normal,
    find_stack,
    stack_normal,
    tolerance,
)
from synthoma.formats.volumes.dicom_headers import Header
from synthoma.formats.volumes.shapes import LeftOut, SliceFile, VolumeFile

# Directions and pixel spacings of one stack may differ by so much in what headers round.
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-4
# Copies lie within this share of the distance between slices, or 0.01 mm.
_SAME_PLACE = 1e-3
_SAME_PLACE_MM = 0.01
# With unlike slices at more of the places than that, a series is several acquisitions and no stack with a few slices twice.
_PHASES = 0.5


@dataclass(frozen=True, slots=True)
class DicomSlice(SliceFile):
    """A slice with what its header said, so that it is not read a second time."""

    header: Header = field(repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A file and its header."""

    path: Path
    header: Header


SamePixels = Callable[[Found, Found], bool]


def stacks_of(found: Iterable[Found], same_pixels: SamePixels) -> tuple[list[VolumeFile], list[LeftOut]]:
    """All volumes among the files of CT slices, and the scouts and copies among them. Neither order nor names matter."""
    # Two patients under one series UID are two series, whatever the UID promises.
    series: dict[tuple[str, str | None], list[Found]] = defaultdict(list)
    for one in found:
        series[one.header.series, one.header.patient].append(one)
    volumes: list[VolumeFile] = []
    left_out: list[LeftOut] = []
    for slices in series.values():
        made, left = _series_volumes(slices, same_pixels)
        volumes += made
        left_out += left
    return volumes, left_out


def _series_volumes(slices: Sequence[Found], same_pixels: SamePixels) -> tuple[list[VolumeFile], list[LeftOut]]:
    left = [_scout(one, "its ImageType says LOCALIZER") for one in slices if one.header.localizer]
    groups = _groups([one for one in slices if not one.header.localizer])
    stacks = [group for group in groups if len(group) >= LEAST_SLICES]
    volumes: list[VolumeFile] = []
    for group in groups:
        if len(group) == 1 and any(not _same_direction(group[0], stack[0]) for stack in stacks):
            left.append(_scout(group[0], "a single slice across the others of its series"))
            continue
        sizes = _sizes([other for other in groups if _same_direction(group[0], other[0])])
        made, copies = _group_volumes(group, sizes, same_pixels)
        volumes += made
        left += copies
    return volumes, left


def _scout(one: Found, reason: str) -> LeftOut:
    return LeftOut("localizer", reason, one.path)


def _groups(slices: Sequence[Found]) -> list[list[Found]]:
    """Slices of one size, orientation and pixel spacing, each group and all of them in the order of the UIDs."""
    groups: list[list[Found]] = []
    for one in sorted(slices, key=lambda one: (one.header.sop_instance_uid, os.fspath(one.path))):
        for group in groups:
            if _same_grid(one, group[0]):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _same_direction(a: Found, b: Found) -> bool:
    return _close(a.header.orientation, b.header.orientation, _SAME_DIRECTION)


def _same_grid(a: Found, b: Found) -> bool:
    sizes = [(one.header.pixels.rows, one.header.pixels.columns) for one in (a, b)]
    return sizes[0] == sizes[1] and _same_direction(a, b) and _close(a.header.spacing, b.header.spacing, _SAME_SPACING)


def _close(a: tuple[float, ...] | None, b: tuple[float, ...] | None, within: float) -> bool:
    if a is None or b is None:
        return a is b
    return all(abs(one - other) <= within for one, other in zip(a, b, strict=True))


def _sizes(groups: Sequence[Sequence[Found]]) -> str | None:
    """A sentence for a series of several grids; None for one."""
    if len(groups) < 2:
        return None
    formats = {(group[0].header.pixels.rows, group[0].header.pixels.columns) for group in groups}
    if len(formats) < 2:
        return "its series has slices of several pixel spacings"
    return "its series has slices of several sizes (" + ", ".join(f"{r} x {c}" for r, c in sorted(formats)) + ")"


def _group_volumes(
    group: list[Found], sizes: str | None, same_pixels: SamePixels
) -> tuple[list[VolumeFile], list[LeftOut]]:
    first = group[0].header
    normal = None if first.orientation is None else stack_normal(first.orientation)
    if normal is None or any(one.header.position is None for one in group):
        return [_volume(group, find_stack([one.header for one in group]))], []
    depths = along_normal([one.header for one in group], normal)
    order = np.argsort(depths, kind="stable")
    places = _places([group[i] for i in order], depths[order])
    kept, left, different = _without_copies(places, same_pixels)
    if different > _PHASES * len(kept):
        acquisitions = _acquisitions(kept)
        if acquisitions is None:
            most = max(len(place) for place in kept)
            reason = f"{most} different slices at each place: several phases or reconstructions in one series"
            return [_volume([place[-1] for place in kept], Stack(None, reason))], left
        return [_checked(slices, sizes, ()) for slices in acquisitions], left
    warnings: tuple[str, ...] = ()
    if different:
        warnings = (
            f"{different} places had several slices with different pixels; one of each was kept, the newest by its time",
        )
        for place in kept:
            other = "another slice of its series lies at the same place, has different pixels and was kept"
            left += [LeftOut("duplicate slice", other, one.path) for one in place[:-1]]
    return [_checked([place[-1] for place in kept], sizes, warnings)], left


def _checked(slices: list[Found], sizes: str | None, warnings: tuple[str, ...]) -> VolumeFile:
    stack = find_stack([one.header for one in slices])
    if stack.problem is not None and sizes is not None:
        stack = Stack(None, f"{sizes}; {stack.problem}")
    return _volume(slices, stack, warnings)


def _places(ordered: Sequence[Found], depths: NDArray[np.float64]) -> list[list[Found]]:
    """Slices in order along the normal, those at one place together, the newest last."""
    steps = np.diff(depths)
    apart = steps[steps > _SAME_PLACE_MM]
    within = max(_SAME_PLACE_MM, _SAME_PLACE * float(np.median(apart)) if len(apart) else 0.0)
    places: list[list[Found]] = [[ordered[0]]]
    start = depths[0]
    for one, depth in zip(ordered[1:], depths[1:], strict=True):
        if depth - start <= within:
            places[-1].append(one)
        else:
            places.append([one])
            start = depth
    for place in places:
        place.sort(key=lambda one: (one.header.taken, one.header.sop_instance_uid, os.fspath(one.path)))
    return places


def _without_copies(
    places: Sequence[Sequence[Found]], same_pixels: SamePixels
) -> tuple[list[list[Found]], list[LeftOut], int]:
    """Places with slices that differ, the copies, and how many places have more than one slice that differs."""
    kept: list[list[Found]] = []
    left: list[LeftOut] = []
    for place in places:
        unlike: list[Found] = []
        for one in place:
            if any(_same_spot(one, other) and same_pixels(one, other) for other in unlike):
                left.append(LeftOut("duplicate slice", "a slice with the same place and pixels is there", one.path))
            else:
                unlike.append(one)
        kept.append(unlike)
    return kept, left, sum(len(place) > 1 for place in kept)


def _same_spot(a: Found, b: Found) -> bool:
    return _close(a.header.position, b.header.position, tolerance(1.0))


def _acquisitions(places: Sequence[Sequence[Found]]) -> list[list[Found]] | None:
    """The places' slices by acquisition number, where that puts no two of a place together; None where it does."""
    apart: dict[int | None, list[Found]] = defaultdict(list)
    for place in places:
        if len({one.header.acquisition for one in place}) < len(place):
            return None
        for one in place:
            apart[one.header.acquisition].append(one)
    return [apart[number] for number in sorted(apart, key=lambda number: -1 if number is None else number)]


def _volume(slices: Sequence[Found], stack: Stack, warnings: tuple[str, ...] = ()) -> VolumeFile:
    header = slices[0].header
    placed = [one for one in slices if one.header.position is not None]
    folders = {os.fspath(one.path.parent) for one in slices}
    return VolumeFile(
        kind="dicom",
        path=Path(os.path.commonpath(folders)),
        slices=tuple(DicomSlice(one.path, one.header.sop_instance_uid, _point(one), one.header) for one in placed),
        geometry=stack.geometry,
        unit="hu",
        patient=header.patient,
        series=header.series,
        facts=_common_facts(slices),
        problem=stack.problem,
        warnings=warnings,
    )


def _point(one: Found) -> tuple[float, float, float]:
    assert one.header.position is not None
    x, y, z = one.header.position
    return x, y, z


def _common_facts(slices: Sequence[Found]) -> dict[str, float | str]:
    """What all slices say alike."""
    first = slices[0].header.facts
    return {key: value for key, value in first.items() if all(one.header.facts.get(key) == value for one in slices)}


def place_in_order(volume: VolumeFile) -> tuple[str, str, tuple[float, ...]]:
    """By what volumes are sorted: their folder, series, and first place; not by the order of the file system."""
    first = volume.slices[0].position if volume.slices else ()
    return normal_name(volume.path.as_posix()), volume.series or "", first
