"""Broken, hostile and foreign files end in a whole `AnnotationFile` or in an `AnnotationError`, within five seconds."""

import json
import math
import os
import random
import signal
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

pytest.importorskip("shapely")

from synthoma.errors import AnnotationError
from synthoma.formats.annotations import AnnotationFile, read_annotations
from synthoma.formats.annotations.registry import MAX_BYTES

SECONDS = 5.0
SEED = 20
RANDOM = random.Random(SEED)

SQUARE = [(10.5, 10.25), (90.5, 10.25), (90.5, 90.75), (10.5, 90.75)]


def _tags(tag: str, points: list[tuple[object, object]]) -> str:
    return "".join(f'<{tag} Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(points))


def asap(points: object = SQUARE, kind: str = "Polygon", head: str = '<?xml version="1.0"?>') -> str:
    return (
        f'{head}<ASAP_Annotations><Annotations><Annotation Name="A" Type="{kind}" PartOfGroup="tumor" Color="#F4FA58">'
        f"<Coordinates>{_tags('Coordinate', points)}</Coordinates></Annotation></Annotations></ASAP_Annotations>"  # type: ignore[arg-type]
    )


def imagescope(points: object = SQUARE, kind: str = "0", head: str = "") -> str:
    return (
        f'{head}<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="" LineColor="65280"><Regions><Region Id="1" '
        f'Type="{kind}" NegativeROA="0"><Vertices>{_tags("Vertex", points)}</Vertices></Region></Regions></Annotation>'  # type: ignore[arg-type]
        "</Annotations>"
    )


def feature(coordinates: object, kind: object = "Polygon", **properties: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def geojson(*features: object) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(features)})


RING = [list(point) for point in [*SQUARE, SQUARE[0]]]
WHOLE = {
    "asap": asap().encode(),
    "imagescope": imagescope().encode(),
    "geojson": geojson(feature([RING], classification={"name": "Tumör", "color": [1, 2, 3]})).encode(),
}

# What must come of a case: an error, a file in which that shape is skipped, a file with shapes, or any of these.
ERROR, SKIPPED, READ, ANY = "error", "skipped", "read", "any"
Case = tuple[bytes, str]


def damaged() -> Iterator[tuple[str, Case]]:
    """Truncations and flipped bytes of whole files."""
    for name, whole in WHOLE.items():
        for part in range(1, 13):
            yield f"{name} cut at {part}/13", (whole[: len(whole) * part // 13], ERROR)
        yield f"{name} without its last byte", (whole[:-1], ERROR)
        for flips in (1, 1, 1, 1, 2, 3, 5, 10, 20, 50):
            content = bytearray(whole)
            for _ in range(flips):
                content[RANDOM.randrange(len(content))] ^= 1 << RANDOM.randrange(8)
            yield f"{name} with {flips} flipped bits, {RANDOM.random():.6f}", (bytes(content), ANY)
        middle = len(whole) // 2
        yield f"{name} with zeros inside", (whole[:middle] + bytes(40) + whole[middle + 40 :], ERROR)
        yield f"{name} twice", (whole + whole, ERROR)
        yield f"{name} after a mark of byte order", (b"\xef\xbb\xbf" + whole, READ)


def foreign() -> Iterator[tuple[str, Case]]:
    """Other files that lie about under such names."""
    heads = {
        "nothing": b"",
        "space": b" \n\t " * 100,
        "only a mark of byte order": b"\xff\xfe",
        "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "a TIFF": b"II*\0" + bytes(100),
        "a PDF": b"%PDF-1.7\n",
        "an archive": b"PK\x03\x04" + bytes(100),
        "packed": b"\x1f\x8b\x08" + bytes(100),
        "text": b"x,y\n1,2\n",
        "a page": b"<!doctype html><html><body></body></html>",
        "a drawing": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "XML of readers": b'<LidcReadMessage xmlns="http://www.nih.gov"></LidcReadMessage>',
        "XML of boxes": b"<annotation><object><bndbox/></object></annotation>",
        "XML without a tag": b'<?xml version="1.0"?>',
        "COCO": b'{"images": [], "annotations": [{"segmentation": [[1, 2, 3, 4, 5, 6]]}]}',
        "a list of numbers": b"[1, 2, 3]",
        "a list of lists": b"[[[1, 2], [3, 4]]]",
        "a list of other things": b'[{"type": "Image"}, {}]',
        "a number": b"17",
        "a word": b'"FeatureCollection"',
        "an empty object": b"{}",
        "a topology": b'{"type": "Topology", "objects": {}}',
    }
    yield from ((name, (content, ERROR)) for name, content in heads.items())
    for length in (1, 10, 1000, 100_000):
        yield f"{length} bytes of noise", (RANDOM.randbytes(length), ERROR)
        yield f"{length} bytes of noise in a tag", (b"<" + RANDOM.randbytes(length), ERROR)
        yield f"{length} bytes of noise in a list", (b"[" + RANDOM.randbytes(length), ERROR)


def hostile() -> Iterator[tuple[str, Case]]:
    """Entities, document types, nesting, and outlines that tie themselves in knots."""
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    types = {
        "billion laughs": f'<!DOCTYPE a [<!ENTITY l0 "lol">{levels}]>',
        "one long entity": f'<!DOCTYPE a [<!ENTITY l11 "{"x" * 100_000}">]>',
        "external entity": '<!DOCTYPE a [<!ENTITY l11 SYSTEM "file:///etc/hostname">]>',
        "external type": '<!DOCTYPE a SYSTEM "http://localhost:1/a.dtd">',
        "parameter entity": '<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]>',
        "bare type": "<!DOCTYPE ASAP_Annotations>",
    }
    for name, head in types.items():
        body = "&l11;" * 1000 if "entity" in name or "laughs" in name else ""
        yield f"{name} in ASAP", (asap(head=head).replace("<Coordinates>", f"<Coordinates>{body}").encode(), ERROR)
        yield f"{name} in ImageScope", (imagescope(head=head).replace("<Regions>", f"<Regions>{body}").encode(), ERROR)
    yield "undefined entity", (asap().replace("tumor", "&who;").encode(), ERROR)
    yield "deep XML", (b"<ASAP_Annotations>" + b"<a>" * 500_000, ERROR)
    yield "deep whole XML", (b"<Annotations>" + b"<a>" * 50_000 + b"</a>" * 50_000 + b"</Annotations>", ERROR)
    yield "deep list", (b"[" * 1_000_000, ERROR)
    yield "deep object", (b'{"a":' * 500_000, ERROR)
    yield (
        "deep coordinates",
        (
            geojson(feature("?")).replace('"?"', "[" * 100_000 + "]" * 100_000).encode(),
            ERROR,
        ),
    )
    for depth in (50, 200, 100_000):
        geometry = '{"type": "GeometryCollection", "geometries": [' * depth + "]}" * depth
        yield f"geometries {depth} deep", (f'{{"type": "Feature", "geometry": {geometry}}}'.encode(), ANY)
        children = '{"type": "Feature", "geometry": null, "properties": {"childObjects": [' * depth + "]}}" * depth
        yield f"children {depth} deep", (children.encode(), ANY)
    yield "a tag of 20 MB", (b"<ASAP_Annotations a='" + b"x" * 20_000_000 + b"'/>", ERROR)
    yield "half a million tags", (b"<Annotations>" + b"<a/>" * 500_000 + b"</Annotations>", READ)
    yield (
        "half a million attributes",
        (
            b"<Annotations " + b" ".join(b"a%d='1'" % i for i in range(100_000)) + b"/>",
            READ,
        ),
    )
    yield "too many bad shapes", (b'{"type": "FeatureCollection", "features": [' + b"{}," * 150_000 + b"{}]}", ERROR)
    for count, expected in ((400, READ), (3000, SKIPPED), (50_000, SKIPPED)):
        knot = [(RANDOM.random() * 1000, RANDOM.random() * 1000) for _ in range(count)]
        yield f"a knot of {count} points in ASAP", (asap(knot).encode(), expected)
        yield f"a knot of {count} points in GeoJSON", (geojson(feature([[list(p) for p in knot]])).encode(), expected)
    comb = [(i // 2, (i % 2) * 1000) for i in range(20_000)]
    yield "a comb of 20,000 points", (asap([*comb, (10_000, -1), (0, -1)]).encode(), ANY)
    yield "100,000 times one point", (imagescope([(5, 5)] * 100_000).encode(), SKIPPED)
    yield "there and back 50,000 times", (asap([(i % 2, 0) for i in range(100_000)]).encode(), SKIPPED)


def odd_values() -> Iterator[tuple[str, Case]]:
    """Whole files with values that no program writes, or that one wrote by mistake."""
    texts = [
        "nan",
        "inf",
        "-inf",
        "1e999",
        "-1e308",
        "1e8",
        "9" * 5000,
        "",
        " ",
        "abc",
        "1,5",
        "0x1F",
        "1_0",
        "٣",
        "💥",
        "&#0;",
    ]
    for text in texts:
        expected = ERROR if text == "&#0;" else READ if text == "٣" else SKIPPED
        wrong = [(10, 10), (90, text), (90, 90)]
        yield f"ASAP with Y={text[:8]!r}", (asap(wrong).encode(), expected)
        yield f"ImageScope with Y={text[:8]!r}", (imagescope(wrong).encode(), expected)
    yield "ASAP without X", (asap().replace("X=", "Z=").encode(), SKIPPED)
    yield "ImageScope without Y", (imagescope().replace("Y=", "Z=").encode(), SKIPPED)
    yield "ASAP with an attribute twice", (asap().replace("X=", 'Y="1" X=').encode(), ERROR)
    yield "ASAP of an unknown type", (asap(kind="Blob").encode(), SKIPPED)
    yield "ASAP with odd orders", (asap().replace('Order="2"', 'Order="nan"').encode(), READ)
    yield (
        "ASAP with crossed tags",
        (asap().replace("</Coordinates></Annotation>", "</Annotation></Coordinates>").encode(), ERROR),
    )
    yield "ImageScope of an unknown type", (imagescope(kind="-1").encode(), SKIPPED)
    yield (
        "XML in a namespace",
        (asap().replace("<ASAP_Annotations>", '<ASAP_Annotations xmlns="urn:x">').encode(), READ),
    )
    for encoding in ("no-such-code", "gb18030", "utf-16", "idna"):
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        yield f"XML that says it is in {encoding}", (asap(head=head).encode(), ANY if encoding == "idna" else ERROR)
    yield "XML in broken UTF-8", (asap().replace("tumor", "?").encode().replace(b'?"', b'\xff"'), ANY)
    yield "JSON in broken UTF-8", (WHOLE["geojson"].replace(b"Tum", b"\xff\xfe"), ERROR)
    yield "half of UTF-16", (asap().encode("utf-16")[:501], ERROR)

    numbers = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "1e8",
        "9" * 5000,
        "-" + "9" * 400,
        '"5"',
        "true",
        "null",
        "[5]",
        "{}",
    ]
    for text in numbers:
        document = geojson(feature([RING])).replace("90.75", text, 1)
        yield f"GeoJSON with {text[:8]}", (document.encode(), SKIPPED)
    coordinates: list[object] = [
        None, 5, "abc", {}, [], [[]], [[[]]], [[[1]]], [[1, 2], [3, 4]], [[None]], [[[1, 2], [3], [5, 6]]], ["abc"],
        [{"0": 1}], [[{"x": 1}]], [["ab", "cd", "ef"]], [RING, [[1, math.inf], [2, 2], [3, 1]]], [[], RING], [[[1, 1], [2, 2]]],
    ]  # fmt: skip
    for value in coordinates:
        yield f"GeoJSON with coordinates {json.dumps(value)[:40]}", (geojson(feature(value)).encode(), SKIPPED)
        yield (
            f"parts with coordinates {json.dumps(value)[:40]}",
            (
                geojson(feature([value], "MultiPolygon"), feature([RING])).encode(),
                READ,
            ),
        )
    for kind in (None, 5, [], {}, "Circle", "polygon", "GeometryCollection", "MultiPolygon"):
        yield f"a geometry of type {kind!r}", (geojson(feature([RING], kind)).encode(), SKIPPED)
    for geometry in (None, 5, "x", [], [RING]):
        yield f"a geometry {str(geometry)[:20]}", (geojson({"type": "Feature", "geometry": geometry}).encode(), SKIPPED)
    for name in ("Fecture", 5, None, ["Feature"], {"a": 1}):
        odd = {**feature([RING]), "type": name}
        yield f"an entry of type {name!r}", (geojson(feature([RING]), odd).encode(), READ)
        yield f"only an entry of type {name!r}", (geojson(odd).encode(), ERROR)
    for features in (None, 5, {}, "x"):
        yield (
            f"features {features!r}",
            (json.dumps({"type": "FeatureCollection", "features": features}).encode(), ERROR),
        )
    for value in (
        5,
        1.5,
        True,
        [],
        [1],
        "",
        "a\u0000b",
        "\ud83d",
        "x" * 150,
        {"name": []},
        {"names": [1, None, "a"]},
        {"names": "ab"},
    ):
        yield f"a class {str(value)[:20]!a}", (geojson(feature([RING], classification=value)).encode(), READ)
    yield "a class with a very long name", (geojson(feature([RING], classification="x" * 10_000)).encode(), SKIPPED)
    yield (
        "children of all sorts",
        (geojson(feature([RING], childObjects=[1, None, [], feature([RING])])).encode(), READ),
    )
    yield (
        "the same key twice",
        (WHOLE["geojson"].replace(b'"type": "Feature"', b'"type": "Feature", "type": "Feature"'), READ),
    )
    yield "something after the end", (WHOLE["geojson"] + b"{}", ERROR)


CASES: dict[str, Case] = {
    f"{number} {name}": case
    for number, (name, case) in enumerate(
        pair for corpus in (damaged, foreign, hostile, odd_values) for pair in corpus()
    )
}


@pytest.fixture
def no_hang() -> Iterator[None]:
    """A case that takes too long is broken off and fails."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    start = time.perf_counter()
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - start < SECONDS


def check(file: AnnotationFile) -> None:
    """What may be relied on, whatever the file was."""
    for annotation in file.annotations:
        geometry = annotation.geometry
        assert geometry.geom_type in ("Polygon", "MultiPolygon")
        assert geometry.is_valid
        assert 0 < geometry.area < math.inf
        assert all(abs(side) <= 1e7 for side in geometry.bounds)
        label = annotation.label
        assert label is None or (label == label.strip() and 0 < len(label) <= 200)
        assert not {unicodedata.category(sign) for sign in label or ""} & {"Cc", "Cs"}
    for _, reason in (*file.skipped, *file.repaired):
        assert reason.isprintable()
        assert len(reason) < 200


def test_the_corpus_is_large() -> None:
    assert len({content for content, _ in CASES.values()}) >= 250


@pytest.mark.usefixtures("no_hang")
@pytest.mark.parametrize("name", list(CASES))
def test_a_case_ends_well(name: str, tmp_path: Path) -> None:
    content, expected = CASES[name]
    path = tmp_path / "Schnitt 🎗️ #1.xml"
    path.write_bytes(content)
    file, message = None, ""
    try:
        file = read_annotations(path)
    except AnnotationError as error:
        message = str(error)
    if file is None:
        assert expected in (ERROR, ANY), message
        assert message.startswith(str(path))
        assert len(message) < len(str(path)) + 400
        assert message.removeprefix(str(path)).isprintable()
        return
    check(file)
    if expected != ANY:
        assert expected != ERROR, f"no error, but {file}"
        assert (expected == SKIPPED) == (not file.annotations and bool(file.skipped)), file


@pytest.mark.usefixtures("no_hang")
def test_names_of_files(tmp_path: Path) -> None:
    """Whatever the name, the content decides; a name in the message is the name that was given."""
    for name in ("🎗️.geojson", "ü\u0308.svs", "a\nb.xml", "x" * 250, " ", "no ending", "-rf"):
        path = tmp_path / name
        path.write_bytes(WHOLE["imagescope"])
        assert read_annotations(path).format == "imagescope"
        path.write_bytes(b"?")
        with pytest.raises(AnnotationError) as caught:
            read_annotations(path)
        assert str(caught.value).startswith(str(path))


@pytest.mark.usefixtures("no_hang")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    cases = {
        "missing.xml": "does not exist",
        "pipe": "is no file",
        ".": "is no file",
        "y" * 300: "File name too long",
        "loop": "does not exist",
    }
    for name, message in cases.items():
        with pytest.raises(AnnotationError, match=message):
            read_annotations(tmp_path / name)


@pytest.mark.usefixtures("no_hang")
def test_an_absurdly_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(AnnotationError, match="larger than 256 MB"):
        read_annotations(path)
