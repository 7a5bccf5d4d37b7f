"""Losses against the textbook formula in float64, and the objective that is put together from them."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from objective_fixture import SIZES, small_batch, small_pair, weight_gradients
from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.objectives import objective as objective_module
from synthoma.objectives.adversarial import LOSSES, bce_generator
from synthoma.objectives.objective import PENALTIES, Adversarial, Batch, Objective

ALL = {"gradient": 10.0, "r1": 1.0, "r2": 0.5, "drift": 0.1, "finite_difference": 0.3}


def _logits(shape: tuple[int, ...] = (32,)) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    return tuple(2 * torch.randn(shape, generator=source, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


def _probability_loss(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


TEXTBOOK_DISCRIMINATOR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "non-saturating": lambda r, f: _probability_loss(r, 0.9) + _probability_loss(f, 0.2),
    "least-squares": lambda r, f: (
        F.mse_loss(r, torch.full_like(r, 0.9)) / 2 + F.mse_loss(f, torch.full_like(f, 0.2)) / 2
    ),
    "hinge": lambda r, f: (
        -torch.minimum(r - 1, torch.zeros_like(r)).mean() - torch.minimum(-f - 1, torch.zeros_like(f)).mean()
    ),
    "wasserstein": lambda r, f: f.mean() - r.mean(),
    "relativistic": lambda r, f: -torch.log(torch.sigmoid(r - f)).mean(),
}
TEXTBOOK_GENERATOR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "non-saturating": lambda r, f: -torch.log(torch.sigmoid(f)).mean(),
    "least-squares": lambda r, f: F.mse_loss(f, torch.ones_like(f)) / 2,
    "hinge": lambda r, f: -f.mean(),
    "wasserstein": lambda r, f: -f.mean(),
    "relativistic": lambda r, f: -torch.log(torch.sigmoid(f - r)).mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_the_papers(name: str) -> None:
    real, fake = _logits()
    loss = LOSSES[name]
    torch.testing.assert_close(
        loss.discriminator(real, fake, 0.9, 0.2), TEXTBOOK_DISCRIMINATOR[name](real, fake), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(loss.generator(fake, real), TEXTBOOK_GENERATOR[name](real, fake), rtol=1e-12, atol=0)
    changed = float(loss.discriminator(real, fake, 1.0, 0.0) - loss.discriminator(real, fake, 0.9, 0.2))
    assert (changed != 0) == loss.smooths


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_several_scales_are_means_over_them(name: str) -> None:
    real, fake = _logits((8, 3))
    loss = LOSSES[name]
    columns = list(zip(real.unbind(1), fake.unbind(1), strict=True))
    for whole, single in (
        (loss.discriminator(real, fake, 1.0, 0.0), [loss.discriminator(r, f, 1.0, 0.0) for r, f in columns]),
        (loss.generator(fake, real), [loss.generator(f, r) for r, f in columns]),
    ):
        torch.testing.assert_close(whole, torch.stack(single).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite(name: str) -> None:
    huge = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = LOSSES[name].discriminator(huge, huge.flip(0), 1.0, 0.0) + LOSSES[name].generator(huge, huge.flip(0))
    loss.backward()
    assert torch.isfinite(loss)
    assert huge.grad is not None
    assert torch.isfinite(huge.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_low_precision_are_float32(name: str) -> None:
    """A mean of bf16 logits would be rounded to three digits."""
    low = (torch.arange(64.0) / 7).bfloat16()
    for dtype in (torch.float32, torch.bfloat16):
        values = LOSSES[name].discriminator(low.to(dtype), -low.to(dtype), 1.0, 0.0), LOSSES[name].generator(low, -low)
        assert {value.dtype for value in values} == {torch.float32}
    exact = LOSSES[name].discriminator(low.float(), -low.float(), 1.0, 0.0)
    torch.testing.assert_close(LOSSES[name].discriminator(low, -low, 1.0, 0.0), exact)


def test_the_generator_gets_a_gradient_where_the_discriminator_is_sure() -> None:
    hopeless = torch.tensor([-50.0], requires_grad=True)
    bce_generator(hopeless).backward()
    assert hopeless.grad is not None
    assert abs(float(hopeless.grad) + 1) < 1e-6


def test_relativistic_pairs_are_not_broadcast() -> None:
    real, fake = _logits((8,))
    for wrong in (real[:, None], real[:1], real[:4]):
        with pytest.raises(ValueError, match="do not pair up"):
            LOSSES["relativistic"].discriminator(wrong, fake, 1.0, 0.0)
        with pytest.raises(ValueError, match="do not pair up"):
            LOSSES["relativistic"].generator(fake, wrong)
    with pytest.raises(ValueError, match="needs the logits of real"):
        LOSSES["relativistic"].generator(fake, None)


def _noisy(images: Tensor, draw: StepDraws, which: str) -> Tensor:
    return images * (1 + 0.1 * draw.normal(f"augment {which}", tuple(images.shape[1:])).to(images.dtype))


def _totals(objective: Objective, batch: Batch, dim: int, scales: int | None = None) -> dict[str, list[Tensor]]:
    """Terms, watched values and weight gradients of both updates, by name."""
    generator, discriminator = small_pair(dim, scales)
    terms, watched = objective.discriminator(generator, discriminator, batch)
    generator_terms, _ = objective.generator(generator, discriminator, batch)
    found = {f"term {name}": [value.detach()] for name, value in terms.items()}
    found |= {f"watched {name}": [value] for name, value in watched.items()}
    found |= {f"gradient {name}": weight_gradients(discriminator, value) for name, value in terms.items()}
    found["generator"] = [value.detach() for value in generator_terms.values()]
    found["generator gradient"] = weight_gradients(generator, torch.stack(list(generator_terms.values())).sum())
    return found


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("penalties", [{}, {"r1": 1.0, "r2": 0.5}, {"r1": 1.0}, {"r2": 1.0}, ALL])
@pytest.mark.parametrize("conditional", [True, False])
def test_one_pass_equals_two(dim: int, penalties: dict[str, float], conditional: bool) -> None:
    batch = small_batch(dim, conditional=conditional, augmentation=_noisy)
    for scales in (None, 2):
        one, two = (
            _totals(Adversarial("hinge", penalties, one_pass=one_pass), batch, dim, scales)
            for one_pass in (True, False)
        )
        assert one.keys() == two.keys()
        assert {f"term {name}" for name in ("adversarial", *penalties)} == {n for n in one if n.startswith("term ")}
        for name, values in one.items():
            torch.testing.assert_close(values, two[name], rtol=1e-10, atol=1e-13, msg=name)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("one_pass", [True, False])
def test_parts_add_up_to_the_whole(dim: int, loss: str, one_pass: bool) -> None:
    """Accumulation and several processes: shares of uneven parts, with their draws, give what the whole batch gives."""
    objective = Adversarial(loss, ALL, one_pass=one_pass)
    batch = small_batch(dim, n=7, augmentation=_noisy)
    whole = _totals(objective, batch, dim)
    parts = [(0, 3), (3, 6), (6, 7)]
    found = [_totals(objective, batch.part(*part), dim) for part in parts]
    for name, values in whole.items():
        for i, expected in enumerate(values):
            total = sum((stop - start) / 7 * of[name][i] for (start, stop), of in zip(parts, found, strict=True))
            torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_lazy_terms_are_computed_when_due_and_cost_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, discriminator = small_pair(2)
    batch = small_batch(2)
    objective = Adversarial("non-saturating", {"r1": 1.0, "drift": 1.0}, lazy={"r1": 16}, one_pass=True)
    due, _ = objective.discriminator(generator, discriminator, dataclasses.replace(batch, due={"r1": 16.0}))
    always, _ = Adversarial("non-saturating", {"r1": 1.0}).discriminator(generator, discriminator, batch)
    # The loop applies the factor; the term itself does not know of it.
    torch.testing.assert_close(due["r1"], always["r1"], rtol=1e-12, atol=0)

    def never(*args: object, **options: object) -> None:
        raise AssertionError("a gradient was computed")

    monkeypatch.setattr(objective_module, "input_gradients", never)
    terms, watched = objective.discriminator(generator, discriminator, batch)
    assert terms.keys() == {"adversarial", "drift"}
    assert "penalty" not in watched


class Linear(nn.Module):
    """D(x) = <a, x> with |a| = 3."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.randn(2, *SIZES[2], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weights = nn.Parameter(3 * weights / torch.linalg.vector_norm(weights))

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        return (x * self.weights).flatten(1).sum(1)


def test_weights_gamma_and_the_images_of_the_penalties() -> None:
    """Closed forms at a linear discriminator. An augmentation by 5 changes no gradient: it is taken after it."""
    generator, _ = small_pair(2)
    batch = small_batch(2, gamma=0.5, augmentation=lambda images, draw, which: 5 * images)
    weights = {"gradient": 10.0, "r1": 1.0, "r2": 2.0, "drift": 0.25}
    network = Linear()
    terms, watched = Adversarial("wasserstein", weights, one_pass=True).discriminator(generator, network, batch)
    values = {name: term.item() for name, term in terms.items()}
    assert values["gradient"] == pytest.approx(10 * (3 - 1) ** 2)
    assert values["r1"] == pytest.approx(0.5 / 2 * 9)
    assert values["r2"] == pytest.approx(2 * 0.5 / 2 * 9)
    real, fake = (network(5 * images).detach() for images in (batch.real, generator(batch.z, batch.fake_conditions)))
    assert values["drift"] == pytest.approx(0.25 * real.square().mean().item())
    assert watched["penalty"].item() == pytest.approx(3)
    assert watched["d_real"].item() == pytest.approx(real.mean().item())
    assert watched["d_fake"].item() == pytest.approx(fake.mean().item())
    assert watched["ahead"].item() == pytest.approx((real - fake).sign().mean().item())


def test_watched_scores_are_probabilities_only_where_they_are() -> None:
    generator, discriminator = small_pair(2)
    batch = small_batch(2)
    raw = discriminator(batch.real, batch.conditions).detach()
    for loss in LOSSES:
        objective = Adversarial(loss)
        _, watched = objective.discriminator(generator, discriminator, batch)
        expected = raw.sigmoid() if loss == "non-saturating" else raw
        assert objective.scores == ("probability" if loss == "non-saturating" else "raw")
        torch.testing.assert_close(watched["d_real"], expected.mean())
        assert not any(value.requires_grad for value in watched.values())


def test_finite_difference_watches_the_norm_of_the_gradient() -> None:
    generator, _ = small_pair(2)
    objective = Adversarial("wasserstein", {"finite_difference": 1.0}, sigma=0.1)
    terms, watched = objective.discriminator(generator, Linear(), small_batch(2, n=4000, gamma=1.0))
    assert watched["penalty"].item() == pytest.approx(3, rel=0.05)
    assert terms["finite_difference"].item() == pytest.approx(9, rel=0.1)  # at reals and fakes, each times 1 / 2


@pytest.mark.parametrize("loss", LOSSES)
def test_each_update_reaches_the_network_that_it_trains(loss: str) -> None:
    generator, discriminator = small_pair(2)
    batch = small_batch(2, augmentation=_noisy)
    objective = Adversarial(loss, {"r1": 1.0})
    terms, _ = objective.discriminator(generator, discriminator, batch)
    torch.stack(list(terms.values())).sum().backward()
    assert all(weight.grad is None for weight in generator.parameters())
    assert all(weight.grad is not None for weight in discriminator.parameters())
    discriminator.zero_grad()
    discriminator.requires_grad_(False)
    terms, _ = objective.generator(generator, discriminator, batch)
    terms["adversarial"].backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in generator.parameters())
    assert all(weight.grad is None for weight in discriminator.parameters())


def test_only_the_relativistic_generator_looks_at_reals() -> None:
    generator, discriminator = small_pair(2)
    for loss in LOSSES:
        shown: list[str] = []

        def note(images: Tensor, draw: StepDraws, which: str, shown: list[str] = shown) -> Tensor:
            shown.append(which)
            return images

        Adversarial(loss).generator(generator, discriminator, small_batch(2, augmentation=note))
        assert shown == (["fake", "real"] if loss == "relativistic" else ["fake"])


def test_images_are_made_as_the_objective_is_told() -> None:
    generator, discriminator = small_pair(2)
    batch = small_batch(2)
    made = torch.zeros_like(batch.real)
    objective = Adversarial("wasserstein", make=lambda generator, batch: made)
    _, watched = objective.discriminator(generator, discriminator, batch)
    expected = discriminator(made, batch.fake_conditions).mean()
    torch.testing.assert_close(watched["d_fake"], expected.detach())
    torch.testing.assert_close(objective.generator(generator, discriminator, batch)[0]["adversarial"], -expected)


def test_weights_are_clipped_only_where_asked() -> None:
    _, discriminator = small_pair(2)
    before = discriminator.score.weight.clone()
    Adversarial("wasserstein").after_discriminator(discriminator)
    assert torch.equal(discriminator.score.weight, before)
    Adversarial("wasserstein", clip=0.01, critic_steps=5).after_discriminator(discriminator)
    assert max(float(weight.detach().abs().max()) for weight in discriminator.parameters()) <= 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hing",), "training.loss: there is no 'hing'; did you mean 'hinge'"),
        (("hinge", {"gradients": 1.0}), "training.penalties: .*did you mean 'gradient'"),
        (("hinge", {"r1": 1.0}, {"r2": 4}), "training.lazy: there is no 'r2'"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(arguments: tuple[object, ...], message: str) -> None:
    loss, penalties, lazy = (*arguments, {}, {})[:3]
    with pytest.raises(RecipeError, match=message):
        Adversarial(loss, penalties, lazy=lazy)  # type: ignore[arg-type]


def test_penalties_of_weight_zero_are_none() -> None:
    assert not Adversarial("hinge", dict.fromkeys(PENALTIES, 0.0)).penalties


def test_a_part_of_a_batch_has_its_samples_of_everything() -> None:
    batch = small_batch(2, n=5, due={"r1": 16.0})
    part = batch.part(3, 5)
    assert len(part) == 2
    assert part.conditions is not None
    assert part.fake_conditions is not None
    assert batch.conditions is not None
    assert torch.equal(part.real, batch.real[3:])
    assert torch.equal(part.z, batch.z[3:])
    assert torch.equal(part.conditions, batch.conditions[3:])
    assert torch.equal(part.draw.normal("x"), batch.draw.normal("x")[3:])
    assert (part.soft_real, part.gamma, part.due) == (batch.soft_real, batch.gamma, batch.due)
    with pytest.raises(ValueError, match="different numbers of samples"):
        small_batch(2, n=5, z=batch.z[:4])
