"""Whole slides drawn from nothing: pyramids that OpenSlide opens, with a pathologist's outlines and planted artefacts.

They show no tissue of anybody. Classes, outlines and artefacts are known to the pixel, which is what tests of tiling and
of quality control need.
"""

from synthoma.phantoms.slides.picture import BLOCK, draw_block
from synthoma.phantoms.slides.scene import ARTEFACTS, CLASSES, MPP, Scene, make_scene
from synthoma.phantoms.slides.writer import SlidePhantomReport, write_slide, write_slide_phantoms

__all__ = [
    "ARTEFACTS",
    "BLOCK",
    "CLASSES",
    "MPP",
    "Scene",
    "SlidePhantomReport",
    "draw_block",
    "make_scene",
    "write_slide",
    "write_slide_phantoms",
]
