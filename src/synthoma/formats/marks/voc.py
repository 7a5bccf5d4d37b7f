"""Lung-PET-CT-Dx boxes: PASCAL VOC XML, one file a slice, `<patient>/<SOPInstanceUID>.xml`.

Li et al., A Large-Scale CT and PET/CT Dataset for Lung Cancer Diagnosis, TCIA 2020, doi:10.7937/TCIA.2020.NNC20461.
<folder>, <filename> and <path> say "Unknow" in the originals, so that the name of the file alone leads to the slice.
"""

import re
from pathlib import Path
from xml.etree.ElementTree import Element

from synthoma.formats.marks.shapes import BadMarks, Findings, SliceBox
from synthoma.formats.marks.xml_tree import children, is_uid, number_of, text_of, whole_number_of

ROOT = "annotation"
CLASSES = {"A": "adenocarcinoma", "B": "small_cell", "E": "large_cell", "G": "squamous"}
# Folder of a patient: A0001, or Lung_Dx-A0001 as in the archive.
_PATIENT = re.compile(r"(?:^|[-_])([ABEG])\d{4}$", re.IGNORECASE)
_MAX_PIXEL = 65_535


def read_boxes(root: Element, path: Path) -> Findings:
    """All boxes of a slice; a box that cannot be used is skipped.

    Raises `BadMarks` where the file has no object, or its name is no SOP instance UID.
    """
    objects = children(root, "object")
    if not objects:
        raise BadMarks("is XML of boxes without any object")
    uid = path.name.removesuffix(path.suffix) if path.suffix.casefold() == ".xml" else path.name
    if not is_uid(uid):
        raise BadMarks("has boxes, but its name is no SOP instance UID, so that their slice is not known")
    folder = _PATIENT.search(path.absolute().parent.name)
    of_patient = folder.group(1).upper() if folder else None
    found = Findings("pet_ct_dx")
    size = _image_size(root)
    for number, element in enumerate(objects, start=1):
        try:
            label = _label(element, of_patient)
            box = _box(element, size)
            difficult = (text_of(element, "difficult") or "0") == "1"
            found.boxes.append(SliceBox(uid, box, label, difficult, size))
        except BadMarks as problem:
            found.skipped.append((f"object {number}", str(problem)))
    return found


def _label(element: Element, of_patient: str | None) -> str:
    """Class by the letter of the box, or of the patient where the box has none; two that differ are refused."""
    name = (text_of(element, "name") or "").upper()
    if name not in CLASSES:
        if name or of_patient is None:
            raise BadMarks(f"has a name that is none of the letters {', '.join(CLASSES)}")
        return CLASSES[of_patient]
    if of_patient is not None and name != of_patient:
        raise BadMarks(f"is of class {name}, but its patient's folder of class {of_patient}")
    return CLASSES[name]


def _image_size(root: Element) -> tuple[int, int] | None:
    for size in children(root, "size"):
        try:
            return whole_number_of(size, "width", 1, _MAX_PIXEL), whole_number_of(size, "height", 1, _MAX_PIXEL)
        except BadMarks:
            # Many VOC files say 0 x 0; a box is then held against no size.
            return None
    return None


def _box(element: Element, size: tuple[int, int] | None) -> tuple[float, float, float, float]:
    boxes = children(element, "bndbox")
    if not boxes:
        raise BadMarks("has no bndbox")
    x0, y0, x1, y1 = (number_of(boxes[0], name) for name in ("xmin", "ymin", "xmax", "ymax"))
    width, height = size or (_MAX_PIXEL, _MAX_PIXEL)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise BadMarks("has a box without area, or beyond the borders of its slice")
    return x0, y0, x1, y1
