"""The registry of model families: networks + objective + optimizers, put together from a recipe."""

from synthoma.families.optimizers import Optimizer, default_gamma
from synthoma.families.registry import FAMILIES, Family, ImageSpace, build_family, build_generator, family_entry

__all__ = [
    "FAMILIES",
    "Family",
    "ImageSpace",
    "Optimizer",
    "build_family",
    "build_generator",
    "default_gamma",
    "family_entry",
]
