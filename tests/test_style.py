"""The style family's networks: modulation against its textbook form, styles, noise, truncation, dtypes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from style_fixture import SIZES, WIDTHS, codes, drawn, make_discriminator, make_generator, with_noise
from synthoma.errors import RecipeError
from synthoma.networks.layers import Convolution, lay_out
from synthoma.networks.pggan import GAIN, double
from synthoma.networks.style import (
    MEAN_DECAY,
    ModulatedConvolution,
    StyleDiscriminator,
    StyleGenerator,
    initialise_style,
)


def grouped(layer: ModulatedConvolution, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    """The paper's form: a kernel of its own for each sample, and a convolution with one group a sample."""
    n, dim = len(x), x.ndim - 2
    style, weight = layer.affine(w), layer.convolve.weight * layer.convolve.scale
    kernels = weight[None] * style.reshape(n, 1, -1, *[1] * dim)
    length = kernels.square().sum(dim=tuple(range(2, dim + 3)), keepdim=True)
    kernels = (kernels / length.sqrt()).flatten(0, 1)
    if layer.convolve.weight.shape[0] != layer.convolve.weight.shape[1]:
        x = double(x)
    convolve = torch.nn.functional.conv2d if dim == 2 else torch.nn.functional.conv3d
    y = convolve(x.reshape(1, -1, *x.shape[2:]), kernels, padding=1, groups=n).unflatten(1, (n, -1))[0]
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
    # Both levels between change the image.
    assert ((mixed[2:] - generator(z)[2:]).abs().flatten(1).amax(1) > 0.01).all()
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
        # A layer that halves or doubles belongs to the finer of its two levels.
        finer = max(tuple(inputs[0].shape[2:]), tuple(output.shape[2:]))
        seen.setdefault(finer, set()).add(output.dtype)

    z, given = drawn(4, 16), codes(4, 2)
    plain = generator(z, given)
    verdict = discriminator(plain, given)
    for network in (generator, discriminator):
        network.compute_dtype = torch.bfloat16
        for module in network.modules():
            # Not the layers that read images out, nor shortcuts, which halve before they convolve.
            if isinstance(module, Convolution) and module.weight.shape[-1] > 1:
                module.register_forward_hook(watch)
    image, logits = generator(z, given), discriminator(plain, given)
    assert seen[(32, 48)] == seen[(16, 24)] == seen[(8, 12)] == {torch.bfloat16}
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
