"""Small recipes of every family, for 16 pixels an axis or anything that halves twice."""

from typing import Any

from synthoma.families import FAMILIES
from synthoma.recipe import Recipe, validate_recipe

SMALL = {"tick_kimg": 0.064, "sample_kimg": 0.16, "checkpoint_kimg": 0.16}


def small_family(
    family: str, size: tuple[int, ...] = (16, 16), channels: int = 3, *, model: Any = None, **training: Any
) -> Recipe:
    """A recipe whose networks are a few thousand weights; `model` and `training` override single keys."""
    base = family in FAMILIES and FAMILIES[family].base_width
    return validate_recipe(
        {
            "name": "small",
            "preparation": {"size": list(size), "colour": "rgb" if channels == 3 else "grey"},
            "model": {
                "family": family,
                "latent": 8,
                "generator_widths": [16, 16, 8] if base else [16, 8],
                "discriminator_widths": [8, 16, 16] if base else [8, 16],
                "label_embedding": 4,
                "group_size": 8,
                **(model or {}),
            },
            "training": {"kimg": 0.48, "batch": 16, "precision": "fp32", **SMALL, **training},
            "evaluation": {"validation_count": 32},
        },
        "small",
    )
