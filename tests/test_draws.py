"""Random numbers by counter: known answers, independence of what else is asked for, distribution."""

import math

import pytest
import torch
from scipy import stats

from synthoma.draws import Draws, StepDraws, philox


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (0, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (0xFFFFFFFF, 0xFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ],
)
def test_philox_gives_the_published_answers(counter: int, key: int, expected: list[int]) -> None:
    """Known-answer vectors of the Random123 distribution."""
    assert philox(torch.full((1, 4), counter), (key, key))[0].tolist() == expected


def test_a_sample_does_not_depend_on_the_others() -> None:
    draws = Draws(3, "latents")
    many = draws.normal(5, torch.arange(1000), (7,))
    assert torch.equal(many[[3, 999]], draws.normal(5, torch.tensor([3, 999]), (7,)))


def test_a_block_of_steps_equals_its_steps() -> None:
    draws = Draws(3, "latents")
    steps, index = torch.arange(4).repeat_interleave(8), torch.arange(8).repeat(4)
    block = draws.normal(steps, index, (5,)).unflatten(0, (4, 8))
    assert all(torch.equal(block[step], draws.normal(step, torch.arange(8), (5,))) for step in range(4))


def test_seed_purpose_and_step_give_other_streams() -> None:
    index = torch.arange(64)
    streams = [
        Draws(0, "a").bits(0, index, 4),
        Draws(1, "a").bits(0, index, 4),
        Draws(0, "b").bits(0, index, 4),
        Draws(0, "a").bits(1, index, 4),
    ]
    for i, first in enumerate(streams):
        for second in streams[i + 1 :]:
            assert (first == second).float().mean() < 0.02


def test_distributions() -> None:
    index = torch.arange(20_000)
    assert stats.kstest(Draws(0, "u").uniform(0, index).numpy(), "uniform").pvalue > 1e-3
    normal = Draws(0, "n").normal(0, index, (2,))
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(float(torch.corrcoef(normal.T)[0, 1])) < 4 / math.sqrt(len(index))
    counts = torch.bincount(Draws(0, "i").integers(0, index, 7), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_draws_of_a_step_are_those_of_its_streams() -> None:
    index = torch.arange(6)
    draw = StepDraws(3, 7, index)
    assert torch.equal(draw.normal("noise", (2, 5)), Draws(3, "noise").normal(7, index, (2, 5)))
    assert torch.equal(draw.uniform("mix"), Draws(3, "mix").uniform(7, index))
    assert torch.equal(draw.integers("shift", 9, (2,)), Draws(3, "shift").integers(7, index, 9, (2,)))
    assert len(draw) == 6


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (3, 8), (7, 8), (0, 8)])
def test_a_part_of_a_step_draws_what_the_whole_draws_for_it(start: int, stop: int) -> None:
    whole = StepDraws(0, 11, torch.arange(8))
    part = whole.part(start, stop)
    assert len(part) == stop - start
    assert torch.equal(part.normal("z", (4,)), whole.normal("z", (4,))[start:stop])
    assert torch.equal(part.uniform("u"), whole.uniform("u")[start:stop])
    assert torch.equal(part.integers("i", 5), whole.integers("i", 5)[start:stop])


def test_purposes_of_a_step_do_not_share_numbers() -> None:
    draw = StepDraws(0, 0, torch.arange(512))
    first, second = draw.normal("a"), draw.normal("b")
    assert abs(float(torch.corrcoef(torch.stack((first, second)))[0, 1])) < 0.2
    assert not torch.equal(first, StepDraws(0, 1, torch.arange(512)).normal("a"))
