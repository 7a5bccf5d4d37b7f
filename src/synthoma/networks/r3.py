"""The `r3` pair after R3GAN (Huang et al. 2024): residual networks without any norm, for images and volumes.

Nothing in them couples samples, so real and fake may share a pass and gradient penalties are exact. Their steadiness
comes from the objective (relativistic pairing loss, R1 and R2), and from an initialisation that makes each block the
identity (Fix-up: Zhang et al. 2019). The generator goes from a base grid to the image in `len(widths)` stages, each
twice as fine as the one before; the discriminator is its mirror image.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthoma.errors import RecipeError
from synthoma.networks.activation import leaky_relu
from synthoma.networks.layers import CHANNELS_LAST, ConditionEmbedding, Convolution, Dense
from synthoma.networks.options import MinibatchDeviation, SelfAttention
from synthoma.networks.recomputation import recomputed
from synthoma.networks.resampling import downsample, upsample
from synthoma.networks.space_to_depth import depth_to_space, space_to_depth

SLOPE = 0.2
# Stages below this many pixels (longest axis) compute in fp32: they are cheap, and decide what is seen everywhere.
EXACT_BELOW = 16


class R3Generator(nn.Module):
    """(z [n, latent], conditions [n, k] or None) -> image float32 [n, channels, *size], linear (clamped on export).

    widths: coarse to fine; the base grid is size / (stem * 2^(len(widths) - 1)). blocks: residual blocks a stage.
    group_size: channels of a group in the 3x3 convolutions, 0: dense. expansion: a block's inner width over its outer.
    stem: with 2 all stages work at half the resolution, and the last layer makes 2^dim pixels at each place.
    attention: resolutions (longest axis) after whose blocks self-attention follows. checkpoint_activations: blocks are
    computed again in the gradients instead of being kept. Raises RecipeError for sizes and widths that do not fit.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        latent: int,
        widths: Sequence[int],
        *,
        conditions: int = 0,
        blocks: int = 2,
        group_size: int = 16,
        expansion: int = 2,
        stem: int = 1,
        attention: Sequence[int] = (),
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        dim = len(size)
        self.latent, self.compute_dtype, self.dim, self.stem = latent, torch.float32, dim, stem
        self.grid = base_grid(size, len(widths), stem)
        self.embed = ConditionEmbedding(conditions, latent) if conditions else None
        self.basis = nn.Parameter(torch.empty(widths[0], *self.grid))
        self.project = Dense(latent, widths[0], bias=False)
        self.blocks = nn.ModuleList()
        for number, (before, width) in enumerate(zip([widths[0], *widths[:-1]], widths, strict=True)):
            layers: list[nn.Module] = [_Up(dim, before, width)] if number else []
            layers += [
                ResidualBlock(dim, width, expansion, group_size, recompute=checkpoint_activations)
                for _ in range(blocks)
            ]
            if max(self.grid) * 2**number in attention:
                layers.append(SelfAttention(dim, width))
            self.blocks.append(nn.Sequential(*layers))
        self.paint = Convolution(dim, widths[-1], channels * stem**dim, 1, bias=False)

    def forward(self, z: Tensor, conditions: Tensor | None = None) -> Tensor:
        exact = torch.promote_types(self.compute_dtype, torch.float32)
        z = z.to(exact)
        if self.embed is not None:
            z = z + self.embed(None if conditions is None else conditions.to(exact))
        x = self.project(z).reshape(len(z), -1, *[1] * self.dim) * self.basis.to(exact)
        x = x.contiguous(memory_format=CHANNELS_LAST[self.dim])
        for number, stage in enumerate(self.blocks):
            x = stage(x.to(_stage_dtype(self.compute_dtype, max(self.grid) * 2**number)))
        # In float32, as eight bits of mantissa would be steps of a grey level, or of many Hounsfield units.
        image = self.paint(x.to(exact))
        return depth_to_space(image, self.stem) if self.stem > 1 else image


class R3Discriminator(nn.Module):
    """(image [n, channels, *size], conditions [n, k] or None) -> logits float32 [n]; only differences of them count.

    widths: fine to coarse; further arguments as in `R3Generator`. conditioning: `projection` adds the inner product of
    the features and the embedded conditions (Miyato and Koyama 2018; the plain score stays beside it, so that the
    network judges too while conditions are blended in); `concat` sees each condition as a constant plane beside the
    image's channels. minibatch_stddev: size of its groups, 0: without; with it samples are coupled. spectral_norm: the
    network is to be normalised after initialisation, so that no weight of it may be zero.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        widths: Sequence[int],
        *,
        conditions: int = 0,
        conditioning: str = "projection",
        blocks: int = 2,
        group_size: int = 16,
        expansion: int = 2,
        stem: int = 1,
        attention: Sequence[int] = (),
        minibatch_stddev: int = 0,
        spectral_norm: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        dim = len(size)
        self.compute_dtype, self.dim, self.stem = torch.float32, dim, stem
        self.grid = base_grid(size, len(widths), stem)
        self.sizes = [max(self.grid) * 2**number for number in reversed(range(len(widths)))]
        self.look = Convolution(dim, channels * stem**dim, widths[0], 1, bias=False)
        concat = bool(conditions) and conditioning == "concat"
        self.planes = ConditionEmbedding(conditions, widths[0]) if concat else None
        self.blocks = nn.ModuleList()
        for resolution, width, after in zip(self.sizes, widths, [*widths[1:], 0], strict=True):
            layers: list[nn.Module] = [
                ResidualBlock(
                    dim, width, expansion, group_size, recompute=checkpoint_activations, weighted=spectral_norm
                )
                for _ in range(blocks)
            ]
            if resolution in attention:
                layers.append(SelfAttention(dim, width))
            if after:
                layers.append(_Down(dim, width, after))
            self.blocks.append(nn.Sequential(*layers))
        self.deviation = MinibatchDeviation(minibatch_stddev) if minibatch_stddev else None
        features = widths[-1] + bool(minibatch_stddev)
        self.gather = GridConvolution(features, self.grid)
        self.score = Dense(features, 1, bias=False)
        self.embed = ConditionEmbedding(conditions, features) if conditions and not concat else None

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        exact = torch.promote_types(self.compute_dtype, torch.float32)
        given = None if conditions is None else conditions.to(exact)
        x = x.to(_stage_dtype(self.compute_dtype, self.sizes[0]))
        x = self._look_at(x.contiguous(memory_format=CHANNELS_LAST[self.dim]), given)
        for resolution, stage in zip(self.sizes, self.blocks, strict=True):
            x = stage(x.to(_stage_dtype(self.compute_dtype, resolution)))
        x = x.to(exact)
        if self.deviation is not None:
            x = self.deviation(x)
        features = self.gather(x)
        logits = self.score(features).squeeze(1)
        if self.embed is not None:
            logits = logits + (features * self.embed(given)).sum(1)
        return logits

    def _look_at(self, x: Tensor, conditions: Tensor | None) -> Tensor:
        """The first 1x1 convolution, over the image and, where there are any, its constant planes."""
        x = self.look(space_to_depth(x, self.stem) if self.stem > 1 else x)
        # Of one channel no layout can be read off; what a convolution makes of it may then be in the slow one.
        x = x.contiguous(memory_format=CHANNELS_LAST[self.dim])
        if self.planes is not None:
            # A constant plane through a 1x1 convolution is a constant: added here, and no plane is ever made.
            planes = self.planes(conditions).to(x.dtype)
            x = x + planes.reshape(len(x), -1, *[1] * self.dim)
        return x


class ResidualBlock(nn.Module):
    """x + branch(x) on maps [n, width, *spatial]; the branch is 1x1 wider, 3x3 in groups, 1x1 back, and zero at first.

    The only biases are those of the two activations. recompute: nothing but x is kept for the gradients. weighted: the
    branch is multiplied with a learned number that begins at zero, in place of a last convolution that does, for
    networks whose weights are divided by a norm. Raises RecipeError where groups do not fit the width.
    """

    def __init__(
        self, dim: int, width: int, expansion: int, group_size: int, recompute: bool = False, weighted: bool = False
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.branch = Branch(dim, width, width * expansion, group_size)
        self.strength = nn.Parameter(torch.zeros(())) if weighted else None

    def forward(self, x: Tensor) -> Tensor:
        change = recomputed(self.branch, x) if self.recompute and torch.is_grad_enabled() else self.branch(x)
        return x + change if self.strength is None else x + self.strength.to(x.dtype) * change


class Branch(nn.Module):
    """The layers of a residual block: [n, width, *spatial] -> the same shape, `inner` channels wide within."""

    def __init__(self, dim: int, width: int, inner: int, group_size: int) -> None:
        super().__init__()
        groups = _groups(width, inner, group_size)
        self.widen = Convolution(dim, width, inner, 1)
        self.mix = Convolution(dim, inner, inner, 3, padding=1, groups=groups)
        self.narrow = Convolution(dim, inner, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.widen(x), SLOPE)
        x = leaky_relu(self.mix(x), SLOPE)
        return self.narrow(x)


class GridConvolution(Convolution):
    """Depthwise convolution with a kernel as large as the map: [n, c, *grid] -> [n, c]; weights [c, 1, *grid]."""

    def __init__(self, channels: int, grid: Sequence[int]) -> None:
        super().__init__(len(grid), channels, channels, 1, bias=False, groups=channels)
        self.weight = nn.Parameter(torch.empty(channels, 1, *grid))

    def forward(self, x: Tensor) -> Tensor:
        # Written with the channels last, as the map is: a gradient in the other layout would be copied in every layer.
        weight = self.effective_weight(x.dtype).squeeze(1).movedim(0, -1)
        return (x.movedim(1, -1) * weight).flatten(1, -2).sum(1)


class _Up(nn.Module):
    """To the next finer stage: a 1x1 convolution where the width changes, at the low resolution, then interpolation."""

    def __init__(self, dim: int, width: int, after: int) -> None:
        super().__init__()
        self.convolution = Convolution(dim, width, after, 1, bias=False) if after != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return upsample(self.convolution(x))


class _Down(nn.Module):
    """To the next coarser stage: filtered half, then a 1x1 convolution where the width changes."""

    def __init__(self, dim: int, width: int, after: int) -> None:
        super().__init__()
        self.convolution = Convolution(dim, width, after, 1, bias=False) if after != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(downsample(x))


def base_grid(size: Sequence[int], stages: int, stem: int) -> tuple[int, ...]:
    """The grid of the coarsest stage. Raises RecipeError where `size` is not that times stem * 2^(stages - 1)."""
    factor = stem * 2 ** (stages - 1)
    if any(n % factor or n < factor for n in size):
        raise RecipeError(
            f"r3: size {list(size)} does not fit {stages} widths{f' and a stem of {stem}' if stem > 1 else ''}: each "
            f"axis has to be a multiple of {factor}; change the size, or the number of widths."
        )
    return tuple(n // factor for n in size)


@torch.no_grad()
def initialise_r3(network: nn.Module, source: torch.Generator) -> None:
    """Draw all weights of a network: N(0, 1 / fan in), biases 0; in the branch of a block times Fix-up's gain for three
    layers, sqrt(2 / (1 + slope^2)) * blocks^(-1/4), and its last layer 0 (the generator's basis N(0, 1)).

    The condition's embedding is N(0, 1) where it is added to z or to the image's features; for the projection
    N(0, 1 / features), so that both parts of the score begin alike.
    """
    for module in network.modules():
        if isinstance(module, (Convolution, nn.Linear)):
            _draw(module, source, 1.0)
        elif isinstance(module, SelfAttention):
            nn.init.zeros_(module.strength)
    found = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    gain = math.sqrt(2 / (1 + SLOPE**2)) * max(len(found), 1) ** -0.25
    for block in found:
        _draw(block.branch.widen, source, gain)
        _draw(block.branch.mix, source, gain)
        nn.init.zeros_(block.branch.narrow.weight if block.strength is None else block.strength)
    if isinstance(network, R3Generator):
        network.basis.normal_(generator=source)
    if isinstance(network, R3Discriminator) and network.embed is not None:
        network.embed.weight.normal_(0.0, network.embed.out_features**-0.5, generator=source)


def _draw(layer: Convolution | nn.Linear, source: torch.Generator, gain: float) -> None:
    """Weights N(0, gain^2 / fan in), N(0, 1) for an embedding; bias 0."""
    fan_in = 1 if isinstance(layer, ConditionEmbedding) else layer.weight[0].numel()
    layer.weight.normal_(0.0, gain * fan_in**-0.5, generator=source)
    if layer.bias is not None:
        layer.bias.zero_()


def _groups(width: int, inner: int, group_size: int) -> int:
    """Number of groups of the 3x3 convolution."""
    if not group_size or inner <= group_size:
        return 1
    if inner % group_size:
        raise RecipeError(
            f"r3: a block of width {width} has {inner} inner channels, which groups of {group_size} do not divide; "
            f"use widths that are multiples of {group_size // math.gcd(group_size, inner // width)}, or another "
            "model.group_size (0: one group)."
        )
    return inner // group_size


def _stage_dtype(compute_dtype: torch.dtype, resolution: int) -> torch.dtype:
    """What a stage computes in: the network's dtype, but fp32 for bf16 on coarse grids."""
    return compute_dtype if resolution >= EXACT_BELOW else torch.promote_types(compute_dtype, torch.float32)
