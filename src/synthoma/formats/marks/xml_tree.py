"""Safe XML: no document types, no entities, small files only; and fields of it that must be there."""

import math
import re
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from synthoma.errors import MissingExtraError
from synthoma.formats.marks.shapes import BadMarks

# The largest LIDC files have about 1 MB; the tree of a file takes up to thirty times its size in memory.
MAX_XML_BYTES = 8 << 20
_DEEPEST = 32
# DICOM PS3.5, section 9.1: digits and points, 64 characters at most.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+")


def parse_xml(content: bytes) -> Element:
    """The outermost element. Raises `BadMarks`, or `MissingExtraError` without defusedxml."""
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser
    except ImportError as error:
        raise MissingExtraError(
            f"marks in XML need {error.name}, which is not installed: pip install 'synthoma[ct]'."
        ) from error
    if len(content) > MAX_XML_BYTES:
        raise BadMarks(f"is XML of more than {MAX_XML_BYTES >> 20} MB, larger than any file of marks")
    # Its own builder is that of Python's slow tree.
    parser = DefusedXMLParser(target=TreeBuilder(), forbid_dtd=True)
    try:
        parser.feed(content)
        root = parser.close()
    except DefusedXmlException as error:
        raise BadMarks(
            "has a document type or entities, which files of marks do not have and which can be used for attacks; "
            "it was not read"
        ) from error
    except ParseError as error:
        line, column = error.position
        raise BadMarks(f"is truncated or damaged XML (line {line}, column {column}); fetch it again") from error
    except (LookupError, ValueError) as error:
        raise BadMarks("is in a text encoding that cannot be read; save it as UTF-8") from error
    _check_depth(root)
    return root


def _check_depth(root: Element) -> None:
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise BadMarks(f"is XML with tags nested deeper than {_DEEPEST}, which no file of marks has")
        level = [child for element in level for child in element]


def name_of(element: Element) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: Element, name: str) -> list[Element]:
    """Children of that name, whatever their namespace and case (LIDC writes both Uid and UID)."""
    return [child for child in element if name_of(child).casefold() == name.casefold()]


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
