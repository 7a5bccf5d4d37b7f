"""The strided convolutional pair behind dcgan, cgan, wgan and wgan-gp.

The generator doubles a base grid once a width, the discriminator halves the image once a width, so that the image's
size is the base grid times 2 to the number of widths (DCGAN: Radford, Metz, Chintala 2016). At 64 pixels and four
widths the grid is 4x4, as in the paper. What tells the families apart are the few switches of `Body`, the norms, and
how conditions come in (cgan: Mirza and Osindero 2014).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synthoma.networks.activation import LeakyReLU
from synthoma.networks.layers import (
    CHANNELS_LAST,
    ConditionEmbedding,
    Convolution,
    Dense,
    TransposedConvolution,
    norm_layer,
    same_kernel_padding,
)
from synthoma.networks.options import ConditionPlanes, MinibatchDeviation, Score, SelfAttention


@dataclass(frozen=True)
class Body:
    """What the seeds' DCGAN and cGAN do differently.

    flat_stem: batch norm over the first dense layer's flat output, before it is a map; leaky: LeakyReLU(0.2) in the
    generator instead of ReLU; biased: the generator's last and the discriminator's first and last layers have a bias.
    """

    flat_stem: bool
    leaky: bool
    biased: bool


DCGAN = Body(flat_stem=False, leaky=False, biased=False)
CGAN = Body(flat_stem=True, leaky=True, biased=True)


class ConvolutionalGenerator(nn.Module):
    """(z [n, latent], conditions [n, k] or None) -> image [n, channels, *size], in [-1, 1] (tanh) or unbounded (linear).

    The first layer is the DCGAN paper's transposed convolution of a 1x1 input, written as the matrix product that it is.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        latent: int,
        widths: Sequence[int],
        *,
        conditions: int = 0,
        embedding: int = 50,
        kernel: int = 4,
        norm: str = "batch",
        attention: Sequence[int] = (),
        output: str = "tanh",
        body: Body = DCGAN,
    ) -> None:
        super().__init__()
        dim = len(size)
        self.latent, self.compute_dtype, self.dim = latent, torch.float32, dim
        self.grid = tuple(n // 2 ** len(widths) for n in size)
        padding, bias = same_kernel_padding(kernel), norm == "none"
        features = widths[0] * math.prod(self.grid)
        self.embed = ConditionEmbedding(conditions, embedding) if conditions else None
        self.project = Dense(latent + (embedding if conditions else 0), features, bias=bias)
        self.flat = body.flat_stem and norm == "batch"
        stem_norm = norm_layer("batch", 1, features) if self.flat else norm_layer(norm, dim, widths[0])
        self.stem = nn.Sequential(*stem_norm, _activation(body.leaky))
        blocks: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(zip(widths, [*widths[1:], channels], strict=True), start=1):
            last = number == len(widths)
            layer = TransposedConvolution(
                dim, inputs, outputs, kernel, stride=2, padding=padding, bias=body.biased if last else bias
            )
            layers: list[nn.Module] = [layer]
            if not last:
                layers += [*norm_layer(norm, dim, outputs), _activation(body.leaky)]
                if max(self.grid) * 2**number in attention:
                    layers.append(SelfAttention(dim, outputs))
            blocks.append(nn.Sequential(*layers))
        self.blocks = nn.ModuleList(blocks)
        self.tanh = output == "tanh"

    def forward(self, z: Tensor, conditions: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat((z, self.embed(conditions)), dim=1)
        x = self.project(z.to(self.compute_dtype))
        if self.flat:
            x = self.stem(x)
        x = x.unflatten(1, (-1, *self.grid)).contiguous(memory_format=CHANNELS_LAST[self.dim])
        if not self.flat:
            x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return torch.tanh(x) if self.tanh else x


class ConvolutionalDiscriminator(nn.Module):
    """(image [n, channels, *size], conditions [n, k] or None) -> logit [n]; positive for real.

    Norm but in the first layer. Batch norm couples the samples of a pass, as minibatch deviation does.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        widths: Sequence[int],
        *,
        conditions: int = 0,
        conditioning: str = "concat",
        kernel: int = 4,
        norm: str = "batch",
        attention: Sequence[int] = (),
        minibatch_stddev: int = 0,
        body: Body = DCGAN,
    ) -> None:
        super().__init__()
        dim = len(size)
        self.compute_dtype, self.dim = torch.float32, dim
        padding = same_kernel_padding(kernel)
        concat = bool(conditions) and conditioning == "concat"
        self.planes = ConditionPlanes(conditions, size) if concat else None
        blocks: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(
            zip([channels + concat, *widths[:-1]], widths, strict=True), start=1
        ):
            first = number == 1
            bias = norm == "none" or (first and body.biased)
            layers: list[nn.Module] = [Convolution(dim, inputs, outputs, kernel, stride=2, padding=padding, bias=bias)]
            if not first:
                layers += norm_layer(norm, dim, outputs)
            # Without batch norm its gradients may be penalised; in place is faster where they are not.
            layers.append(_activation(leaky=True) if norm == "batch" else LeakyReLU(0.2))
            if max(size) // 2**number in attention:
                layers.append(SelfAttention(dim, outputs))
            blocks.append(nn.Sequential(*layers))
        self.blocks = nn.ModuleList(blocks)
        self.deviation = MinibatchDeviation(minibatch_stddev) if minibatch_stddev else None
        self.score = Score(
            widths[-1] + bool(minibatch_stddev),
            [n // 2 ** len(widths) for n in size],
            0 if concat else conditions,
            bias=body.biased or norm == "none",
        )

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        x = x.to(self.compute_dtype)
        if self.planes is not None:
            x = self.planes(x, conditions)
        x = x.contiguous(memory_format=CHANNELS_LAST[self.dim])
        for block in self.blocks:
            x = block(x)
        if self.deviation is not None:
            x = self.deviation(x)
        return self.score(x, conditions)


def _activation(leaky: bool) -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True) if leaky else nn.ReLU(inplace=True)
