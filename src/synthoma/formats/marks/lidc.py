"""LIDC XML: LidcReadMessage / readingSession / unblindedReadNodule and nonNodule.

A nodule of 3 mm or more has characteristics and one `roi` a slice with the points of its outline; a smaller one has a
single point. Schema: LidcReadMessage.xsd of the LIDC; Armato et al., Med. Phys. 38 (2011) 915-931.
"""

from xml.etree.ElementTree import Element

import numpy as np

from synthoma.formats.marks.shapes import (
    CHARACTERISTICS,
    BadMarks,
    Contour,
    Findings,
    LidcNodule,
    LidcPoint,
    LidcReading,
)
from synthoma.formats.marks.xml_tree import children, number_of, text_of, uid_of, whole_number_of
from synthoma.formats.xml_safety import local_name

ROOT = "LidcReadMessage"
# Radiographs of the same archive, which are no CT.
ROOT_OF_RADIOGRAPHS = "IdriReadMessage"
# What no true file reaches; they bound the time that a hostile one can take.
_MAX_FINDINGS = 1000
_MAX_POINTS = 20_000
_MAX_PIXEL = 16_383
_MAX_Z = 10_000.0


def read_lidc(root: Element) -> Findings:
    """All readings of a file. A finding with a damaged part is left out as a whole: half a nodule would be a wrong one.

    A rating outside its scale is left out alone. Raises `BadMarks` for a file without series or reading session.
    """
    headers = children(root, "ResponseHeader")
    try:
        series = uid_of(headers[0], "SeriesInstanceUid") if headers else None
    except BadMarks as problem:
        raise BadMarks(f"{problem} in its header; fetch it again") from problem
    if series is None:
        raise BadMarks("does not name the CT series that was read (ResponseHeader/SeriesInstanceUid)")
    sessions = children(root, "readingSession")
    if not sessions:
        raise BadMarks("has no reading session, so no radiologist's marks")
    if sum(len(session) for session in sessions) > _MAX_FINDINGS:
        raise BadMarks(f"has more than {_MAX_FINDINGS:,} marks, which no reading of one CT has")
    found = Findings("lidc")
    nodules: list[LidcNodule] = []
    points: list[LidcPoint] = []
    for reader, session in enumerate(sessions, start=1):
        _read_session(session, reader, nodules, points, found.skipped)
    found.readings.append(LidcReading(series, len(sessions), tuple(nodules), tuple(points)))
    return found


def _read_session(
    session: Element,
    reader: int,
    nodules: list[LidcNodule],
    points: list[LidcPoint],
    skipped: list[tuple[str, str]],
) -> None:
    counts: dict[str, int] = {}
    for element in session:
        tag = local_name(element.tag)
        if tag in ("annotationVersion", "servicingRadiologistID"):
            continue
        counts[tag] = counts.get(tag, 0) + 1
        try:
            if tag == "unblindedReadNodule":
                place = f"reader {reader}, nodule {counts[tag]}"
                finding = _nodule(element, reader, place, skipped)
                if isinstance(finding, LidcNodule):
                    nodules.append(finding)
                else:
                    points.append(finding)
            elif tag == "nonNodule":
                place = f"reader {reader}, non-nodule {counts[tag]}"
                points.append(_non_nodule(element, reader))
            else:
                place = f"reader {reader}"
                raise BadMarks("has a part that is neither unblindedReadNodule nor nonNodule")
        except BadMarks as problem:
            skipped.append((place, str(problem)))


def _nodule(element: Element, reader: int, place: str, skipped: list[tuple[str, str]]) -> LidcNodule | LidcPoint:
    rois = children(element, "roi")
    if not rois:
        raise BadMarks("has no roi, so no place")
    contours = []
    for number, roi in enumerate(rois, start=1):
        try:
            contours.append(_contour(roi))
        except BadMarks as problem:
            raise BadMarks(f"roi {number} {problem}") from problem
    if sum(len(contour.points) for contour in contours) > _MAX_POINTS:
        raise BadMarks(f"has more than {_MAX_POINTS:,} points")
    if all(len(contour.points) == 1 for contour in contours):
        # One point, as a rule on one slice; of several slices the middle one.
        contours.sort(key=lambda contour: contour.z)
        middle = contours[len(contours) // 2]
        x, y = (int(value) for value in middle.points[0])
        return LidcPoint(reader, "small_nodule", x, y, middle.z, middle.sop_instance_uid)
    return LidcNodule(reader, _ratings(element, place, skipped), tuple(contours))


def _contour(roi: Element) -> Contour:
    edges = children(roi, "edgeMap")
    if not edges:
        raise BadMarks("has no edgeMap, so no points")
    inclusion = (text_of(roi, "inclusion") or "").upper()
    if inclusion not in ("TRUE", "FALSE"):
        raise BadMarks("does not say TRUE or FALSE as its inclusion")
    points = np.array([_pixel(edge) for edge in edges], dtype=np.int64)
    return Contour(_z(roi), points, inclusion == "TRUE", uid_of(roi, "imageSOP_UID"))


def _non_nodule(element: Element, reader: int) -> LidcPoint:
    places = children(element, "locus")
    if not places:
        raise BadMarks("has no locus, so no place")
    x, y = _pixel(places[0])
    return LidcPoint(reader, "non_nodule", x, y, _z(element), uid_of(element, "imageSOP_UID"))


def _pixel(element: Element) -> tuple[int, int]:
    return whole_number_of(element, "xCoord", 0, _MAX_PIXEL), whole_number_of(element, "yCoord", 0, _MAX_PIXEL)


def _z(element: Element) -> float:
    z = number_of(element, "imageZposition")
    if abs(z) > _MAX_Z:
        raise BadMarks(f"has an imageZposition beyond {_MAX_Z:,.0f} mm")
    return z


def _ratings(element: Element, place: str, skipped: list[tuple[str, str]]) -> dict[str, int]:
    """The ratings that were given; those that are missing or outside their scale are listed."""
    groups = children(element, "characteristics")
    if not groups:
        skipped.append((f"{place}, ratings", "has an outline, but no characteristics"))
        return {}
    ratings = {}
    for name, highest in CHARACTERISTICS.items():
        tag = "internalStructure" if name == "internal_structure" else name
        try:
            ratings[name] = whole_number_of(groups[0], tag, 1, highest)
        except BadMarks as problem:
            skipped.append((f"{place}, {name}", str(problem)))
    return ratings
