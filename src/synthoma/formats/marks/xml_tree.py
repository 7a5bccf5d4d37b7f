"""Marks in XML as a tree, of small files only; and fields of it that must be there."""

import math
import re
from xml.etree.ElementTree import Element, TreeBuilder

from synthoma.formats.marks.shapes import BadMarks
from synthoma.formats.xml_safety import BadXml, feed_xml, local_name

# The largest LIDC files have about 1 MB; the tree of a file takes up to thirty times its size in memory.
MAX_XML_BYTES = 8 << 20
# DICOM PS3.5, section 9.1: digits and points, 64 characters at most.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+")


def parse_xml(content: bytes) -> Element:
    """The outermost element. Raises `BadMarks`, or `MissingExtraError` without defusedxml."""
    if len(content) > MAX_XML_BYTES:
        raise BadMarks(f"is XML of more than {MAX_XML_BYTES >> 20} MB, larger than any file of marks")
    tree = TreeBuilder()
    try:
        feed_xml(content, tree, extra="ct")
    except BadXml as problem:
        raise BadMarks(str(problem)) from problem
    return tree.close()


def children(element: Element, name: str) -> list[Element]:
    """Children of that name, whatever their namespace and case (LIDC writes both Uid and UID)."""
    return [child for child in element if local_name(child.tag).casefold() == name.casefold()]


def text_of(element: Element, name: str) -> str | None:
    """Stripped text of the first child of that name; None if there is none, or it is empty."""
    for child in children(element, name):
        return (child.text or "").strip() or None
    return None


def number_of(element: Element, name: str) -> float:
    """A finite number. Raises `BadMarks` that names the tag, not the value."""
    text = text_of(element, name)
    if text is None:
        raise BadMarks(f"has no {name}")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadMarks(f"has a {name} that is no number")
    return number


def whole_number_of(element: Element, name: str, low: int, high: int) -> int:
    """A whole number between low and high, both included. Raises `BadMarks`."""
    number = number_of(element, name)
    if not (number.is_integer() and low <= number <= high):
        raise BadMarks(f"has a {name} that is no whole number between {low} and {high}")
    return int(number)


def is_uid(text: str) -> bool:
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def uid_of(element: Element, name: str) -> str | None:
    """A UID, or None where there is none. Raises `BadMarks` for a damaged one."""
    text = text_of(element, name)
    if text is not None and not is_uid(text):
        raise BadMarks(f"has a {name} that is no UID")
    return text
