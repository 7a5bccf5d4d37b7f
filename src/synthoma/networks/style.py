"""Style-based networks after StyleGAN2 (Karras et al. 2020) in two or three dimensions, in plain torch operations.

A mapping network turns z into a style w. The image grows from a learned constant on the base grid; at each level w
scales the input channels of the convolutions (modulation), whose outputs are brought back to unit variance
(demodulation). Every level adds its own image to the doubled image of the level below. The discriminator is a residual
net. Weights are drawn from N(0, 1) and scaled at run time (equalised learning rate).
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthoma.errors import RecipeError
from synthoma.networks.activation import leaky_relu
from synthoma.networks.layers import CHANNELS_LAST, Convolution, Dense, MapDense
from synthoma.networks.options import MinibatchDeviation, halve
from synthoma.networks.pggan import (
    GAIN,
    LARGEST_EXACT_LEVEL,
    DownscaleConvolution,
    UpscaleConvolution,
    level_sizes,
    pixel_norm,
)
from synthoma.networks.resampling import upsample

# The mapping network learns a hundred times slower than the rest (Karras et al. 2019, appendix C).
MAPPING_RATE = 0.01
# Share of the old value that the mean style keeps in an update (Karras et al. 2019, appendix B).
MEAN_DECAY = 0.995


class StyleGenerator(nn.Module):
    """(z [n, latent], conditions [n, k] | None) -> image [n, channels, *size], linear output.

    widths: channels from coarse to fine, one a level; size is the base grid times 2 to the number of widths less one.
    mapping_layers: from z to w. noise: whether each convolution adds one plane of noise with a learned strength.
    Attributes: `levels`; `noise_size`, how many numbers of noise an image takes (0 without noise); the buffer
    `mean_style` [latent], which only `update_mean` moves, so that a forward pass is a pure function.

    Raises `RecipeError` where an axis of `size` does not halve as often as the widths ask for.
    """

    constant_noise: Tensor
    mean_style: Tensor

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        conditions: int = 0,
        *,
        latent: int,
        widths: Sequence[int],
        mapping_layers: int = 4,
        noise: bool = True,
    ) -> None:
        super().__init__()
        dim = len(size)
        self.latent, self.compute_dtype, self.dim, self.levels = latent, torch.float32, dim, len(widths)
        self.sizes = _levels(size, widths)
        # Drawn from N(0, 1) and not normed: a class has the say of a whole z, and label blending (codes scaled by
        # 0 .. 1) is not undone.
        self.embed = Dense(conditions, latent, bias=False) if conditions else None
        inputs = [2 * latent if conditions else latent, *[latent] * (mapping_layers - 1)]
        layers = [(MappingLayer(n, latent), nn.LeakyReLU(0.2, inplace=True)) for n in inputs]
        self.mapping = nn.Sequential(*itertools.chain.from_iterable(layers))
        self.constant = nn.Parameter(torch.empty(1, widths[0], *self.sizes[0]))
        self.blocks = nn.ModuleList(
            SynthesisBlock(dim, latent, inputs, outputs, channels, doubling=level > 0, noise=noise)
            for level, (inputs, outputs) in enumerate(zip([widths[0], *widths[:-1]], widths, strict=True))
        )
        # One plane for the convolution of the base grid, two for each further level.
        self.noise_planes = [math.prod(s) for level, s in enumerate(self.sizes) for _ in range(2 if level else 1)]
        self.noise_size = sum(self.noise_planes) if noise else 0
        self.register_buffer("constant_noise", torch.zeros(self.noise_size))
        self.register_buffer("mean_style", torch.zeros(latent))

    def forward(
        self,
        z: Tensor,
        conditions: Tensor | None = None,
        *,
        second: Tensor | None = None,
        crossover: Tensor | None = None,
        noise: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Images: float32, or float64 where the compute dtype is float64.

        second: another z [n, latent], whose style is used from level index `crossover` (int64 [n]) on: style mixing.
        noise: [n, noise_size]; None for the network's own constant noise, with which images are a function of z.
        truncation: 1 for no truncation, 0 for the mean image, in between less variety and fewer odd images.
        """
        return self.synthesise(self.styles(z, conditions, second, crossover, truncation), noise)

    def style(self, z: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Style w [n, latent] of z [n, latent] under conditions [n, k]; float32, or float64 for that compute dtype."""
        exact = torch.promote_types(self.compute_dtype, torch.float32)
        x = pixel_norm(z.to(exact))
        if self.embed is not None:
            x = torch.cat((x, self.embed(_given(conditions).to(exact))), dim=1)
        style: Tensor = self.mapping(x)
        return style

    def styles(
        self,
        z: Tensor,
        conditions: Tensor | None = None,
        second: Tensor | None = None,
        crossover: Tensor | None = None,
        truncation: float = 1.0,
    ) -> Tensor:
        """Styles of all levels [n, levels, latent]; arguments as in `forward`."""
        if (second is None) != (crossover is None):
            raise ValueError("style mixing needs both `second` and `crossover`")
        styles = self.style(z, conditions)[:, None].expand(-1, self.levels, -1)
        if second is not None and crossover is not None:
            coarse = torch.arange(self.levels, device=z.device) < crossover[:, None]
            styles = torch.where(coarse[..., None], styles, self.style(second, conditions)[:, None])
        if truncation != 1.0:
            styles = torch.lerp(self.mean_style.to(styles.dtype), styles, truncation)
        return styles

    def synthesise(self, styles: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images of styles [n, levels, latent] and noise [n, noise_size]; without noise, of the constant one."""
        planes = self._planes(noise)
        exact = styles.dtype
        x = self.constant.to(exact).contiguous(memory_format=CHANNELS_LAST[self.dim])
        image: Tensor | None = None
        for level, block in enumerate(self.blocks):
            own = [] if planes is None else [planes[0]] if level == 0 else planes[2 * level - 1 : 2 * level + 1]
            x = x.to(level_dtype(self.compute_dtype, self.sizes[level]))
            x = block(x, styles[:, level], own)
            new = block.to_image(x, styles[:, level]).to(exact)  # type: ignore[operator]
            image = new if image is None else upsample(image) + new
        assert image is not None
        return image

    @torch.no_grad()
    def update_mean(self, mean: Tensor) -> None:
        """Move the mean style towards that of one update [latent]; once an update, not once a pass."""
        self.mean_style.lerp_(mean.to(self.mean_style.dtype), 1 - MEAN_DECAY)

    def _planes(self, noise: Tensor | None) -> list[Tensor] | None:
        """[n, noise_size] as one [n, 1, *size] for each convolution."""
        if noise is None:
            if not self.noise_size:
                return None
            noise = self.constant_noise[None]
        if noise.shape[1:] != (self.noise_size,) or not self.noise_size:
            raise ValueError(
                f"noise of shape {list(noise.shape)}: this network takes {self.noise_size} numbers an image"
            )
        flat = noise.split(self.noise_planes, dim=1)
        sizes = [self.sizes[0], *(size for size in self.sizes[1:] for _ in range(2))]
        return [plane.unflatten(1, (1, *size)) for plane, size in zip(flat, sizes, strict=True)]


class StyleDiscriminator(nn.Module):
    """(image [n, channels, *size], conditions [n, k] | None) -> logits [n]: a residual net, judging by projection.

    widths: channels from fine to coarse, one a level. minibatch_stddev: samples in a group of the deviation channel, 0
    for none; with it the network couples samples. Conditions enter as the inner product of their embedding and the
    last features (Miyato and Koyama 2018).

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
    ) -> None:
        super().__init__()
        dim = len(size)
        self.compute_dtype, self.dim, self.levels = torch.float32, dim, len(widths)
        self.sizes = _levels(size, widths)[::-1]
        self.couples_samples = minibatch_stddev > 1
        blocks: list[nn.Module] = [
            ResidualBlock(dim, inputs, outputs, channels if number == 0 else None)
            for number, (inputs, outputs) in enumerate(itertools.pairwise(widths))
        ]
        blocks.append(Head(self.sizes[-1], widths[-1], conditions, group=minibatch_stddev))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Logits: float32, or float64 where the compute dtype is float64."""
        x = x.contiguous(memory_format=CHANNELS_LAST[self.dim])
        for block, size in zip(self.blocks[:-1], self.sizes[:-1], strict=True):
            x = block(x.to(level_dtype(self.compute_dtype, size)))
        exact = torch.promote_types(self.compute_dtype, torch.float32)
        logits: Tensor = self.blocks[-1](x.to(exact), conditions)
        return logits


class MappingLayer(Dense):
    """One layer of the mapping network, before its LeakyReLU: weights and bias learn `MAPPING_RATE` times as fast."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, scale=MAPPING_RATE * GAIN / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.effective_weight(x.dtype), (self.bias * MAPPING_RATE).to(x.dtype))


class ModulatedConvolution(nn.Module):
    """Convolution of kernel 3 whose input channels are scaled by a style, then demodulated (Karras et al. 2020, 2.2).

    x [n, in, *s], w [n, latent], noise [n or 1, 1, *out] or None -> [n, out, *out], with LeakyReLU and its gain. doubling:
    nearest doubling first, fused with the convolution, which takes half the time or less.

    The paper scales the weights of each sample, for a convolution with one group a sample. To scale the activations
    before and after one shared convolution is the same function; it needs no grouped kernels, which CPUs lack.
    """

    def __init__(self, dim: int, latent: int, inputs: int, outputs: int, *, doubling: bool, noise: bool) -> None:
        super().__init__()
        self.affine = Dense(latent, inputs, scale=1 / math.sqrt(latent))
        if doubling:
            self.convolve: Convolution = UpscaleConvolution(dim, inputs, outputs)
        else:
            self.convolve = Convolution(dim, inputs, outputs, 3, padding=1, scale=1 / math.sqrt(inputs * 3**dim))
        # The bias belongs behind the demodulation.
        self.convolve.register_parameter("bias", None)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.strength = nn.Parameter(torch.zeros(())) if noise else None

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        style = self.affine(w)
        y = self.convolve(x * _as_planes(style, x))
        # The gain of the activation goes into its three summands, which spares a pass over the map.
        scale = GAIN * demodulation(self.convolve.effective_weight(style.dtype), style)
        y = torch.addcmul(_as_planes(GAIN * self.bias[None], y), y, _as_planes(scale, y))
        if noise is not None and self.strength is not None:
            y = y + noise.to(y.dtype) * (GAIN * self.strength).to(y.dtype)
        return leaky_relu(y)


class ImageLayer(nn.Module):
    """Reads an image out of a level: modulated convolution of kernel 1, without demodulation or activation."""

    def __init__(self, dim: int, latent: int, inputs: int, channels: int) -> None:
        super().__init__()
        self.affine = Dense(latent, inputs, scale=1 / math.sqrt(latent))
        self.convolve = Convolution(dim, inputs, channels, 1, scale=1 / math.sqrt(inputs))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        image: Tensor = self.convolve(x * _as_planes(self.affine(w), x))
        return image


class SynthesisBlock(nn.Module):
    """One level: (doubling modulated convolution and) modulated convolution; `to_image` reads it out."""

    def __init__(
        self, dim: int, latent: int, inputs: int, outputs: int, channels: int, *, doubling: bool, noise: bool
    ) -> None:
        super().__init__()
        layers = [ModulatedConvolution(dim, latent, outputs, outputs, doubling=False, noise=noise)]
        if doubling:
            layers.insert(0, ModulatedConvolution(dim, latent, inputs, outputs, doubling=True, noise=noise))
        self.layers = nn.ModuleList(layers)
        self.to_image = ImageLayer(dim, latent, outputs, channels)

    def forward(self, x: Tensor, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x, w, noise[number] if noise else None)
        return x


class ResidualBlock(nn.Module):
    """Two convolutions and halving, beside a halved shortcut: [n, inputs, *2s] -> [n, outputs, *s].

    channels: of the images that it reads, for the block at the image; None for the others.
    """

    def __init__(self, dim: int, inputs: int, outputs: int, channels: int | None) -> None:
        super().__init__()
        self.read = Convolution(dim, channels, inputs, 1, scale=GAIN / math.sqrt(channels)) if channels else None
        self.convolve = Convolution(dim, inputs, inputs, 3, padding=1, scale=GAIN / math.sqrt(inputs * 3**dim))
        self.downscale = DownscaleConvolution(dim, inputs, outputs)
        # Both summands get half of the variance, so that the sum has that of the input.
        self.downscale.scale *= math.sqrt(0.5)
        self.shortcut = Convolution(dim, inputs, outputs, 1, bias=False, scale=math.sqrt(0.5 / inputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.read is not None:
            x = leaky_relu(self.read(x))
        y = leaky_relu(self.convolve(x))
        # A convolution of kernel 1 and a mean over pixels may change places; in this order there is less to do.
        return leaky_relu(self.downscale(y)) + self.shortcut(halve(x))


class Head(nn.Module):
    """The base grid to the verdict: features [n, width, *grid] (and conditions [n, k]) -> logits [n]."""

    def __init__(self, grid: Sequence[int], width: int, conditions: int, *, group: int) -> None:
        super().__init__()
        dim, inputs, features = len(grid), width + (group > 1), width * math.prod(grid)
        self.deviation = MinibatchDeviation(group) if group > 1 else None
        self.convolve = Convolution(dim, inputs, width, 3, padding=1, scale=GAIN / math.sqrt(inputs * 3**dim))
        self.hidden = MapDense(features, width, scale=GAIN / math.sqrt(features))
        self.score = Dense(width, 1, scale=1 / math.sqrt(width))
        self.project = Dense(conditions, width, bias=False, scale=1 / math.sqrt(width)) if conditions else None

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        if self.deviation is not None:
            x = self.deviation(x)
        hidden = leaky_relu(self.hidden(leaky_relu(self.convolve(x))))
        logits: Tensor = self.score(hidden).squeeze(1)
        if self.project is not None:
            logits = logits + (hidden * self.project(_given(conditions).to(x.dtype))).sum(1)
        return logits


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """What brings the outputs of a modulated convolution back to unit variance, for inputs of unit variance: [n, out].

    1 / sqrt(sum over inputs i and taps k of (s_i w_oik)^2) (Karras et al. 2020, equation 3); weight [out, in, *kernel],
    style [n, in].
    """
    energy = weight.square().flatten(2).sum(2)
    return torch.rsqrt(F.linear(style.square(), energy) + 1e-8)


def level_dtype(compute_dtype: torch.dtype, size: Sequence[int]) -> torch.dtype:
    """What a level of this size computes in: small ones cost little, and stay in float32 or wider."""
    exact = torch.promote_types(compute_dtype, torch.float32)
    return exact if max(size) <= LARGEST_EXACT_LEVEL else compute_dtype


def initialise_style(network: nn.Module, source: torch.Generator) -> None:
    """Draw all weights: N(0, 1), in the mapping network N(0, 1 / MAPPING_RATE^2); biases 0, those of styles 1.

    The generator's constant and its constant noise are N(0, 1) too.
    """
    for module in network.modules():
        if isinstance(module, (Convolution, Dense)):
            deviation = 1 / MAPPING_RATE if isinstance(module, MappingLayer) else 1.0
            nn.init.normal_(module.weight, 0.0, deviation, generator=source)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, StyleGenerator):
            nn.init.normal_(module.constant, generator=source)
            nn.init.normal_(module.constant_noise, generator=source)
            nn.init.zeros_(module.mean_style)
    for module in network.modules():
        if isinstance(module, (ModulatedConvolution, ImageLayer)):
            nn.init.ones_(module.affine.bias)


def _levels(size: Sequence[int], widths: Sequence[int]) -> list[tuple[int, ...]]:
    if len(widths) < 2:
        raise RecipeError(
            "family 'style' needs at least two widths: one level has no finer one to give a style of its own."
        )
    return level_sizes(size, len(widths))


def _as_planes(values: Tensor, x: Tensor) -> Tensor:
    """[n, c] -> [n, c, 1, ...] in the dtype of x."""
    return values.to(x.dtype).reshape(*values.shape, *[1] * (x.ndim - 2))


def _given(conditions: Tensor | None) -> Tensor:
    if conditions is None:
        raise ValueError("this network is conditional: conditions are missing")
    return conditions
