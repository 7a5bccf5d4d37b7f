"""How pixels come out of a file: OpenSlide where it knows the format, Pillow for plain large pictures.

A reader has no idea of microns. `tiffslide` has the same conventions as OpenSlide, so a reader of it is as short.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthoma.errors import MissingExtraError, SlideError
from synthoma.formats.images import DEFAULT_MAX_PIXELS, FORMATS, ImageFileError, read_image
from synthoma.formats.slides.listing import is_slide_name

Bytes = NDArray[np.uint8]
Pair = tuple[float, float]

_EXIF_ORIENTATION = 274
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
# Pictures that need no OpenSlide to be installed, unless they are named like a slide: an .mrxs file starts as a JPEG.
_PLAIN_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM")


class SlideFileError(SlideError):
    """A slide file that cannot be used. `reason` is what follows the file's name, so that it may be kept in a dataset."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}.")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["SlideFileError"], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


class SlideReader(Protocol):
    """An open slide file. Sizes are (width, height), level 0 is the finest.

    downsamples: level-0 pixels per pixel of each level, as `read_region` divides.
    mpp: microns per pixel of level 0 (x, y) as the file says; None where it says nothing.
    objective: magnification of the objective; None where the file says nothing.
    """

    @property
    def vendor(self) -> str: ...

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]: ...

    @property
    def downsamples(self) -> tuple[float, ...]: ...

    @property
    def mpp(self) -> Pair | None: ...

    @property
    def objective(self) -> float | None: ...

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> Bytes:
        """RGBA uint8 [height, width, 4]; alpha is 0 where nothing was scanned, and outside of the slide.

        The first pixel lies at (x, y) / downsample in pixels of `level`; (x, y) are level-0 pixels. OpenSlide
        interpolates linearly where that is no whole number. Raises `SlideFileError`; the reader is then to be closed.
        """
        ...

    def close(self) -> None: ...


ReaderFactory = Callable[[Path], SlideReader]


def open_reader(path: Path) -> SlideReader:
    """The reader of a file. Raises `SlideFileError` where none takes it, `MissingExtraError` without OpenSlide."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError as error:
        raise SlideFileError(path, "does not exist") from error
    except OSError as error:
        raise SlideFileError(path, f"cannot be read: {error.strerror or type(error).__name__}") from error
    if not magic:
        raise SlideFileError(path, "is empty (0 bytes); copy the slide again")
    plain = magic.startswith(_PLAIN_MAGIC) and not is_slide_name(path.name)
    if not plain and import_openslide().OpenSlide.detect_format(path) is not None:
        return OpenSlideReader(path)
    return PictureReader(path)


def import_openslide() -> ModuleType:
    """The module `openslide`. Raises `MissingExtraError` where it, or the C library beside it, is not installed."""
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            "whole slides need OpenSlide, which is not installed: pip install 'synthoma[slides]'."
        ) from error
    module: ModuleType = openslide
    return module


class OpenSlideReader:
    """A slide through OpenSlide (openslide-python)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._openslide = import_openslide()
        try:
            self._slide: Any = self._openslide.OpenSlide(path)
            self.vendor: str = self._slide.properties.get("openslide.vendor", "unknown")
            self.level_sizes: tuple[tuple[int, int], ...] = self._slide.level_dimensions
            self.downsamples: tuple[float, ...] = self._slide.level_downsamples
            self.mpp = _pair(self._number("openslide.mpp-x"), self._number("openslide.mpp-y"))
            self.objective = self._number("openslide.objective-power")
        except self._openslide.OpenSlideError as error:
            raise SlideFileError(
                path,
                f"cannot be opened as a slide: {_said(error, path)}; it may be truncated or damaged, copy it again",
            ) from error

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> Bytes:
        try:
            region = self._slide.read_region((x, y), level, (width, height))
        except self._openslide.OpenSlideError as error:
            raise SlideFileError(
                self._path,
                f"cannot be read at ({x}, {y}), level {level}, {width} x {height} pixels: {_said(error, self._path)}; "
                "it may be truncated or damaged",
            ) from error
        return np.asarray(region)

    def close(self) -> None:
        self._slide.close()

    def _number(self, name: str) -> float | None:
        """A property as a number; None where it is missing or none."""
        try:
            return float(self._slide.properties[name])
        except (KeyError, ValueError):
            return None


class PictureReader:
    """A plain picture (PNG, JPEG, TIFF without tiles) through Pillow; it is decoded whole when it is first read.

    What such files say about resolution is meant for printers, so `mpp` is None.
    """

    vendor = "picture"
    downsamples: tuple[float, ...] = (1.0,)
    mpp: Pair | None = None
    objective: float | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pixels: Bytes | None = None
        self.level_sizes: tuple[tuple[int, int], ...] = (_picture_size(path),)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> Bytes:
        if level != 0:
            raise ValueError(f"a picture has one level; there is no level {level}")
        pixels = self._decoded()
        region = np.zeros((height, width, 4), dtype=np.uint8)
        top, left = max(y, 0), max(x, 0)
        inside = pixels[top : max(y + height, top), left : max(x + width, left)]
        target = region[top - y : top - y + inside.shape[0], left - x : left - x + inside.shape[1]]
        target[..., :3] = inside
        target[..., 3] = 255
        return region

    def close(self) -> None:
        self._pixels = None

    def _decoded(self) -> Bytes:
        """uint8 [h, w, 3], or [h, w, 1] for a grey picture."""
        if self._pixels is None:
            try:
                array = read_image(self._path).array
            except ImageFileError as error:
                raise SlideFileError(self._path, f"cannot be read: {error.reason}") from error
            if array.dtype != np.uint8:
                raise SlideFileError(self._path, "has 16-bit grey pixels; slides have 8 bits a colour")
            if array.shape[1::-1] != self.level_sizes[0]:
                raise SlideFileError(self._path, "has another size than its header says; save it anew")
            self._pixels = array.astype(np.uint8, copy=False)
        return self._pixels


def _picture_size(path: Path) -> tuple[int, int]:
    """Width and height as the picture is meant to be seen, from its header."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            pages = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
            turned = _orientation(image) in _TURNED
    except Image.DecompressionBombError as error:
        raise SlideFileError(
            path,
            f"is a plain picture of more than {DEFAULT_MAX_PIXELS:,} pixels, which would have to be decoded whole; save it "
            "as a tiled pyramid (for instance with 'vips tiffsave --tile --pyramid')",
        ) from error
    except Exception as error:  # Pillow's parsers raise almost any type on damaged input; all mean the same here.
        raise SlideFileError(
            path, "is neither a slide that OpenSlide knows nor a picture; it may be truncated or damaged"
        ) from error
    if pages > 1:
        raise SlideFileError(
            path,
            f"holds {pages} pictures and is no slide that OpenSlide knows; if it is one it is damaged: copy it again",
        )
    return (height, width) if turned else (width, height)


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation, without decoding the picture as `getexif` of Pillow would for a PNG."""
    if "exif" in image.info:
        exif = Image.Exif()
        exif.load(image.info["exif"])
        return exif.get(_EXIF_ORIENTATION)
    tags: Mapping[int, int] = getattr(image, "tag_v2", {})
    return tags.get(_EXIF_ORIENTATION)


def _pair(x: float | None, y: float | None) -> Pair | None:
    return None if x is None or y is None else (x, y)


def _said(error: Exception, path: Path) -> str:
    """What OpenSlide said, in one line, without a full stop and without the path, which the message has already."""
    said = " ".join(str(error).replace(str(path), "the file").split())
    return said.rstrip(". ") or type(error).__name__
