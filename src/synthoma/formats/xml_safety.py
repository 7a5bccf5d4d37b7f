"""XML that anybody may have written: no document types, no entities, no deep nesting, no endless tags."""

from typing import Protocol
from xml.parsers import expat

from synthoma.errors import MissingExtraError

# Files of annotations and marks have five to ten levels.
DEEPEST = 32
_CHUNK = 1 << 20
# Expat reads a tag that does not end again with every chunk, so that a huge one would take time with its square.
_LONGEST_TAG = 16 << 20


class BadXml(Exception):
    """Why XML is not read: the predicate of a sentence, without path and without anything that the file says."""


class TagTarget(Protocol):
    """What is told of the tags, in the order of the file; tags have their namespace in braces before them."""

    def start(self, tag: str, attributes: dict[str, str], /) -> object: ...

    def end(self, tag: str, /) -> object: ...

    def data(self, text: str, /) -> object: ...


def feed_xml(content: bytes, target: TagTarget, extra: str) -> None:
    """Tell the target all tags of an XML document, in the encoding that it declares.

    extra: the one to install where defusedxml is missing. Raises `BadXml`, `MissingExtraError`, and what the target raises.
    """
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser, ParseError
    except ImportError as error:
        raise MissingExtraError(
            f"reading XML needs the package {error.name}, which is not installed: pip install 'synthoma[{extra}]'."
        ) from error
    _check_tag_lengths(content)
    parser = DefusedXMLParser(target=_Shallow(target), forbid_dtd=True)
    try:
        for start in range(0, len(content), _CHUNK):
            parser.feed(content[start : start + _CHUNK])
        parser.close()
    except DefusedXmlException as error:
        raise BadXml(
            "has a document type or entities, which can be used for attacks, and was not read; save it again without them"
        ) from error
    except ParseError as error:
        # The parser's own words would show the names of undefined entities.
        line, column = error.position
        why = expat.ErrorString(error.code) or "unknown error"
        raise BadXml(
            f"is truncated or damaged XML ({why}, line {line}, column {column}); fetch or export it again"
        ) from error
    except (LookupError, ValueError) as error:
        raise BadXml("is in a text encoding that cannot be read; save it as UTF-8") from error


def local_name(tag: str) -> str:
    """A tag without its namespace."""
    return tag.rpartition("}")[2]


class _Shallow:
    """Hands on to a target as long as tags are not nested too deeply."""

    def __init__(self, target: TagTarget) -> None:
        self._target = target
        self._depth = 0
        self.data = target.data

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise BadXml(f"is XML with tags nested deeper than {DEEPEST}, which no such file has")
        self._target.start(tag, attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._target.end(tag)


def _check_tag_lengths(content: bytes) -> None:
    since_end = 0
    for start in range(0, len(content), _CHUNK):
        end = content.rfind(b">", start, start + _CHUNK)
        since_end = start + _CHUNK - end if end >= 0 else since_end + _CHUNK
        if since_end > _LONGEST_TAG:
            raise BadXml(f"is XML that goes on for {_LONGEST_TAG >> 20} MB without a tag, which no such file does")
