"""Growth: a pure schedule of images seen, its borders on whole iterations, its errors."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthoma.errors import RecipeError
from synthoma.training.growth import Growth, Stage


def walk(growth: Growth) -> list[tuple[int, Stage]]:
    """(images_seen, stage) at the start of each iteration of a run, as the loop goes through them."""
    seen, steps = 0, []
    while seen < math.ceil(growth.kimg * 1000):
        stage = growth.at(seen)
        steps.append((seen, stage))
        seen += growth.critic_steps * stage.batch
    return steps


def test_the_published_schedule_starts_its_levels_where_the_paper_does() -> None:
    batches = (100, 100, 100, 50, 25, 20, 10)
    growth = Growth(7, batches, kimg=12_000, fade_kimg=600, stable_kimg=600)
    assert growth.borders() == (0, 600_000, 1_800_000, 3_000_000, 4_200_000, 5_400_000, 6_600_000)
    assert growth.at(0) == Stage(0, 1.0, 100)
    assert growth.at(599_900) == Stage(0, 1.0, 100)
    assert growth.at(600_000) == Stage(1, 100 / 600_000, 100)
    assert growth.at(900_000 - 100) == Stage(1, 0.5, 100)
    assert growth.at(1_200_000 - 100) == Stage(1, 1.0, 100)
    assert growth.at(1_200_000) == Stage(1, 1.0, 100)
    assert growth.at(11_999_990) == Stage(6, 1.0, 10)
    assert growth.at(10**9) == Stage(6, 1.0, 10)
    assert not growth.depends_on_total


def test_fade_rises_evenly_from_above_zero_to_one() -> None:
    growth = Growth(2, (4, 4), kimg=0.1, fade_kimg=0.02, stable_kimg=0.02)
    fades = [stage.fade for _, stage in walk(growth) if stage.level == 1]
    assert fades[:6] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert set(fades[5:]) == {1.0}


def test_borders_fall_on_whole_iterations_of_the_critic() -> None:
    growth = Growth(3, (7, 5, 3), kimg=3, critic_steps=5, fade_kimg=0.1, stable_kimg=0.2)
    steps = walk(growth)
    starts = {seen for seen, _ in steps}
    assert {phase.start for phase in growth.phases} <= starts
    # 0.2 kimg in iterations of 35 images: six of them.
    assert growth.borders()[1] == 6 * 35
    for phase in growth.phases:
        assert (phase.stop - phase.start) % phase.per_iteration == 0


def test_images_between_borders_belong_to_the_iteration_that_saw_them() -> None:
    growth = Growth(2, (10, 10), kimg=1, fade_kimg=0.1, stable_kimg=0.1)
    assert growth.at(129) == growth.at(120) != growth.at(130)


def test_an_even_division_gives_the_last_level_at_least_as_much_as_any_other() -> None:
    growth = Growth(4, (64, 32, 16, 8), kimg=20)
    images = [0] * 4
    for _, stage in walk(growth):
        images[stage.level] += stage.batch
    assert max(images) == images[-1]
    assert min(images[1:]) > 0.9 * images[-1]
    assert growth.depends_on_total
    assert dataclasses.replace(growth, kimg=40).borders() != growth.borders()


def test_what_is_given_stays_and_the_rest_is_divided() -> None:
    growth = Growth(3, (10, 10, 10), kimg=10, fade_kimg=0.5)
    assert [p.stop - p.start for p in growth.phases] == [3000, 500, 3000, 500, 3000]
    growth = Growth(3, (10, 10, 10), kimg=10, stable_kimg=2)
    assert [p.stop - p.start for p in growth.phases] == [2000, 2000, 2000, 2000, 2000]


def test_one_level_never_grows() -> None:
    growth = Growth(1, (16,), kimg=0.01)
    assert growth.phases[0].start == 0
    assert growth.borders() == (0,)
    assert growth.at(12_345) == Stage(0, 1.0, 16)
    assert not growth.depends_on_total


def test_times_that_are_no_binary_fractions_are_not_rounded_up_by_an_iteration() -> None:
    assert Growth(2, (100, 100), kimg=10, fade_kimg=1.1, stable_kimg=1.1).borders() == (0, 1100)


@pytest.mark.parametrize("given_times", [{}, {"fade_kimg": 0.6, "stable_kimg": 0.6}, {"fade_kimg": 0.5}])
def test_a_run_too_short_is_refused_with_the_length_that_is_enough(given_times: dict[str, float]) -> None:
    batches = (128, 64, 4)
    with pytest.raises(RecipeError, match="ends before the last of 3 levels is faded in") as caught:
        Growth(3, batches, kimg=0.2, critic_steps=2, **given_times)
    enough = float(str(caught.value).split("least ")[1].split(" kimg")[0])
    growth = Growth(3, batches, kimg=enough, critic_steps=2, **given_times)
    assert growth.phases[-1].start <= math.ceil(enough * 1000)
    with pytest.raises(RecipeError):
        Growth(3, batches, kimg=enough / 3, critic_steps=2, **given_times)


def test_a_batch_for_each_level_is_asked_for() -> None:
    with pytest.raises(RecipeError, match="one batch of at least 1 for each level"):
        Growth(3, (16, 8), kimg=10)


@given(
    batches=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    critic_steps=st.integers(1, 5),
    kimg=st.floats(5, 40),
    fade=st.none() | st.floats(0, 0.3),
    stable=st.none() | st.floats(0, 0.3),
)
def test_levels_come_in_order_and_the_run_ends_on_the_last_one_faded_in(
    batches: list[int], critic_steps: int, kimg: float, fade: float | None, stable: float | None
) -> None:
    growth = Growth(len(batches), tuple(batches), kimg, critic_steps, fade, stable)
    assert [p.start for p in growth.phases[1:]] == [p.stop for p in growth.phases[:-1]]
    target = math.ceil(kimg * 1000)
    stages = [growth.at(seen) for seen in range(0, target, 97)]
    assert all(before.level <= after.level for before, after in itertools.pairwise(stages))
    assert all(0 < stage.fade <= 1 for stage in stages)
    assert growth.at(target) == Stage(len(batches) - 1, 1.0, batches[-1])
