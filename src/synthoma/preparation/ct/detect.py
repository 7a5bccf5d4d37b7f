"""Whether the raw data are CT volumes, without reading any."""

from pathlib import Path

from synthoma.errors import MissingExtraError
from synthoma.formats.cuts import SETTINGS
from synthoma.formats.volumes.registry import holds_volumes
from synthoma.recipe import Recipe


def holds_ct(data: Path, recipe: Recipe) -> bool:
    """Whether `data` are CT volumes that are still to be cut: because the recipe says so, or by what is there."""
    kind = recipe.source.kind
    if kind != "auto" or not data.exists() or (data / SETTINGS).is_file():
        return kind == "volumes"
    return holds_volumes(data)


def require_ct() -> None:
    """Raises `MissingExtraError` where the packages for CT are not installed."""
    try:
        import defusedxml  # noqa: F401
        import nibabel  # noqa: F401
        import pydicom  # noqa: F401
        import SimpleITK  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"CT volumes need the package {error.name}: pip install 'synthoma[ct]'.") from error
