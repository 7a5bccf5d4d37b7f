"""A folder of malformed slides and annotations, made from whole phantom slides with a fixed seed."""

import io
import os
import random
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SEED = 4
# Tags of TIFF that are made absurd, and the bytes of a value of each type.
TAGS = {
    "width": 256,
    "height": 257,
    "bits": 258,
    "compression": 259,
    "photometric": 262,
    "samples": 277,
    "resolution": 282,
    "planar": 284,
    "unit": 296,
    "tile-width": 322,
    "tile-height": 323,
    "offsets": 324,
    "byte-counts": 325,
    "subsampling": 530,
}
_WIDTHS = {2: 1, 3: 2, 4: 4, 5: 4, 16: 8}
_WHOLE_TIFF_HEAD = 16


@dataclass(frozen=True)
class Corpus:
    """slides: folder with all of them; annotations: of every slide. whole: files that are as they should be.

    hopeless: names of slides of which nothing can be read, whatever one does; the others may end either way.
    """

    slides: Path
    annotations: Path
    whole: tuple[Path, ...]
    hopeless: frozenset[str]

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.slides.rglob("*") if not path.is_dir())


def directories(content: bytes) -> list[tuple[int, dict[int, tuple[int, int, int]]]]:
    """Directories of a BigTIFF: (place, tag -> (type, count, place of its first value)), finest level first."""
    found = []
    (place,) = struct.unpack_from("<Q", content, 8)
    while place:
        (count,) = struct.unpack_from("<Q", content, place)
        tags = {}
        for entry in range(place + 8, place + 8 + 20 * count, 20):
            tag, kind, values = struct.unpack_from("<HHQ", content, entry)
            inside = values * _WIDTHS[kind] * (2 if kind == 5 else 1) <= 8
            tags[tag] = kind, values, entry + 12 if inside else struct.unpack_from("<Q", content, entry + 12)[0]
        found.append((place, tags))
        (place,) = struct.unpack_from("<Q", content, place + 8 + 20 * count)
    return found


def with_tag(content: bytes, name: str, value: int, level: int = 0, every: bool = False) -> bytes:
    """A BigTIFF with another first value of a tag, or with all of its values changed."""
    changed = bytearray(content)
    kind, count, place = directories(content)[level][1][TAGS[name]]
    size = _WIDTHS[kind]
    for number in range(count if every else 1):
        changed[place + number * size : place + (number + 1) * size] = (value % (1 << 8 * size)).to_bytes(
            size, "little"
        )
    return bytes(changed)


def flipped(content: bytes, start: int, stop: int, bits: int, randomly: random.Random) -> bytes:
    """Some bits between two places turned over."""
    changed = bytearray(content)
    for _ in range(bits):
        changed[randomly.randrange(start, min(stop, len(changed)))] ^= 1 << randomly.randrange(8)
    return bytes(changed)


Case = tuple[str, bytes, bool]  # name, content, whether it is hopeless


def truncated(content: bytes) -> Iterator[Case]:
    places = [1, 2, 4, 7, 8, 12, 15, 16, 17, 100, *(len(content) * part // 24 for part in range(1, 24))]
    for place in (*places, len(content) - 2000, len(content) - 300, len(content) - 9, len(content) - 1):
        # The directories come last, and the last one ends with the file.
        yield f"cut-at-{place}", content[:place], place < directories(content)[0][0]


def damaged(content: bytes, randomly: random.Random) -> Iterator[Case]:
    """Bits turned over in the head, the directories, the places of tiles and the tiles; zeros; parts put elsewhere."""
    found = directories(content)
    first = found[0][0]
    for number in range(14):
        yield f"head-{number}", flipped(content, 0, _WHOLE_TIFF_HEAD, 1 + number % 3, randomly), False
    for number in range(36):
        place, tags = found[number % len(found)]
        yield f"directory-{number}", flipped(content, place, place + 20 * len(tags), 1 + number % 4, randomly), False
    for number in range(16):
        tag = TAGS[("offsets", "byte-counts")[number % 2]]
        _, count, place = found[number // 2 % len(found)][1][tag]
        yield f"table-{number}", flipped(content, place, place + 8 * count, 1 + number, randomly), False
    for number in range(20):
        yield f"tiles-{number}", flipped(content, _WHOLE_TIFF_HEAD, first, 4**number % 4093, randomly), False
    for number in range(10):
        yield f"anywhere-{number}", flipped(content, 0, len(content), 2**number, randomly), False
    for part in range(8):
        start = len(content) * part // 8
        zeros = bytes(min(4096, len(content) - start))
        yield f"zeros-{part}", content[:start] + zeros + content[start + len(zeros) :], False
    yield "tail-first", content[first:] + content[:first], True
    yield "twice", content + content, False
    yield "only-directories", content[:_WHOLE_TIFF_HEAD] + bytes(first - _WHOLE_TIFF_HEAD) + content[first:], False


def absurd(content: bytes) -> Iterator[Case]:
    """Tags with sizes that no slide has, and directories that lead nowhere or round in a circle."""
    for name in ("width", "height"):
        for value in (0, 1, 65_535, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
            yield f"{name}-{value}", with_tag(content, name, value), value == 0
    both = {value: with_tag(with_tag(content, "width", value), "height", value) for value in (1, 100_000, 1 << 31)}
    for value, changed in both.items():
        yield f"both-{value}", changed, False
    for name in ("tile-width", "tile-height"):
        for value in (0, 1, 15, 4096, 1 << 20, 1 << 31):
            yield f"{name}-{value}", with_tag(content, name, value), value == 0
    for name in ("bits", "samples", "compression", "photometric", "planar", "subsampling"):
        for value in (0, 2, 16, 65_535):
            yield f"{name}-{value}", with_tag(content, name, value, every=True), False
    for value in (0, 1, (1 << 32) - 1):
        yield f"resolution-{value}", with_tag(content, "resolution", value), False
    for value in (0, 7):
        yield f"unit-{value}", with_tag(content, "unit", value), False
    for value in (0, 3, len(content) - 1, len(content) + 1000, 1 << 40, (1 << 64) - 1):
        yield f"offsets-{value}", with_tag(content, "offsets", value, every=True), False
        yield f"byte-counts-{value}", with_tag(content, "byte-counts", value, every=True), False
    first, second = (place for place, _ in directories(content)[:2])
    ending = second + 8 + 20 * len(directories(content)[1][1])
    for name, at, value in (
        ("circle", ending, first),
        ("link-beyond-the-end", ending, 1 << 50),
        ("first-directory-beyond-the-end", 8, 1 << 50),
        ("endless-directory", first, (1 << 64) - 1),
        ("directory-of-60000-tags", first, 60_000),
    ):
        yield name, content[:at] + struct.pack("<Q", value) + content[at + 8 :], at in (8, first)


def foreign() -> Iterator[Case]:
    """Other files under such names; plain pictures that say no resolution."""
    heads = {
        "nothing": b"",
        "text": b"This is no slide at all.\n" * 40,
        "page": b"<!doctype html><html><body>404 Not Found</body></html>",
        "archive": b"PK\x03\x04" + bytes(3000),
        "document": b"%PDF-1.7\n" + bytes(3000),
        "old-tiff-head": b"II*\0" + bytes(3000),
        "other-order": b"MM\0+\0\x08\0\0" + bytes(3000),
        "head-of-a-jpeg": b"\xff\xd8\xff\xe0" + bytes(3000),
        "head-of-a-png": b"\x89PNG\r\n\x1a\n" + bytes(3000),
        "dicom": bytes(128) + b"DICM" + bytes(3000),
        "zeros": bytes(100_000),
        "noise": random.Random(SEED).randbytes(100_000),
        "ini": b"[GENERAL]\nSLIDE_VERSION = 01.03\n",
    }
    yield from ((name, content, True) for name, content in heads.items())
    pixels = np.random.default_rng(SEED).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name, mode in (("rgb", "RGB"), ("grey", "L"), ("palette", "P"), ("inks", "CMYK"), ("reals", "F")):
        picture = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(picture, "TIFF")
        yield f"picture-{name}", picture.getvalue(), True
    pages = io.BytesIO()
    Image.fromarray(pixels).save(pages, "TIFF", save_all=True, append_images=[Image.fromarray(pixels)] * 3)
    yield "pages", pages.getvalue(), True
    small = io.BytesIO()
    Image.new("L", (8, 8)).save(small, "PNG")
    head = b"IHDR" + struct.pack(">II", 30_000, 30_000) + small.getvalue()[24:29]
    bomb = small.getvalue()[:12] + head + struct.pack(">I", zlib.crc32(head)) + small.getvalue()[33:]
    yield "bomb", bomb, True


def bad_annotations(text: str) -> Iterator[tuple[str, bytes]]:
    """What annotation files of whole slides hold; the parser has a corpus of its own."""
    whole = text.encode()
    far = text.replace("[[[", "[[[9000000.0, 9000000.0], [", 1)
    yield from {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"no annotation",
        "bomb": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "x">]><ASAP_Annotations>&b;</ASAP_Annotations>',
        "deep": b"[" * 100_000,
        "zeros": bytes(5000),
        "flipped": flipped(whole, 0, len(whole), 40, random.Random(SEED)),
        "no-areas": b'{"type": "FeatureCollection", "features": []}',
        "other-class": whole.replace(b"benign", "Übung 🔬".encode()),
        "far-away": far.encode(),
        "not-a-number": whole.replace(b"[[[", b"[[[NaN, 1.0], [", 1),
        "latin": b'{"type": "FeatureCollection", "features": [], "name": "\xff\xfe"}',
    }.items()


NAMES = (
    "🔬💥 Größe ∅.svs",
    "名前 with spaces .tif",
    "-rf.svs",
    "two\nlines.tif",
    "quotes\"'<b>&amp;.tif",
    "=cmd|' calc'!A0.svs",
    "%s%n{0}.tif",
    "UPPER.SVS",
    "x" * 250 + ".tif",
    "ü" * 125 + ".tif",
)


def make_corpus(phantoms: Path, root: Path) -> Corpus:
    """All malformed files beside the two whole phantom slides of 1024 pixels in `phantoms`."""
    slides, annotations = root / "slides", root / "annotations"
    slides.mkdir(parents=True)
    annotations.mkdir()
    randomly = random.Random(SEED)
    originals = sorted(phantoms.glob("slide_*.tif"))
    contents = [file.read_bytes() for file in originals]
    outlines = [(phantoms / "annotations-geojson" / f"{file.stem}.geojson").read_text() for file in originals]
    cases = [
        *truncated(contents[0]),
        *damaged(contents[1], randomly),
        *absurd(contents[0]),
        *foreign(),
    ]
    endings = (".tif", ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".tiff", ".vms", ".vmu")
    hopeless = set()
    for number, (name, content, without_hope) in enumerate(cases):
        # Most stay TIFF, which is what they are; a reader goes by the content anyway.
        file = slides / f"{number:03d}-{name}{endings[number % len(endings)] if number % 3 == 0 else '.tif'}"
        file.write_bytes(content)
        (annotations / f"{file.stem}.geojson").write_text(outlines[number % 2])
        if without_hope:
            hopeless.add(file.name)
    for number, name in enumerate(NAMES):
        (slides / name).write_bytes(contents[0][: 5000 * number])
        hopeless.add(name)
    for number, (name, content) in enumerate(bad_annotations(outlines[0])):
        file = slides / f"annotation-{number:02d}-{name}.tif"
        shutil.copy(originals[0], file)
        (annotations / f"{file.stem}{'.xml' if name == 'bomb' else '.geojson'}").write_bytes(content)
    whole = []
    for file, text in zip(originals, outlines, strict=True):
        whole.append(slides / file.name)
        shutil.copy(file, slides)
        (annotations / f"{file.stem}.geojson").write_text(text)
    return Corpus(slides, annotations, tuple(whole), frozenset(hopeless | _links(slides, annotations)))


def _links(slides: Path, annotations: Path) -> set[str]:
    """Things that are no files: folders named like slides, links to nothing and in a circle, pipes, files that may not be read."""
    (slides / "folder.svs").mkdir()
    (slides / "folder.svs" / "inside.svs").write_bytes(b"no slide")
    (slides / "empty-folder.tif").mkdir()
    os.symlink(slides / "nowhere", slides / "dangling.svs")
    os.symlink(slides / "circle.tif", slides / "circle.tif")
    os.symlink("/dev/null", slides / "void.svs")
    os.symlink(annotations / "nowhere", annotations / "dangling.geojson")
    made = {"inside.svs", "dangling.svs", "circle.tif", "void.svs"}
    if hasattr(os, "mkfifo"):
        os.mkfifo(slides / "pipe.svs")
        made.add("pipe.svs")
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        (slides / "locked.svs").write_bytes(b"II*\0")
        (slides / "locked.svs").chmod(0)
        made.add("locked.svs")
    return made
