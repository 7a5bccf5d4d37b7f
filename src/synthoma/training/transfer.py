"""Beginning from another run's networks: the main remedy where there are few images (Mo et al. 2020, FreezeD)."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from synthoma.errors import RecipeError
from synthoma.recipe import Recipe
from synthoma.run import Run
from synthoma.training import checkpoint
from synthoma.training.state import State


def begin_from(recipe: Recipe, state: State, load_weights: bool) -> None:
    """Load what `training.init_from` names, and freeze the discriminator's first `training.freeze` blocks.

    A run gives both networks (its averaged generator, and the discriminator of its newest checkpoint); a released model
    gives the generator only, since discriminators are never released. Weights whose shape differs (other classes, other
    channels) stay as drawn. load_weights: False where the run goes on from a checkpoint of its own: then only the
    freezing is done again.

    Raises `RecipeError` where nothing fits, or layers are to be frozen that were not loaded.
    """
    source = Path(str(recipe.training.init_from))
    if load_weights:
        _load(source, recipe, state)
    blocks = list(state.family.discriminator.blocks)  # type: ignore[arg-type]
    if recipe.training.freeze > len(blocks):
        raise RecipeError(
            f"training.freeze: {recipe.training.freeze} blocks are to stay as they are, and the discriminator has {len(blocks)}."
        )
    for block in blocks[: recipe.training.freeze]:
        block.requires_grad_(False)


def _load(source: Path, recipe: Recipe, state: State) -> None:
    if (source / "checkpoints").is_dir() and checkpoint.checkpoint_folders(Run(source).checkpoints):
        newest = checkpoint.checkpoint_folders(Run(source).checkpoints)[-1]
        checkpoint.check_whole(newest)
        _take(state.family.discriminator, load_file(newest / "discriminator.safetensors"), "discriminator", source)
        weights = load_file(newest / "average.safetensors")
    elif (source / "generator.safetensors").is_file():
        if recipe.training.freeze:
            raise RecipeError(
                f"training.freeze: {source} is a released model and has no discriminator whose layers could stay. Begin from "
                "the run that it came from, or set training.freeze=0."
            )
        weights = load_file(source / "generator.safetensors")
    else:
        raise RecipeError(f"training.init_from: {source} is neither a run with checkpoints nor a model.")
    _take(state.family.generator, weights, "generator", source)
    state.average.load_state_dict(state.family.generator.state_dict())


def _take(network: nn.Module, weights: dict[str, Tensor], name: str, source: Path) -> None:
    """Copy the tensors that fit by name and shape; at least half of the numbers must, else it is another network."""
    own = network.state_dict()
    fitting = {key: tensor for key, tensor in weights.items() if key in own and own[key].shape == tensor.shape}
    share = sum(tensor.numel() for tensor in fitting.values()) / sum(tensor.numel() for tensor in own.values())
    if share < 0.5:
        raise RecipeError(
            f"training.init_from: {share:.0%} of the {name}'s weights fit those in {source}; family, size and widths must be "
            "those of the run that is begun from."
        )
    network.load_state_dict({**own, **fitting})
