"""Progressive growing (Karras et al. 2018) as a schedule of the clock: images seen -> level, fade and batch.

The networks begin at their base grid and double a level at a time. Each level but the first is faded in, then trained
as it is: stable 0, fade 1, stable 1, fade 2, ..., and the last level to the end of the run. All of that is a pure
function of `images_seen`, so a run that resumes in the middle of a fade needs no memory of it.
"""

import bisect
import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

from synthoma.errors import RecipeError


class Stage(NamedTuple):
    """What an iteration trains: the level (0: the base grid), how far it is faded in (0 < fade <= 1), and the batch."""

    level: int
    fade: float
    batch: int


class Phase(NamedTuple):
    """A stretch of whole iterations at one level: images_seen in [start, stop), `per_iteration` images each."""

    level: int
    fading: bool
    start: int
    stop: int
    per_iteration: int


@dataclass(frozen=True)
class Growth:
    """The growth of a run of `kimg` thousand images over `levels` levels, with a batch for each of them.

    fade_kimg, stable_kimg: thousands of images that a level is faded in and then trained, rounded up to whole iterations
    of `critic_steps * batch` images (at least one), on which all borders fall. Where one or both are None, what `kimg`
    leaves is divided evenly and rounded down, so that the last level is trained as long as any other, or longer; the
    schedule then depends on the length of the run (`depends_on_total`).

    Raises `RecipeError` where the run would end before the last level is faded in.
    """

    levels: int
    batches: tuple[int, ...]
    kimg: float
    critic_steps: int = 1
    fade_kimg: float | None = None
    stable_kimg: float | None = None

    def __post_init__(self) -> None:
        if len(self.batches) != self.levels or min(self.batches) < 1:
            raise RecipeError(
                f"the growth has {self.levels} levels (one a width of the generator) but its batches are "
                f"{list(self.batches)}: give one batch of at least 1 for each level, the coarsest first."
            )
        if math.ceil(self.kimg * 1000) < self.phases[-1].start:
            raise RecipeError(
                f"training.kimg {self.kimg:.10g} ends before the last of {self.levels} levels is faded in: this growth needs at "
                f"least {self._least_kimg():.10g} kimg, and more to train that level. Raise training.kimg, shorten the growth's "
                "fade_kimg and stable_kimg (or leave them out), or use fewer widths."
            )

    @property
    def depends_on_total(self) -> bool:
        """Whether another `kimg` moves the borders, so that a finished run cannot be made longer."""
        return self.levels > 1 and (self.fade_kimg is None or self.stable_kimg is None)

    @functools.cached_property
    def phases(self) -> tuple[Phase, ...]:
        """All phases in order, without a gap. The last one, the stable phase of the last level, goes on for ever."""
        return self._phases(self.kimg)

    def at(self, images_seen: int) -> Stage:
        """Level, fade and batch of the iteration that begins at `images_seen`.

        During a fade of N iterations `fade` is 1/N, 2/N, ..., 1; it is 1 outside fades.
        """
        number = bisect.bisect_right(self.phases, images_seen, key=lambda phase: phase.start) - 1
        phase = self.phases[number]
        fade = 1.0
        if phase.fading:
            iterations = (phase.stop - phase.start) // phase.per_iteration
            fade = ((images_seen - phase.start) // phase.per_iteration + 1) / iterations
        return Stage(phase.level, fade, self.batches[phase.level])

    def borders(self) -> tuple[int, ...]:
        """images_seen at which each level begins (0 for the first): there the optimizers start anew."""
        return tuple(phase.start for phase in self.phases if phase.fading or phase.level == 0)

    def _phases(self, kimg: float) -> tuple[Phase, ...]:
        """The phases of a run of `kimg`: those of given length first take theirs, the others share what is left."""
        order = [(level, fading) for level in range(self.levels) for fading in ((True, False) if level else (False,))]
        lengths = [self._given(level, self.fade_kimg if fading else self.stable_kimg) for level, fading in order]
        shared = lengths.count(None)
        share = max(0, math.ceil(kimg * 1000) - sum(length or 0 for length in lengths)) // max(shared, 1)
        phases: list[Phase] = []
        start = 0
        for (level, fading), given in zip(order, lengths, strict=True):
            images = self.critic_steps * self.batches[level]
            stop = start + (max(1, share // images) * images if given is None else given)
            phases.append(Phase(level, fading, start, stop, images))
            start = stop
        return tuple(phases)

    def _given(self, level: int, kimg: float | None) -> int | None:
        """Images of a phase of given length: whole iterations, at least one."""
        if kimg is None:
            return None
        images = self.critic_steps * self.batches[level]
        # Rounded first: 1.1 kimg are 1100 images, not one more because 1.1 is no binary fraction.
        return max(1, -(-round(kimg * 1000) // images)) * images

    def _least_kimg(self) -> float:
        """The shortest run that fades in the last level; phases that are divided evenly grow with the run itself."""
        images = math.ceil(self.kimg * 1000)
        while images < (needed := self._phases(images / 1000)[-1].start):
            images = needed
        return images / 1000
