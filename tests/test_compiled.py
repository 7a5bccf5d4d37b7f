"""Compiled steps: taken where their gradients are right, given up where not, and not compiled anew at each update."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from family_fixture import small_family
from synthoma.draws import StepDraws
from synthoma.families import Family, ImageSpace, build_family
from synthoma.objectives.batch import Batch
from synthoma.objectives.objective import Adversarial
from synthoma.training import compiled
from synthoma.training.compiled import compile_checked, compile_steps
from synthoma.training.precision import Precision
from synthoma.training.updates import discriminator_gradients, generator_gradients

CPU, FP32 = torch.device("cpu"), Precision("fp32", "asked for")
SIZE = (8, 8)


def built(family: str) -> tuple[Family, Callable[[int], Batch]]:
    """A tiny family, and its batch of an update; gamma falls from update to update."""
    recipe = small_family(family, SIZE, 1)
    space = ImageSpace(SIZE, 1, 0)
    real = torch.rand(4, 1, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def batch(update: int) -> Batch:
        draw = StepDraws(0, update, torch.arange(4))
        gamma = torch.tensor(1.0 / (1 + update))
        return Batch(real=real, z=draw.normal("z", (recipe.model.latent,)), draw=draw, gamma=gamma)

    return build_family(recipe.model, recipe.training, space, CPU), batch


def gradients(family: Family, batch: Batch) -> Tensor:
    parts = []
    for network, update in (
        (family.discriminator, discriminator_gradients),
        (family.generator, generator_gradients),
    ):
        update(family, batch)
        parts += [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    return torch.cat(parts)


def compiled_by(monkeypatch: pytest.MonkeyPatch, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Let `make` stand for the compiler, so that no C++ has to be built."""
    monkeypatch.setattr(torch, "compile", lambda function, **settings: make(function))


def plain_terms(family: Family) -> bool:
    """Whether the objective computes with its own terms, not with something put in their place."""
    assert isinstance(family.objective, Adversarial)
    return family.objective.terms == Adversarial.terms.__get__(family.objective)


def wrong_gradient(terms: Callable[..., Any]) -> Callable[..., Any]:
    """As pytorch#172386: the penalty's value is right, and its gradient is lost without a word."""

    def lost(*arguments: Any) -> Any:
        found, watched = terms(*arguments)
        return {name: term.detach() if name == "r1" else term for name, term in found.items()}, watched

    return lost


def test_a_step_whose_penalty_lost_its_gradient_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    family, batch = built("r3")
    assert isinstance(family.objective, Adversarial)
    before = gradients(family, batch(0))
    compiled_by(monkeypatch, wrong_gradient)
    told = compile_checked(family, batch(0), FP32)
    assert told.startswith("not compiled: the compiled gradient is off by")
    assert plain_terms(family)
    assert torch.equal(gradients(family, batch(0)), before)


def test_a_compiler_that_fails_is_told_of_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(function: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*arguments: Any) -> Any:
            raise RuntimeError("no working C++ compiler\nwas found")

        return fail

    family, batch = built("wgan-gp")
    before = gradients(family, batch(0))
    compiled_by(monkeypatch, failing)
    told = compile_checked(family, batch(0), FP32)
    assert told == "not compiled: the compiler failed (RuntimeError: no working C++ compiler)"
    assert plain_terms(family)
    assert torch.equal(gradients(family, batch(0)), before)


@pytest.mark.parametrize("family", ["dcgan", "r3"])
def test_the_test_itself_changes_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the statistics of batch norm either, else a resumed run would have seen one batch more."""
    networks, batch = built(family)
    kept = [
        {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for network in (networks.generator, networks.discriminator)
    ]
    compiled_by(monkeypatch, lambda function: function)
    assert compile_checked(networks, batch(0), FP32).startswith("compiled")
    for network, before in zip((networks.generator, networks.discriminator), kept, strict=True):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, before[name]), name


def test_what_is_not_compiled_says_why() -> None:
    growing, batch = built("pggan")
    assert "growing network" in compile_checked(growing, batch(0), FP32)
    family, batch = built("r3")
    assert "processors" in compile_steps(family, batch(0), FP32, "auto", CPU)
    assert "asked for" in compile_steps(family, batch(0), FP32, "off", CPU)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["r3", "wgan-gp", "dcgan"])
def test_compiled_gradients_agree_and_a_falling_gamma_compiles_nothing_anew(family: str) -> None:
    torch._dynamo.reset()
    networks, batch = built(family)
    plain = [gradients(networks, batch(update)) for update in range(4)]
    networks, batch = built(family)
    told = compile_checked(networks, batch(0), FP32)
    assert told.startswith("compiled: its gradient agrees"), told
    first = gradients(networks, batch(0))
    made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert made > 0
    found = [first, *(gradients(networks, batch(update)) for update in range(1, 4))]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == made
    for exact, mine in zip(plain, found, strict=True):
        assert (exact - mine).norm() < 1e-3 * exact.norm()
    torch._dynamo.reset()


def test_gamma_changes_the_penalty_also_when_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    family, batch = built("r3")
    compiled_by(monkeypatch, lambda function: function)
    compile_checked(family, batch(0), FP32)
    weak, strong = (dataclasses.replace(batch(0), gamma=torch.tensor(gamma)) for gamma in (0.0, 10.0))
    assert not torch.allclose(gradients(family, weak), gradients(family, strong))


def test_tolerances_are_for_both_number_formats() -> None:
    assert set(compiled.TOLERANCE) == {"fp32", "bf16"}
