"""XML as a stream of tags: no tree in memory, no document types, no entities, no deep nesting."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from synthoma.errors import AnnotationError
from synthoma.formats.annotations import asap, imagescope
from synthoma.formats.annotations.asap import AsapReader
from synthoma.formats.annotations.imagescope import ImageScopeReader
from synthoma.formats.annotations.shapes import FORMAT_NAMES, AnnotationFile, ShapeCollector, shown

_CHUNK = 1 << 20
# Expat reads a tag that does not end again with every chunk, so that a huge one would take time with its square.
_LONGEST_TAG = 16 << 20
_DEEPEST = 32


class _TagReader(Protocol):
    def start(self, tag: str, attributes: dict[str, str]) -> None: ...

    def end(self, tag: str) -> None: ...

    def file(self) -> AnnotationFile: ...


_READERS: dict[str, Callable[[ShapeCollector, dict[str, str]], _TagReader]] = {
    asap.ROOT: AsapReader,
    imagescope.ROOT: ImageScopeReader,
}


class _Target:
    """What the parser calls: finds the format by the outermost tag, and hands the others on without namespaces."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._depth = 0
        self._reader: _TagReader | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        name = tag.rpartition("}")[2]
        if self._reader is not None:
            if self._depth > _DEEPEST:
                raise AnnotationError(
                    f"{self._path} is no annotation file: its tags are nested deeper than {_DEEPEST}."
                )
            self._reader.start(name, attributes)
            return
        if name not in _READERS:
            raise AnnotationError(
                f"{self._path} is XML, but no annotations of a slide: its outermost tag is {shown(name)}. "
                f"Read are {', '.join(FORMAT_NAMES.values())}."
            )
        self._reader = _READERS[name](ShapeCollector(self._path), attributes)

    def end(self, tag: str) -> None:
        self._depth -= 1
        if self._reader is not None:
            self._reader.end(tag.rpartition("}")[2])

    def data(self, text: str) -> None:
        """Text between tags says nothing in these formats."""

    def file(self) -> AnnotationFile:
        if self._reader is None:
            raise AnnotationError(f"{self._path} is XML without any tag.")
        return self._reader.file()


def read_xml(content: bytes, path: Path) -> AnnotationFile:
    """Annotations in the bytes of an XML file, in the encoding that it declares. Raises `AnnotationError`."""
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    _check_tag_lengths(content, path)
    target = _Target(path)
    parser = DefusedXMLParser(target=target, forbid_dtd=True)
    try:
        for start in range(0, len(content), _CHUNK):
            parser.feed(content[start : start + _CHUNK])
        parser.close()
    except DefusedXmlException as error:
        raise AnnotationError(
            f"{path} has a document type or entities, which annotation files do not have and which can be used for "
            "attacks; it was not read. Save it again from ASAP or ImageScope."
        ) from error
    except ParseError as error:
        raise AnnotationError(f"{path} is truncated or damaged XML ({error}).") from error
    except (LookupError, ValueError) as error:
        raise AnnotationError(f"{path} is in a text encoding that cannot be read; save it as UTF-8.") from error
    return target.file()


def _check_tag_lengths(content: bytes, path: Path) -> None:
    since_end = 0
    for start in range(0, len(content), _CHUNK):
        end = content.rfind(b">", start, start + _CHUNK)
        since_end = start + _CHUNK - end if end >= 0 else since_end + _CHUNK
        if since_end > _LONGEST_TAG:
            raise AnnotationError(
                f"{path} is no annotation file: it goes on for {_LONGEST_TAG >> 20} MB without a tag."
            )
