"""Annotations of slides in XML, as a stream of tags: no tree in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from synthoma.errors import AnnotationError
from synthoma.formats.annotations import asap, imagescope
from synthoma.formats.annotations.asap import AsapReader
from synthoma.formats.annotations.imagescope import ImageScopeReader
from synthoma.formats.annotations.shapes import FORMAT_NAMES, AnnotationFile, ShapeCollector, shown
from synthoma.formats.xml_safety import BadXml, feed_xml, local_name


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
        self._reader: _TagReader | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = local_name(tag)
        if self._reader is not None:
            self._reader.start(name, attributes)
            return
        if name not in _READERS:
            raise AnnotationError(
                f"{self._path} is XML, but no annotations of a slide: its outermost tag is {shown(name)}. "
                f"Read are {', '.join(FORMAT_NAMES.values())}."
            )
        self._reader = _READERS[name](ShapeCollector(self._path), attributes)

    def end(self, tag: str) -> None:
        if self._reader is not None:
            self._reader.end(local_name(tag))

    def data(self, text: str) -> None:
        """Text between tags says nothing in these formats."""

    def file(self) -> AnnotationFile:
        if self._reader is None:
            raise AnnotationError(f"{self._path} is XML without any tag.")
        return self._reader.file()


def read_xml(content: bytes, path: Path) -> AnnotationFile:
    """Annotations in the bytes of an XML file, in the encoding that it declares. Raises `AnnotationError`."""
    target = _Target(path)
    try:
        feed_xml(content, target, extra="slides")
    except BadXml as problem:
        raise AnnotationError(f"{path} {problem}.") from problem
    return target.file()
