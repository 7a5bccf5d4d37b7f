"""The stain of a slide: fitted once on pixels from all over it, then one transform for all its tiles."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthoma.errors import DataError
from synthoma.formats.slides import Slide
from synthoma.preparation.slides.places import Places
from synthoma.slide_settings import SlidesSection
from synthoma.transforms.stain import (
    MACENKO_TARGET,
    MIN_DENSITY,
    REINHARD_TARGET,
    ColourTransform,
    ReinhardFit,
    StainFit,
    fit_macenko,
    fit_reinhard,
    optical_density,
    stain_transform,
)

Method = Literal["none", "macenko", "reinhard"]
# Tiles that a fit looks at, spread over the slide, and pixels that it takes of them.
TILES, PIXELS = 24, 200_000


@dataclass(frozen=True)
class Staining:
    """How the tiles of a slide are coloured. reason: why they are left as they are although the recipe asks, else ""."""

    method: Method
    fit: StainFit | ReinhardFit | None = None
    transform: ColourTransform | None = None
    reason: str = ""

    @classmethod
    def target_of(cls, pixels: NDArray[np.uint8], method: Method, name: str) -> "Staining":
        """The stain of a picture uint8 [m, 3] that slides are to look like. Raises `DataError` where it has none."""
        fit = _fit(pixels, method)
        if not fit.ok:
            raise DataError(
                f"slides.stain_target: {name} cannot be a target: {fit.reason}. Give a picture of stained tissue."
            )
        return cls(method, fit)

    def apply(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Tiles uint8 [n, h, w, 3] in the look of the target; the same tiles where nothing is to be done."""
        return tiles if self.transform is None else self.transform(tiles)

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"method": self.method, "unchanged": self.transform is None, "reason": self.reason}
        if isinstance(self.fit, StainFit):
            told |= {"matrix": self.fit.matrix.tolist(), "strength": self.fit.strength.tolist()}
        if isinstance(self.fit, ReinhardFit):
            told |= {"mean": self.fit.mean.tolist(), "std": self.fit.std.tolist()}
        return told


def fit_staining(slide: Slide, places: Places, section: SlidesSection, tile: int, target: Staining | None) -> Staining:
    """The staining of a slide by `slides.stain`; target: of the recipe's picture, else the field's usual one.

    A slide with too little tissue for a fit keeps its colours, and says so.
    """
    if section.stain == "none" or not len(places.wanted):
        return Staining("none")
    wanted = places.wanted
    chosen = wanted[np.unique(np.linspace(0, len(wanted) - 1, TILES).round().astype(int))]
    parts = [
        slide.read(float(places.boxes[i, 0]), float(places.boxes[i, 1]), tile, tile, section.mpp).reshape(-1, 3)
        for i in chosen
    ]
    pixels = np.concatenate(parts)
    pixels = pixels[:: max(1, len(pixels) // PIXELS)]
    own = _fit(pixels, section.stain)
    if not own.ok:
        return Staining(section.stain, None, None, f"stain left as it is: {own.reason}")
    usual = MACENKO_TARGET if section.stain == "macenko" else REINHARD_TARGET
    wished = target.fit if target is not None and target.fit is not None else usual
    return Staining(section.stain, own, stain_transform(own, wished))


def _fit(pixels: NDArray[np.uint8], method: Method) -> StainFit | ReinhardFit:
    if method == "macenko":
        return fit_macenko(pixels)
    return fit_reinhard(pixels[optical_density(pixels).mean(axis=1) >= MIN_DENSITY])
