"""Whether the raw data are whole slides, without reading any."""

import warnings
from pathlib import Path

from PIL import Image

from synthoma.errors import DataError, MissingExtraError
from synthoma.formats.slides.listing import SUFFIXES, slide_files
from synthoma.formats.tiles import SETTINGS
from synthoma.recipe import Recipe

# TIFF is a format of slides and of plain pictures; the other endings belong to slides alone.
TIFF = frozenset({".tif", ".tiff"})
_LOOKED_AT = 3
_TILE_WIDTH = 322


def holds_slides(data: Path, recipe: Recipe, annotations: Path | None = None) -> bool:
    """Whether `data` is whole slides: by the ending of names, or because the recipe or annotations say so.

    TIFF files are slides if they are pyramids of tiles. Raises `DataError` for annotations beside data that are no slides.
    """
    kind = recipe.source.kind
    if kind != "auto" or not data.exists() or (data / SETTINGS).is_file():
        return kind == "slides"
    files = [data] if data.is_file() else slide_files(data)
    named = [file for file in files if file.suffix.lower() in SUFFIXES]
    if any(file.suffix.lower() not in TIFF for file in named):
        return True
    if annotations is not None and not named:
        raise DataError(f"{data} holds no slides; --annotations belongs to whole slides.")
    return bool(named) and (annotations is not None or all(map(is_pyramid, named[:_LOOKED_AT])))


def is_pyramid(file: Path) -> bool:
    """Whether a TIFF file holds tiles in more than one size. False for what is no TIFF that can be opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=["TIFF"]) as image:
                tags = getattr(image, "tag_v2", {})
                return _TILE_WIDTH in tags and getattr(image, "n_frames", 1) > 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def require_slides() -> None:
    """Raises `MissingExtraError` where the packages for slides are not installed."""
    try:
        import defusedxml  # noqa: F401
        import openslide  # noqa: F401
        import shapely  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"whole slides need the package {error.name}: pip install 'synthoma[slides]'."
        ) from error
