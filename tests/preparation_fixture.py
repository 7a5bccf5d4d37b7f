"""What tests of preparation share: small recipes, one call, and sums of what was written."""

import hashlib
from pathlib import Path

from synthoma.preparation import prepare
from synthoma.recipe import Recipe
from synthoma.sources import open_source


def make_recipe(family="dcgan", source=None, data=None, batch=4, **preparation) -> Recipe:
    values = {"size": 16, "colour": "rgb", "label_errors": False, **preparation}
    return Recipe.model_validate(
        {
            "name": "test",
            "preparation": values,
            "source": source or {},
            "data": data or {},
            "model": {"family": family},
            "training": {"batch": batch},
        }
    )


def run(root: Path, out: Path, recipe: Recipe | None = None, groups: Path | None = None, **options):
    recipe = recipe or make_recipe()
    return prepare(open_source(root, recipe.source, groups), recipe, out, **options)


def sums(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
