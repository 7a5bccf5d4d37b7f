"""Penalties against autograd, finite differences and closed forms; the mistakes that others made, one test each."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from objective_fixture import SIZES, SmoothDiscriminator, small_batch, small_pair, weight_gradients
from synthoma.networks.convolutional import ConvolutionalDiscriminator
from synthoma.networks.layers import initialise
from synthoma.objectives import penalties
from synthoma.objectives.objective import Adversarial, Shown

OF_GRADIENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "gradient": penalties.gradient_penalty,
    "zero-centred": penalties.zero_centred,
}
# The same of one sample's gradient, written out.
OF_ONE_GRADIENT: dict[str, Callable[[Tensor], Tensor]] = {
    "gradient": lambda gradient: (torch.linalg.vector_norm(gradient) - 1) ** 2,
    "zero-centred": lambda gradient: (gradient * gradient).sum(),
}


class Linear(nn.Module):
    """D(x) = <a, x>: its gradient is `a` at every image, so that every penalty has a closed form."""

    def __init__(self, size: tuple[int, ...], norm: float = 3.0) -> None:
        super().__init__()
        weights = torch.randn(2, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weights = nn.Parameter(norm * weights / torch.linalg.vector_norm(weights))

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        return (x * self.weights).flatten(1).sum(1)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("scales", [None, 3])
@pytest.mark.parametrize("by", ["vjp", "autograd"])
@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_penalty_and_its_weight_gradient_equal_those_sample_by_sample(
    dim: int, scales: int | None, by: penalties.By, name: str
) -> None:
    _, network = small_pair(dim, scales)
    batch = small_batch(dim)
    logits, gradients = penalties.input_gradients(network, batch.real, batch.conditions, by=by)
    torch.testing.assert_close(logits, network(batch.real, batch.conditions), rtol=1e-12, atol=1e-12)

    expected = torch.zeros((), dtype=torch.float64)
    assert batch.conditions is not None
    for i in range(len(batch)):
        image = batch.real[i : i + 1].clone().requires_grad_(True)
        score = network(image, batch.conditions[i : i + 1]).mean()
        (gradient,) = torch.autograd.grad(score, image, create_graph=True)
        torch.testing.assert_close(gradients[i], gradient[0], rtol=1e-10, atol=1e-13)
        expected = expected + OF_ONE_GRADIENT[name](gradient) / len(batch)

    penalty = OF_GRADIENTS[name](gradients)
    torch.testing.assert_close(penalty, expected, rtol=1e-10, atol=0)
    for ours, theirs in zip(weight_gradients(network, penalty), weight_gradients(network, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_weight_gradient_of_a_penalty_equals_its_central_difference(dim: int, name: str) -> None:
    _, network = small_pair(dim)
    batch = small_batch(dim)

    def loss() -> Tensor:
        return OF_GRADIENTS[name](penalties.input_gradients(network, batch.real, batch.conditions)[1])

    source = torch.Generator().manual_seed(1)
    directions = [torch.randn(w.shape, generator=source, dtype=w.dtype) for w in network.parameters()]
    slope = sum((g * d).sum() for g, d in zip(weight_gradients(network, loss()), directions, strict=True))
    step = 1e-5
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for weight, direction in zip(network.parameters(), directions, strict=True):
                weight.add_(direction, alpha=sign * step)
            values.append(loss().item())
    assert abs((values[0] - values[1]) / (2 * step) / slope - 1) < 1e-5


@pytest.mark.parametrize("dim", [2, 3])
def test_the_norm_is_over_all_axes_but_the_first(dim: int) -> None:
    """A norm over the channels alone, that is per pixel, would be below 1 nearly everywhere here, and far from 3."""
    real = small_batch(dim).real
    network = Linear(SIZES[dim], norm=3.0)
    gradients = penalties.input_gradients(network, real)[1]
    assert penalties.norms(gradients).shape == (len(real),)
    assert abs(penalties.gradient_penalty(gradients).item() - 4) < 1e-10
    assert abs(penalties.zero_centred(gradients).item() - 9) < 1e-10


@pytest.mark.parametrize("dim", [2, 3])
def test_one_alpha_a_sample(dim: int) -> None:
    """Each interpolated image lies on the straight line between its two; with an alpha a pixel it would not."""
    batch = small_batch(dim)
    fake = batch.real.flip(0) + 1
    alpha = batch.draw.uniform("interpolation")
    places = (penalties.interpolate(batch.real, fake, alpha) - fake) / (batch.real - fake)
    torch.testing.assert_close(
        places, alpha.double().reshape(-1, *[1] * (dim + 1)).expand_as(places), rtol=1e-9, atol=0
    )
    assert len(alpha.unique()) == len(batch)
    for wrong in (torch.rand_like(batch.real), alpha[:, None], alpha[:1]):
        with pytest.raises(ValueError, match="interpolate"):
            penalties.interpolate(batch.real, fake, wrong)


def test_the_objective_interpolates_with_one_alpha_a_sample_under_the_conditions_of_the_reals() -> None:
    generator, network = small_pair(2)
    batch = small_batch(2)
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(x: Tensor, conditions: Tensor) -> Tensor:
        seen.append((x, conditions))
        return network(x, conditions)

    objective = Adversarial("wasserstein", {"gradient": 10.0}, one_pass=True)
    shown = objective.shown(generator, batch, frozenset({"gradient"}))
    original = penalties.interpolate(shown.real, shown.fake, batch.draw.uniform("interpolation"))
    terms, _ = objective.discriminator(generator, spy, batch)
    assert [len(x) for x, _ in seen] == [2 * len(batch), len(batch)]
    assert seen[1][1] is batch.conditions
    gradients = penalties.input_gradients(network, original, batch.conditions)[1]
    torch.testing.assert_close(terms["gradient"], 10 * penalties.gradient_penalty(gradients), rtol=1e-12, atol=0)


@pytest.mark.parametrize("by", ["vjp", "autograd"])
def test_logits_with_a_last_axis_of_one_are_refused(by: penalties.By) -> None:
    """[n, 1] would broadcast against [n] to [n, n] in a relativistic loss, without a word."""
    generator, network = small_pair(2)
    batch = small_batch(2)

    def column(x: Tensor, conditions: Tensor | None = None) -> Tensor:
        return network(x, conditions)[:, None]

    with pytest.raises(ValueError, match=r"shape \[7, 1\] for 7 images.*Squeeze"):
        penalties.input_gradients(column, batch.real, batch.conditions, by=by)
    for objective in (Adversarial("relativistic"), Adversarial("hinge", {"r1": 1.0})):
        with pytest.raises(ValueError, match="Squeeze"):
            objective.discriminator(generator, column, batch)
        with pytest.raises(ValueError, match="Squeeze"):
            objective.generator(generator, column, batch)


@pytest.mark.parametrize("wrong", [lambda x: x.mean(), lambda x: x.flatten(1).sum(1)[:-1], lambda x: x])
def test_logits_of_another_shape_are_refused(wrong: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="for 7 images"):
        penalties.judge(lambda x, conditions: wrong(x), small_batch(2).real, None)


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_no_nan_where_the_gradient_is_zero(name: str) -> None:
    """The derivative of a bare square root is infinite at zero, and times zero it is NaN in every weight."""
    _, network = small_pair(2)
    nn.init.zeros_(network.score.weight)
    gradients = penalties.input_gradients(network, small_batch(2).real)[1]
    assert not gradients.any()
    penalty = OF_GRADIENTS[name](gradients)
    assert abs(penalty.item() - (name == "gradient")) < 1e-5
    assert all(bool(g.isfinite().all()) for g in weight_gradients(network, penalty))


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_a_smaller_last_batch_has_the_mean_of_its_own_samples(name: str) -> None:
    _, network = small_pair(2)
    batch = small_batch(2, n=5)

    def penalty(start: int, stop: int) -> Tensor:
        part = batch.part(start, stop)
        return OF_GRADIENTS[name](penalties.input_gradients(network, part.real, part.conditions)[1])

    alone = torch.stack([penalty(i, i + 1) for i in range(5)])
    for n in range(1, 6):
        torch.testing.assert_close(penalty(0, n), alone[:n].mean(), rtol=1e-12, atol=0)


def test_reductions_of_low_precision_are_exact() -> None:
    """In bf16 a sum of a few thousand squares would stop growing at 256."""
    gradients = torch.ones(3, 1, 64, 64, dtype=torch.bfloat16)
    assert penalties.squared_norms(gradients).dtype == torch.float32
    assert penalties.zero_centred(gradients) == 4096
    assert penalties.drift(torch.full((1000,), 3.0, dtype=torch.bfloat16)) == 9


@pytest.mark.parametrize("dim", [2, 3])
def test_finite_difference_tends_to_the_squared_gradient(dim: int) -> None:
    _, network = small_pair(dim)
    batch = small_batch(dim)
    noise = torch.randn(batch.real.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits, gradients = penalties.input_gradients(network, batch.real, batch.conditions)
    sigma = 1e-5
    noisy = network(batch.real + sigma * noise, batch.conditions)
    along = (gradients * noise).flatten(1).sum(1)
    torch.testing.assert_close(penalties.slopes(logits, noisy, sigma), along, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        penalties.finite_difference(logits, noisy, sigma), along.square().mean(), rtol=1e-3, atol=0
    )

    steep = Linear(SIZES[dim], norm=3.0)
    many = torch.randn(20_000, 2, *SIZES[dim], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimate = penalties.finite_difference(steep(torch.zeros_like(many)), steep(0.1 * many), 0.1)
    assert abs(float(estimate.detach()) - 9) < 5 * 9 * (2 / 20_000) ** 0.5  # the variance of a squared normal is 2


def test_finite_difference_of_scales_is_that_of_their_mean() -> None:
    logits = torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    noisy = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    torch.testing.assert_close(penalties.finite_difference(logits, noisy, 0.5), torch.tensor(4.0))
    with pytest.raises(ValueError, match="pair up"):
        penalties.finite_difference(logits[:, 0], noisy[:, :1], 0.5)


def test_gradients_through_recomputed_activations_equal_the_plain_ones() -> None:
    _, network = small_pair(2)
    batch = small_batch(2)

    def recomputed(x: Tensor, conditions: Tensor | None = None) -> Tensor:
        hidden = checkpoint(lambda y: torch.tanh(network.first(y)), x, use_reentrant=False)
        features = nn.functional.softplus(network.second(hidden)).flatten(2).mean(2)
        return network.score(features * (1 + network.project(conditions))).squeeze(1)

    found = []
    for network_function, by in ((recomputed, "autograd"), (network, "vjp")):
        gradients = penalties.input_gradients(network_function, batch.real, batch.conditions, by=by)[1]  # type: ignore[arg-type]
        found.append(weight_gradients(network, penalties.zero_centred(gradients)))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-13)


def test_another_way_to_the_gradients_is_refused() -> None:
    with pytest.raises(ValueError, match="known: vjp, autograd"):
        penalties.input_gradients(small_pair(2)[1], small_batch(2).real, by="jvp")  # type: ignore[arg-type]


def test_clipping_leaves_frozen_weights() -> None:
    network = SmoothDiscriminator(2)
    network.second.weight.requires_grad_(False)
    frozen = network.second.weight.clone()
    penalties.clip_weights(network, 0.01)
    assert torch.equal(network.second.weight, frozen)
    assert float(network.first.weight.detach().abs().max()) == pytest.approx(0.01)
    assert float(network.score.weight.detach().abs().max()) <= 0.01 + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dim", [2, 3])
def test_compiled_penalties_have_the_weight_gradients_of_plain_ones(backend: str, dim: int) -> None:
    """Older compilers lost the penalty's part of the gradient without a word."""
    names = ("r1", "r2", "gradient", "drift", "finite_difference")
    network = ConvolutionalDiscriminator((8,) * dim, 1, [4, 8], norm="none", conditions=3, conditioning="projection")
    initialise(network, "xavier", torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    n, size = 4, (8,) * dim
    images = [torch.randn(n, 1, *size, generator=source) for _ in range(4)]
    codes = torch.eye(3)[torch.randint(3, (2, n), generator=source)]
    shown = Shown(
        images[0],
        images[1],
        codes[0],
        codes[1],
        soft_real=1.0,
        soft_fake=0.0,
        gamma=torch.tensor(2.0),
        alpha=torch.rand(n, generator=source),
        noise=(images[2], images[3]),
    )
    objective = Adversarial("relativistic", dict.fromkeys(names, 1.0), one_pass=True, sigma=0.1)

    def loss(shown: Shown) -> Tensor:
        terms, _ = objective.terms(network, shown, frozenset(names))
        return torch.stack(list(terms.values())).sum()

    def without_penalty(shown: Shown) -> Tensor:
        return objective.terms(network, shown, frozenset())[0]["adversarial"]

    torch.compiler.reset()
    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    plain, fast, bare = (weight_gradients(network, f(shown)) for f in (loss, compiled, without_penalty))
    for ours, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    # Able to fail: the penalty makes a difference that the comparison would see.
    assert max(float((a - b).abs().max()) for a, b in zip(plain, bare, strict=True)) > 1e-2
