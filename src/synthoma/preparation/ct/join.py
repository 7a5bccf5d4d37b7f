"""Which volume a mark belongs to: by series, by image, or by the name of a file. What has no volume is counted, with why."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from synthoma.formats.files import normal_name
from synthoma.formats.marks import LidcReading, Mark, Marks, SliceBox
from synthoma.formats.volumes.shapes import VolumeFile
from synthoma.sources.attributes import may_identify

# Endings of volumes, the longer first: a table may name a file without its own.
_ENDINGS = (".nii.gz", ".nii", ".mhd", ".mha", ".nrrd", ".nhdr", ".dcm", ".ima")
# What has no volume, as one says it of one and of several.
_LOST: Mapping[str, tuple[str, str]] = {
    "box_absent": ("box names an image that is not here", "boxes name images that are not here"),
    "box_double": ("box names an image that is in two volumes", "boxes name images that are in two volumes"),
    "point_absent": ("position names a series or file that is not here", "positions name series or files that are not here"),
    "point_outside": ("position lies in none of the volumes of its series", "positions lie in none of the volumes of their series"),
    "point_double": (
        "position lies in two volumes with the same series or name",
        "positions lie in two volumes with the same series or name",
    ),
    "reading_absent": ("LIDC reading names a series that is not here", "LIDC readings name series that are not here"),
    "reading_outside": (
        "LIDC reading is on none of the slices of its series",
        "LIDC readings are on none of the slices of their series",
    ),
    "reading_double": ("LIDC reading fits two volumes of its series", "LIDC readings fit two volumes of their series"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class VolumeMarks:
    """What was marked on one volume, as files say it. boxes: with the number of their slice."""

    readings: tuple[LidcReading, ...] = ()
    points: tuple[Mark, ...] = ()
    boxes: tuple[tuple[int, SliceBox], ...] = ()

    def __len__(self) -> int:
        return sum(len(reading.nodules) for reading in self.readings) + len(self.points) + len(self.boxes)


@dataclass(frozen=True)
class Joined:
    """marks: of each volume, in their order. lost: kind -> number of marks without a volume. left_out: attributes."""

    marks: list[VolumeMarks]
    lost: Mapping[str, int]
    left_out: tuple[str, ...] = ()


@dataclass
class _Shelf:
    readings: list[LidcReading] = field(default_factory=list)
    points: list[Mark] = field(default_factory=list)
    boxes: list[tuple[int, SliceBox]] = field(default_factory=list)


def told_lost(lost: Mapping[str, int]) -> list[str]:
    """A sentence for each kind of mark without a volume."""
    return [f"{count} {_LOST[kind][count > 1]}." for kind, count in lost.items() if count]


def names_of(volume: VolumeFile, place: str) -> set[str]:
    """All that a table may call a volume. place: of its file or folder below the root. Private."""
    names = {place, PurePosixPath(place).name}
    names |= {name[: -len(end)] for name in names for end in _ENDINGS if name.lower().endswith(end)}
    return {normal_name(name) for name in names if name} | ({volume.series} if volume.series else set())


def by_name(volumes: Sequence[VolumeFile], places: Sequence[str]) -> dict[str, list[int]]:
    """Name -> the volumes that may be called so."""
    found: dict[str, list[int]] = {}
    for number, (volume, place) in enumerate(zip(volumes, places, strict=True)):
        for name in names_of(volume, place):
            found.setdefault(name, []).append(number)
    return found


def join_marks(volumes: Sequence[VolumeFile], places: Sequence[str], marks: Marks) -> Joined:
    """Marks to volumes; where several volumes have the name, to the one that the mark lies in."""
    named = by_name(volumes, places)
    shelves = [_Shelf() for _ in volumes]
    lost: Counter[str] = Counter()

    def choose(what: str, name: str, fits: Callable[[VolumeFile], bool]) -> _Shelf | None:
        """The one volume, or None, which is then counted. A single candidate need not fit: its own table says why."""
        candidates = named.get(normal_name(name), [])
        if len(candidates) > 1:
            candidates = [number for number in candidates if fits(volumes[number])]
            if not candidates:
                lost[f"{what}_outside"] += 1
                return None
        if len(candidates) == 1:
            return shelves[candidates[0]]
        lost[f"{what}_double" if candidates else f"{what}_absent"] += 1
        return None

    for reading in marks.readings:
        shelf = choose("reading", reading.series, lambda volume, own=reading: _on_slices(volume, own))  # type: ignore[misc]
        if shelf is not None:
            shelf.readings.append(reading)
    points, left_out = without_names(marks.points, set(named) | {volume.patient or "" for volume in volumes})
    for point in points:
        shelf = choose("point", point.series, lambda volume, own=point: _within(volume, own))  # type: ignore[misc]
        if shelf is not None:
            shelf.points.append(point)
    _join_boxes(volumes, marks.boxes, shelves, lost)
    found = [VolumeMarks(tuple(one.readings), tuple(one.points), tuple(one.boxes)) for one in shelves]
    return Joined(found, dict(lost), left_out)


def _join_boxes(
    volumes: Sequence[VolumeFile], boxes: Sequence[SliceBox], shelves: Sequence[_Shelf], lost: Counter[str]
) -> None:
    if not boxes:
        return
    images: dict[str, list[tuple[int, int]]] = {}
    for number, volume in enumerate(volumes):
        for index, one in enumerate(volume.slices):
            images.setdefault(one.sop_instance_uid, []).append((number, index))
    for box in boxes:
        found = images.get(box.sop_instance_uid, [])
        if len(found) == 1:
            number, index = found[0]
            shelves[number].boxes.append((index, box))
        else:
            lost["box_double" if found else "box_absent"] += 1


def _within(volume: VolumeFile, point: Mark) -> bool:
    geometry = volume.geometry
    return geometry is not None and bool(geometry.contains(geometry.index(point.position)))


def _on_slices(volume: VolumeFile, reading: LidcReading) -> bool:
    contours = [contour for nodule in reading.nodules for contour in nodule.contours]
    if volume.slices:
        own = {one.sop_instance_uid for one in volume.slices}
        return any(contour.sop_instance_uid in own for contour in contours)
    if volume.geometry is None:
        return False
    low, high = sorted(float(volume.geometry.world((k, 0, 0))[2]) for k in (-0.5, volume.geometry.size[0] - 0.5))
    return any(low <= contour.z <= high for contour in contours)


def without_names(points: Sequence[Mark], identifiers: set[str]) -> tuple[list[Mark], tuple[str, ...]]:
    """Points without the attributes that may say who a patient is, or when; and the names of these attributes.

    identifiers: names of volumes and patients; a column in which one of them occurs is left out as well.
    """
    columns: dict[str, list[float | str | None]] = {}
    for point in points:
        for name, value in point.attributes.items():
            columns.setdefault(name, []).append(value)
    known = {identifier for identifier in identifiers if len(identifier) > 3}
    personal = tuple(name for name, values in columns.items() if _is_personal(name, values, known))
    if not personal:
        return list(points), ()
    kept = [
        replace(point, attributes={name: value for name, value in point.attributes.items() if name not in personal})
        for point in points
    ]
    return kept, personal


def _is_personal(name: str, values: Sequence[float | str | None], identifiers: set[str]) -> bool:
    words = name.casefold().replace("-", "_").split("_")
    if may_identify(name, values) or {"date", "time", "datetime"} & set(words):
        return True
    return bool({value for value in values if isinstance(value, str)} & identifiers)
