"""The registry of model families: networks + objective + optimizers, put together from a recipe."""

from synthoma.families.registry import FAMILIES, Family, ImageSpace, build_family, build_generator, is_conditional

__all__ = ["FAMILIES", "Family", "ImageSpace", "build_family", "build_generator", "is_conditional"]
