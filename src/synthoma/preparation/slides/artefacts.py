"""What is wrong with a tile: ink, folds, bubbles, dirt, blur, emptiness, each as a number of its own.

Scores are kept as columns, so that limits can change without reading pixels again. Each is taken at a scale in microns,
whatever the tile's own, after area reduction by powers of two: colours at 4 µm a pixel, folds at 8, focus at 1 against 4.
Colours are judged by their optical density relative to the slide's glass, in which a pale and a strong stain have the
same proportions. A tile can't know how strong its slide is stained, nor what its glass looks like: a `Reference` tells.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import DataError, RecipeError, nearest_name_hint
from synthoma.slide_settings import Limits

Scores = dict[str, NDArray[np.float32]]
# (tiles uint8 [n, h, w, 3], microns a pixel) -> name -> a number for each tile
QualityModel = Callable[[NDArray[np.uint8], float], Mapping[str, Any]]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

FOCUS_UM, GREY_UM, COLOUR_UM, FOLD_UM = 1.0, 2.0, 4.0, 8.0
# Pixels of tiles that are scored together: what is at work then stays in the processor's cache.
_TOGETHER = 1 << 18
_LUMINANCE = (0.299, 0.587, 0.114)

# Glass: no channel darker than 0.12 (226 of 255). Black: luminance below 70 of 255.
_GLASS, _BLACK = 0.12, 70.0
# Channels that agree to this share of their mean are grey; no mixture of haematoxylin and eosin is. Black pixels may
# differ by more: there is tissue below ink, and little light to tell.
_GREY, _BLACK_GREY = 0.2, 0.35
# Air above tissue leaves at most this share of its colour, is not denser than so many times what is usual, and takes of its
# sharpness (from 0 to 1 over these scores). Dense tissue has less colour for its density as well.
_AIR_SPREAD, _AIR_DENSITY, _AIR_BLUR = 0.7, 1.5, (0.4, 0.6)
# Octaves by which the energy of detail falls from 4 µm to 1 µm that count as blur 1; sharp tissue has 0.4 to 3.6, and
# a blur of 1 µm (standard deviation) leaves 4.2 to 5.1, of 2 µm 6.4 to 7.2 (measured on two slides and a set of patches).
_OCTAVES = 8.0
# Energy of a white noise of 1.4 grey levels, which cameras, 8 bits and JPEG leave. Then what is added to both energies, so
# that a tile without contrast comes out between sharp and blurred.
_NOISE, _LITTLE_DETAIL, _LITTLE_CONTRAST = 10.0, 3.0, 24.0
# Focus is judged in blocks of about this size (µm); of which this share has to be blurred.
_BLOCK_UM, _BLURRED_SHARE = 32.0, 0.4
_BINS = 64

# Score -> what a tile is rejected for. The first that is over its limit is named: ink hides what lies below, an empty
# tile is neither blurred nor even, and what lies below air is out of focus as well.
REASONS = {
    "pen_blue": "blue pen",
    "pen_green": "green pen",
    "pen_red": "red pen",
    "pen_black": "black pen",
    "background": "background",
    "dark": "dark spot",
    "bubble": "bubble",
    "blur": "out of focus",
    "fold": "fold",
    "uniform": "no structure",
}


@dataclass(frozen=True)
class Reference:
    """What a tile is judged against. glass: red, green, blue of the empty slide.

    spread: median of the difference between the channels' densities in its tissue, relative to their mean, at about 8 µm a
    pixel; density: median of that mean. double: mean density above which tissue of a colour lies double, one number more
    than `hues`, which divide colours by `hue_of`. The default is white glass and tissue of ordinary colour.
    """

    glass: tuple[float, float, float] = (255.0, 255.0, 255.0)
    spread: float = 0.6
    density: float = 0.3
    hues: tuple[float, ...] = ()
    double: tuple[float, ...] = (1.2,)


def score_tiles(
    tiles: NDArray[np.uint8], mpp: float, *, reference: Reference | None = None, model: QualityModel | None = None
) -> Scores:
    """Scores of tiles uint8 [n, h, w, 3] at `mpp` microns a pixel: name -> float32 [n], the keys of `REASONS`.

    All lie in [0, 1]: shares of pixels (pen_*, background, dark, fold, bubble), `blur` and `uniform` as `Limits` says.
    A tile's scores do not depend on the others. reference: of the slide, as `tissue.slide_reference` finds it.
    model: a user's own function, whose scores are added as columns; `DataError` where they do not fit.
    """
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[-1] != 3 or 0 in tiles.shape[1:]:
        raise ValueError(f"tiles uint8 [n, h, w, 3] are expected, not {tiles.dtype} {list(tiles.shape)}")
    if not mpp > 0:
        raise ValueError(f"microns a pixel are above 0, not {mpp}")
    step = max(1, _TOGETHER // (tiles.shape[1] * tiles.shape[2]))
    parts = [_score(_Scales(tiles[i : i + step], mpp), reference or Reference()) for i in range(0, len(tiles), step)]
    empty = np.zeros(0, np.float32)
    scores = {name: np.concatenate([empty, *(part[name] for part in parts)]) for name in REASONS}
    return scores if model is None else scores | _own_scores(model, tiles, mpp)


class _Scales:
    """Tiles at about the microns a pixel asked for, as planes float32 [3, n, h, w], reduced by powers of two."""

    def __init__(self, tiles: NDArray[np.uint8], mpp: float) -> None:
        self.tiles, self.mpp = tiles, mpp
        self._most = int(np.log2(min(tiles.shape[1:3])))
        self._planes: dict[int, Plane] = {}

    def halvings(self, microns: float) -> int:
        """How often the tiles are halved to come nearest to `microns` a pixel; at least one pixel is left."""
        return min(max(0, round(float(np.log2(microns / self.mpp)))), self._most)

    def at(self, microns: float) -> Plane:
        return self._halved(self.halvings(microns))

    def green(self, microns: float) -> Plane:
        """The green channel, in which both stains absorb most, [n, h, w]."""
        if self.halvings(microns) == 0:
            return self.tiles[..., 1].astype(np.float32)
        return self.at(microns)[1]

    def _halved(self, times: int) -> Plane:
        if times not in self._planes:
            if times == 0:
                self._planes[0] = np.ascontiguousarray(self.tiles.transpose(3, 0, 1, 2), dtype=np.float32)
            elif times == 1:
                self._planes[1] = _halved_tiles(self.tiles)
            else:
                self._planes[times] = _halved_planes(self._halved(times - 1))
        return self._planes[times]


def _halved_tiles(tiles: NDArray[np.uint8]) -> Plane:
    """Means of 2 x 2 pixels of uint8 [n, h, w, 3] as planes float32 [3, n, h/2, w/2]; an odd last row or column is left out."""
    count, height, width = tiles.shape[0], tiles.shape[1] // 2, tiles.shape[2] // 2
    tiles = np.ascontiguousarray(tiles[:, : 2 * height, : 2 * width])
    # Whole rows first, then pixel pairs as columns of six: both are long loops over memory in order.
    pairs = np.add(tiles[:, 0::2], tiles[:, 1::2], dtype=np.uint16).reshape(-1, 6)
    planes = np.empty((3, count, height, width), np.float32)
    for channel, plane in enumerate(planes.reshape(3, -1)):
        plane[:] = pairs[:, channel] + pairs[:, channel + 3]
    planes *= 0.25
    return planes


def _halved_planes(planes: Plane) -> Plane:
    height, width = planes.shape[2] // 2 * 2, planes.shape[3] // 2 * 2
    rows = planes[:, :, 0:height:2, :width] + planes[:, :, 1:height:2, :width]
    return np.asarray((rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25))


def _score(scales: _Scales, reference: Reference) -> Scores:
    planes = _on_white(scales.at(COLOUR_UM), reference.glass)
    light, densities = luminance(planes), densities_of(planes)
    strongest, density = densities.max(axis=0), densities.mean(axis=0)
    spread = strongest - densities.min(axis=0)
    colours = ink_pixels(densities, light)
    visible = (strongest > _GLASS) & (light >= _BLACK)
    colours["bubble"] = visible & (spread < _GREY * density)
    faded = (spread < _AIR_SPREAD * reference.spread * density) & (density < _AIR_DENSITY * reference.density)
    colours["faded"] = visible & faded
    solid = _without_specks(np.stack(tuple(colours.values())))
    scores = {name: _share(pixels) for name, pixels in zip(colours, solid, strict=True)}
    scores["background"] = _share(strongest < _GLASS)
    scores["fold"] = _share(_folded(densities_of(_on_white(scales.at(FOLD_UM), reference.glass)), reference))
    coarse = scales.green(COLOUR_UM)
    blocks = int(
        np.clip(min(scales.tiles.shape[1:3]) * scales.mpp / _BLOCK_UM + 0.5, 1, max(min(coarse.shape[1:]) // 4, 1))
    )
    scores["blur"] = _blur(scales.green(FOCUS_UM), coarse, blocks)
    # What air lies upon is greyish and out of focus; one of these alone is nothing.
    below, above = _AIR_BLUR
    soft = np.clip((scores["blur"] - below) / (above - below), 0, 1)
    scores["bubble"] = np.maximum(scores["bubble"], scores.pop("faded") * soft).astype(np.float32)
    scores["uniform"] = _evenness(luminance(scales.at(GREY_UM)))
    return scores


def _share(pixels: Mask) -> NDArray[np.float32]:
    """Share of true pixels of [n, h, w]: float32 [n]."""
    flat = pixels.reshape(len(pixels), -1)
    return (np.count_nonzero(flat, axis=1) / flat.shape[1]).astype(np.float32)


def _on_white(planes: Plane, glass: Sequence[float]) -> Plane:
    """Planes [3, ...] as they would be on glass of 255."""
    scale = np.array([255 / max(value, 1.0) for value in glass], np.float32)
    return np.minimum(planes * scale.reshape(3, *[1] * (planes.ndim - 1)), 255)


def luminance(planes: Plane) -> Plane:
    """Luminance 0 to 255 of planes [3, ...] (Rec. 601)."""
    red, green, blue = (np.float32(weight) for weight in _LUMINANCE)
    return np.asarray(planes[0] * red + planes[1] * green + planes[2] * blue)


def densities_of(planes: Plane) -> Plane:
    """Optical density -ln((v + 1) / 256) of means 0 to 255, the same shape."""
    return np.asarray(np.float32(np.log(256)) - np.log(planes + np.float32(1)))


def ink_pixels(densities: Plane, light: Plane) -> dict[str, Mask]:
    """Which pixels have the colour of ink or dirt: densities [3, ...] (red, green, blue) and luminance [...] of a slide on
    white glass -> `PENS` and "dark" -> bool [...].

    Both stains absorb green most. Blue and green ink absorb red more than green (green ink blue as much as green), red
    ink absorbs blue much as it does green and hardly any red, and black ink absorbs all alike. Dirt and pigment are a black
    that absorbs blue most. Single nuclei can be as blue as some ink; ink covers more.
    """
    red, green, blue = densities
    red_most = red > 1.07 * green + 0.04
    greenish = blue > 0.8 * green
    spread = densities.max(axis=0) - densities.min(axis=0)
    black = (light < _BLACK) & (spread < _BLACK_GREY * densities.mean(axis=0))
    brown = blue > green + 0.05
    return {
        "pen_blue": red_most & ~greenish,
        "pen_green": red_most & greenish,
        "pen_red": (green > 0.8) & (blue > 0.7 * green) & (red < 0.18 * green),
        "pen_black": black & ~brown,
        "dark": black & brown,
    }


def hue_of(densities: Plane) -> Plane:
    """Share of the red channel in the densities [3, ...]: [...], low for eosin, high for haematoxylin."""
    return np.asarray(densities[0] / np.maximum(densities.sum(axis=0), np.float32(0.01)))


def _folded(densities: Plane, reference: Reference) -> Mask:
    """Where tissue lies double: densities [3, ...] at about 8 µm -> bool [...].

    Bautista and Yagi (2009) look for high saturation and low intensity; both are functions of density. On single and
    doubled tissue of two slides and a set of patches density told them apart as well as their difference did, and it can
    be compared with what is usual on the slide. Doubled tissue keeps its hue, so the comparison is with tissue of the same
    hue: epithelium may well be twice as dense as the fibres beside it. Ink and the rims of bubbles are grey.
    """
    density = densities.mean(axis=0)
    spread = densities.max(axis=0) - densities.min(axis=0)
    level = np.array(reference.double, np.float32)[np.searchsorted(reference.hues, hue_of(densities))]
    return np.asarray((density > level) & (spread > _GREY * density))


def _without_specks(pixels: Mask) -> Mask:
    """Morphological opening of [..., h, w] by a square of 3 x 3; what touches the border may go on beyond it."""
    height, width = pixels.shape[-2:]
    framed = np.empty((*pixels.shape[:-2], height + 2, width + 2), np.bool_)
    framed[..., 1:-1, 1:-1] = pixels
    framed[..., 0, 1:-1], framed[..., -1, 1:-1] = pixels[..., 0, :], pixels[..., -1, :]
    framed[..., 0], framed[..., -1] = framed[..., 1], framed[..., -2]
    rows = framed[..., :-2, :] & framed[..., 1:-1, :] & framed[..., 2:, :]
    framed[...] = False
    framed[..., 1:-1, 1:-1] = rows[..., :-2] & rows[..., 1:-1] & rows[..., 2:]
    rows = framed[..., :-2, :] | framed[..., 1:-1, :] | framed[..., 2:, :]
    return np.asarray(rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:])


def _blur(fine: Plane, coarse: Plane, blocks: int) -> NDArray[np.float32]:
    """How little detail of 1 µm there is beside that of 4 µm, [n, h, w] each: float32 [n] in [0, 1].

    The energy of the Laplacian at the fine scale, relative to that at the coarse one: pale tissue has less of both, and a
    border between tissue and glass is an edge at both scales. (The variance of the Laplacian alone, the usual focus
    measure, calls pale tissue blurred.) Taken in blocks x blocks parts of a tile, of which a good third has to be at least
    as blurred as the score says: half a tile out of focus is as useless as a whole one.
    """
    detail = np.maximum(_laplacian_energy(fine, blocks) - _NOISE, 0) + _LITTLE_DETAIL
    contrast = _laplacian_energy(coarse, blocks) + _LITTLE_CONTRAST
    octaves = np.sort(np.log2(contrast / detail), axis=1)[:, ::-1]
    return np.clip(octaves[:, int(_BLURRED_SHARE * blocks**2)] / _OCTAVES, 0, 1).astype(np.float32)


def _laplacian_energy(plane: Plane, blocks: int) -> NDArray[np.float32]:
    """Mean square of the four-neighbour Laplacian in blocks x blocks parts of [n, h, w]: [n, blocks * blocks].

    Pixels without four neighbours, and those left over by the division, do not count; parts without a pixel have 0.
    """
    count, height, width = plane.shape
    if min(height, width) < 3:
        return np.zeros((count, blocks**2), np.float32)
    squares = np.zeros(plane.shape, np.float32)
    value = squares[:, 1:-1, 1:-1]
    np.add(plane[:, :-2, 1:-1], plane[:, 2:, 1:-1], out=value)
    value += plane[:, 1:-1, :-2]
    value += plane[:, 1:-1, 2:]
    value -= 4 * plane[:, 1:-1, 1:-1]
    value *= value
    rows, columns = height // blocks, width // blocks
    parts = squares[:, : rows * blocks, : columns * blocks].reshape(count, blocks, rows, blocks * columns).sum(axis=2)
    sums = parts.reshape(count, blocks, blocks, columns).sum(axis=3)
    inside = [np.array([min(i + size, length - 1) - max(i, 1) for i in range(0, size * blocks, size)])
              for size, length in ((rows, height), (columns, width))]  # fmt: skip
    return np.asarray(sums / np.maximum(np.outer(*inside), 1), np.float32).reshape(count, -1)


def _evenness(light: Plane) -> NDArray[np.float32]:
    """1 - entropy of the grey levels of [n, h, w], as share of the largest possible: float32 [n]."""
    count, pixels = len(light), light[0].size
    bins = (light.reshape(count, -1) * np.float32(_BINS / 256)).astype(np.int64)
    bins += np.arange(count)[:, None] * _BINS
    shares = np.bincount(bins.ravel(), minlength=count * _BINS).reshape(count, _BINS) / pixels
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1)
    return np.clip(1 - entropy / np.log(min(_BINS, max(pixels, 2))), 0, 1).astype(np.float32)


def _own_scores(model: QualityModel, tiles: NDArray[np.uint8], mpp: float) -> Scores:
    own: Scores = {}
    for name, values in model(tiles, mpp).items():
        array = np.asarray(values, dtype=np.float32)
        if name in REASONS:
            raise DataError(f"The quality model gives a score '{name}', which Synthoma has itself; call it otherwise.")
        if array.shape != (len(tiles),) or not np.isfinite(array).all():
            raise DataError(
                f"The quality model's score '{name}' is no finite number for each of {len(tiles)} tiles "
                f"(its shape is {list(array.shape)})."
            )
        own[name] = array
    return own


def relative_to_slide(scores: Mapping[str, NDArray[np.float32]], limits: Limits | None = None) -> Scores:
    """The scores of all tiles of one slide, with `blur_z`: robust deviations of blur from the slide's median.

    A second step, once a slide is read: what is sharp differs between scanners and tissues. Tiles that were not scored
    (NaN), or are background, do not count and get NaN. The spread is never taken to be below 0.02.
    """
    most = (limits or Limits()).background
    blur = scores["blur"]
    counts = np.isfinite(blur) & (scores["background"] <= most)
    result = np.full(len(blur), np.nan, np.float32)
    if counts.any():
        middle = np.median(blur[counts])
        spread = max(1.4826 * float(np.median(np.abs(blur[counts] - middle))), 0.02)
        result[counts] = (blur[counts] - middle) / spread
    return {**scores, "blur_z": result}


def reject(scores: Mapping[str, NDArray[np.float32]], limits: Limits) -> list[str]:
    """Why each tile is left out, [n]: the first of `REASONS`, then of `limits.own`, that is over its limit; "" for none.

    Where `relative_to_slide` was asked, a tile is also out of focus when it deviates from its slide by more than `blur_z`
    and is halfway to the limit of blur. NaN is over no limit. Raises `RecipeError` for a limit on a score that there is not.
    """
    checks = [(scores[name] > limits.of(name), reason) for name, reason in REASONS.items()]
    if "blur_z" in scores:
        apart = (scores["blur_z"] > limits.blur_z) & (scores["blur"] > limits.blur / 2)
        place = list(REASONS).index("blur")
        checks[place] = (checks[place][0] | apart, REASONS["blur"])
    for name, limit in limits.own.items():
        if name not in scores:
            raise RecipeError(f"slides.limits.own: there is no score '{name}'{nearest_name_hint(name, scores)}.")
        checks.append((np.asarray(scores[name]) > limit, name))
    return _first(checks)


def _first(checks: Sequence[tuple[NDArray[np.bool_], str]]) -> list[str]:
    reasons = np.full(len(checks[0][0]), "", dtype=object)
    for over, reason in reversed(checks):
        reasons[over] = reason
    return [str(reason) for reason in reasons]
