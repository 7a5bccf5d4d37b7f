"""The r3 pair and what it is built of: shapes, counts, start, gradients of both orders, conditions."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthoma.errors import RecipeError
from synthoma.networks.activation import leaky_relu
from synthoma.networks.convolve import Geometry, convolve
from synthoma.networks.layers import add_spectral_norm, lay_out
from synthoma.networks.r3 import R3Discriminator, R3Generator, ResidualBlock, initialise_r3
from synthoma.networks.recomputation import recomputed
from synthoma.networks.resampling import downsample, downsample_plainly, upsample, upsample_plainly
from synthoma.networks.space_to_depth import depth_to_space, space_to_depth

SIZES = [(8, 12), (4, 8, 4)]


def pair(size: tuple[int, ...], channels: int = 2, dtype: torch.dtype = torch.float64, **options: Any) -> tuple:
    """Small networks with weights that are nowhere zero; options of the discriminator alone are left out for the other."""
    own = ("conditioning", "minibatch_stddev", "spectral_norm")
    generator = R3Generator(size, channels, 8, [16, 8], **{k: v for k, v in options.items() if k not in own})
    discriminator = R3Discriminator(size, channels, [8, 16], **options)
    source = torch.Generator().manual_seed(0)
    for network in (generator, discriminator):
        initialise_r3(network, source)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
        lay_out(network, len(size), torch.device("cpu"))
        network.to(dtype)
        network.compute_dtype = dtype
    return generator, discriminator


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def penalised_gradients(network: nn.Module, x: Tensor, conditions: Tensor | None, by: str) -> list[Tensor]:
    """Gradients in the weights of a loss with R1, as a discriminator's update takes them."""
    if by == "vjp":
        logits, pull = torch.func.vjp(lambda v: network(v, conditions), x)
        (slope,) = pull(torch.ones_like(logits))
    else:
        leaf = x.clone().requires_grad_()
        logits = network(leaf, conditions)
        (slope,) = torch.autograd.grad(logits.sum(), leaf, create_graph=True)
    loss = F.softplus(logits).mean() + slope.square().flatten(1).sum(1).mean()
    return list(torch.autograd.grad(loss, list(network.parameters())))


def close(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# Parts


@pytest.mark.parametrize("size", [(4, 6), (2, 4, 6)])
def test_space_to_depth_is_exactly_inverted(size: tuple[int, ...]) -> None:
    x = normal(2, 3, *size)
    folded = space_to_depth(x)
    assert folded.shape == (2, 3 * 2 ** len(size), *(n // 2 for n in size))
    assert torch.equal(depth_to_space(folded), x)
    # One place holds its block: all pixels of the first corner, no others.
    corner = x[(0, slice(None), *[slice(0, 2)] * len(size))].flatten()
    assert torch.equal(folded[(0, slice(None), *[0] * len(size))].sort().values, corner.sort().values)
    assert torch.equal(space_to_depth(depth_to_space(normal(1, 16, *size))), normal(1, 16, *size))


def test_depth_to_space_in_two_dimensions_is_the_known_one_up_to_the_order_of_channels() -> None:
    x = normal(2, 12, 3, 5)
    reordered = x.unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2)
    assert torch.equal(depth_to_space(x), F.pixel_shuffle(reordered, 2))


def test_folding_refuses_what_does_not_divide() -> None:
    with pytest.raises(ValueError, match="multiples of 2"):
        space_to_depth(normal(1, 1, 4, 5))
    with pytest.raises(ValueError, match="multiple of 4"):
        depth_to_space(normal(1, 6, 4, 4))


def test_downsampling_is_the_triangle_filter_and_upsampling_the_interpolation() -> None:
    x = normal(2, 3, 8, 12)
    inner = (..., slice(1, -1), slice(1, -1))  # torch's own weights its edges anew
    own = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
    torch.testing.assert_close(downsample(x)[inner], own[inner])
    torch.testing.assert_close(downsample(torch.ones(1, 1, 4, 6, 8)), torch.ones(1, 1, 2, 3, 4))
    torch.testing.assert_close(upsample(x), F.interpolate(x, scale_factor=2, mode="bilinear"))


@pytest.mark.parametrize("size", [(4, 6), (2, 4, 6)])
def test_plain_resampling_equals_torchs_kernels_in_both_orders(size: tuple[int, ...]) -> None:
    for kernel, plain in ((upsample, upsample_plainly), (downsample, downsample_plainly)):
        found = []
        for function in (kernel, plain):
            x = normal(2, 3, *size).requires_grad_()
            y = function(x)
            (first,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(first.pow(2).sum(), x)
            found.append([y, first, second])
        close(*found)


GEOMETRIES = [
    ((3, 5), 1, Geometry(2)),
    ((4, 6), 3, Geometry(2, padding=1, groups=2)),
    ((4, 6), 4, Geometry(2, stride=2, padding=1)),
    ((3, 2), 4, Geometry(2, stride=2, padding=1, transposed=True)),
    ((3, 4, 2), 1, Geometry(3)),
    ((3, 4, 2), 3, Geometry(3, padding=1, groups=2)),
]


@pytest.mark.parametrize(("size", "kernel", "geometry"), GEOMETRIES)
def test_own_convolution_equals_torchs_up_to_third_order(
    size: tuple[int, ...], kernel: int, geometry: Geometry
) -> None:
    def known(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        g, d = geometry, geometry.dim
        return torch.convolution(
            x, weight, bias, [g.stride] * d, [g.padding] * d, [1] * d, g.transposed, [0] * d, g.groups
        )

    found = []
    for function in (known, lambda x, weight, bias: convolve(x, weight, bias, geometry)):
        inner = 4 if geometry.transposed else 4 // geometry.groups
        arguments = [normal(2, 4, *size), normal(4, inner, *[kernel] * geometry.dim, seed=2), normal(4, seed=3)]
        arguments = [argument.requires_grad_() for argument in arguments]
        y = function(*arguments)
        first = torch.autograd.grad(y.pow(3).sum(), arguments, create_graph=True)
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in first), arguments, create_graph=True)
        third = torch.autograd.grad(sum(g.sum() for g in second), arguments)
        found.append([y, *first, *second, *third])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-7)


def test_leaky_relu_and_its_gradients() -> None:
    x = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    y = leaky_relu(x)
    assert torch.equal(y, F.leaky_relu(x, 0.2))
    weight = normal(3).requires_grad_()
    (slope,) = torch.autograd.grad((y * weight).sum(), x, create_graph=True)
    assert torch.equal(slope, weight * torch.tensor([0.2, 1.0, 1.0], dtype=torch.float64))
    (second,) = torch.autograd.grad(slope.sum(), weight)
    assert second.tolist() == [0.2, 1.0, 1.0]


# Networks


def test_parameter_counts_are_those_of_the_formulas() -> None:
    def blocks(widths: list[int], dim: int) -> int:
        # two blocks a stage: 1x1 wider and back, 3^dim over groups of 16, a bias for each of the two activations
        inside = sum(2 * (2 * c * 2 * c + 2 * c * 16 * 3**dim + 2 * 2 * c) for c in widths)
        return inside + sum(a * b for a, b in itertools.pairwise(widths) if a != b)

    for size, channels, widths in [
        ((64, 64), 3, [256, 256, 256, 128, 64]),
        ((64, 64, 64), 1, [256, 256, 128, 64, 32]),
    ]:
        generator = R3Generator(size, channels, 64, widths)
        discriminator = R3Discriminator(size, channels, widths[::-1])
        shared, grid = blocks(widths, len(size)) + channels * widths[-1], 4 ** len(size)
        assert sum(p.numel() for p in generator.parameters()) == shared + 256 * grid + 64 * 256
        assert sum(p.numel() for p in discriminator.parameters()) == shared + 256 * grid + 256
    flat = R3Generator((64, 64), 3, 64, [256, 256, 256, 128, 64])
    assert sum(p.numel() for p in flat.parameters()) == 2_358_976


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("conditioning", ["projection", "concat"])
def test_both_dimensions_conditional_and_not(size: tuple[int, ...], stem: int, conditioning: str) -> None:
    for conditions in (0, 3):
        generator, discriminator = pair(
            size, dtype=torch.float32, conditions=conditions, conditioning=conditioning, stem=stem
        )
        given = torch.randn(4, conditions) if conditions else None
        images = generator(torch.randn(4, 8), given)
        assert images.shape == (4, 2, *size)
        logits = discriminator(images, given)
        assert logits.shape == (4,)
        logits.sum().backward()
        for parameter in [*generator.parameters(), *discriminator.parameters()]:
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="conditions are missing"):
        discriminator(images)


def test_conditions_matter_and_fade_with_their_scale() -> None:
    for conditioning in ("projection", "concat"):
        generator, discriminator = pair((16, 16), conditions=3, conditioning=conditioning)
        one, other = torch.eye(3, dtype=torch.float64)[[0, 0]], torch.eye(3, dtype=torch.float64)[[1, 1]]
        z = normal(2, 8)
        images = generator(z, one)
        assert not torch.allclose(images, generator(z, other))
        assert not torch.allclose(discriminator(images, one), discriminator(images, other))
        # Blended out, the networks still tell z and images apart.
        assert torch.equal(generator(z, 0 * one), generator(z, 0 * other))
        scores = discriminator(images, 0 * one)
        assert abs(scores[0] - scores[1]) > 1e-6


def test_a_condition_as_a_plane_beside_the_image_is_the_same() -> None:
    _, discriminator = pair((16, 16), conditions=3, conditioning="concat")
    x, conditions = normal(2, 2, 16, 16), normal(2, 3, seed=2)
    planes = conditions[:, :, None, None].expand(2, 3, 16, 16)
    weight = torch.cat((discriminator.look.weight, discriminator.planes.weight[:, :, None, None]), 1)
    expected = F.conv2d(torch.cat((x, planes), 1), weight)
    torch.testing.assert_close(discriminator._look_at(x, conditions), expected)


@pytest.mark.parametrize("size", SIZES)
def test_each_block_begins_as_the_identity(size: tuple[int, ...]) -> None:
    for network in (R3Generator(size, 1, 8, [16, 8]), R3Discriminator(size, 1, [8, 16], spectral_norm=True)):
        initialise_r3(network, torch.Generator().manual_seed(0))
        found = [module for module in network.modules() if isinstance(module, ResidualBlock)]
        assert len(found) == 4
        for block in found:
            x = torch.randn(2, block.branch.widen.weight.shape[1], *size)
            assert torch.equal(block(x), x)
            assert block.branch.mix.weight.std() > 0.01


@pytest.mark.parametrize("size", [(32, 48), (16, 16, 8)])
def test_the_first_step_is_of_order_one(size: tuple[int, ...]) -> None:
    generator, discriminator = R3Generator(size, 1, 64, [64, 64, 32]), R3Discriminator(size, 1, [32, 64, 64])
    for network in (generator, discriminator):
        initialise_r3(network, torch.Generator().manual_seed(1))
    z = torch.randn(4, 64, generator=torch.Generator().manual_seed(2))
    images = generator(z)
    logits = discriminator(images)
    assert 0.1 < images.std() < 3
    assert 0.01 < logits.std() < 10
    logits.sum().backward()
    norms = [p.grad.norm() for p in [*generator.parameters(), *discriminator.parameters()]]
    assert all(norm.isfinite() for norm in norms)


def test_weights_come_from_the_source_alone() -> None:
    drawn = []
    for seed in (5, 5, 6):
        network = R3Discriminator((16, 16), 1, [8, 16], conditions=2, attention=[16])
        initialise_r3(network, torch.Generator().manual_seed(seed))
        drawn.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


OPTIONS: list[dict[str, Any]] = [
    {},
    {"conditions": 3},
    {"conditions": 3, "conditioning": "concat"},
    {"stem": 2},
    {"attention": [12, 8]},
    {"minibatch_stddev": 2},
    {"group_size": 0, "blocks": 1},
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", OPTIONS)
def test_penalised_gradients_by_vjp_autograd_and_recomputation_are_one(
    size: tuple[int, ...], options: dict[str, Any]
) -> None:
    x = normal(4, 2, *size)
    conditions = normal(4, 3, seed=2) if "conditions" in options else None
    _, discriminator = pair(size, **options)
    expected = penalised_gradients(discriminator, x, conditions, "autograd")
    close(penalised_gradients(discriminator, x, conditions, "vjp"), expected)
    _, sparing = pair(size, **options, checkpoint_activations=True)
    for by in ("vjp", "autograd"):
        close(penalised_gradients(sparing, x, conditions, by), expected)


def test_penalised_gradients_agree_with_finite_differences() -> None:
    _, discriminator = pair((8, 8, 8))
    x = normal(2, 2, 8, 8, 8)
    parameter, step = discriminator.blocks[0][0].branch.mix.weight, 1e-6
    names = [name for name, p in discriminator.named_parameters()]
    gradients = dict(zip(names, penalised_gradients(discriminator, x, None, "vjp"), strict=True))

    def loss() -> float:
        logits, pull = torch.func.vjp(discriminator, x)
        (slope,) = pull(torch.ones_like(logits))
        return (F.softplus(logits).mean() + slope.square().flatten(1).sum(1).mean()).item()

    for place in [(0, 0, 0, 0, 0), (5, 3, 1, 2, 1)]:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[place] += sign * step
                values.append(loss())
                parameter[place] -= sign * step
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(gradients["blocks.0.0.branch.mix.weight"][place].item(), rel=1e-4, abs=1e-8)


def test_generator_gradients_with_recomputation_are_the_plain_ones() -> None:
    found = []
    for sparing in (False, True):
        generator, discriminator = pair((16, 24), checkpoint_activations=sparing)
        discriminator.requires_grad_(False)
        logits = discriminator(generator(normal(3, 8)))
        found.append(list(torch.autograd.grad(F.softplus(-logits).mean(), list(generator.parameters()))))
    close(*found)


def test_recomputation_keeps_only_the_input() -> None:
    block = ResidualBlock(2, 8, 2, 0).double()
    x = normal(2, 8, 16, 16).requires_grad_()
    for plain, largest in ((True, 16), (False, 8)):
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: (kept.append(t.shape[1] if t.ndim > 3 and t.shape[-1] == 16 else 0), t)[1],
            lambda t: t,
        ):
            _ = block.branch(x) if plain else recomputed(block.branch, x)
        assert max(kept) == largest


def test_spectral_norm_finds_no_weight_of_zero() -> None:
    discriminator = R3Discriminator((16, 16), 1, [8, 16], spectral_norm=True)
    source = torch.Generator().manual_seed(0)
    initialise_r3(discriminator, source)
    add_spectral_norm(discriminator, source)
    logits = discriminator(torch.randn(3, 1, 16, 16))
    assert logits.isfinite().all()
    logits.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in discriminator.parameters())


def test_bf16_above_coarse_grids_stays_near_fp32() -> None:
    generator, discriminator = pair((16, 24), dtype=torch.float32)
    z = torch.randn(4, 8)
    exact = generator(z)
    seen: list[torch.dtype] = []
    for network in (generator, discriminator):
        network.compute_dtype = torch.bfloat16
        for stage in network.blocks:
            stage.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    rough = generator(z)
    logits = discriminator(rough)
    assert rough.dtype == logits.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.abs().max()
    # 12 and 24 pixels on the longest axis upwards, and down again
    low, high = torch.float32, torch.bfloat16
    assert seen == [low, high, high, low]
    # A float32 head: more shades than bf16 has.
    assert not torch.equal(rough, rough.bfloat16().float())


def test_without_minibatch_deviation_samples_do_not_touch() -> None:
    _, discriminator = pair((16, 16))
    x = normal(3, 2, 16, 16)
    torch.testing.assert_close(discriminator(x)[:1], discriminator(x[:1]), rtol=1e-12, atol=1e-12)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(RecipeError, match=r"multiple of 16.*change the size"):
        R3Generator((64, 72), 1, 8, [8, 8, 8], stem=4)
    with pytest.raises(RecipeError, match="use widths that are multiples of 8"):
        R3Discriminator((16, 16), 1, [12])


@pytest.mark.slow
def test_compiled_penalty_has_the_eager_gradients() -> None:
    """A compiled vjp may lose gradients without a word: what compiles has to be torch's own functions only."""
    _, discriminator = pair((8, 8), dtype=torch.float32)
    x = normal(4, 2, 8, 8).float()

    def loss(images: Tensor) -> Tensor:
        logits, pull = torch.func.vjp(discriminator, images)
        (slope,) = pull(torch.ones_like(logits))
        return F.softplus(logits).mean() + slope.square().flatten(1).sum(1).mean()

    parameters = list(discriminator.parameters())
    compiled = torch.autograd.grad(torch.compile(loss, backend="aot_eager", fullgraph=True)(x), parameters)
    close(list(compiled), list(torch.autograd.grad(loss(x), parameters)), 1e-4)
