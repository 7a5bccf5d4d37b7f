"""Body and lungs in a CT volume, by classical means: thresholds, components and closing. Hounsfield units only.

After Hu, Hoffman and Reinhardt, "Automatic lung segmentation for accurate quantitation of volumetric X-ray CT images",
IEEE TMI 20 (2001) 490-498: air within the body, the trachea taken away, left and right parted, each closed for itself so
that vessels and nodules at the pleura are inside while the mediastinum is not. The work is done on a grid of about
`_WORKING_MM`; the result has the size of the volume.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from synthoma.measure.checks import Spacing, checked_mask, checked_spacing, checked_volume

_WORKING_MM = 1.6
_BODY_HU = -400.0
_LUNG_HU = -400.0
_TABLE_MM = 3.0  # thinner things do not hold together with the body
_NOISE_MM = 1.0
_SMALLEST_LUNG_MM3 = 30_000.0  # below that, air is bowel, a cyst, or a windpipe that ends within the volume
_GAS_HU = -970.0  # half of its voxels below it: gas of stomach and bowel; emphysema is denser
_SMALLER_SIDE = 0.1  # of the larger lung; a component that is smaller is no second lung
_CLOSING_MM = 12.0
_PARTING_MM = (1.5, 3.0, 4.5, 6.0, 8.0)
# The trachea's cross-section, mm2: 13 to 27 mm wide in adults (Breatnach et al., AJR 142 (1984) 903-906), and narrower.
_TRACHEA_MM2 = (40.0, 900.0)
_TRACHEA_GROWTH = 1.8  # a cross-section that grows faster than this from slice to slice has met a lung
_TRACHEA_FILL = 0.6  # of the box around it: round
_WALL_MM = 2.5


def body_mask(hu: ArrayLike, spacing: Spacing) -> NDArray[np.bool_]:
    """The body, with all air within it and without table and clothes: bool [z, y, x]; empty where there is none.

    hu: [z, y, x], axial slices. spacing: mm (z, y, x). Raises `ValueError` for NaN and for a spacing that is none.
    """
    values = checked_volume(hu)
    small, lengths, steps = _working_grid(values, checked_spacing(spacing))
    return _full_grid(_body(small, lengths), values.shape, steps)


def lung_mask(hu: ArrayLike, spacing: Spacing) -> NDArray[np.bool_]:
    """Both lungs with their vessels, and with nodules at the pleura as far as a closing of 12 mm reaches: bool [z, y, x].

    Of a nodule that sits on the pleura with 16 mm the outermost 3 mm stay outside, and so does most of a tumour of some
    centimetres that has grown together with the mediastinum or the wall. A dome of the diaphragm that lung
    surrounds within a slice counts as lung, for it cannot be told from a tumour by its density.
    hu: [z, y, x], axial slices, of which the first may be the lowest or the highest. spacing: mm (z, y, x).
    Empty where there is no lung. Raises `ValueError` for NaN and for a spacing that is none.
    """
    values = checked_volume(hu)
    small, lengths, steps = _working_grid(values, checked_spacing(spacing))
    body = _body(small, lengths)
    air = _without_trachea(_air_within(small, body, lengths), body, lengths)
    lungs = np.zeros_like(air)
    for lung in _lungs_apart(air & ~_gas(small, air, lengths), lengths):
        lungs |= _closed_in_plane(lung, lengths)
    return _full_grid(lungs & body, values.shape, steps)


def lung_share(lungs: ArrayLike, body: ArrayLike) -> NDArray[np.float64]:
    """The part of the body's area that is lung in each axial slice, float64 [z]; 0 where there is no body."""
    body_inside = checked_mask(body)
    inside = checked_mask(lungs, body_inside.shape) & body_inside
    area = body_inside.sum(axis=(1, 2))
    return np.asarray(inside.sum(axis=(1, 2)) / np.maximum(area, 1), dtype=np.float64)


def _working_grid(
    values: NDArray[np.float32], lengths: tuple[float, float, float]
) -> tuple[NDArray[np.float32], tuple[float, float, float], tuple[int, int, int]]:
    """Means of blocks of about `_WORKING_MM`, their spacing, and how many voxels they are long along each axis."""
    z, y, x = (min(n, max(1, round(_WORKING_MM / length))) for n, length in zip(values.shape, lengths, strict=True))
    steps = (z, y, x)
    if steps == (1, 1, 1):
        return values, lengths, steps
    padded = np.pad(values, [(0, -n % step) for n, step in zip(values.shape, steps, strict=True)], mode="edge")
    blocks = [part for n, step in zip(padded.shape, steps, strict=True) for part in (n // step, step)]
    means = padded.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    return means, (lengths[0] * z, lengths[1] * y, lengths[2] * x), steps


def _full_grid(mask: NDArray[np.bool_], shape: tuple[int, ...], steps: tuple[int, int, int]) -> NDArray[np.bool_]:
    """The mask of blocks at the volume's own voxels, with its borders interpolated within slices."""
    if steps == (1, 1, 1):
        return mask
    full = np.zeros(shape, dtype=np.bool_)
    rows, columns = ((np.arange(n) + 0.5) / step - 0.5 for n, step in zip(shape[1:], steps[1:], strict=True))
    for index in range(shape[0]):
        plane = mask[index // steps[0]]
        if plane.any():
            full[index] = _interpolated(plane.astype(np.float32), rows, columns) >= 0.5
    return full


def _interpolated(
    plane: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Bilinear values at the grid of rows and columns."""
    for axis, places in ((0, rows), (1, columns)):
        places = np.clip(places, 0, plane.shape[axis] - 1)
        low = np.floor(places).astype(np.int64)
        high = np.minimum(low + 1, plane.shape[axis] - 1)
        part = (places - low).astype(np.float32)
        part = part[:, None] if axis == 0 else part[None, :]
        plane = plane.take(low, axis) * (1 - part) + plane.take(high, axis) * part
    return plane


def _body(hu: NDArray[np.float32], lengths: tuple[float, float, float]) -> NDArray[np.bool_]:
    """The largest component that is dense, opened within slices so that the table comes off, with holes filled."""
    dense = hu > _BODY_HU
    opened = np.zeros_like(dense)
    for index, plane in enumerate(dense):
        # Filled before it is opened: the wall of the chest may be thin where the lungs come near the skin.
        filled = ndimage.binary_fill_holes(plane)
        core = _depth(filled, lengths[1:]) > _TABLE_MM
        opened[index] = filled & (_depth(~core, lengths[1:], outside=True) <= _TABLE_MM + max(lengths[1:]))
    labels, count = ndimage.label(opened)
    if not count:
        return opened
    body = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])


def _depth(mask: NDArray[np.bool_], lengths: tuple[float, ...], outside: bool = False) -> NDArray[np.float64]:
    """Distance to the nearest voxel that is not in the mask, mm; what lies beyond the array counts as `outside`."""
    padded = np.pad(mask, 1, constant_values=outside)
    if padded.all():
        return np.full(mask.shape, np.inf)
    inner = tuple(slice(1, -1) for _ in mask.shape)
    return np.asarray(ndimage.distance_transform_edt(padded, sampling=lengths)[inner])


def _air_within(
    hu: NDArray[np.float32], body: NDArray[np.bool_], lengths: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Air that the body encloses within its slice, smoothed a little against noise."""
    smooth = ndimage.gaussian_filter(hu, (0.0, _NOISE_MM / lengths[1], _NOISE_MM / lengths[2]))
    # Smoothing mixes the skin with the room, so a rim of the body is not looked at.
    rim = max(2 * _NOISE_MM, max(lengths[1:]))
    inner = np.stack([_depth(plane, lengths[1:], outside=True) > rim for plane in body])
    return np.asarray((smooth < _LUNG_HU) & inner)


def _without_trachea(
    air: NDArray[np.bool_], body: NDArray[np.bool_], lengths: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """The air without the windpipe, followed from the end of the volume where it lies alone down to where it parts."""
    ways = [_follow_trachea(air[order], body[order], lengths) for order in (slice(None), slice(None, None, -1))]
    trachea = max(ways[0], ways[1][::-1], key=lambda found: int(np.count_nonzero(found)))
    near = np.stack([_depth(~plane, lengths[1:], outside=True) <= _WALL_MM for plane in trachea])
    return air & ~near


def _follow_trachea(
    air: NDArray[np.bool_], body: NDArray[np.bool_], lengths: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """The windpipe from the first slice of the volume on; empty where none is seen in its first third."""
    found = np.zeros_like(air)
    pixel = lengths[1] * lengths[2]
    last: NDArray[np.bool_] | None = None
    for index, plane in enumerate(air):
        labels, count = ndimage.label(plane)
        if last is None:
            if index > max(len(air) // 3, 1):
                return found
            last = _round_and_central(labels, count, body[index], pixel)
        else:
            touched = np.unique(labels[last & plane])
            here = np.isin(labels, touched[touched > 0])
            area = float(here.sum()) * pixel
            if not here.any() or area > _TRACHEA_GROWTH * float(last.sum()) * pixel or area > _TRACHEA_MM2[1]:
                return found
            last = here
        if last is not None:
            found[index] = last
    # Followed through the whole volume: there is no lung that it leads to.
    return found


def _round_and_central(
    labels: NDArray[np.int32], count: int, body: NDArray[np.bool_], pixel: float
) -> NDArray[np.bool_] | None:
    """The component of a slice that is as large and round as a windpipe and nearest to the body's middle plane."""
    if not count or not body.any():
        return None
    columns = np.flatnonzero(body.any(axis=0))
    middle, width = (columns[0] + columns[-1]) / 2, columns[-1] - columns[0] + 1
    best, best_away = None, 0.15 * width
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == number
        area = float(part.sum()) * pixel
        longer, shorter = max(part.shape), min(part.shape)
        away = abs((box[1].start + box[1].stop - 1) / 2 - middle)
        fits = _TRACHEA_MM2[0] <= area <= _TRACHEA_MM2[1] and part.mean() >= _TRACHEA_FILL and longer <= 2 * shorter
        if fits and away < best_away:
            best, best_away = number, away
    return None if best is None else np.asarray(labels == best)


def _gas(hu: NDArray[np.float32], air: NDArray[np.bool_], lengths: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Components that are large enough for a lung, but thinner than any."""
    labels, count = ndimage.label(air)
    gas = np.zeros_like(air)
    if count:
        sizes = np.bincount(labels.ravel())[1:] * math.prod(lengths)
        for number in 1 + np.flatnonzero(sizes >= _SMALLEST_LUNG_MM3):
            component = labels == number
            if np.median(hu[component]) < _GAS_HU:
                gas |= component
    return gas


def _lungs_apart(air: NDArray[np.bool_], lengths: tuple[float, float, float]) -> list[NDArray[np.bool_]]:
    """One mask for each lung, no more than two; one where the two cannot be told apart."""
    large = _large_components(air, lengths)
    if len(large) != 1:
        return large
    whole = large[0]
    depth = np.stack([_depth(plane, lengths[1:]) for plane in whole])
    for radius in _PARTING_MM:
        parts = _large_components(depth > radius, lengths)
        if len(parts) == 2:
            seeds = parts[0] + 2 * parts[1].astype(np.uint8)
            nearest = ndimage.distance_transform_edt(
                seeds == 0, sampling=lengths, return_distances=False, return_indices=True
            )
            side = seeds[tuple(nearest)]
            return [whole & (side == 1), whole & (side == 2)]
    return [whole]


def _large_components(mask: NDArray[np.bool_], lengths: tuple[float, float, float]) -> list[NDArray[np.bool_]]:
    """The two largest components, as far as they are large enough for a lung."""
    labels, count = ndimage.label(mask)
    if not count:
        return []
    sizes = np.bincount(labels.ravel())[1:] * math.prod(lengths)
    order = np.argsort(-sizes, kind="stable")[:2]
    least = max(_SMALLEST_LUNG_MM3, _SMALLER_SIDE * float(sizes[order[0]]))
    return [np.asarray(labels == 1 + number) for number in order if sizes[number] >= least]


def _closed_in_plane(lung: NDArray[np.bool_], lengths: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Closed by a disc in each slice, holes filled."""
    border = tuple(math.ceil(_CLOSING_MM / length) + 1 for length in lengths[1:])
    closed = np.zeros_like(lung)
    for index, plane in enumerate(lung):
        if not plane.any():
            continue
        padded = np.pad(plane, [(border[0], border[0]), (border[1], border[1])])
        grown = _depth(~padded, lengths[1:], outside=True) <= _CLOSING_MM
        shrunk = _depth(grown, lengths[1:]) > _CLOSING_MM
        inner = shrunk[border[0] : -border[0], border[1] : -border[1]]
        closed[index] = ndimage.binary_fill_holes(inner | plane)
    return closed
