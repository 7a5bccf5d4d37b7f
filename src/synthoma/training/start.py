"""Beginning a run, or going on with one: the recipe that is written down decides what may still change."""

from typing import Any

from synthoma.errors import RecipeError
from synthoma.families import family_entry
from synthoma.recipe import Recipe, read_values, validate_recipe
from synthoma.run import Run, write_atomically
from synthoma.training.schedules import keys_that_fix_the_length

# Nothing that the weights depend on: how long, how often something is written, and what is measured afterwards.
MAY_CHANGE = (
    "title",
    "description",
    "data.",
    "evaluation.",
    "training.kimg",
    "training.tick_kimg",
    "training.sample_kimg",
    "training.checkpoint_kimg",
    "training.keep",
    "training.tensorboard",
    "training.health.",
    "training.batch_per_device",
    "training.on_out_of_memory",
)


def prepare_run(run: Run, recipe: Recipe) -> Recipe:
    """Write `recipe.yaml`, or check that the run's own recipe differs only in keys that may change, and renew it.

    Raises `RecipeError` naming the keys that differ and those that may.
    """
    if run.recipe_file.exists():
        before = read_recipe(run)
        differing = changed_keys(before.model_dump(mode="json"), recipe.model_dump(mode="json"))
        refused = [key for key in differing if not key.startswith(MAY_CHANGE)]
        begun = any(run.checkpoints.glob("[0-9]*"))
        fixed = keys_that_fix_the_length(before.model, before.training, family_entry(before.model.family).grows)
        if begun and not refused and "training.kimg" in differing and fixed:
            raise RecipeError(
                f"{run.path} was begun with training.kimg={before.training.kimg:g}, and {', '.join(fixed)} follow(s) the length of the "
                "run: at another length all that was trained would have been trained otherwise. Use another --out, or "
                "schedules with over_kimg of their own."
            )
        if refused and begun:
            raise RecipeError(
                f"{run.path} was begun with other settings: {', '.join(refused)} differ. Of a run that was begun only "
                f"{', '.join(key.rstrip('.') for key in MAY_CHANGE)} may change; use another --out for another experiment."
            )
    run.path.mkdir(parents=True, exist_ok=True)
    write_atomically(run.recipe_file, recipe.to_yaml())
    return recipe


def read_recipe(run: Run) -> Recipe:
    """The recipe of a run folder."""
    if not run.recipe_file.is_file():
        raise RecipeError(f"{run.path} is no run: recipe.yaml is missing.")
    return validate_recipe(read_values(run.recipe_file), str(run.recipe_file))


def changed_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the values that differ."""
    keys: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            keys += changed_keys(before, after, f"{prefix}{name}.")
        elif before != after:
            keys.append(prefix + name)
    return keys
