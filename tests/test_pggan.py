"""Progressively growing networks: shapes at each level, fades, fused scaling, equalised layers, conditions, dtypes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthoma.errors import RecipeError
from synthoma.networks.layers import Convolution, Dense, lay_out
from synthoma.networks.options import halve
from synthoma.networks.pggan import (
    DownscaleConvolution,
    PGGANDiscriminator,
    PGGANGenerator,
    UpscaleConvolution,
    double,
    initialise_pggan,
    pixel_norm,
    show_at,
)

SIZES = [(16, 24), (8, 8, 12)]  # base grids 4x6 and 2x2x3
WIDTHS = [12, 10, 8]


def make_generator(size: tuple[int, ...], conditions: int = 0, channels: int = 2, **options: Any) -> PGGANGenerator:
    network = PGGANGenerator(size, channels, conditions, latent=16, widths=WIDTHS, **options)
    initialise_pggan(network, torch.Generator().manual_seed(1))
    return network


def make_discriminator(
    size: tuple[int, ...], conditions: int = 0, channels: int = 2, **options: Any
) -> PGGANDiscriminator:
    network = PGGANDiscriminator(size, channels, conditions, widths=WIDTHS[::-1], **options)
    initialise_pggan(network, torch.Generator().manual_seed(2))
    return network


def in_float64(network: nn.Module) -> nn.Module:
    network.compute_dtype = torch.float64  # type: ignore[assignment]
    return network


def codes(n: int, conditions: int) -> Tensor | None:
    return torch.eye(conditions)[torch.arange(n) % conditions] if conditions else None


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("conditions", [0, 3])
@pytest.mark.parametrize("size", SIZES)
def test_each_level_has_its_own_size_and_the_last_is_the_default(size: tuple[int, ...], conditions: int) -> None:
    generator, discriminator = make_generator(size, conditions), make_discriminator(size, conditions)
    z, given = drawn(4, 16), codes(4, conditions)
    for level in range(3):
        image = generator(z, given, level=level, fade=0.4)
        assert image.shape == (4, 2, *(n // 2 ** (2 - level) for n in size))
        logits = discriminator(image, given, level=level, fade=0.4)
        assert logits.shape == (4,)
        assert image.dtype == logits.dtype == torch.float32
    assert torch.equal(generator(z, given), generator(z, given, level=2, fade=1.0))
    assert torch.equal(discriminator(image, given), discriminator(image, given, level=2, fade=1.0))
    assert not torch.equal(generator(z, given), image)


@pytest.mark.parametrize("size", SIZES)
def test_an_unfaded_level_is_the_level_below_doubled(size: tuple[int, ...]) -> None:
    generator, discriminator = make_generator(size), make_discriminator(size)
    z = drawn(4, 16)
    for level in (1, 2):
        below = generator(z, level=level - 1)
        assert torch.equal(generator(z, level=level, fade=0.0), double(below))
        image = drawn(4, 2, *(n // 2 ** (2 - level) for n in size))
        torch.testing.assert_close(
            discriminator(image, level=level, fade=0.0), discriminator(halve(image), level=level - 1)
        )


@pytest.mark.parametrize("size", SIZES)
def test_a_fade_mixes_in_proportion(size: tuple[int, ...]) -> None:
    generator = make_generator(size)
    z = drawn(3, 16)
    old, new = generator(z, level=2, fade=0.0), generator(z, level=2)
    torch.testing.assert_close(generator(z, level=2, fade=0.3), 0.7 * old + 0.3 * new)


def test_the_base_grid_has_nothing_to_fade_from() -> None:
    generator, discriminator = make_generator((16, 24)), make_discriminator((16, 24))
    z = drawn(2, 16)
    assert torch.equal(generator(z, level=0, fade=0.2), generator(z, level=0))
    image = drawn(2, 2, 4, 6)
    assert torch.equal(discriminator(image, level=0, fade=0.2), discriminator(image, level=0))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("layer", [UpscaleConvolution, DownscaleConvolution])
def test_fused_scaling_equals_the_two_steps(dim: int, layer: Callable[..., Convolution]) -> None:
    fused, plain = layer(dim, 5, 7), layer(dim, 5, 7, fused=False)
    nn.init.normal_(fused.weight, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(fused.bias, generator=torch.Generator().manual_seed(1))
    plain.load_state_dict(fused.state_dict())
    x = drawn(2, 5, *(4, 6, 8)[:dim]).requires_grad_()
    torch.testing.assert_close(fused(x), plain(x), atol=1e-5, rtol=1e-5)
    cotangent = drawn(*fused(x).shape, seed=5)
    ours, theirs = (
        torch.autograd.grad((net(x) * cotangent).sum(), [x, net.weight, net.bias]) for net in (fused, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_upscaling_is_nearest_doubling_and_a_plain_convolution() -> None:
    layer = UpscaleConvolution(2, 3, 4)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    x = drawn(2, 3, 5, 3)
    doubled = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(layer(x), F.conv2d(doubled, layer.weight * (2 / 27) ** 0.5, layer.bias, padding=1))


@pytest.mark.parametrize("conditions", [0, 3])
@pytest.mark.parametrize("size", [(64, 96), (16, 16, 24)])
def test_equalised_layers_keep_activations_at_unit_size(size: tuple[int, ...], conditions: int) -> None:
    widths = [64] * (5 if len(size) == 2 else 4)
    generator = PGGANGenerator(size, 32, conditions, latent=64, widths=widths)
    discriminator = PGGANDiscriminator(size, 32, conditions, widths=widths, minibatch_stddev=0)
    source = torch.Generator().manual_seed(0)
    gains: dict[str, float] = {}

    def watch(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            ratio = float(output.square().mean() / inputs[0].square().mean())
            # At an edge one of three taps an axis lies on zeros; a strided layer has twice as many places as outputs.
            strided = isinstance(layer, DownscaleConvolution)
            for n in output.shape[2:] if layer.weight.shape[-1] == 3 else ():
                ratio /= 1 - 2 / (3 * n * (1 + strided))
            gains[name] = ratio

        return hook

    for network, side in ((generator, "G"), (discriminator, "D")):
        initialise_pggan(network, source)
        for name, module in network.named_modules():
            if isinstance(module, (Convolution, Dense)):
                module.register_forward_hook(watch(f"{side}.{name.split('.')[-1]}.{name}"))
    with torch.no_grad():
        image = generator(drawn(6, 64), codes(6, conditions))
        logits = discriminator(drawn(6, 32, *size, seed=3), codes(6, conditions))
    assert image.square().mean().sqrt() == pytest.approx(1.0, abs=0.3)
    assert logits.abs().max() < 4
    # He's gain squared in front of a LeakyReLU, 1 at the ends; one-hot codes of three have mean square 1/3.
    ends = {"G.project": 1 / 8, "G.project_conditions": 3 / 8, "D.project": 3 / 64, "G.to_image": 1.0}
    assert len(gains) > 15
    # A logit is one number: nothing to take a mean over.
    for name, gain in ((name, gain) for name, gain in gains.items() if not name.startswith("D.score")):
        ratio = gain / ends.get(".".join(name.split(".")[:2]), 2.0)
        # The mean over blocks takes the roughness out of these maps, of noise.
        assert (0.15 if "downscale" in name else 0.6) < ratio < 1.6, (name, ratio)


def test_pixel_norm_gives_each_pixel_mean_square_one_and_survives_zeros() -> None:
    x = 100 * drawn(2, 8, 3, 3)
    torch.testing.assert_close(pixel_norm(x).square().mean(1), torch.ones(2, 3, 3))
    zero = torch.zeros(1, 8, 2, 2, requires_grad=True)
    pixel_norm(zero).sum().backward()
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize("conditioning", ["projection", "concat"])
@pytest.mark.parametrize("size", SIZES)
def test_gradients_reach_all_that_a_level_uses_and_nothing_else(size: tuple[int, ...], conditioning: str) -> None:
    generator, discriminator = make_generator(size, 3), make_discriminator(size, 3, conditioning=conditioning)
    for level in range(3):
        for fade in (0.5, 1.0):
            for network in (generator, discriminator):
                network.zero_grad(set_to_none=True)
            given = codes(4, 3)
            discriminator(
                generator(drawn(4, 16), given, level=level, fade=fade), given, level=level, fade=fade
            ).square().sum().backward()
            reading = {level, level - 1} if fade < 1 and level else {level}
            for network, readers in ((generator, "to_image"), (discriminator, "from_image")):
                for name, parameter in network.named_parameters():
                    parts = name.split(".")
                    used = True
                    if parts[0] == "blocks":
                        own = int(parts[1]) if network is generator else 2 - int(parts[1])
                        used = own in reading if parts[2] == readers else own <= level
                    reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
                    assert reached == used, (name, level, fade)


@pytest.mark.parametrize("conditioning", ["projection", "concat"])
def test_conditions_change_images_and_verdicts(conditioning: str) -> None:
    generator, discriminator = make_generator((16, 24), 3), make_discriminator((16, 24), 3, conditioning=conditioning)
    z = drawn(1, 16).expand(3, 16)
    images = generator(z, torch.eye(3))
    # A class has the say of a whole z: images of one z differ between classes about as much as those of two z.
    between = (images[0] - images[1]).square().mean()
    of_two_z = generator(drawn(2, 16, seed=8), torch.eye(3)[[0, 0]]).diff(dim=0).square().mean()
    assert 0.2 < between / of_two_z < 5
    one = drawn(1, 2, 16, 24)
    # Classes change verdicts of different images by different amounts: what is judged is whether the two fit.
    first, second = (discriminator(x.expand(3, -1, -1, -1), torch.eye(3)) for x in (one, 3 * one.flip(-1)))
    assert ((first - first[0]) - (second - second[0])).abs().max() > 1e-3


def test_label_blending_is_not_undone_by_a_norm() -> None:
    generator = make_generator((16, 24), 3)
    z = drawn(1, 16)
    plain, faint, full = (generator(z, factor * torch.eye(3)[:1]) for factor in (0.0, 0.01, 1.0))
    assert (faint - plain).abs().mean() < 0.05 * (full - plain).abs().mean()


def test_missing_conditions_and_wrong_levels_are_told() -> None:
    generator, discriminator = make_generator((16, 24), 3), make_discriminator((16, 24), 3)
    with pytest.raises(ValueError, match="conditions are missing"):
        generator(drawn(2, 16))
    with pytest.raises(ValueError, match="conditions are missing"):
        discriminator(drawn(2, 2, 16, 24))
    with pytest.raises(ValueError, match="levels 0 to 2"):
        generator(drawn(2, 16), codes(2, 3), level=3)
    with pytest.raises(ValueError, match="level 1 sees images of size"):
        discriminator(drawn(2, 2, 16, 24), codes(2, 3), level=1)


def test_a_size_that_does_not_halve_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="18x24 does not fit 3 levels: each axis must be a multiple of 4"):
        make_generator((18, 24))
    with pytest.raises(RecipeError, match="at least 8"):
        make_discriminator((4, 24))


def test_minibatch_deviation_couples_samples_and_can_be_left_out() -> None:
    image = drawn(8, 2, 16, 24)
    for group, couples in ((4, True), (1, False), (0, False)):
        network = make_discriminator((16, 24), minibatch_stddev=group)
        assert network.couples_samples == couples
        others = image.clone()
        others[1:] = 3.0
        changed = not torch.allclose(network(image)[0], network(others)[0], atol=1e-6)
        assert changed == couples
    network = make_discriminator((16, 24))
    assert network(image[:3]).isfinite().all()


@pytest.mark.parametrize("size", SIZES)
def test_penalties_by_vjp_equal_autograd_in_float64(size: tuple[int, ...]) -> None:
    network = in_float64(make_discriminator(size, 3, attention=[size[0] // 2])).double()
    images, given = drawn(4, 2, *size).double(), codes(4, 3).double()

    def judge(x: Tensor) -> Tensor:
        return network(x, given, level=2, fade=0.6)

    logits, back = torch.func.vjp(judge, images)
    (slope,) = back(torch.ones_like(logits))
    leaf = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(judge(leaf).sum(), leaf, create_graph=True)
    torch.testing.assert_close(slope, expected, atol=1e-12, rtol=1e-10)
    parameters = list(network.parameters())
    ours = torch.autograd.grad(slope.square().sum(), parameters, allow_unused=True)
    theirs = torch.autograd.grad(expected.square().sum(), parameters, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


def test_the_generator_runs_under_vjp() -> None:
    generator = make_generator((8, 8, 12), 3, attention=[6])
    z = drawn(2, 16)
    image, back = torch.func.vjp(lambda z: generator(z, codes(2, 3), fade=0.5), z)
    assert back(torch.ones_like(image))[0].abs().sum() > 0


def test_float64_passes_through_and_agrees_with_float32() -> None:
    generator, discriminator = make_generator((16, 24), 3), make_discriminator((16, 24), 3)
    z, given = drawn(4, 16), codes(4, 3)
    image = generator(z, given)
    logits = discriminator(image, given)
    exact = in_float64(generator)(z, given)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact.float(), image, atol=1e-5, rtol=1e-4)
    judged = in_float64(discriminator)(exact, given)
    assert judged.dtype == torch.float64
    torch.testing.assert_close(judged.float(), logits, atol=1e-5, rtol=1e-4)


def test_bf16_begins_above_16_pixels_and_ends_before_the_image_and_the_logits() -> None:
    generator = PGGANGenerator((32, 48), 1, latent=8, widths=[8, 8, 8, 8])
    discriminator = PGGANDiscriminator((32, 48), 1, widths=[8, 8, 8, 8])
    dtypes: dict[tuple[str, int], torch.dtype] = {}
    for side, network in (("G", generator), ("D", discriminator)):
        initialise_pggan(network, torch.Generator().manual_seed(0))
        network.compute_dtype = torch.bfloat16
        for block in network.blocks:
            block.convolve.register_forward_hook(
                lambda m, i, o, side=side: dtypes.__setitem__((side, o.shape[-1]), o.dtype)
            )
    image = generator(drawn(2, 8))
    logits = discriminator(image)
    assert image.dtype == logits.dtype == torch.float32
    assert dtypes == {
        (side, width): torch.bfloat16 if width > 8 else torch.float32
        for side in ("G", "D")
        for width in (6, 12, 24, 48)
    }
    wide = copy.deepcopy(generator)
    wide.compute_dtype = torch.float32
    assert (image - wide(drawn(2, 8))).abs().mean() < 0.02


@pytest.mark.parametrize("size", SIZES)
def test_memory_format_changes_nothing(size: tuple[int, ...]) -> None:
    generator, discriminator = in_float64(make_generator(size)), in_float64(make_discriminator(size))
    z = drawn(2, 16)
    image = generator(z)
    logits = discriminator(image.contiguous())
    for network in (generator, discriminator):
        lay_out(network, len(size), torch.device("cpu"))
    torch.testing.assert_close(generator(z), image)
    layout = torch.channels_last if len(size) == 2 else torch.channels_last_3d
    torch.testing.assert_close(discriminator(image.contiguous(memory_format=layout)), logits)


@pytest.mark.parametrize("size", SIZES)
def test_reals_are_shown_at_the_level_and_fade_in_their_detail(size: tuple[int, ...]) -> None:
    real = drawn(3, 2, *size)
    assert torch.equal(show_at(real, 3, 2, 1.0), real)
    coarse = show_at(real, 3, 0, 1.0)
    assert coarse.shape == (3, 2, *(n // 4 for n in size))
    first = real[(slice(None), slice(None), *[slice(4)] * len(size))]
    torch.testing.assert_close(coarse[(..., *[0] * len(size))], first.flatten(2).mean(2))
    middle = show_at(real, 3, 1, 1.0)
    torch.testing.assert_close(show_at(real, 3, 1, 0.0), double(coarse))
    torch.testing.assert_close(show_at(real, 3, 1, 0.25), 0.75 * double(coarse) + 0.25 * middle)
    assert torch.equal(show_at(real, 3, 0, 0.25), coarse)


def test_drawing_weights_is_a_function_of_the_source_alone() -> None:
    network = make_generator((16, 24), 3, attention=[12])
    other = PGGANGenerator((16, 24), 2, 3, latent=16, widths=WIDTHS, attention=[12])
    torch.manual_seed(77)
    initialise_pggan(other, torch.Generator().manual_seed(1))
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, network.get_parameter(name)), name
    # Layers without a run-time scale (attention) are drawn small instead.
    assert network.blocks[1].attention.query.weight.std() < 0.6
    assert network.blocks[1].convolve.weight.std().item() == pytest.approx(1, abs=0.1)
