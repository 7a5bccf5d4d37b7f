"""Files of radiologists' marks as tests write them, and readers' outlines."""

from pathlib import Path

import numpy as np

from synthoma.formats.marks import CHARACTERISTICS, Contour, LidcNodule, LidcReading, Marks, read_marks

SERIES = "1.2.840.999.7.31"
SOP = "1.2.840.999.8.44"
SQUARE = [(10, 20), (14, 20), (14, 24), (10, 24)]
RATINGS = dict.fromkeys(CHARACTERISTICS, 3) | {"malignancy": 5, "internal_structure": 1}


def roi(points: object, z: object = -50.0, inclusion: object = "TRUE") -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)  # type: ignore[attr-defined]
    return (
        f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>{SOP}</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


def nodule(*rois: str, ratings: dict[str, object] | None = None) -> str:
    given = RATINGS if ratings is None else ratings
    tags = "".join(
        f"<{tag}>{grade}</{tag}>"
        for name, grade in given.items()
        for tag in [name.replace("internal_structure", "internalStructure")]
    )
    rated = f"<characteristics>{tags}</characteristics>" if given else ""
    return f"<unblindedReadNodule><noduleID>Doe^Jane</noduleID>{rated}{''.join(rois)}</unblindedReadNodule>"


def non_nodule(x: object = 7, y: object = 8, z: object = -3.5) -> str:
    return (
        f"<nonNodule><nonNoduleID>9</nonNoduleID><imageZposition>{z}</imageZposition><imageSOP_UID>{SOP}</imageSOP_UID>"
        f"<locus><xCoord>{x}</xCoord><yCoord>{y}</yCoord></locus></nonNodule>"
    )


def lidc(*sessions: str, head: str = '<?xml version="1.0"?>', series: str = SERIES) -> str:
    inside = "".join(
        f"<readingSession><annotationVersion>3.12</annotationVersion><servicingRadiologistID>Doe^Jane"
        f"</servicingRadiologistID>{session}</readingSession>"
        for session in sessions
    )
    return (
        f'{head}<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader><SeriesInstanceUid>{series}'
        f"</SeriesInstanceUid></ResponseHeader>{inside}</LidcReadMessage>"
    )


def voc(*objects: str, size: str = "<size><width>512</width><height>400</height></size>") -> str:
    return f'<annotation verified="no"><folder>Unknow</folder>{size}{"".join(objects)}</annotation>'


def voc_object(name: str = "A", box: tuple[object, ...] = (286, 310, 355, 399), difficult: int = 0) -> str:
    tags = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><Difficult>{difficult}</Difficult><bndbox>{tags}</bndbox></object>"


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(tmp_path: Path, content: str | bytes, name: str = "marks.txt") -> Marks:
    return read_marks(written(tmp_path / name, content))


def reading(tmp_path: Path, *sessions: str) -> LidcReading:
    return read(tmp_path, lidc(*sessions)).readings[0]


def drawn(reader: int, points: object, zs: tuple[float, ...] = (0.0,), **ratings: int) -> LidcNodule:
    return LidcNodule(reader, ratings, tuple(Contour(z, np.array(points, dtype=np.int64), True) for z in zs))


def box_at(x: int, y: int, side: int = 4) -> list[tuple[int, int]]:
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
