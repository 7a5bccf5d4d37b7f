"""Pathologists' annotations of slides: ASAP XML, ImageScope XML and QuPath GeoJSON in, QuPath GeoJSON out.

All coordinates are pixels of the slide's finest level (level 0), x to the right and y down. The geometry is shapely's
(extra: slides), which is imported where it is used.
"""

from synthoma.formats.annotations.coverage import AnnotationIndex, unknown_labels
from synthoma.formats.annotations.geojson import GeoJsonItem, write_geojson
from synthoma.formats.annotations.placement import Placement, check_against
from synthoma.formats.annotations.registry import read_annotations
from synthoma.formats.annotations.shapes import Annotation, AnnotationFile, Format

__all__ = [
    "Annotation",
    "AnnotationFile",
    "AnnotationIndex",
    "Format",
    "GeoJsonItem",
    "Placement",
    "check_against",
    "read_annotations",
    "unknown_labels",
    "write_geojson",
]
