"""From concentrations to colours, and what goes wrong on the way: folds, blur, bubbles, dirt and pens."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

from synthoma.phantoms.slides.fields import Field, Noise, Window, grain
from synthoma.phantoms.slides.scene import PENS, Scene, Stain
from synthoma.phantoms.slides.tissue import concentrations

# Windows are drawn in squares of this size at fixed places, so that a pixel does not depend on what was asked for.
BLOCK = 512
# Share of light that ink lets through, as red, green, blue.
_INKS = {
    "pen_blue": (0.13, 0.25, 0.66),
    "pen_green": (0.08, 0.50, 0.30),
    "pen_black": (0.11, 0.11, 0.13),
    "pen_red": (0.78, 0.12, 0.17),
}
_BLUR = 4.5  # standard deviation in pixels of what is out of focus
_SOFT = 9  # width in pixels of the way from sharp to blurred
_BLUR_MARGIN = 20
_FOLD_SHIFT = 90  # the layer that is folded over shows what lies so far beside
_GRAIN = 0.9  # standard deviation of the camera's noise, in grey levels


def draw_block(scene: Scene, row: int, column: int) -> NDArray[np.uint8] | None:
    """Block (row, column) of a slide: uint8 [BLOCK, BLOCK, 3]; None where there is nothing but glass."""
    window = Window(column * BLOCK, row * BLOCK, BLOCK, BLOCK)
    if scene.is_blank(window):
        return None
    present = {region.name for region in scene.artefacts if window.meets(region.outline.box)}
    dyes = _dyes(scene, window, folded="fold" in present, blurred="blur" in present)
    if dyes is None and not present:
        return None
    picture = _light(scene.stain, dyes, window)
    if "bubble" in present:
        _bubble(scene, window, picture)
    if "dark" in present:
        dirt = _softened(scene, window, "dark")[..., None]
        picture += dirt * (np.array((26.0, 22.0, 19.0), np.float32) - picture)
    for pen in present & set(PENS):
        _ink(scene, window, picture, pen)
    picture += _GRAIN * grain(scene.seed).map(window)[..., None]
    return np.clip(np.rint(picture), 0.0, 255.0).astype(np.uint8)


def _dyes(scene: Scene, window: Window, folded: bool, blurred: bool) -> tuple[Field, Field] | None:
    """Concentrations with folds laid double and parts out of focus; None where there is no tissue."""
    if blurred and scene.artefact(window.grown(_BLUR_MARGIN), "blur").any():
        wide = (
            _folded(scene, window.grown(_BLUR_MARGIN)) if folded else concentrations(scene, window.grown(_BLUR_MARGIN))
        )
        if wide is None:
            return None
        weight = _inner_weight(scene, window.grown(_BLUR_MARGIN))
        inner = (slice(_BLUR_MARGIN, -_BLUR_MARGIN), slice(_BLUR_MARGIN, -_BLUR_MARGIN))
        haematoxylin, eosin = ((dye + weight * (gaussian_filter(dye, _BLUR) - dye))[inner] for dye in wide)
        return haematoxylin, eosin
    return _folded(scene, window) if folded else concentrations(scene, window)


def _folded(scene: Scene, window: Window) -> tuple[Field, Field] | None:
    """Concentrations of a window, twice as much where tissue lies double."""
    dyes = concentrations(scene, window)
    fold = scene.artefact(window, "fold")
    if dyes is None or not fold.any():
        return dyes
    moved = Window(window.x + _FOLD_SHIFT, window.y - _FOLD_SHIFT, window.width, window.height)
    over = concentrations(scene, moved)
    if over is None:
        return dyes
    twice = uniform_filter(fold.astype(np.float32), 3) * fold
    return dyes[0] + 0.95 * twice * (over[0] + 0.12), dyes[1] + 1.1 * twice * (over[1] + 0.12)


def _inner_weight(scene: Scene, window: Window) -> Field:
    """1 well within the blurred area, 0 outside of it, rising from its edge inwards."""
    area = scene.artefact(window, "blur").astype(np.float32)
    return np.asarray(np.clip(2.0 * uniform_filter(area, _SOFT) - 1.0, 0.0, 1.0), dtype=np.float32)


def _light(stain: Stain, dyes: tuple[Field, Field] | None, window: Window) -> Field:
    """Colours [height, width, 3] by the law of Beer and Lambert."""
    picture = np.empty((*window.shape, 3), dtype=np.float32)
    if dyes is None:
        picture[:] = stain.glass
        return picture
    for channel in range(3):
        density = dyes[0] * stain.haematoxylin[channel] + dyes[1] * stain.eosin[channel]
        np.multiply(np.exp(-density), stain.glass[channel], out=picture[..., channel])
    return picture


def _softened(scene: Scene, window: Window, name: str, size: int = 3) -> Field:
    """Where an artefact lies, its edge softened inwards over `size` pixels: [height, width] in [0, 1]."""
    wide = window.grown(size)
    area = scene.artefact(wide, name)
    soft = uniform_filter(area.astype(np.float32), size) * area
    return np.asarray(soft[size:-size, size:-size])


def _bubble(scene: Scene, window: Window, picture: Field) -> None:
    """Air under the cover glass: a dark rim with a bright line in it; inside all is pale and out of focus."""
    for region in scene.artefacts:
        if region.name != "bubble" or not window.meets(region.outline.box):
            continue
        x0, y0, x1, y1 = region.outline.box
        radius = (x1 - x0 + y1 - y0) / 4
        away = np.hypot((window.xs - (x0 + x1) / 2)[None, :], (window.ys - (y0 + y1) / 2)[:, None]) / radius
        inside = region.fill(window).astype(np.float32)
        soft = gaussian_filter(picture, (3.0, 3.0, 0.0), mode="nearest")
        grey = soft.mean(axis=2, keepdims=True)
        pale = 0.45 * soft + 0.55 * (0.35 * grey + 0.65 * np.array((222.0, 221.0, 216.0), np.float32))
        picture += inside[..., None] * (pale - picture)
        shadow = 0.8 * np.exp(-np.square((away - 0.955) / 0.026)) + 0.25 * np.exp(-np.square((away - 0.86) / 0.06))
        picture *= 1.0 - (inside * np.minimum(shadow, 0.9))[..., None]
        shine = inside * 0.7 * np.exp(-np.square((away - 0.905) / 0.012))
        picture += shine[..., None] * (250.0 - picture)


def _ink(scene: Scene, window: Window, picture: Field, pen: str) -> None:
    """A felt pen on the cover glass: ink in streaks along which tissue can just be seen."""
    cover = _softened(scene, window, pen)
    streaks = (
        Noise(scene.seed, scene.purpose(pen), window, 14.0).map()
        + Noise(scene.seed, scene.purpose(pen + "/wash"), window, 90.0).map()
    )
    thick = cover * np.clip(1.0 + 0.10 * streaks, 0.7, 1.3)
    for channel, through in enumerate(_INKS[pen]):
        # Ink scatters as well as absorbs: half of what is seen is its own colour.
        ink = 250.0 * through
        picture[..., channel] *= np.exp(thick * np.float32(0.6 * np.log(through)))
        picture[..., channel] += cover * 0.55 * (ink - picture[..., channel])
