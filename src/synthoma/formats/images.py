"""One picture file -> array [y, x, c]. Files are not trusted: nothing is decoded before its header was checked.

Pillow's own limit against decompression bombs stays as it is; a recipe's `max_pixels` can only be stricter.
Only plain picture formats are opened: no PostScript, no fonts, no videos.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from synthoma.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm", ".pbm"}
)
# MPO is what cameras write: a JPEG with a preview behind it (opened as JPEG). The first picture is the one meant.
_FIRST_OF_SEVERAL = ("MPO", "JPEG")
# 2 x Image.MAX_IMAGE_PIXELS: above this Pillow refuses to open a file.
DEFAULT_MAX_PIXELS = 178_956_970

Colour = Literal["rgb", "grey"]


class ImageFileError(DataError):
    """A picture file that cannot be used. `reason` names no file, so that it may be kept in a dataset."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}.")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageFileError"], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


@dataclass(frozen=True)
class DecodedImage:
    """array [y, x, c] uint8 (1 or 3 channels) or uint16 (1 channel); `colour`: whether any pixel had a hue."""

    array: NDArray[np.generic]
    colour: bool


def is_image_name(name: str) -> bool:
    """Whether a file name ends like a picture that `read_image` opens."""
    return Path(name).suffix.lower() in SUFFIXES


def read_image(path: Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> DecodedImage:
    """Decode a picture as it is meant to be seen: turned by its EXIF orientation, alpha laid on white.

    The result has three channels only where a pixel has a hue: a grey picture that was saved as RGB is the same
    picture as one that was saved as grey. 16-bit grey stays uint16. The pixels do not depend on what a recipe wants,
    so that their hash is the identity of the picture under every recipe.

    Raises `ImageFileError`: missing or empty file, no picture, truncated, damaged, too many pixels, several pages.
    """
    try:
        if path.stat().st_size == 0:
            raise ImageFileError(path, "the file is empty (0 bytes)")
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, file by file, and above half of its limit; the limit below is checked anyway.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                _check_header(path, image, max_pixels)
                return _to_array(path, ImageOps.exif_transpose(image))
    except ImageFileError:
        raise
    except Exception as error:  # Pillow's parsers raise almost any type on damaged input; all mean the same here.
        raise ImageFileError(path, _reason(error)) from error


def _check_header(path: Path, image: Image.Image, max_pixels: int) -> None:
    """What can be refused without decoding."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageFileError(path, f"{width} x {height} pixels are more than the limit of {max_pixels:,}")
    if width < 1 or height < 1:
        raise ImageFileError(path, "the picture has no pixels")
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format not in _FIRST_OF_SEVERAL:
        raise ImageFileError(
            path,
            f"the file holds {pages} pictures; only files with one picture are read (a whole slide: source.kind=slides)",
        )


def _to_array(path: Path, image: Image.Image) -> DecodedImage:
    if image.mode.startswith("I"):
        return DecodedImage(_sixteen_bit(path, image), colour=False)
    if image.mode == "F":
        raise ImageFileError(path, "the pixels are real numbers without a declared range; save 8 or 16 bit")
    if image.mode in ("PA", "RGBA", "RGBa", "LA", "La") or "transparency" in image.info:
        image = _on_white(image)
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    image.load()
    array = np.asarray(image)
    if array.ndim == 2:
        return DecodedImage(array[..., None], colour=False)
    return DecodedImage(array, colour=True) if _has_hue(array) else DecodedImage(array[..., :1].copy(), colour=False)


def _on_white(image: Image.Image) -> Image.Image:
    """Lay a picture with transparent parts on white, the paper that it would be printed on."""
    layer = image.convert("RGBA")
    paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(paper, layer).convert("RGB")


def _sixteen_bit(path: Path, image: Image.Image) -> NDArray[np.uint16]:
    """Grey pixels of 16 bits (Pillow has them in modes I;16, I;16B and I): uint16 [y, x, 1]."""
    array = np.asarray(image)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ImageFileError(path, f"pixel values from {low} to {high} are not 16-bit grey")
    return array.astype(np.uint16)[..., None]


def _has_hue(array: NDArray[np.uint8]) -> bool:
    """Whether the channels of [y, x, 3] differ anywhere; a coarse sample settles most pictures at once."""
    for part in (array[::16, ::16], array):
        if (part[..., 0] != part[..., 1]).any() or (part[..., 1] != part[..., 2]).any():
            return True
    return False


def _reason(error: Exception) -> str:
    """Why a file cannot be read, in words that never repeat its name."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, PermissionError):
        return "the file may not be read (permission denied)"
    if isinstance(error, Image.DecompressionBombError):
        return f"the picture has more pixels than the limit of {DEFAULT_MAX_PIXELS:,}"
    if isinstance(error, UnidentifiedImageError):
        return f"this is no picture, or its header is damaged (read are {', '.join(FORMATS)})"
    if isinstance(error, OSError) and "truncated" in str(error).lower():
        return "the file is truncated: its end is missing"
    if isinstance(error, (OSError, SyntaxError, EOFError)):
        return "the file is damaged: the picture cannot be decoded to its end"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode the picture"
    return f"the file is damaged: the picture cannot be decoded ({type(error).__name__})"
