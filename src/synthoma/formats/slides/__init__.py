"""Whole slide images: pixels at exact microns per pixel, whatever levels a file has.

`open_slide` opens a file, `Slide.read` returns a region at a wanted resolution, `slide_files` lists a folder.
Label and macro images of a slide often show names; nothing here reads them.
"""

from synthoma.formats.slides.listing import SUFFIXES, slide_files
from synthoma.formats.slides.readers import SlideFileError, SlideReader
from synthoma.formats.slides.slide import Level, Slide, SlideSpec, open_slide

__all__ = ["SUFFIXES", "Level", "Slide", "SlideFileError", "SlideReader", "SlideSpec", "open_slide", "slide_files"]
