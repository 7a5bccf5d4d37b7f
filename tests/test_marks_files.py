"""Files and folders of marks: what is none says so, and damaged or hostile ones end in clear errors."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("defusedxml")

from marks_fixture import SERIES, SOP, SQUARE, box_at, lidc, nodule, non_nodule, read, roi, voc, voc_object, written
from synthoma.errors import MarksError
from synthoma.formats.marks import CHARACTERISTICS, Marks, read_marks

ENTITIES = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe  \n", "is empty"),
        (b" " * 5000, "neither XML nor a table"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither XML nor a table"),
        (b"a\xff,b\n", "UTF-8"),
        (b"just words\n", "no file of marks"),
        (b"x,y\n1,2\n", "no file of marks"),
        (SERIES.encode(), "no file of marks"),
        (b"series,x,X,y,z\n", "two columns have one name"),
        (b"series,x,coordX,y,z\n", "two columns for x"),
        (b"series,x,y,z\n", "without a usable row"),
        (f"patient,series,x,y,z\nDoe,{SERIES},1,Jane,3\n".encode(), "without a usable row; line 2 has a y that"),
        (b"seriesuid,coordX,coordY,coordZ,class\n1.2,1,2,3,7\n", "neither 0 nor 1"),
        (b"<svg/>", "neither a reading of LIDC"),
        (b"<IdriReadMessage/>", "radiographs"),
        (b"<LidcReadMessage/>", "does not name the CT series"),
        (lidc("").replace(SERIES, "Doe^Jane").encode(), "SeriesInstanceUid that is no UID"),
        (lidc().encode(), "no reading session"),
        (lidc("<a/>" * 1001).encode(), "more than 1,000 marks"),
        (lidc(nodule(roi(SQUARE)))[:-30].encode(), "truncated or damaged XML"),
        (lidc("&who;").encode(), "truncated or damaged XML"),
        (b"<LidcReadMessage>" + b"<a>" * 50 + b"</a>" * 50 + b"</LidcReadMessage>", "nested deeper than 32"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "encoding|damaged"),
        (lidc("", head=f'<!DOCTYPE a [<!ENTITY l0 "lol">{ENTITIES}]>').replace("3.12", "&l11;").encode(), "entities"),
        (lidc("", head='<!DOCTYPE a [<!ENTITY l SYSTEM "file:///etc/hostname">]>').encode(), "document type"),
        (lidc("", head="<!DOCTYPE LidcReadMessage>").encode(), "document type"),
        (b"<annotation><object/></annotation>", "no SOP instance UID"),
        (b"<annotation/>", "without any object"),
        (b"<LidcReadMessage>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</LidcReadMessage>", "nested deeper than 32"),
        (b"<LidcReadMessage>" + b" " * (8 << 20), "larger than 8 MB"),
    ],
)
def test_what_is_no_file_of_marks_says_so(tmp_path, content, message):
    path = written(tmp_path / "marks.xml", content)
    with pytest.raises(MarksError, match=message) as caught:
        read_marks(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert SERIES not in text
    assert "Doe" not in text


def test_a_mixed_folder_is_read_file_by_file(tmp_path):
    written(tmp_path / "marks/a/LIDC.csv", lidc(nodule(roi(SQUARE)) + nodule()))
    written(tmp_path / f"marks/A0001/{SOP}.xml", voc(voc_object("dog"), voc_object()))
    written(tmp_path / "marks/points.xml", "series,x,y,z\ns,1,2,3\n")
    written(tmp_path / "marks/Doe^Jane/broken.xml", "<LidcReadMessage>")
    written(tmp_path / "marks/Doe^Jane/1.dcm", bytes(200))
    marks = read_marks(tmp_path / "marks")
    assert marks.files == {"lidc": 1, "pet_ct_dx": 1, "table": 1}
    assert (len(marks.readings), len(marks.boxes), len(marks.points)) == (1, 1, 1)
    assert sorted(skip.place for skip in marks.skipped) == [
        "file 1 of 5, object 1",
        "file 2 of 5",
        "file 3 of 5",
        "file 4 of 5, reader 1, nodule 2",
    ]
    assert "Doe" not in repr(marks.skipped)
    assert SOP not in repr(marks.skipped)
    assert {skip.path.name for skip in marks.skipped} == {f"{SOP}.xml", "1.dcm", "broken.xml", "LIDC.csv"}


def test_a_folder_without_marks_is_an_error(tmp_path):
    written(tmp_path / "marks/Doe^Jane/1.dcm", bytes(200))
    with pytest.raises(MarksError, match=r"no file of marks among its 1 files; file 1 of 1 is") as caught:
        read_marks(tmp_path / "marks")
    assert "Doe" not in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MarksError, match="among its 0 files"):
        read_marks(tmp_path / "empty")
    with pytest.raises(MarksError, match="does not exist"):
        read_marks(tmp_path / "absent")


WHOLE = lidc(
    *[
        nodule(roi(SQUARE, z), roi(box_at(11, 20), z - 2.5)) + nodule(roi([(3, 4)]), ratings={}) + non_nodule()
        for z in (0, 1)
    ]
).encode()


@pytest.mark.parametrize("case", range(25))
def test_truncated_files_end_in_a_clear_error(tmp_path, case):
    cut = random.Random(case).randrange(1, len(WHOLE))
    with pytest.raises(MarksError, match=r"truncated or damaged|is XML, but|is empty"):
        read(tmp_path, WHOLE[:cut])


def damaged(draw: random.Random) -> bytes:
    """The whole file with bits flipped anywhere, or with digits of its values changed, so that it stays XML."""
    content = bytearray(WHOLE)
    if draw.random() < 0.4:
        for _ in range(draw.choice((1, 2, 5, 20))):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        return bytes(content)
    values = [i for found in re.finditer(rb">([-0-9.]+)<", WHOLE) for i in range(*found.span(1))]
    for _ in range(draw.choice((1, 3, 10))):
        content[draw.choice(values)] = draw.choice(b"0123456789.-e ")
    return bytes(content)


def outcome(tmp_path: Path, content: bytes) -> Marks | str:
    try:
        return read(tmp_path, content)
    except MarksError as error:
        return str(error)


def test_damaged_bytes_end_in_a_clear_error_or_in_plausible_marks(tmp_path):
    draw = random.Random(5)
    ends = {"read": 0, "listed": 0, "error": 0}
    for _ in range(80):
        marks = outcome(tmp_path, damaged(draw))
        if isinstance(marks, str):
            ends["error"] += 1
            assert marks.startswith(str(tmp_path))
            assert not re.search(r"\d+\.\d+\.\d{3}|Doe", marks.removeprefix(str(tmp_path)))
            continue
        ends["listed" if marks.skipped else "read"] += 1
        assert not re.search(r"\d+\.\d+\.\d{3}|Doe", repr(marks.skipped))
        (one,) = marks.readings
        for found in one.nodules:
            assert set(found.ratings) <= set(CHARACTERISTICS)
            assert all(1 <= grade <= CHARACTERISTICS[name] for name, grade in found.ratings.items())
            assert all(abs(contour.z) <= 10_000 and contour.points.min() >= 0 for contour in found.contours)
    assert min(ends.values()) >= 10, ends


def test_without_defusedxml_tables_are_read_and_xml_names_the_extra(tmp_path):
    table = written(tmp_path / "a.csv", "series,x,y,z\ns,1,2,3\n")
    xml = written(tmp_path / "a.xml", lidc(nodule(roi(SQUARE))))
    code = (
        "import sys; sys.modules['defusedxml'] = None\n"
        "from pathlib import Path\n"
        "from synthoma.errors import MissingExtraError\n"
        "from synthoma.formats.marks import read_marks\n"
        f"print(len(read_marks(Path({str(table)!r})).points))\n"
        "try:\n"
        f"    read_marks(Path({str(xml)!r}))\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("1\n")
    assert "synthoma[ct]" in out
