"""What the clock decides: level, batch, strength of penalties and augmentation, how much conditions count."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from synthoma.errors import RecipeError
from synthoma.families import default_gamma
from synthoma.recipe import Recipe
from synthoma.settings import ModelSection, TrainingSection, value_at
from synthoma.training.growth import Growth


@dataclass(frozen=True)
class Moment:
    """The values of one iteration: all pure functions of `images_seen`, but for an adaptive `strength`.

    level: of progressive growing, None for families that do not grow; fade: how far it is faded in; blend: factor of
    the conditions (label blending), None where they always count in full.
    """

    batch: int
    level: int | None
    fade: float
    gamma: float
    strength: float
    blend: float | None


class Schedules:
    """The recipe's schedules. Raises `RecipeError` where growth and length of the run do not fit."""

    def __init__(self, recipe: Recipe, levels: int | None, size: Sequence[int]) -> None:
        self.training: TrainingSection = recipe.training
        self.levels = levels
        family = recipe.model.family
        self.gamma = self.training.gamma
        if self.gamma is None:
            self.gamma = default_gamma(family, size, self.training.batch)
        growth = self.training.growth
        self.growth: Growth | None = None
        if levels is not None:
            batches = growth.batches or [self.training.batch] * levels
            self.growth = Growth(
                levels,
                tuple(batches),
                self.training.kimg,
                self.training.critic_steps,
                growth.fade_kimg,
                growth.stable_kimg,
            )
        elif growth.batches or growth.fade_kimg:
            raise RecipeError(
                f"training.growth: family '{family}' does not grow; remove it, or take model.family=pggan."
            )

    @property
    def adaptive(self) -> bool:
        """Whether the strength of augmentation follows the held-out images instead of the clock."""
        return self.training.augment.strength == "adaptive" and bool(self.training.augment.policy)

    def at(self, images_seen: int, adapted: float = 0.0) -> Moment:
        """The values for the iteration that begins at `images_seen`; `adapted`: the adaptive strength now."""
        training = self.training
        wish = training.augment.strength
        strength = adapted if isinstance(wish, str) else value_at(wish, images_seen, training.kimg)
        assert self.gamma is not None
        gamma = value_at(self.gamma, images_seen, training.kimg)
        blend = None
        if training.label_blend_kimg is not None:
            first, last = training.label_blend_kimg
            blend = min(max((images_seen / 1000 - first) / max(last - first, 1e-9), 0.0), 1.0)
        if self.growth is None:
            return Moment(training.batch, None, 1.0, gamma, strength, blend)
        stage = self.growth.at(images_seen)
        return Moment(stage.batch, stage.level, stage.fade, gamma, strength, blend)

    def at_top(self) -> Moment:
        """The values at the beginning, but at the full size: what costs and precision are judged by."""
        moment = self.at(0)
        if self.growth is None:
            return moment
        return replace(moment, batch=self.growth.batches[-1], level=self.growth.levels - 1, fade=1.0)

    def begins_level(self, images_seen: int) -> bool:
        """Whether a level other than the first begins here: optimizers then start anew."""
        return self.growth is not None and images_seen > 0 and images_seen in self.growth.borders()


def keys_that_fix_the_length(model: ModelSection, training: TrainingSection, grows: bool) -> list[str]:
    """Keys on account of which `training.kimg` of a begun run may not change."""
    keys = training.depends_on_length(grows)
    uses_gamma = {"r1", "r2", "finite_difference"} & set(training.penalties)
    if training.gamma is None and uses_gamma and model.family != "style":
        keys.append("gamma")
    return [f"training.{key}" for key in keys]


def is_due(update: int, period: int) -> bool:
    """Whether a lazy term is computed in this update of its network: in the first, and every `period` after it."""
    return update % period == 0
