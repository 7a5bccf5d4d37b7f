"""Whether annotations can belong to a slide of a given size: outside, partly outside, or in the wrong unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.annotations.areas import require_shapely
from synthoma.formats.annotations.shapes import Annotation, AnnotationFile

# Outlines drawn along the border of a slide stick out by a fraction of a pixel.
_TOLERANCE_PX = 1.0
_MPP_TOLERANCE = 0.05
# Microns are suspected only where pixels are so small that the two are well apart, ...
_LARGEST_MPP = 0.8
# ... where all coordinates lie in the part that the slide would fill in microns and stretch over half of its width or
# height, and where most of them are no whole numbers.
_LEAST_SPAN = 0.5
_LEAST_FRACTIONAL = 0.5
_NAMED = 5


@dataclass(frozen=True)
class Placement:
    """Places of annotations that lie wholly or partly outside of a slide, and what to tell the user."""

    outside: tuple[str, ...]
    partly: tuple[str, ...]
    warnings: tuple[str, ...]


def check_against(file: AnnotationFile, size: tuple[int, int], mpp: tuple[float, float] | None = None) -> Placement:
    """Hold annotations against a slide of `size` (width, height) in level-0 pixels; `mpp` in x, y where it is known.

    Nothing is changed: a suspicion is a warning, never a rescaling.
    """
    if not file.annotations:
        return Placement((), (), ())
    require_shapely()
    import shapely

    bounds = shapely.bounds(np.array([annotation.geometry for annotation in file.annotations], dtype=object))
    low, high = bounds[:, :2], bounds[:, 2:]
    apart = np.any((high <= 0) | (low >= size), axis=1)
    over: NDArray[np.bool_] = ((low < -_TOLERANCE_PX) | (high > np.array(size) + _TOLERANCE_PX)).any(axis=1) & ~apart
    outside = tuple(a.place for a, is_apart in zip(file.annotations, apart, strict=True) if is_apart)
    partly = tuple(a.place for a, is_over in zip(file.annotations, over, strict=True) if is_over)
    warnings = []
    if outside:
        warnings.append(
            f"{len(outside)} of {len(file.annotations)} annotations lie outside of the slide, which has "
            f"{size[0]} x {size[1]} pixels ({_listed(outside)}); they may belong to another slide, or to another turn of it."
        )
    if partly:
        warnings.append(f"{len(partly)} annotations reach over the border of the slide ({_listed(partly)}).")
    if mpp is not None:
        warnings += _doubts_about_resolution(file, np.array(size, dtype=np.float64), np.array(mpp), bounds)
    return Placement(outside, partly, tuple(warnings))


def _doubts_about_resolution(
    file: AnnotationFile, size: NDArray[np.float64], mpp: NDArray[np.float64], bounds: NDArray[np.float64]
) -> list[str]:
    doubts = []
    written = file.microns_per_pixel
    if written is not None and (np.abs(written / mpp - 1) > _MPP_TOLERANCE).any():
        doubts.append(
            f"the annotations were drawn at {written:g} microns per pixel, but the slide has {mpp[0]:g} x {mpp[1]:g}; "
            "they may belong to another scan of it."
        )
    in_microns = size * mpp
    low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
    fits = (low >= 0).all() and (high <= in_microns).all() and (mpp <= _LARGEST_MPP).all()
    if fits and ((high - low) / in_microns).max() >= _LEAST_SPAN and _fractional(file.annotations) >= _LEAST_FRACTIONAL:
        doubts.append(
            f"all annotations lie within the first {in_microns[0]:.0f} x {in_microns[1]:.0f} pixels, which is the size "
            "of the slide in microns: their coordinates may be in microns instead of level-0 pixels. Nothing was "
            "rescaled; look at the overlay, and if they are too small and too far up and left, export them in pixels."
        )
    return doubts


def _fractional(annotations: Sequence[Annotation]) -> float:
    """Share of coordinates that are no whole numbers."""
    import shapely

    coordinates = shapely.get_coordinates([annotation.geometry for annotation in annotations])
    return float((coordinates != np.round(coordinates)).mean())


def _listed(places: Sequence[str]) -> str:
    more = len(places) - _NAMED
    return ", ".join(places[:_NAMED]) + (f" and {more} more" if more > 0 else "")
