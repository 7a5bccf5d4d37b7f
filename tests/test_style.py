"""The style family: modulation against its textbook form, styles, noise, truncation, path length, its objective."""

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthoma.draws import StepDraws
from synthoma.errors import RecipeError
from synthoma.networks.layers import CONVOLVE, Convolution, lay_out
from synthoma.networks.pggan import GAIN, double
from synthoma.networks.style import (
    MEAN_DECAY,
    ModulatedConvolution,
    StyleDiscriminator,
    StyleGenerator,
    initialise_style,
)
from synthoma.objectives.batch import Batch
from synthoma.objectives.style import LENGTH_SHARE, StyleObjective, even_samples, path_lengths, style_images

SIZES = [(16, 24), (8, 8, 12)]  # base grids 4x6 and 2x2x3
WIDTHS = [12, 10, 8]


def make_generator(size: tuple[int, ...], conditions: int = 0, **options: Any) -> StyleGenerator:
    network = StyleGenerator(size, 2, conditions, latent=16, widths=options.pop("widths", WIDTHS), **options)
    initialise_style(network, torch.Generator().manual_seed(1))
    return network


def make_discriminator(size: tuple[int, ...], conditions: int = 0, **options: Any) -> StyleDiscriminator:
    network = StyleDiscriminator(size, 2, conditions, widths=options.pop("widths", WIDTHS[::-1]), **options)
    initialise_style(network, torch.Generator().manual_seed(2))
    return network


def with_noise(generator: StyleGenerator, strength: float = 0.3) -> StyleGenerator:
    """As if it had learned to use its noise."""
    for module in generator.modules():
        if isinstance(module, ModulatedConvolution) and module.strength is not None:
            nn.init.constant_(module.strength, strength)
    return generator


def exact(network: Any) -> Any:
    """Weights and arithmetic in float64."""
    network.compute_dtype = torch.float64
    return network.double()


def codes(n: int, conditions: int) -> Tensor | None:
    return torch.eye(conditions)[torch.arange(n) % conditions] if conditions else None


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_batch(n: int, size: tuple[int, ...], conditions: int = 0, **given: Any) -> Batch:
    values = {"real": drawn(n, 2, *size, seed=5), "z": drawn(n, 16, seed=6), "gamma": 0.7} | given
    return Batch(
        **values,
        draw=StepDraws(seed=3, step=9, index=torch.arange(n)),
        conditions=codes(n, conditions),
        fake_conditions=codes(n, conditions),
    )


# Modulation


def grouped(layer: ModulatedConvolution, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    """The paper's form: a kernel of its own for each sample, and a convolution with one group a sample."""
    n, dim = len(x), x.ndim - 2
    style, weight = layer.affine(w), layer.convolve.weight * layer.convolve.scale
    kernels = weight[None] * style.reshape(n, 1, -1, *[1] * dim)
    length = kernels.square().sum(dim=tuple(range(2, dim + 3)), keepdim=True)
    kernels = (kernels / length.sqrt()).flatten(0, 1)
    if layer.convolve.weight.shape[0] != layer.convolve.weight.shape[1]:
        x = double(x)
    y = CONVOLVE[dim](x.reshape(1, -1, *x.shape[2:]), kernels, padding=1, groups=n).unflatten(1, (n, -1))[0]
    y = y + layer.bias.reshape(-1, *[1] * dim) + layer.strength * noise
    return GAIN * F.leaky_relu(y, 0.2)


@pytest.mark.parametrize("doubling", [False, True])
@pytest.mark.parametrize("dim", [2, 3])
def test_modulation_of_activations_is_modulation_of_weights(dim: int, doubling: bool) -> None:
    layer = ModulatedConvolution(dim, 16, 6, 7 if doubling else 6, doubling=doubling, noise=True)
    initialise_style(layer, torch.Generator().manual_seed(0))
    nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(1))
    nn.init.constant_(layer.strength, 0.4)
    size = (4, 6, 5)[:dim]
    x, w = drawn(3, 6, *size).requires_grad_(), drawn(3, 16, seed=1).requires_grad_()
    noise = drawn(3, 1, *(n * (1 + doubling) for n in size), seed=2)
    ours, theirs = layer(x, w, noise), grouped(layer, x, w, noise)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    cotangent = drawn(*ours.shape, seed=3)
    leaves = [x, w, *layer.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * cotangent).sum(), leaves) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("doubling", [False, True])
@pytest.mark.parametrize("dim", [2, 3])
def test_demodulation_gives_unit_variance_for_any_style(dim: int, doubling: bool) -> None:
    layer = ModulatedConvolution(dim, 16, 48, 48, doubling=doubling, noise=False)
    initialise_style(layer, torch.Generator().manual_seed(0))
    size = (32, 32) if dim == 2 else (12, 12, 12)
    for strength in (0.1, 1.0, 30.0):
        with torch.no_grad():
            y = layer(drawn(4, 48, *size), strength * drawn(4, 16, seed=1))
        inner = y[(..., *[slice(2, -2)] * dim)]
        # sqrt(2) LeakyReLU(0.2) of N(0, 1) has mean square 1.04.
        assert inner.square().mean(dim=tuple(range(2, dim + 2))).mean(1) == pytest.approx(1.04, rel=0.15)
        assert inner.square().mean() == pytest.approx(1.04, rel=0.08)


# Networks


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("conditions", [0, 3])
@pytest.mark.parametrize("size", SIZES)
def test_shapes_and_gradients_of_both_networks(size: tuple[int, ...], conditions: int, noise: bool) -> None:
    generator, discriminator = make_generator(size, conditions, noise=noise), make_discriminator(size, conditions)
    lay_out(generator, len(size), torch.device("cpu"))
    given = codes(4, conditions)
    image = generator(drawn(4, 16), given)
    assert image.shape == (4, 2, *size)
    logits = discriminator(image, given)
    assert logits.shape == (4,)
    assert image.dtype == logits.dtype == torch.float32
    assert generator.levels == 3
    planes = 5 * [4 * 6] if len(size) == 2 else 5 * [2 * 2 * 3]
    growth = 2 ** len(size)
    expected = planes[0] + 2 * planes[0] * growth + 2 * planes[0] * growth**2
    assert generator.noise_size == (expected if noise else 0)
    logits.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", [(64, 96), (16, 16, 24)])
def test_signals_keep_their_size_through_both_networks(size: tuple[int, ...]) -> None:
    widths = [48] * (5 if len(size) == 2 else 4)
    generator = StyleGenerator(size, 2, 3, latent=64, widths=widths)
    discriminator = StyleDiscriminator(size, 2, 3, widths=widths, minibatch_stddev=0)
    for network in (generator, discriminator):
        initialise_style(network, torch.Generator().manual_seed(0))
    with torch.no_grad():
        style = generator.style(drawn(64, 64), codes(64, 3))
        images = generator(drawn(8, 64), codes(8, 3))
        logits = discriminator(drawn(8, 2, *size), codes(8, 3))
    # The mapping's weights are a hundred times larger and scaled a hundred times down.
    assert 0.3 < style.square().mean() < 3
    # One image of unit variance from each level, up to correlations.
    assert 0.3 < images.square().mean() / generator.levels < 3
    assert 0.01 < logits.square().mean() < 10
    # No activation grows or fades: in each block both summands have half of the variance.
    x = drawn(2, 48, *size)
    out = discriminator.blocks[1](x[..., :16, :16])
    assert 0.1 < out.square().mean() < 2


@pytest.mark.parametrize("size", SIZES)
def test_no_truncation_full_truncation_and_half(size: tuple[int, ...]) -> None:
    generator = with_noise(make_generator(size, 2))
    z, given = drawn(5, 16), codes(5, 2)
    generator.update_mean(generator.style(drawn(256, 16, seed=9), codes(256, 2)).mean(0))
    assert torch.equal(generator(z, given, truncation=1.0), generator(z, given))
    mean = generator(z, given, truncation=0.0)
    torch.testing.assert_close(mean, mean[:1].expand_as(mean))
    assert (generator(z, given) - mean).abs().mean() > 0.01
    half = generator.styles(z, given, truncation=0.5)
    torch.testing.assert_close(half, 0.5 * generator.styles(z, given) + 0.5 * generator.mean_style)


def test_the_mean_style_moves_by_its_update_only_and_is_kept() -> None:
    generator = make_generator((16, 24))
    generator(drawn(4, 16))
    assert not generator.mean_style.any()
    mean = drawn(16)
    for _ in range(3):
        generator.update_mean(mean)
    torch.testing.assert_close(generator.mean_style, (1 - MEAN_DECAY**3) * mean)
    other = StyleGenerator((16, 24), 2, latent=16, widths=WIDTHS)
    other.load_state_dict(generator.state_dict())
    z = drawn(3, 16)
    # With the constant noise of the first one, too.
    assert torch.equal(other(z, truncation=0.3), generator(z, truncation=0.3))
    assert generator.state_dict()["constant_noise"].std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("size", SIZES)
def test_style_mixing_takes_the_second_style_from_its_level_on(size: tuple[int, ...]) -> None:
    generator = make_generator(size)
    z, second = drawn(4, 16), drawn(4, 16, seed=1)
    mixed = generator(z, second=second, crossover=torch.tensor([0, 3, 1, 2]))
    torch.testing.assert_close(mixed[0], generator(second)[0])
    torch.testing.assert_close(mixed[1], generator(z)[1])
    styles = generator.styles(z, None, second, torch.tensor([0, 3, 1, 2]))
    torch.testing.assert_close(styles[2, 0], generator.style(z)[2])
    torch.testing.assert_close(styles[2, 1:], generator.style(second)[2].expand(2, -1))
    torch.testing.assert_close(styles[3, :2], generator.style(z)[3].expand(2, -1))
    # One coarse level of the second style more is nearer to the second image.
    assert (mixed[2:] - generator(z)[2:]).abs().amax() > 0.01
    with pytest.raises(ValueError, match="both `second` and `crossover`"):
        generator(z, second=second)


@pytest.mark.parametrize("size", SIZES)
def test_noise_changes_details_and_without_it_images_are_a_function_of_z(size: tuple[int, ...]) -> None:
    generator = make_generator(size)
    z = drawn(6, 16)
    noise = drawn(2, 6, generator.noise_size, seed=4)
    # Strengths begin at zero.
    assert torch.equal(generator(z, noise=noise[0]), generator(z))
    with_noise(generator, 0.1)
    assert torch.equal(generator(z), generator(z))
    assert torch.equal(generator.eval()(z), generator.train()(z))
    first, second = generator(z, noise=noise[0]), generator(z, noise=noise[1])
    of_noise, of_z = (first - second).square().mean(), (first - first.roll(1, 0)).square().mean()
    assert 0 < of_noise < 0.3 * of_z
    # Each sample has noise of its own, and rows of noise belong to rows of z.
    torch.testing.assert_close(generator(z[2:4], noise=noise[0, 2:4]), first[2:4])
    with pytest.raises(ValueError, match=f"takes {generator.noise_size} numbers an image"):
        generator(z, noise=noise[0, :, 1:])


def test_each_plane_of_noise_has_its_own_place() -> None:
    generator = with_noise(make_generator((16, 24)))
    z, before = drawn(1, 16), None
    for plane in range(5):
        noise = torch.zeros(1, generator.noise_size)
        start = sum(generator.noise_planes[:plane])
        noise[:, start : start + generator.noise_planes[plane]] = 1.0
        image = generator(z, noise=noise)
        assert before is None or not torch.allclose(image, before)
        before = image
    assert (image - generator(z, noise=torch.zeros(1, generator.noise_size))).abs().amin() > 0


def test_conditions_change_images_and_label_blending_is_not_undone() -> None:
    generator, discriminator = make_generator((16, 24), 3), make_discriminator((16, 24), 3)
    z = drawn(1, 16).expand(3, 16)
    images = generator(z, torch.eye(3))
    between = (images[0] - images[1]).square().mean()
    of_two_z = generator(drawn(2, 16, seed=8), torch.eye(3)[[0, 0]]).diff(dim=0).square().mean()
    assert 0.1 < between / of_two_z < 5
    plain, faint, full = (generator(z[:1], factor * torch.eye(3)[:1]) for factor in (0.0, 0.01, 1.0))
    assert (faint - plain).abs().mean() < 0.05 * (full - plain).abs().mean()
    one = drawn(1, 2, 16, 24)
    first, second = (discriminator(x.expand(3, -1, -1, -1), torch.eye(3)) for x in (one, 3 * one.flip(-1)))
    assert ((first - first[0]) - (second - second[0])).abs().max() > 1e-3
    for network, given in ((generator, z), (discriminator, one)):
        with pytest.raises(ValueError, match="conditions are missing"):
            network(given)


def test_minibatch_deviation_couples_samples_and_can_be_left_out() -> None:
    image = drawn(8, 2, 16, 24)
    others = torch.cat((image[:1], torch.full_like(image[1:], 3.0)))
    for group, couples in ((4, True), (1, False), (0, False)):
        network = make_discriminator((16, 24), minibatch_stddev=group)
        assert network.couples_samples == couples
        assert torch.allclose(network(image)[0], network(others)[0], atol=1e-6) != couples


def test_blocks_of_the_discriminator_go_from_the_image_inwards() -> None:
    discriminator = make_discriminator((16, 24))
    assert len(discriminator.blocks) == 3
    discriminator.blocks[0].requires_grad_(False)
    discriminator(drawn(2, 2, 16, 24)).sum().backward()
    learning = {name for name, parameter in discriminator.named_parameters() if parameter.grad is not None}
    assert learning
    assert all(not name.startswith("blocks.0.") for name in learning)
    image = drawn(2, 2, 16, 24)
    x = discriminator.blocks[1](discriminator.blocks[0](image))
    torch.testing.assert_close(discriminator.blocks[2](x), discriminator(image))


def test_only_large_levels_compute_in_bf16() -> None:
    size, widths = (32, 48), [16, 16, 8, 8]
    generator = with_noise(make_generator(size, 2, widths=widths))
    discriminator = make_discriminator(size, 2, widths=widths[::-1])
    seen: dict[tuple[int, ...], set[torch.dtype]] = {}

    def watch(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.setdefault(tuple(output.shape[2:]), set()).add(output.dtype)

    z, given = drawn(4, 16), codes(4, 2)
    plain = generator(z, given)
    verdict = discriminator(plain, given)
    for network in (generator, discriminator):
        network.compute_dtype = torch.bfloat16
        for module in network.modules():
            if isinstance(module, Convolution) and module.weight.shape[0] > 2:
                module.register_forward_hook(watch)
    image, logits = generator(z, given), discriminator(plain, given)
    assert seen[(32, 48)] == seen[(16, 24)] == {torch.bfloat16}
    assert seen[(4, 6)] == {torch.float32}
    assert image.dtype == logits.dtype == torch.float32
    assert 0 < (image - plain).abs().mean() < 0.02 * plain.std()
    torch.testing.assert_close(logits, verdict, atol=0.05, rtol=0.05)


def test_weights_come_from_the_given_source_alone() -> None:
    torch.manual_seed(1)
    first = make_generator((16, 24)).state_dict()
    torch.manual_seed(2)
    for name, tensor in make_generator((16, 24)).state_dict().items():
        assert torch.equal(tensor, first[name]), name


def test_sizes_that_do_not_fit_are_recipe_errors() -> None:
    with pytest.raises(RecipeError, match="18x24 does not fit 3 levels"):
        make_generator((18, 24))
    with pytest.raises(RecipeError, match="does not fit"):
        make_discriminator((4, 24))
    with pytest.raises(RecipeError, match="at least two widths"):
        make_generator((16, 24), widths=[8])


# The objective


@pytest.mark.parametrize("size", SIZES)
def test_path_length_and_its_gradient_are_those_of_autograd(size: tuple[int, ...]) -> None:
    generator = exact(with_noise(make_generator(size, 2)))
    draw = StepDraws(3, 9, torch.arange(4))
    noise = draw.normal("style noise", (generator.noise_size,)).double()
    given = codes(4, 2)

    def by_autograd() -> Tensor:
        styles = generator.styles(drawn(4, 16).double(), given)
        images = generator.synthesise(styles, noise)
        y = draw.normal("path length", (2, *size)).double() / math.sqrt(math.prod(size))
        (jacobian,) = torch.autograd.grad((images * y).sum(), styles, create_graph=True)
        return jacobian.square().sum(2).mean(1).sqrt()

    ours = path_lengths(generator, generator.styles(drawn(4, 16).double(), given), noise, draw)
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
    lengths = path_lengths(network, drawn(4000, 2, 3), None, StepDraws(0, 0, torch.arange(4000)))  # type: ignore[arg-type]
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
    from synthoma.objectives.style import mixed_styles

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
