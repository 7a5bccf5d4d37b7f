"""Cubes around lesions: isotropic, along the LPS axes, centred on the mark to a part of a voxel, in Hounsfield units."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthoma.ct_settings import CtSection
from synthoma.errors import VolumeError
from synthoma.formats.volumes.geometry import Geometry
from synthoma.formats.volumes.shapes import Volume
from synthoma.measure.nodule import measure_nodule
from synthoma.measure.segment import segment_nodule
from synthoma.preparation.ct.lesions import Lesion, LesionMask, lps_geometry
from synthoma.preparation.ct.pieces import AttributeValue, Piece, index_in, stored_values, value_outside
from synthoma.preparation.ct.resample import cube_geometry, resample, resample_mask

BORDER = "nodule at the border of the volume"
MOST_OUTSIDE = 0.5
# A mask of which more than this lies beyond the cube is not measured: its diameter would be that of the cube.
_MOST_BEYOND = 0.01


def cut_cubes(volume: Volume, lesions: Sequence[Lesion], section: CtSection, voxels: int) -> Iterator[Piece]:
    """A piece for each lesion, `voxels` a side of `section.spacing` mm; those that are not taken have their reason.

    Beyond the volume is air of -1000 HU (or the lowest value, where the unit is unknown); the share that lies there is the
    attribute `padded`, and a cube with more than half of it is left out.
    Raises `VolumeError` for a volume without spacing, and for classes by texture without Hounsfield units.
    """
    geometry = volume.geometry
    if geometry is None:
        raise VolumeError("the file does not say its spacing, and cubes are cut in mm; ct.cut=slices needs none")
    if section.label == "texture" and volume.unit != "hu":
        raise VolumeError("ct.label=texture needs Hounsfield units; if the file has them: --set ct.unit=hu")
    lps, beyond = lps_geometry(geometry), value_outside(volume)
    for lesion in lesions:
        index = None if lesion.center is None else index_in(lps, lesion.center)
        piece = Piece(lesion.mark, index, lesion.label, lesion.reason, dict(lesion.attributes))
        yield piece if lesion.reason else _cube(volume, lesion, piece, section, voxels, beyond)


def _cube(volume: Volume, lesion: Lesion, piece: Piece, section: CtSection, voxels: int, beyond: float) -> Piece:
    assert lesion.center is not None
    assert volume.geometry is not None
    target = cube_geometry(lesion.center, voxels, section.spacing)
    found = resample(volume.array, volume.geometry, target, beyond)
    attributes: dict[str, AttributeValue] = {**piece.attributes, "padded": found.outside}
    if found.outside > MOST_OUTSIDE:
        return replace(piece, reason=BORDER, attributes=attributes)
    pixels = stored_values(found.values, volume)
    mask, mask_by = None, "none"
    measurable = True
    if lesion.mask is not None:
        mask, mask_by = resample_mask(lesion.mask.voxels, lesion.mask.geometry, target), "readers"
        attributes["mask_beyond_cube"] = cut_off = _beyond(lesion.mask, target)
        measurable = cut_off <= _MOST_BEYOND
    elif section.segment:
        mask, mask_by = segment_nodule(pixels, target.spacing, volume.unit), "segmenter"
    if mask is None or not mask.any():
        mask, mask_by = None, "none"
    if mask is not None and measurable:
        attributes |= _measured(pixels, mask, target, volume)
    label, reason = piece.label, ""
    if section.label == "texture":
        texture = attributes.get("texture")
        label, reason = (texture, "") if isinstance(texture, str) else (None, "no mask that its texture is measured in")
    return replace(piece, label=label, reason=reason, attributes=attributes, pixels=pixels, mask=mask, mask_by=mask_by)


def _measured(
    pixels: NDArray[np.generic], mask: NDArray[np.uint8], target: Geometry, volume: Volume
) -> Mapping[str, AttributeValue]:
    return measure_nodule(pixels, mask, target.spacing, volume.unit).to_attributes()


def _beyond(mask: LesionMask, target: Geometry) -> float:
    """Share of a mask's voxels whose centres lie beyond the cube."""
    inside = target.contains(target.index(mask.geometry.world(np.argwhere(mask.voxels))))
    return 1 - float(inside.mean())
