"""The marks of a phantom as the collections have them: LIDC XML, LUNA16's table, Lung-PET-CT-Dx boxes; and the truth."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from synthoma.phantoms.ct.chest import ChestPhantom
from synthoma.phantoms.ct.nodules import PhantomNodule
from synthoma.phantoms.ct.readers import Reading, ReadNodule, ReadPoint

# LUNA16 takes nodules of at least 3 mm that three of the four readers outlined (Setio et al., Med. Image Anal. 42 (2017)).
LUNA16_READERS = 3
# Lung-PET-CT-Dx has boxes around the tumour; of phantoms each nodule of this size counts as one, and the largest in any case.
_BOXED_MM = 15.0
_LIDC_TAGS = {"internal_structure": "internalStructure"}
TRUTH_COLUMNS = (
    *("patient", "series", "kind", "x", "y", "z", "diameter_mm", "volume_mm3", "texture", "spiculation", "malignancy"),
    *("mean_hu", "juxtapleural", "readers"),
)


@dataclass(frozen=True)
class Named:
    """A phantom with the names it has on disk. slice_uids: SOP instance UIDs in the order of the array's first axis."""

    patient: str = field(repr=False)
    series_uid: str = field(repr=False)
    study_uid: str = field(repr=False)
    slice_uids: Sequence[str] = field(repr=False)
    phantom: ChestPhantom = field(repr=False)
    readings: tuple[Reading, ...] = field(repr=False)

    def readers_of(self, number: int) -> int:
        """How many readers outlined nodule `number`."""
        return sum(any(read.number == number for read in reading.nodules) for reading in self.readings)


def lidc_xml(named: Named, date: str) -> str:
    """One LIDC file with all readings. date: YYYYMMDD."""
    day = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<LidcReadMessage uid="{named.series_uid}.0" xmlns="http://www.nih.gov" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="http://www.nih.gov  http://troll.rad.med.umich.edu/lidc/LidcReadMessage.xsd">',
        "<ResponseHeader>",
        "\t<Version>1.8</Version>",
        f"\t<DateRequest>{day}</DateRequest>",
        "\t<TaskDescription>Second unblinded read</TaskDescription>",
        f"\t<SeriesInstanceUid>{named.series_uid}</SeriesInstanceUid>",
        f"\t<DateService>{day}</DateService>",
        "\t<ResponseDescription>1 - Reading complete</ResponseDescription>",
        f"\t<StudyInstanceUID>{named.study_uid}</StudyInstanceUID>",
        "</ResponseHeader>",
    ]
    for reading in named.readings:
        lines += ["  <readingSession>", "    <annotationVersion>3.12</annotationVersion>"]
        lines.append("    <servicingRadiologistID>anon</servicingRadiologistID>")
        for count, nodule in enumerate(reading.nodules, start=1):
            lines += _nodule_lines(named, nodule, count)
        for count, point in enumerate(reading.points, start=1):
            lines += _point_lines(named, point, len(reading.nodules) + count)
        lines.append("  </readingSession>")
    return "\n".join([*lines, "</LidcReadMessage>", ""])


def luna16_csv(all_named: Iterable[Named]) -> str:
    """LUNA16's annotations.csv: true centres (world, LPS mm) and diameters of the nodules that three readers outlined."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"))
    for named in all_named:
        for number, nodule in enumerate(named.phantom.nodules):
            if nodule.diameter_mm >= 3 and named.readers_of(number) >= LUNA16_READERS:
                rows.writerow((named.series_uid, *(f"{c:.8f}" for c in nodule.center), f"{nodule.diameter_mm:.8f}"))
    return table.getvalue()


def truth_csv(all_named: Iterable[Named]) -> str:
    """Every nodule with all that is true of it; kind: nodule, or small_nodule below 3 mm; readers: who outlined it."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(TRUTH_COLUMNS)
    for named in all_named:
        for number, nodule in enumerate(named.phantom.nodules):
            rows.writerow(_truth(named, nodule, "nodule", str(named.readers_of(number))))
        for spot in named.phantom.spots:
            rows.writerow(_truth(named, spot, "small_nodule", ""))
    return table.getvalue()


def boxes_xml(named: Named, letter: str) -> dict[str, str]:
    """Text of one VOC file for each slice with a tumour, by its SOP instance UID. letter: A, B, E or G, the class."""
    phantom = named.phantom
    largest = max((nodule.diameter_mm for nodule in phantom.nodules), default=0.0)
    boxes: dict[int, list[tuple[int, int, int, int]]] = {}
    for nodule, mask in zip(phantom.nodules, phantom.masks, strict=True):
        if nodule.diameter_mm < min(_BOXED_MM, largest):
            continue
        z, y, x = mask.start
        for number in np.flatnonzero(mask.mask.any(axis=(1, 2))).tolist():
            rows = np.flatnonzero(mask.mask[number].any(axis=1))
            columns = np.flatnonzero(mask.mask[number].any(axis=0))
            box = (x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)
            boxes.setdefault(z + number, []).append(box)
    _, height, width = phantom.geometry.size
    return {named.slice_uids[number]: _voc(found, letter, width, height) for number, found in sorted(boxes.items())}


def _truth(named: Named, nodule: PhantomNodule, kind: str, readers: str) -> tuple[str, ...]:
    numbers = (*nodule.center, nodule.diameter_mm, nodule.volume_mm3)
    return (
        *(named.patient, named.series_uid, kind),
        *(f"{number:.6f}" for number in numbers),
        *(nodule.texture, f"{nodule.spiculation:.4f}", str(nodule.malignancy), f"{nodule.mean_hu:.2f}"),
        *(str(int(nodule.juxtapleural)), readers),
    )


def _nodule_lines(named: Named, nodule: ReadNodule, count: int) -> list[str]:
    lines = ["    <unblindedReadNodule>", f"      <noduleID>Nodule {count:03d}</noduleID>", "      <characteristics>"]
    lines += [f"        <{tag}>{value}</{tag}>" for tag, value in _rated(nodule)]
    lines.append("      </characteristics>")
    for outline in nodule.outlines:
        lines += _roi_lines(named, outline.number, outline.points.tolist())
    return [*lines, "    </unblindedReadNodule>"]


def _rated(nodule: ReadNodule) -> list[tuple[str, int]]:
    return [(_LIDC_TAGS.get(name, name), value) for name, value in nodule.ratings.items()]


def _point_lines(named: Named, point: ReadPoint, count: int) -> list[str]:
    if point.kind == "small_nodule":
        lines = ["    <unblindedReadNodule>", f"      <noduleID>Nodule {count:03d}</noduleID>"]
        lines += _roi_lines(named, point.slice, [(point.x, point.y)])
        return [*lines, "    </unblindedReadNodule>"]
    return [
        "    <nonNodule>",
        f"      <nonNoduleID>Non-nodule {count:03d}</nonNoduleID>",
        f"      <imageZposition>{_z(named, point.slice)}</imageZposition>",
        f"      <imageSOP_UID>{named.slice_uids[point.slice]}</imageSOP_UID>",
        f"      <locus><xCoord>{point.x}</xCoord><yCoord>{point.y}</yCoord></locus>",
        "    </nonNodule>",
    ]


def _roi_lines(named: Named, number: int, points: Iterable[Sequence[int]]) -> list[str]:
    return [
        "      <roi>",
        f"        <imageZposition>{_z(named, number)}</imageZposition>",
        f"        <imageSOP_UID>{named.slice_uids[number]}</imageSOP_UID>",
        "        <inclusion>TRUE</inclusion>",
        *(f"        <edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points),
        "      </roi>",
    ]


def _z(named: Named, number: int) -> str:
    return f"{named.phantom.geometry.world((number, 0, 0))[2]:.6f}"


def _voc(boxes: Iterable[tuple[int, int, int, int]], letter: str, width: int, height: int) -> str:
    lines = [
        '<annotation verified="no">',
        "  <folder>Unknow</folder>",
        "  <filename>Unknow</filename>",
        "  <path>Unknow</path>",
        "  <source>Unknow<database>Unknown</database>",
        "  </source>",
        f"  <size><width>{width}</width><height>{height}</height><depth>1</depth></size>",
        "  <segmented>0</segmented>",
    ]
    for x0, y0, x1, y1 in boxes:
        lines += [
            "  <object>",
            f"    <name>{letter}</name>",
            "    <pose>Unspecified</pose>",
            "    <truncated>0</truncated>",
            "    <Difficult>0</Difficult>",
            f"    <bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
