"""Who takes part in the bake-off, on which images, and with which settings.

Every contestant has the settings that its family has by default, which are its authors' (`synthoma.family_defaults`).
What is the same for all is stated once, in `COMMON` and `SETS`; what is set for one family alone is its widths, chosen so
that all networks have about 0.22 million weights, and a factor on its authors' learning rate. The factor (1, 3 or 10) was
chosen for all alike: runs of 20 s on lung_histology with a seed of their own, judged by the validation images
(results/bakeoff_trials.json). Authors' rates are for a hundred to a thousand times as many updates.
"""

from dataclasses import dataclass, field
from typing import Any

from synthoma.recipe import Recipe, validate_recipe
from synthoma.settings import Ramp, Scheduled

SIZE = 32

# How the images are brought to 32 pixels: as the shipped recipes of the same data do it.
SETS: dict[str, dict[str, Any]] = {
    "pap_smear": {"fit": "pad", "fill": "edge"},
    "lung_histology": {"fit": "crop"},
}

# The same for all. Class-conditional, as cgan can be nothing else and all others can be both. fp32: which format is
# faster is otherwise decided by a stopwatch. Both sets have no up or down, so all see the reals in all eight positions.
COMMON: dict[str, dict[str, Any]] = {
    "model": {"latent": 64, "label_embedding": 16, "conditions": ["class"]},
    "training": {
        "batch": 16,
        "precision": "fp32",
        "device": "cpu",
        "compile": "off",
        "symmetries": "dihedral",
    },
    "evaluation": {"count": 1000, "spaces": ["randconv"], "subsamples": 100, "floors": 5},
}

AUGMENT = {"policy": ["colour", "translation", "cutout"], "strength": 0.5}
STRIDED = {"generator_widths": [96, 48, 24], "discriminator_widths": [36, 72, 144]}
GROWN = {"generator_widths": [64, 64, 32, 16], "discriminator_widths": [16, 32, 64, 64]}
RESIDUAL = {"generator_widths": [128, 96, 32, 16], "discriminator_widths": [16, 32, 96, 128], "blocks": 1}


@dataclass(frozen=True)
class Contestant:
    """A family, its widths, and what else differs from its defaults. rate: factor on the family's learning rate."""

    family: str
    widths: dict[str, Any]
    rate: float = 1.0
    training: dict[str, Any] = field(default_factory=dict)


CONTESTANTS: dict[str, Contestant] = {
    "mlp": Contestant("mlp", {"generator_widths": [64, 96, 64], "discriminator_widths": [68, 32]}),
    "dcgan": Contestant("dcgan", STRIDED, rate=3),
    "cgan": Contestant("cgan", STRIDED, rate=3),
    "wgan": Contestant("wgan", STRIDED, rate=3),
    "wgan-gp": Contestant("wgan-gp", STRIDED, rate=10),
    "pggan": Contestant("pggan", GROWN, rate=3),
    "style": Contestant("style", GROWN),
    "r3": Contestant("r3", RESIDUAL, rate=3),
    "r3 + augmentation": Contestant("r3", RESIDUAL, rate=3, training={"augment": AUGMENT}),
}


def make_recipe(name: str, images: str, seed: int, kimg: float, rate: float | None = None) -> Recipe:
    """The recipe of one run of a contestant; rate: another factor on the learning rate than its own (for trials)."""
    contestant = CONTESTANTS[name]
    values: dict[str, Any] = {
        "name": f"bakeoff-{images}-{name.replace(' + ', '-')}",
        "preparation": {"size": SIZE, "colour": "rgb", **SETS[images]},
        "model": {**COMMON["model"], "family": contestant.family, **contestant.widths},
        "training": {**COMMON["training"], **contestant.training, "seed": seed, "kimg": kimg},
        "evaluation": COMMON["evaluation"],
    }
    plain = validate_recipe(values, values["name"])
    factor = contestant.rate if rate is None else rate
    values["training"] |= {"learning_rate": _times(plain.training.learning_rate, factor)}
    return validate_recipe(values, values["name"])


def _times(rate: Scheduled, factor: float) -> Any:
    if isinstance(rate, Ramp):
        return {**rate.model_dump(), "start": rate.start * factor, "end": rate.end * factor}
    return rate * factor
