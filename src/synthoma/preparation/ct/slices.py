"""Axial slices: which of a volume's are taken, what is marked on them, and their pixels in Hounsfield units.

Three filters say why a slice is left out: its place within the lungs' height, the share of the body that is lung, and its
likeness to reference slices: the greatest correlation of the windowed, body-centred slice with one of them. All three
scores stay as columns, so that another limit can be tried before anything is cut anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthoma.ct_settings import CtSection, SliceFilter
from synthoma.errors import RecipeError, VolumeError
from synthoma.formats.arrays import read_npy
from synthoma.formats.volumes.geometry import Geometry, in_lps_order
from synthoma.formats.volumes.shapes import Volume
from synthoma.measure.lungs import body_mask, lung_mask, lung_share
from synthoma.preparation.ct.lesions import NO_NODULE, Lesion
from synthoma.preparation.ct.pieces import AttributeValue, Piece, stored_values
from synthoma.preparation.ct.resample import axis_weights, whole_voxels

UNMARKED, TWO_CLASSES = "no mark on the slice", "marks of two classes on the slice"
NO_LUNG, LITTLE_LUNG = "above or below the lungs", "too little lung"
UNLIKE, TOO_NEAR, TOO_MANY = "unlike the reference slices", "nearer to the last one than every_mm", "more than the most"
# Slices are compared in this window, whatever training sees, body-centred, at so many pixels a side.
_WINDOW, _SIDE = (-1000.0, 400.0), 64
_BODY_HU = -500.0


@dataclass
class _Slice:
    """What is known of one slice before its pixels are looked at again."""

    label: str | None = None
    reason: str = ""
    mark: str = "slice"
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    mask: NDArray[np.bool_] | None = None
    mask_by: str = "none"


def load_references(folder: Path | None) -> NDArray[np.float32] | None:
    """Reference slices (.npy, [y, x] in HU) as looks [n, 64 * 64], of mean 0 and length 1.

    Raises `RecipeError` for a folder without any, or with something that is no slice in HU.
    """
    if folder is None:
        return None
    files = sorted(folder.glob("*.npy")) if folder.is_dir() else []
    if not files:
        raise RecipeError(f"ct.slices.reference: {folder} is no folder with slices (.npy in HU).")
    looks = []
    for file in files:
        array = read_npy(file)
        if array.ndim != 2 or min(array.shape) < _SIDE or array.dtype.kind not in "if" or np.min(array) > _BODY_HU:
            raise RecipeError(
                f"ct.slices.reference: {file} is no slice [y, x] in HU of at least {_SIDE} pixels a side with air around the body."
            )
        looks.append(look(array))
    return np.stack(looks)


def look(hu: NDArray[np.generic]) -> NDArray[np.float32]:
    """A slice [y, x] as 64 x 64 numbers of mean 0 and length 1: windowed, in the square around the body, flattened."""
    values = hu.astype(np.float32)
    labels, count = ndimage.label(values > _BODY_HU)
    square = [(0.0, float(n)) for n in values.shape]
    if count:
        body = ndimage.find_objects(labels)[int(np.bincount(labels.ravel())[1:].argmax())]
        side = max(part.stop - part.start for part in body)
        square = [((part.start + part.stop - side) / 2, side) for part in body]
    windowed = np.clip((values - _WINDOW[0]) / (_WINDOW[1] - _WINDOW[0]), 0, 1)
    for axis, (start, side) in enumerate(square):
        step = side / _SIDE
        weights = axis_weights(values.shape[axis], start + step / 2 - 0.5, step, _SIDE)
        windowed = np.moveaxis(np.tensordot(weights, windowed, axes=(1, axis)), 0, axis)
    flat = windowed.ravel() - windowed.mean()
    length = float(np.linalg.norm(flat))
    result: NDArray[np.float32] = flat / length if length > 0 else flat
    return result


def cut_slices(
    volume: Volume,
    lesions: Sequence[Lesion] | None,
    section: CtSection,
    references: NDArray[np.float32] | None = None,
) -> Iterator[Piece]:
    """A piece for each axial slice from feet to head; those that are not taken have their reason.

    lesions: those of the volume; None where no marks were given at all, and slices have no class. With `ct.pixel` left out
    the pixels are the volume's own, to the last bit.
    Raises `VolumeError` for what needs HU or mm and finds none.
    """
    _check_known(volume, section)
    array, geometry = volume.array, volume.geometry
    if geometry is not None:
        array, geometry = in_lps_order(array, geometry)
    slices = [_Slice() for _ in array]
    if geometry is not None and volume.unit == "hu":
        _look_at_lungs(slices, array, geometry, section.slices)
    if references is not None:
        for one, pixels in zip(slices, array, strict=True):
            one.attributes["likeness"] = likeness = float((references @ look(pixels)).max())
            if likeness < section.slices.likeness:
                one.reason = one.reason or UNLIKE
    if lesions is not None:
        _mark(slices, lesions, geometry, array.shape, section.slices.unmarked)
    _thin(slices, geometry, section.slices)
    if lesions is not None:
        # A mark without a place on any slice is listed as well.
        for lesion in lesions:
            if lesion.center is None:
                yield Piece(lesion.mark, None, lesion.label, lesion.reason, dict(lesion.attributes))
    middle_y, middle_x = ((n - 1) / 2 for n in array.shape[1:])
    for k, one in enumerate(slices):
        if geometry is not None:
            one.attributes["z_mm"] = k * geometry.spacing[0]
        piece = Piece(one.mark, (float(k), middle_y, middle_x), one.label, one.reason, one.attributes)
        yield piece if one.reason else _with_pixels(piece, one, array[k], volume, geometry, section.pixel)


def _check_known(volume: Volume, section: CtSection) -> None:
    wanted = section.slices
    lungs = wanted.positions != (0.0, 1.0) or wanted.least_lung > 0
    if volume.geometry is None and (section.pixel is not None or wanted.every_mm > 0 or lungs):
        raise VolumeError(
            "the file does not say its spacing; leave out ct.pixel, ct.slices.every_mm and ct.slices.positions, and set "
            "ct.slices.least_lung=0"
        )
    if volume.unit != "hu" and (lungs or wanted.reference is not None):
        raise VolumeError(
            "lungs and likeness are found in Hounsfield units, which the file does not say it has; if it does: --set ct.unit=hu, "
            "else leave out ct.slices.positions and ct.slices.reference, and set ct.slices.least_lung=0"
        )
    if section.label == "texture":
        raise VolumeError("ct.label=texture is measured in cubes; with ct.cut=slices take another")


def _look_at_lungs(
    slices: Sequence[_Slice], array: NDArray[np.generic], geometry: Geometry, wanted: SliceFilter
) -> None:
    lungs = lung_mask(array, geometry.spacing)
    shares = lung_share(lungs, body_mask(array, geometry.spacing))
    filled = np.flatnonzero(lungs.any(axis=(1, 2)))
    low, high = (int(filled[0]), int(filled[-1])) if filled.size else (0, -1)
    chosen = wanted.positions != (0.0, 1.0) or wanted.least_lung > 0
    for k, one in enumerate(slices):
        position = (k - low) / max(high - low, 1) if filled.size else None
        one.attributes |= {"position": position, "lung_share": float(shares[k])}
        if not chosen:
            continue
        if position is None or not 0 <= position <= 1:
            one.reason = NO_LUNG
        elif not wanted.positions[0] <= position <= wanted.positions[1]:
            one.reason = "outside ct.slices.positions"
        elif shares[k] < wanted.least_lung:
            one.reason = LITTLE_LUNG


def _mark(
    slices: Sequence[_Slice],
    lesions: Sequence[Lesion],
    geometry: Geometry | None,
    shape: tuple[int, ...],
    unmarked: str | None,
) -> None:
    """Classes, masks and attributes of marked slices; what becomes of the others."""
    on: list[list[Lesion]] = [[] for _ in slices]
    if geometry is not None:
        for lesion in lesions:
            for k in _draw(lesion, slices, geometry, shape):
                on[k].append(lesion)
    some = any(on)
    for one, own in zip(slices, on, strict=True):
        if not own:
            one.label = unmarked if some else None
            # A volume in which nobody marked anything may hold what nobody looked for.
            one.reason = one.reason or ("" if some and unmarked is not None else UNMARKED)
            continue
        wanted = [lesion for lesion in own if not lesion.reason]
        classes = {lesion.label for lesion in wanted}
        one.mark = wanted[0].mark if wanted else own[0].mark
        # A small or doubtful finding beside a lesion that is wanted costs nothing; by itself it is no class.
        one.reason = one.reason or ("" if wanted else own[0].reason) or (TWO_CLASSES if len(classes) > 1 else "")
        one.label = next(iter(classes)) if len(classes) == 1 else None
        if len(own) == 1:
            one.attributes |= dict(own[0].attributes)


def _draw(lesion: Lesion, slices: Sequence[_Slice], geometry: Geometry, shape: tuple[int, ...]) -> Iterator[int]:
    """Put the lesion's mask on the slices that it is on, and name them."""
    if lesion.center is None or lesion.reason == NO_NODULE:
        return
    if lesion.mask is not None:
        voxels, own = in_lps_order(lesion.mask.voxels, lesion.mask.geometry)
        z, y, x = np.rint(geometry.index(own.origin)).astype(int)
        for k, drawn in enumerate(voxels):
            if 0 <= z + k < len(slices) and drawn.any():
                _add(slices[z + k], shape, drawn.astype(np.bool_), y, x, "readers")
                yield int(z + k)
        return
    if lesion.boxes:
        for corners in lesion.boxes:
            index = geometry.index(corners)
            k = int(np.rint(index[:, 0].mean()))
            (y0, x0), (y1, x1) = (
                np.floor(index[:, 1:].min(axis=0)).astype(int),
                np.ceil(index[:, 1:].max(axis=0)).astype(int),
            )
            if 0 <= k < len(slices):
                _add(slices[k], shape, np.ones((y1 - y0 + 1, x1 - x0 + 1), np.bool_), y0, x0, "box")
                yield k
        return
    middle = float(geometry.index(lesion.center)[0])
    reach = max((lesion.radius or 0.0) / geometry.spacing[0], 0.5)
    for k in range(max(0, int(np.ceil(middle - reach))), min(len(slices), int(np.floor(middle + reach)) + 1)):
        yield k


def _add(one: _Slice, shape: tuple[int, ...], drawn: NDArray[np.bool_], y: int, x: int, by: str) -> None:
    """Add a part [h, w] that begins at (y, x) to the mask of a slice; what lies beyond the slice is cut off."""
    if one.mask is None:
        one.mask = np.zeros(shape[1:], np.bool_)
    top, left = max(0, -y), max(0, -x)
    part = one.mask[max(0, y) : y + drawn.shape[0], max(0, x) : x + drawn.shape[1]]
    part |= drawn[top : top + part.shape[0], left : left + part.shape[1]]
    one.mask_by = by if one.mask_by in ("none", by) else "readers"


def _thin(slices: Sequence[_Slice], geometry: Geometry | None, wanted: SliceFilter) -> None:
    """Leave out slices that are too near to the last one, and then evenly those beyond the most."""
    last: float | None = None
    for k, one in enumerate(slices):
        if one.reason or geometry is None or wanted.every_mm == 0:
            continue
        place = k * geometry.spacing[0]
        # A thousandth of a slice is rounding, not distance.
        if last is not None and place - last < wanted.every_mm - 1e-3 * geometry.spacing[0]:
            one.reason = TOO_NEAR
        else:
            last = place
    left = [one for one in slices if not one.reason]
    if wanted.most is not None and len(left) > wanted.most:
        kept = {int(i) for i in np.floor((np.arange(wanted.most) + 0.5) * len(left) / wanted.most)}
        for number, one in enumerate(left):
            if number not in kept:
                one.reason = TOO_MANY


def _with_pixels(
    piece: Piece, one: _Slice, own: NDArray[np.generic], volume: Volume, geometry: Geometry | None, pixel: float | None
) -> Piece:
    pixels, mask = own, None if one.mask is None else one.mask.astype(np.uint8)
    if pixel is not None and geometry is not None:
        rows, columns = (
            _centred(length, spacing, pixel) for length, spacing in zip(own.shape, geometry.spacing[1:], strict=True)
        )
        pixels = stored_values(rows @ own.astype(np.float32) @ columns.T, volume)
        if mask is not None:
            mask = whole_voxels((rows @ mask.astype(np.float32) @ columns.T).astype(np.float32))
    return Piece(
        piece.mark, piece.index, piece.label, "", piece.attributes, np.ascontiguousarray(pixels), mask, one.mask_by
    )


def _centred(length: int, spacing: float, pixel: float) -> NDArray[np.float32]:
    """Weights that resample an axis around its middle; a new pixel that reaches beyond it takes what is there."""
    count = max(1, round(length * spacing / pixel))
    step = pixel / spacing
    weights = axis_weights(length, (length - 1) / 2 - (count - 1) / 2 * step, step, count)
    sums = weights.sum(axis=1, keepdims=True)
    result: NDArray[np.float32] = (weights / np.where(sums > 0, sums, 1)).astype(np.float32)
    return result
