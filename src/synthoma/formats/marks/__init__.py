"""Radiologists' marks on CT: LIDC XML, LUNA16 tables, Lung-PET-CT-Dx boxes and plain tables.

Positions in mm are (x, y, z) of the patient system LPS; positions in pixels are x = column, y = row, counted from 0.
UIDs are kept for joining marks with images; they are private, and no message or `repr` shows them.
"""

from synthoma.formats.marks.consensus import (
    Consensus,
    NoduleCluster,
    RatingSummary,
    cluster_nodules,
    consensus,
    summarise_ratings,
    suspicion_label,
)
from synthoma.formats.marks.contours import CroppedMask, contour_mask, fill_contour
from synthoma.formats.marks.registry import read_marks
from synthoma.formats.marks.shapes import (
    CHARACTERISTICS,
    Contour,
    LidcNodule,
    LidcPoint,
    LidcReading,
    Mark,
    Marks,
    Skipped,
    SliceBox,
)

__all__ = [
    "CHARACTERISTICS",
    "Consensus",
    "Contour",
    "CroppedMask",
    "LidcNodule",
    "LidcPoint",
    "LidcReading",
    "Mark",
    "Marks",
    "NoduleCluster",
    "RatingSummary",
    "Skipped",
    "SliceBox",
    "cluster_nodules",
    "consensus",
    "contour_mask",
    "fill_contour",
    "read_marks",
    "summarise_ratings",
    "suspicion_label",
]
