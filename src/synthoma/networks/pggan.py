"""Progressively growing networks (Karras, Aila, Laine, Lehtinen 2018) in two or three dimensions.

All levels are there from the start: level 0 is the base grid, each further one doubles every axis, and the last makes
the image's full size. A pass goes through the levels up to `level`; while that one is faded in, what the level below
makes of the image is mixed in by 1 - `fade`. Weights are drawn from N(0, 1) and scaled at run time (equalised
learning rate), the generator normalises each pixel's feature vector, the discriminator has no norm.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthoma.errors import RecipeError
from synthoma.networks.activation import leaky_relu
from synthoma.networks.convolve import Geometry, convolve
from synthoma.networks.layers import CHANNELS_LAST, Convolution, Dense, MapDense
from synthoma.networks.options import MinibatchDeviation, SelfAttention, halve

GAIN = math.sqrt(2.0)  # He's gain, as the paper has it for every layer but the last
# Levels up to this many pixels an axis compute in float32 (or wider) whatever the compute dtype: they cost little, and
# eight bits of mantissa would show in what all finer levels build on.
LARGEST_EXACT_LEVEL = 8


class PGGANGenerator(nn.Module):
    """(z [n, latent], conditions [n, k] | None) -> image [n, channels, *size of the level], linear output.

    widths: channels from coarse to fine, one a level; size is the base grid times 2 to the number of widths less one.
    attention: resolutions (longest axis in pixels) of the levels that have self-attention. fused_upscale: nearest
    doubling and the convolution after it as one transposed convolution, the same function for less time.

    Raises `RecipeError` where an axis of `size` does not halve as often as the widths ask for.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        conditions: int = 0,
        *,
        latent: int,
        widths: Sequence[int],
        attention: Sequence[int] = (),
        fused_upscale: bool = True,
    ) -> None:
        super().__init__()
        dim = len(size)
        self.latent, self.compute_dtype, self.dim, self.levels = latent, torch.float32, dim, len(widths)
        self.sizes = level_sizes(size, len(widths))
        features = widths[0] * math.prod(self.sizes[0])
        # gain / 4 as in the paper: the grid's places share their learning rate.
        gain = GAIN / 4
        self.project = Dense(latent, features, scale=gain / math.sqrt(latent))
        # The codes are concatenated to z. Their columns of the first layer are kept apart, scaled so that a class has
        # the say of a whole z. No pixel norm for them: it would undo label blending (codes scaled by 0..1).
        self.project_conditions = Dense(conditions, features, bias=False, scale=gain) if conditions else None
        blocks: list[nn.Module] = []
        for inputs, outputs, places in zip([widths[0], *widths[:-1]], widths, self.sizes, strict=True):
            options = {"doubling": bool(blocks), "attend": max(places) in attention, "fused": fused_upscale}
            blocks.append(GeneratorBlock(dim, inputs, outputs, channels, **options))
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, z: Tensor, conditions: Tensor | None = None, *, level: int | None = None, fade: float = 1.0
    ) -> Tensor:
        """Image at the size of `level` (None: the last): float32, or float64 where the compute dtype is float64."""
        top = _checked_level(level, self.levels)
        exact = torch.promote_types(self.compute_dtype, torch.float32)
        x = self.project(pixel_norm(z.to(exact)))
        if self.project_conditions is not None:
            x = x + self.project_conditions(_given(conditions).to(exact))
        x = x.unflatten(1, (-1, *self.sizes[0])).contiguous(memory_format=CHANNELS_LAST[self.dim])
        x = pixel_norm(leaky_relu(x))
        image = None
        for number in range(top + 1):
            block = self.blocks[number]
            x = block(x.to(_level_dtype(self.compute_dtype, self.sizes[number])))
            if number == top - 1 and fade < 1.0:
                image = double(block.to_image(x).to(exact))  # type: ignore[operator]
        new = self.blocks[top].to_image(x).to(exact)  # type: ignore[operator]
        return new if image is None else torch.lerp(image, new, fade)


class PGGANDiscriminator(nn.Module):
    """(image [n, channels, *size of a level], conditions [n, k] | None) -> logits [n]; the mirror of the generator.

    widths: channels from fine to coarse, one a level. minibatch_stddev: samples in a group of the deviation channel, 0
    for none; with it the network couples samples. conditioning: "projection" adds the inner product of the last
    features and the embedded codes (Miyato and Koyama 2018); "concat" joins the codes to the coarsest map, ahead of
    the two dense layers (behind them, a linear layer could not relate them to the image). attention, fused_downscale:
    as in the generator.

    Raises `RecipeError` where an axis of `size` does not halve as often as the widths ask for.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        conditions: int = 0,
        *,
        widths: Sequence[int],
        minibatch_stddev: int = 4,
        conditioning: Literal["projection", "concat"] = "projection",
        attention: Sequence[int] = (),
        fused_downscale: bool = True,
    ) -> None:
        super().__init__()
        dim = len(size)
        self.compute_dtype, self.dim, self.levels = torch.float32, dim, len(widths)
        self.sizes = level_sizes(size, len(widths))
        self.couples_samples = minibatch_stddev > 1
        blocks: list[nn.Module] = [
            DiscriminatorBlock(dim, channels, inputs, outputs, attend=max(places) in attention, fused=fused_downscale)
            for (inputs, outputs), places in zip(itertools.pairwise(widths), self.sizes[:0:-1], strict=True)
        ]
        last = LastBlock(
            self.sizes[0],
            channels,
            widths[-1],
            conditions,
            conditioning=conditioning,
            group=minibatch_stddev,
            attend=max(self.sizes[0]) in attention,
        )
        blocks.append(last)
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, x: Tensor, conditions: Tensor | None = None, *, level: int | None = None, fade: float = 1.0
    ) -> Tensor:
        """Logits of images at the size of `level` (None: the last): float32, or float64 for that compute dtype."""
        top = _checked_level(level, self.levels)
        if tuple(x.shape[2:]) != self.sizes[top]:
            raise ValueError(f"level {top} sees images of size {self.sizes[top]}, not {tuple(x.shape[2:])}")
        first = self.levels - 1 - top
        features = self._read(x, first)
        for number in range(first, self.levels - 1):
            features = self.blocks[number](features).to(self._dtype(number + 1))
            if number == first and fade < 1.0:
                features = torch.lerp(self._read(halve(x), number + 1), features, fade)
        return self.blocks[-1](features, conditions)

    def _read(self, x: Tensor, number: int) -> Tensor:
        """Features of an image for block `number`."""
        x = x.to(self._dtype(number), memory_format=CHANNELS_LAST[self.dim])
        return self.blocks[number].read(x)  # type: ignore[operator]

    def _dtype(self, number: int) -> torch.dtype:
        return _level_dtype(self.compute_dtype, self.sizes[self.levels - 1 - number])


class GeneratorBlock(nn.Module):
    """One level: (doubling and) convolution, convolution, each with LeakyReLU and pixel norm. `to_image` reads it out."""

    def __init__(
        self, dim: int, inputs: int, outputs: int, channels: int, *, doubling: bool, attend: bool, fused: bool
    ) -> None:
        super().__init__()
        self.upscale = UpscaleConvolution(dim, inputs, outputs, fused=fused) if doubling else None
        self.convolve = _convolution(dim, outputs, outputs)
        self.attention = SelfAttention(dim, outputs) if attend else None
        self.to_image = Convolution(dim, outputs, channels, 1, scale=1 / math.sqrt(outputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.upscale is not None:
            x = pixel_norm(leaky_relu(self.upscale(x)))
        x = pixel_norm(leaky_relu(self.convolve(x)))
        return x if self.attention is None else self.attention(x)


class DiscriminatorBlock(nn.Module):
    """One level but the coarsest: convolution, convolution and halving. `read` makes its input of an image."""

    def __init__(self, dim: int, channels: int, inputs: int, outputs: int, *, attend: bool, fused: bool) -> None:
        super().__init__()
        self.from_image = Convolution(dim, channels, inputs, 1, scale=GAIN / math.sqrt(channels))
        self.attention = SelfAttention(dim, inputs) if attend else None
        self.convolve = _convolution(dim, inputs, inputs)
        self.downscale = DownscaleConvolution(dim, inputs, outputs, fused=fused)

    def read(self, x: Tensor) -> Tensor:
        """Image [n, channels, *s] -> features [n, inputs, *s]."""
        return leaky_relu(self.from_image(x))

    def forward(self, x: Tensor) -> Tensor:
        if self.attention is not None:
            x = self.attention(x)
        x = leaky_relu(self.convolve(x))
        return leaky_relu(self.downscale(x))


class LastBlock(nn.Module):
    """The coarsest level and the head: features [n, c, *grid] (and conditions [n, k]) -> logits [n]."""

    def __init__(
        self,
        grid: Sequence[int],
        channels: int,
        width: int,
        conditions: int,
        *,
        conditioning: Literal["projection", "concat"],
        group: int,
        attend: bool,
    ) -> None:
        super().__init__()
        dim, features = len(grid), width * math.prod(grid)
        self.from_image = Convolution(dim, channels, width, 1, scale=GAIN / math.sqrt(channels))
        self.attention = SelfAttention(dim, width) if attend else None
        self.deviation = MinibatchDeviation(group) if group > 1 else None
        self.convolve = _convolution(dim, width + (group > 1), width)
        self.hidden = MapDense(features, width, scale=GAIN / math.sqrt(features))
        self.score = Dense(width, 1, scale=1 / math.sqrt(width))
        project, concatenate = conditions and conditioning == "projection", conditions and conditioning == "concat"
        self.project = Dense(conditions, width, bias=False, scale=1 / math.sqrt(width)) if project else None
        # The columns of the hidden layer that belong to the codes; scaled so that a class has the say of the map.
        self.join = Dense(conditions, width, bias=False, scale=GAIN) if concatenate else None

    def read(self, x: Tensor) -> Tensor:
        """Image [n, channels, *grid] -> features [n, c, *grid]."""
        return leaky_relu(self.from_image(x))

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        if self.attention is not None:
            x = self.attention(x)
        if self.deviation is not None:
            x = self.deviation(x)
        hidden = self.hidden(leaky_relu(self.convolve(x)))
        if self.join is not None:
            hidden = hidden + self.join(_given(conditions).to(x.dtype))
        hidden = leaky_relu(hidden)
        logits = self.score(hidden).squeeze(1)
        if self.project is not None:
            logits = logits + (hidden * self.project(_given(conditions).to(x.dtype))).sum(1)
        return logits


class UpscaleConvolution(Convolution):
    """Nearest doubling of each axis, then a convolution of kernel 3: [n, in, *s] -> [n, out, *2s].

    Fused: both copies of a pixel often lie under the kernel together, so the weights that meet the same pixel are added
    up first, and one transposed convolution of kernel 4 and stride 2 does the work of both steps.
    """

    def __init__(self, dim: int, inputs: int, outputs: int, *, fused: bool = True) -> None:
        super().__init__(dim, inputs, outputs, 3, padding=1, scale=GAIN / math.sqrt(inputs * 3**dim))
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return super().forward(double(x))
        # Summed in the weights' own dtype: in bf16 each sum would be rounded.
        kernel = self.effective_weight(self.weight.dtype).transpose(0, 1).flip(list(range(2, x.ndim)))
        kernel = _sum_of_neighbours(kernel).to(x.dtype)
        return convolve(x, kernel, _cast(self.bias, x), Geometry(self.dim, stride=2, padding=1, transposed=True))


class DownscaleConvolution(Convolution):
    """A convolution of kernel 3, then the mean over blocks of two pixels an axis: [n, in, *2s] -> [n, out, *s].

    Fused: the mean of shifted kernels as one convolution of kernel 4 and stride 2.
    """

    def __init__(self, dim: int, inputs: int, outputs: int, *, fused: bool = True) -> None:
        super().__init__(dim, inputs, outputs, 3, padding=1, scale=GAIN / math.sqrt(inputs * 3**dim))
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return halve(super().forward(x))
        kernel = _sum_of_neighbours(self.effective_weight(self.weight.dtype)) / 2**self.dim
        return convolve(x, kernel.to(x.dtype), _cast(self.bias, x), Geometry(self.dim, stride=2, padding=1))


def _sum_of_neighbours(weight: Tensor) -> Tensor:
    """[a, b, *k] -> [a, b, *(k + 1)]: the sum of the kernel's 2^dim copies shifted by 0 or 1 along each axis."""
    for axis in range(2, weight.ndim):
        padded = F.pad(weight, (0, 0) * (weight.ndim - 1 - axis) + (1, 1))
        places = weight.shape[axis] + 1
        weight = padded.narrow(axis, 0, places) + padded.narrow(axis, 1, places)
    return weight


def pixel_norm(x: Tensor) -> Tensor:
    """Each pixel's feature vector at mean square 1 (Karras et al. 2018, section 4.2): [n, c, ...] -> the same."""
    exact = torch.promote_types(x.dtype, torch.float32)
    # By the norm and not by a mean of squares, whose backward expands over the channels: half the time on a CPU.
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=exact)
    return x * torch.rsqrt(length.square() / x.shape[1] + 1e-8).to(x.dtype)


def double(x: Tensor) -> Tensor:
    """Each pixel twice along each axis: [n, c, *s] -> [n, c, *2s]."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def show_at(real: Tensor, levels: int, level: int, fade: float) -> Tensor:
    """Real images [n, c, *size] as the discriminator sees them at a level: [n, c, *size / 2^(levels - 1 - level)].

    While the level is faded in, the detail that it adds is faded in too, as in the generator's images.
    """
    for _ in range(levels - 1 - _checked_level(level, levels)):
        real = halve(real)
    return real if fade >= 1.0 or level == 0 else torch.lerp(double(halve(real)), real, fade)


def level_sizes(size: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Sizes of all levels from the base grid to `size`. Raises `RecipeError` where an axis does not halve exactly."""
    step = 2 ** (levels - 1)
    if any(n % step or n < 2 * step for n in size):
        raise RecipeError(
            f"size {'x'.join(map(str, size))} does not fit {levels} levels: each axis must be a multiple of {step} and at "
            f"least {2 * step}. Change preparation.size, or the number of widths (one a level)."
        )
    return [tuple(n // step * 2**level for n in size) for level in range(levels)]


def initialise_pggan(network: nn.Module, source: torch.Generator) -> None:
    """Draw all weights: N(0, 1) where the layer scales them at run time, else N(0, 1 / fan in); biases 0."""
    for module in network.modules():
        if isinstance(module, (Convolution, Dense)):
            equalised = module.scale != 1.0
            nn.init.normal_(
                module.weight, 0.0, 1.0 if equalised else module.weight[0].numel() ** -0.5, generator=source
            )
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _convolution(dim: int, inputs: int, outputs: int) -> Convolution:
    """Kernel 3, the same size, equalised learning rate."""
    return Convolution(dim, inputs, outputs, 3, padding=1, scale=GAIN / math.sqrt(inputs * 3**dim))


def _level_dtype(compute_dtype: torch.dtype, size: Sequence[int]) -> torch.dtype:
    return torch.promote_types(compute_dtype, torch.float32) if max(size) <= LARGEST_EXACT_LEVEL else compute_dtype


def _cast(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)


def _checked_level(level: int | None, levels: int) -> int:
    if level is None:
        return levels - 1
    if not 0 <= level < levels:
        raise ValueError(f"level {level}: this network has the levels 0 to {levels - 1}")
    return level


def _given(conditions: Tensor | None) -> Tensor:
    if conditions is None:
        raise ValueError("this network is conditional: conditions are missing")
    return conditions
