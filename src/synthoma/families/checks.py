"""What fits together: each refusal says why, and what to write instead."""

from collections.abc import Sequence

from synthoma.errors import RecipeError
from synthoma.objectives.adversarial import LOSSES
from synthoma.settings import ModelSection, TrainingSection

NORMS_WITHOUT_COUPLING = "instance, group or none"


def check_size(model: ModelSection, size: Sequence[int], base_width: bool, options: frozenset[str]) -> None:
    """Raise `RecipeError` unless each axis halves exactly as often as the networks have doublings."""
    if "kernel" in options and (model.kernel < 4 or model.kernel % 2):
        raise RecipeError(f"model.kernel: {model.kernel} does not halve and double exactly; use 4, 6 or 8.")
    if "any_size" in options:
        return
    if base_width and len(model.generator_widths) != len(model.discriminator_widths):
        raise RecipeError(
            f"model.generator_widths has {len(model.generator_widths)} entries and model.discriminator_widths "
            f"{len(model.discriminator_widths)}; in family '{model.family}' both have one for each resolution."
        )
    stem = model.stem if "stem" in options else 1
    for part, widths in (("generator", model.generator_widths), ("discriminator", model.discriminator_widths)):
        step = 2 ** (len(widths) - base_width) * stem
        if any(n % step or n // step < 2 for n in size):
            legal = ", ".join(str(step * k) for k in (2, 3, 4, 6, 8, 16))
            raise RecipeError(
                f"size {'x'.join(map(str, size))} does not fit model.{part}_widths with {len(widths)} entries: each axis "
                f"must be a multiple of {step} and at least {2 * step} ({legal}, ...). Change preparation.size, or the widths."
            )
    if model.scales > 1 and model.scales > len(model.discriminator_widths) - base_width:
        raise RecipeError(
            f"model.scales: {model.scales} scales need a discriminator of at least {model.scales + base_width} widths."
        )


def check_model(model: ModelSection, options: frozenset[str], conditions: int, needs_conditions: bool) -> None:
    """Raise `RecipeError` for an option that the family does not have, or conditions that are missing."""
    wishes = {
        "spectral_norm": model.spectral_norm,
        "attention": bool(model.attention),
        "minibatch_stddev": model.minibatch_stddev > 0,
        "scales": model.scales > 1,
    }
    reasons = {
        "spectral_norm": "its equalised learning rate already sets the size of the weights",
        "attention": "it has no layer for it",
        "minibatch_stddev": "its layers have no map to add a channel to",
        "scales": "its discriminator grows with the resolution",
    }
    for name, wished in wishes.items():
        if wished and name not in options:
            raise RecipeError(f"model.{name}: family '{model.family}' does not combine with it: {reasons[name]}.")
    if model.masks != "none" and model.family == "mlp":
        raise RecipeError("model.masks: fully connected layers make no mask that fits; take a convolutional family.")
    if needs_conditions and not conditions:
        raise RecipeError(
            f"family '{model.family}' is conditional and needs at least two classes, or an attribute. Use "
            "model.family=dcgan, set model.conditions, or add a class."
        )


def check_attention(model: ModelSection, size: Sequence[int], base_width: bool) -> None:
    """Raise `RecipeError` for a resolution that none of the stages has."""
    doublings = len(model.generator_widths) - base_width
    coarsest = max(size) // (model.stem * 2**doublings)
    # The convolutional generators have no features at the base grid, and none at the full size.
    numbers = range(doublings + 1) if base_width else range(1, doublings)
    stages = [coarsest * 2**number for number in numbers]
    for resolution in model.attention:
        if resolution not in stages:
            raise RecipeError(
                f"model.attention: there is no stage of {resolution} pixels; there are {', '.join(map(str, stages)) or 'none'}."
            )


def check_training(model: ModelSection, training: TrainingSection) -> None:
    """Raise `RecipeError` where objective and networks do not go together."""
    of_inputs = sorted(set(training.penalties) & {"gradient", "r1", "r2"})
    if of_inputs and model.discriminator_norm == "batch":
        raise RecipeError(
            f"training.penalties: '{of_inputs[0]}' is a penalty on each image's own gradient, and batch norm in the "
            "discriminator mixes the images of a batch, so there is no such gradient. "
            f"Norms that work: model.discriminator_norm={NORMS_WITHOUT_COUPLING.replace(' or ', ', ')}."
        )
    smoothed = tuple(training.real_labels) != (1.0, 1.0) or tuple(training.fake_labels) != (0.0, 0.0)
    if smoothed and not LOSSES[training.loss].smooths:
        raise RecipeError(
            f"training.real_labels, training.fake_labels: the {training.loss} loss has no labels that could be smoothed; "
            "remove them."
        )
    if "path_length" in training.penalties and model.family != "style":
        raise RecipeError("training.penalties: path_length needs the style family's w; remove it.")
    if training.loss == "wasserstein" and not (
        training.clip or {"gradient", "r1", "finite_difference"} & set(training.penalties) or model.spectral_norm
    ):
        raise RecipeError(
            "training.loss: a Wasserstein critic must be bounded in its slope, else its loss runs away: add "
            "training.penalties.gradient=10, training.clip=0.01 or model.spectral_norm=true."
        )
    if training.clip and training.penalties:
        raise RecipeError("training.clip: clipped weights and a gradient penalty work against each other; keep one.")
    if training.clip and model.spectral_norm:
        raise RecipeError("training.clip: with spectral norm the size of the weights no longer matters; keep one.")
    if model.checkpoint_activations and training.compile != "off" and training.device.startswith("cuda"):
        raise RecipeError(
            "model.checkpoint_activations does not combine with compiled steps; set training.compile=off."
        )
