"""Which parser takes a file: decided by its first character, never by the ending of its name."""

from pathlib import Path

from synthoma.errors import AnnotationError
from synthoma.formats.annotations.areas import require_shapely
from synthoma.formats.annotations.geojson import read_geojson
from synthoma.formats.annotations.shapes import FORMAT_NAMES, AnnotationFile
from synthoma.formats.annotations.xml_stream import read_xml
from synthoma.formats.files import first_character

MAX_BYTES = 256 << 20
_HEAD = 4096


def read_annotations(path: Path) -> AnnotationFile:
    """Read ASAP XML, ImageScope XML or QuPath GeoJSON; areas come in the order of the file, in level-0 pixels.

    A shape that cannot be used (a point, a line, fewer than three points, no area, coordinates that are no plausible
    numbers) is left out with its reason in `skipped`; one that crosses itself is repaired and named in `repaired`.

    Raises `AnnotationError` for what is no annotation file, is truncated or damaged, declares entities or a document
    type, is larger than 256 MB or nested deeply; `MissingExtraError` without shapely and defusedxml.
    """
    require_shapely()
    path = Path(path)
    content = _content(path)
    first = first_character(content[:_HEAD])
    if first == b"<":
        return read_xml(content, path)
    if first in (b"{", b"["):
        return read_geojson(content, path)
    raise AnnotationError(
        f"{path} is no annotation file: it is neither XML nor JSON. Read are {', '.join(FORMAT_NAMES.values())}."
    )


def _content(path: Path) -> bytes:
    try:
        if not path.exists():
            raise AnnotationError(f"{path} does not exist.")
        if not path.is_file():
            raise AnnotationError(f"{path} is no file; name a file of annotations.")
        size = path.stat().st_size
        with path.open("rb") as file:
            content = b"" if size > MAX_BYTES else file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error.strerror or error}.") from error
    if max(size, len(content)) > MAX_BYTES:
        raise AnnotationError(f"{path} is larger than {MAX_BYTES >> 20} MB; split it into several files.")
    if not content:
        raise AnnotationError(f"{path} is empty (0 bytes).")
    return content
