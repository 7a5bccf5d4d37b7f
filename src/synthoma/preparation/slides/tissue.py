"""Where the tissue of a slide is, seen in a thumbnail of about 8 microns a pixel, and how much of each tile it covers.

Otsu's threshold (1979) of the saturation always splits a picture in two, a blank slide as well, so it is held between a
floor and a ceiling. Saturation and luminance are relative to the slide's own glass, which is seldom quite white. Lengths
and areas are microns, so that a slide gives the same mask at another resolution.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from synthoma.preparation.slides.artefacts import Reference, densities_of, hue_of, ink_pixels, luminance
from synthoma.slide_settings import PENS, TissueSettings

Mask = NDArray[np.bool_]
Vector = NDArray[np.float64]
Resolution = float | tuple[float, float]

# Glass is brighter than four fifths and nearly grey: the dimmer, the greyer, or the palest tissue would be taken for it.
# It is at least this share of a slide.
_GLASS_LIGHT, _GLASS_COLOUR, _GLASS_SHARE = 0.8, 0.4, 0.005
# Darker than this there is no telling of colours.
_DARKEST = 0.05
# A picture whose coloured and uncoloured parts differ by less than this, and that lets nearly all light through, is blank.
_LEAST_CONTRAST, _LEAST_DENSITY = 0.03, 0.1
# Rings that air leaves are closed up to this area (µm²); the edge of a cover glass is a ring too, and larger.
_BUBBLE_UM2 = 2e6
_STRIP = 256
# Pixels that medians of colours are taken of, and groups of tissue by hue.
_ENOUGH, _HUES = 200_000, 8


@dataclass(frozen=True, eq=False)
class Tissue:
    """Tissue of a slide. mask: bool [h, w]; threshold: of the saturation; share of the thumbnail that is tissue.

    glass: red, green, blue of the empty slide, up to 255. blank: there is no tissue, and `reason` says in words what there
    is instead. hidden: bool [h, w], below ink, or grey: there may be tissue below, and one has to look closer to say.
    """

    mask: Mask
    threshold: float
    share: float
    glass: tuple[float, float, float]
    blank: bool
    hidden: Mask
    reason: str = ""


def tissue_mask(thumbnail: NDArray[np.uint8], mpp: float, settings: TissueSettings | None = None) -> Tissue:
    """Find tissue in a thumbnail uint8 [h, w, 3] at `mpp` microns a pixel (8 is usual; above 30 small pieces are lost).

    Tissue is more saturated than Otsu's threshold and darker than glass; ink is neither. Then a median filter, closing,
    and removal of small pieces and holes. Without tissue the result is `blank`; this never raises for any picture.
    """
    if thumbnail.dtype != np.uint8 or thumbnail.ndim != 3 or thumbnail.shape[-1] != 3 or not thumbnail.size:
        raise ValueError(f"a thumbnail uint8 [h, w, 3] is expected, not {thumbnail.dtype} {list(thumbnail.shape)}")
    settings = settings or TissueSettings()
    glass = _glass(thumbnail)
    saturation, light, pen = _look(thumbnail, glass)
    pen = _pen_marks(pen, mpp, settings)
    threshold = float(np.clip(otsu(saturation[~pen]), settings.least_saturation, settings.most_saturation))
    stained = (light < settings.luminance * 255) & (light > _DARKEST * 255)
    found = stained & ~pen & (saturation > threshold * 255)
    mask = _clean(found, mpp, settings) & ~pen
    if mask.any():
        reason = _even(mask, pen, saturation, light)
    elif pen.any():
        reason = f"no tissue: only pen marks, or black ({pen.mean():.1%} of the slide)"
    elif found.any():
        reason = f"no tissue: all that is stained is smaller than {settings.object_um2:,.0f} µm²"
    else:
        reason = "no tissue: nothing on the slide is stained"
    if reason:
        mask = np.zeros_like(mask)
    colour = (float(glass[0]), float(glass[1]), float(glass[2]))
    hidden = np.zeros_like(mask) if reason else (pen | _grey_areas(stained & ~found & ~pen, mpp, settings)) & ~mask
    return Tissue(mask, threshold, float(mask.mean()), colour, blank=bool(reason), hidden=hidden, reason=reason)


def _even(mask: Mask, pen: Mask, saturation: NDArray[np.uint8], light: NDArray[np.uint8]) -> str:
    """Why what was found is only the tint of an empty slide, or an empty string.

    It is where it lets nearly all light through and is hardly stronger than the palest twentieth of the slide.
    """
    contrast = (saturation[mask].mean() - np.percentile(saturation[~pen], 5)) / 255
    density = -np.log(max(light[mask].mean(), 1) / 255)
    if contrast < _LEAST_CONTRAST and density < _LEAST_DENSITY:
        return f"no tissue: the slide is evenly pale (optical density {density:.2f})"
    return ""


def slide_reference(thumbnail: NDArray[np.uint8], tissue: Tissue) -> Reference:
    """What the tiles of a slide are judged against, from its thumbnail at about 8 microns a pixel and its tissue."""
    if tissue.blank:
        return Reference(tissue.glass)
    pixels = thumbnail[tissue.mask]
    pixels = pixels[:: max(1, len(pixels) // _ENOUGH)]
    white = np.array(tissue.glass, np.float32) / 255
    densities = densities_of(np.minimum(pixels.T / white[:, None], 255))
    density = np.maximum(densities.mean(axis=0), 1e-3)
    usual = float(np.median(density))
    spread = float(np.median((densities.max(axis=0) - densities.min(axis=0)) / density))
    hue = hue_of(densities)
    hues = np.unique(np.quantile(hue, np.linspace(0, 1, _HUES + 1)[1:-1]))
    group = np.searchsorted(hues, hue)
    parts = [density[group == number] for number in range(len(hues) + 1)]
    double = [_double(part if len(part) else density) for part in parts]
    return Reference(tissue.glass, spread, usual, tuple(hues.tolist()), tuple(double))


def _double(density: NDArray[np.float32]) -> float:
    """Above which density tissue lies double: twice the usual, and well above the densest tenth."""
    middle, high = np.percentile(density, (50, 90))
    return float(max(2 * middle, 1.35 * high, 2 * _LEAST_DENSITY))


def _strips(thumbnail: NDArray[np.uint8]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Rows of a thumbnail in parts, as planes float32 [3, rows, w]: a whole one as float would take gigabytes."""
    for start in range(0, len(thumbnail), _STRIP):
        rows = slice(start, start + _STRIP)
        yield rows, np.ascontiguousarray(thumbnail[rows].transpose(2, 0, 1), dtype=np.float32)


def _saturation(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    most = planes.max(axis=0)
    return np.asarray(1 - planes.min(axis=0) / np.maximum(most, 1))


def _glass(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colour of the empty slide, float32 [3] up to 255: the median of what may be glass.

    White where hardly any pixel may be: a picture that is filled with tissue shows no glass.
    """
    sparse = thumbnail[:: max(1, len(thumbnail) // 512), :: max(1, thumbnail.shape[1] // 512)]
    planes = np.ascontiguousarray(sparse.reshape(-1, 3).T, dtype=np.float32)
    light = luminance(planes)
    grey = _saturation(planes) < _GLASS_COLOUR * (light / 255 - 0.7)
    # Quite white is what was not scanned.
    candidates = (light > 255 * _GLASS_LIGHT) & grey & (planes.min(axis=0) < 255)
    if candidates.mean() < _GLASS_SHARE:
        return np.full(3, 255, np.float32)
    return np.asarray(np.median(planes[:, candidates], axis=1), dtype=np.float32)


def _look(
    thumbnail: NDArray[np.uint8], glass: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Mask]:
    """Saturation and luminance relative to the glass (255 is 1), and what has the colour of ink; all [h, w]."""
    shape = thumbnail.shape[:2]
    saturation, light, pen = np.empty(shape, np.uint8), np.empty(shape, np.uint8), np.empty(shape, np.bool_)
    for rows, planes in _strips(thumbnail):
        planes = np.minimum(planes * (255 / glass)[:, None, None], 255)
        inks = ink_pixels(densities_of(planes), luminance(planes))
        pen[rows] = np.any([inks[name] for name in PENS], axis=0)
        saturation[rows] = np.rint(255 * _saturation(planes)).astype(np.uint8)
        light[rows] = np.rint(luminance(planes)).astype(np.uint8)
    return saturation, light, pen


def otsu(values: NDArray[np.uint8]) -> float:
    """Otsu's threshold (1979) of values 0 to 255 as share of 255: above it is the upper side. 0 where all are equal."""
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * np.arange(256))
    splits = np.flatnonzero((below > 0) & (above > 0))
    if not len(splits):
        return 0.0
    low = sums[splits] / below[splits]
    high = (sums[-1] - sums[splits]) / above[splits]
    between = below[splits] * above[splits] * (high - low) ** 2
    # Where nothing lies between two peaks all thresholds are as good: the middle one is meant.
    best = splits[between >= between.max() * (1 - 1e-12)]
    return float((best[0] + best[-1]) / 2 / 255)


def _pen_marks(pen: Mask, mpp: float, settings: TissueSettings) -> Mask:
    """Ink without specks (blue nuclei, blood), and with the paler rim that a stroke has."""
    if not pen.any():
        return pen
    marks = _without_small(_majority(pen, 3), settings.pen_um2 / mpp**2)
    return np.asarray(ndimage.binary_dilation(marks, _disc(settings.smooth_um / mpp))) if marks.any() else marks


def _grey_areas(grey: Mask, mpp: float, settings: TissueSettings) -> Mask:
    """What is darker than glass without a colour, and what it surrounds: air takes the colour of what lies below."""
    grey = _majority(grey, 3)
    if not grey.any():
        return grey
    grey = ndimage.binary_dilation(grey, _disc(settings.close_um / mpp))
    return _without_small(~_without_small(~grey, _BUBBLE_UM2 / mpp**2, spare_border=True), settings.object_um2 / mpp**2)


def _clean(mask: Mask, mpp: float, settings: TissueSettings) -> Mask:
    """Median filter, closing, removal of small pieces and holes."""
    mask = _majority(mask, 2 * round(settings.smooth_um / mpp / 2) + 1)
    radius = settings.close_um / mpp
    if mask.any() and radius >= 1:
        mask = ndimage.binary_dilation(mask, _disc(radius))
        # What lies beyond the picture is unknown: tissue at its border is not eaten from there.
        mask = ndimage.binary_erosion(mask, _disc(radius), border_value=1)
    mask = _without_small(mask, settings.object_um2 / mpp**2)
    return ~_without_small(~mask, settings.hole_um2 / mpp**2, spare_border=True)


def _majority(mask: Mask, side: int) -> Mask:
    """The median of a box of side x side pixels (odd); the border pixels are continued outwards."""
    if side <= 1:
        return mask
    # Exact: sums of so few ones and zeros, whatever the order, round to the right side of a half.
    return np.asarray(ndimage.uniform_filter(mask.astype(np.float32), side, mode="nearest") > 0.5)


def _disc(radius: float) -> Mask:
    reach = int(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(x * x + y * y <= radius * radius)


def _without_small(mask: Mask, pixels: float, spare_border: bool = False) -> Mask:
    """The connected parts (by sides) that have at least so many pixels; with `spare_border` also those at the border."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= pixels
    if spare_border:
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            keep[edge] = True
    keep[0] = False
    return np.asarray(keep[labels])


def tissue_fraction(mask: Mask, mask_mpp: Resolution, boxes: NDArray[np.float64], mpp: Resolution) -> Vector:
    """Share of each box that is tissue, float64 [n], exact for boxes that cut through pixels of the mask.

    mask: bool [h, w] at `mask_mpp` microns a pixel; boxes: float [n, 4], (x0, y0, x1, y1) in pixels of `mpp` microns, with
    the same top left corner as the mask. A resolution is a number or (x, y). What lies outside of the mask is no tissue.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        raise ValueError("boxes are (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    scale_x, scale_y = (own / coarse for own, coarse in zip(_pair(mpp), _pair(mask_mpp), strict=True))
    height, width = mask.shape
    x0, y0, x1, y1 = (boxes * (scale_x, scale_y, scale_x, scale_y)).T
    area = (x1 - x0) * (y1 - y0)
    sums = np.zeros((height + 1, width + 1), np.int32)
    np.cumsum(mask, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])

    def corner(x: Vector, y: Vector) -> Vector:
        """Tissue above and left of (x, y): bilinear between the sums at whole pixels, which is exact within a pixel."""
        x, y = np.clip(x, 0, width), np.clip(y, 0, height)
        left, top = np.minimum(x.astype(np.int64), width - 1), np.minimum(y.astype(np.int64), height - 1)
        right, down = x - left, y - top
        upper = sums[top, left] * (1 - right) + sums[top, left + 1] * right
        lower = sums[top + 1, left] * (1 - right) + sums[top + 1, left + 1] * right
        return np.asarray(upper * (1 - down) + lower * down)

    covered = corner(x1, y1) - corner(x0, y1) - corner(x1, y0) + corner(x0, y0)
    return np.clip(covered / area, 0.0, 1.0)


def _pair(resolution: Resolution) -> tuple[float, float]:
    return resolution if isinstance(resolution, tuple) else (resolution, resolution)
