"""What the style family is trained for: style mixing, path length against autograd, running means, accumulation."""

import copy
import math

import pytest
import torch
from torch import Tensor

from style_fixture import SIZES, codes, drawn, exact, make_batch, make_discriminator, make_generator, with_noise
from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.networks.style import MEAN_DECAY
from synthoma.objectives.batch import Batch
from synthoma.objectives.style import (
    LENGTH_SHARE,
    StyleObjective,
    even_samples,
    mixed_styles,
    path_lengths,
    style_images,
)


@pytest.mark.parametrize("size", SIZES)
def test_path_length_and_its_gradient_are_those_of_autograd(size: tuple[int, ...]) -> None:
    generator = exact(with_noise(make_generator(size, 2)))
    draw = StepDraws(3, 9, torch.arange(4))
    noise = draw.normal("style noise", (generator.noise_size,)).double()
    directions = draw.normal("directions", (2, *size)).double()
    given = codes(4, 2)

    def by_autograd() -> Tensor:
        styles = generator.styles(drawn(4, 16).double(), given)
        images = generator.synthesise(styles, noise)
        along = (images * directions / math.sqrt(math.prod(size))).sum()
        (jacobian,) = torch.autograd.grad(along, styles, create_graph=True)
        return jacobian.square().sum(2).mean(1).sqrt()

    ours = path_lengths(generator, generator.styles(drawn(4, 16).double(), given), noise, directions)
    theirs = by_autograd()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert ours.std() > 0
    parameters = list(generator.parameters())
    gradients = [torch.autograd.grad(x.square().sum(), parameters, allow_unused=True) for x in (ours, theirs)]
    for (name, _), a, b in zip(generator.named_parameters(), *gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
        else:
            assert name.endswith("to_image.convolve.bias")


class LinearNetwork:
    """Images A w + B w' of two levels' styles, whose Jacobian is known."""

    levels, latent, noise_size = 2, 3, 0

    def __init__(self) -> None:
        self.matrix = drawn(2, 3, 8 * 8)

    def synthesise(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        return torch.einsum("nlw,lwp->np", styles, self.matrix).unflatten(1, (1, 8, 8))


def test_path_length_of_a_linear_generator_is_the_size_of_its_matrix() -> None:
    network = LinearNetwork()
    lengths = path_lengths(network, drawn(4000, 2, 3), None, drawn(4000, 1, 8, 8, seed=1))  # type: ignore[arg-type]
    # E |J^T y|^2 is the sum of squares of J over the pixels.
    assert lengths.square().mean() == pytest.approx(float(network.matrix.square().sum()) / 64 / 2, rel=0.05)


@pytest.mark.parametrize("parts", [[8], [3, 3, 2], [1] * 8, [5, 3]])
def test_the_even_half_of_a_batch_does_not_depend_on_its_parts(parts: list[int]) -> None:
    found: list[int] = []
    for index in torch.arange(8).split(parts):
        places, valid = even_samples(index)
        assert len(places) == math.ceil(len(index) / 2)
        found += index[places[valid]].tolist()
    assert found == [0, 2, 4, 6]


@pytest.mark.parametrize("conditions", [0, 2])
@pytest.mark.parametrize("size", SIZES)
def test_terms_gradients_and_memory_are_the_same_under_accumulation(size: tuple[int, ...], conditions: int) -> None:
    generator = with_noise(make_generator(size, conditions))
    discriminator = make_discriminator(size, conditions, minibatch_stddev=0)
    results = []
    for micro in (8, 3):
        g, d = exact(copy.deepcopy(generator)), exact(copy.deepcopy(discriminator))
        objective = StyleObjective(lazy={})
        objective.memory["path_length_mean"].fill_(0.1)
        batch = make_batch(8, size, conditions, real=drawn(8, 2, *size, seed=5).double())
        seen: dict[str, Tensor] = {}
        for start in range(0, 8, micro):
            part = batch.part(start, min(start + micro, 8))
            share = len(part) / 8
            terms, watched = objective.generator(g, d, part)
            (share * torch.stack(list(terms.values())).sum()).backward()
            for name, value in {**watched, **terms}.items():
                seen[name] = seen.get(name, 0.0) + share * value.detach()
        gradients = [parameter.grad for parameter in g.parameters()]
        objective.after_generator(seen)
        results.append([*gradients, *(seen[name] for name in sorted(seen)), g.mean_style, *objective.memory.values()])
    assert {"adversarial", "path_length", "style_mean"} == set(seen)
    for whole, parted in zip(*results, strict=True):
        torch.testing.assert_close(whole, parted, rtol=1e-10, atol=1e-12)


def test_images_of_a_part_are_those_of_the_whole() -> None:
    generator = with_noise(make_generator((16, 24), 2))
    batch = make_batch(8, (16, 24), 2)
    whole = style_images(generator, batch)
    torch.testing.assert_close(style_images(generator, batch.part(3, 6)), whole[3:6])
    # Without mixing, and with the noise that was drawn, they are what forward makes.
    noise = batch.draw.normal("style noise", (generator.noise_size,))
    torch.testing.assert_close(
        style_images(generator, batch, mixing=0.0), generator(batch.z, batch.fake_conditions, noise=noise)
    )
    assert not torch.allclose(whole, style_images(generator, batch, mixing=0.0))


def test_mixing_happens_as_often_as_asked_for_and_at_all_levels() -> None:
    generator = make_generator((16, 24), noise=False)
    batch = Batch(real=torch.zeros(4000, 1), z=drawn(4000, 16), draw=StepDraws(0, 1, torch.arange(4000)))
    styles, noise = mixed_styles(generator, batch.z, None, batch.draw, 0.6)
    assert noise is None
    first = generator.style(batch.z)[:, None]
    own = (styles - first).abs().amax(2) < 1e-5
    counts = own.sum(1).bincount(minlength=4) / 4000
    # All three levels of the first z; two or one of them.
    assert counts.tolist() == pytest.approx([0, 0.3, 0.3, 0.4], abs=0.03)


def test_running_means_move_once_an_update() -> None:
    generator, discriminator = make_generator((16, 24)), make_discriminator((16, 24))
    objective = StyleObjective()
    assert objective.lazy == {"r1": 16, "path_length": 4}
    terms, watched = objective.generator(generator, discriminator, make_batch(4, (16, 24)))
    assert set(terms) == {"adversarial"}
    objective.after_generator(watched)
    assert objective.memory["path_length_mean"] == 0
    style = generator.style(make_batch(4, (16, 24)).z).mean(0)
    torch.testing.assert_close(generator.mean_style, (1 - MEAN_DECAY) * style)
    due = make_batch(4, (16, 24), due={"path_length": 4.0})
    terms, watched = objective.generator(generator, discriminator, due)
    # From a mean of zero, the penalty is the weighted mean square of the lengths.
    assert terms["path_length"] >= 2 * watched["path_length"] ** 2
    objective.after_generator(watched)
    torch.testing.assert_close(objective.memory["path_length_mean"], LENGTH_SHARE * watched["path_length"])


@pytest.mark.parametrize("minibatch_stddev", [0, 4])
def test_the_discriminators_terms_have_lazy_r1(minibatch_stddev: int) -> None:
    generator = make_generator((16, 24), 2)
    discriminator = make_discriminator((16, 24), 2, minibatch_stddev=minibatch_stddev)
    objective = StyleObjective()
    terms, watched = objective.discriminator(generator, discriminator, make_batch(4, (16, 24), 2))
    assert set(terms) == {"adversarial"}
    batch = make_batch(4, (16, 24), 2, due={"r1": 16.0})
    terms, watched = objective.discriminator(generator, discriminator, batch)
    assert set(terms) == {"adversarial", "r1"}
    image = batch.real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(image, batch.conditions).sum(), image)
    torch.testing.assert_close(terms["r1"], 0.7 / 2 * gradient.square().flatten(1).sum(1).mean())
    terms["r1"].backward()
    for name, parameter in discriminator.named_parameters():
        # Only what the gradient in the image depends on: not the last bias, nor the bias behind a linear way.
        if "weight" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    assert {"d_real", "d_fake"} <= set(watched)


def test_path_length_and_mixing_can_be_left_out() -> None:
    objective = StyleObjective(path_length=0.0, mixing=0.0)
    assert objective.lazy == {"r1": 16}
    assert objective.memory == {}
    generator, discriminator = make_generator((16, 24)), make_discriminator((16, 24))
    terms, watched = objective.generator(generator, discriminator, make_batch(4, (16, 24), due={"path_length": 4.0}))
    assert set(terms) == {"adversarial"}
    assert set(watched) == {"style_mean"}
    with pytest.raises(RecipeError, match="names path_length, whose weight is 0"):
        StyleObjective(path_length=0.0, lazy={"path_length": 4})
    with pytest.raises(RecipeError, match="r1"):
        StyleObjective(penalties={}, lazy={"r1": 16})
