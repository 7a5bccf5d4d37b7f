"""DCGAN (Radford, Metz, Chintala 2016): strided convolutions, batch norm, and nothing fully connected in between.

The generator doubles a base grid once a width, the discriminator halves the image once a width, so that the image's
size is the base grid times 2 to the number of widths. At 64 pixels and four widths the grid is 4x4, as in the paper.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthoma.networks.layers import (
    CHANNELS_LAST,
    Convolution,
    Dense,
    MapDense,
    TransposedConvolution,
    batch_norm,
    same_kernel_padding,
)


class DCGANGenerator(nn.Module):
    """z [n, latent] -> image [n, channels, *size] in [-1, 1] (tanh) or unbounded (linear).

    The first layer is the paper's transposed convolution of a 1x1 input, written as the matrix product that it is.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        latent: int,
        widths: Sequence[int],
        kernel: int = 4,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        dim = len(size)
        self.latent, self.compute_dtype, self.dim = latent, torch.float32, dim
        self.grid = tuple(n // 2 ** len(widths) for n in size)
        padding = same_kernel_padding(kernel)
        self.project = Dense(latent, widths[0] * math.prod(self.grid), bias=False)
        self.stem = nn.Sequential(batch_norm(dim, widths[0]), nn.ReLU(inplace=True))
        blocks: list[nn.Module] = []
        for inputs, outputs in zip(widths, [*widths[1:], channels], strict=True):
            last = len(blocks) == len(widths) - 1
            layers: list[nn.Module] = [
                TransposedConvolution(dim, inputs, outputs, kernel, stride=2, padding=padding, bias=False)
            ]
            if not last:
                layers += [batch_norm(dim, outputs), nn.ReLU(inplace=True)]
            blocks.append(nn.Sequential(*layers))
        self.blocks = nn.ModuleList(blocks)
        self.tanh = output == "tanh"

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.project(z.to(self.compute_dtype)).unflatten(1, (-1, *self.grid))
        x = self.stem(x.contiguous(memory_format=CHANNELS_LAST[self.dim]))
        for block in self.blocks:
            x = block(x)
        x = x.float()
        return torch.tanh(x) if self.tanh else x


class DCGANDiscriminator(nn.Module):
    """Image [n, channels, *size] -> logit [n]; positive for real. Batch norm but in the first layer: couples samples."""

    def __init__(self, size: Sequence[int], channels: int, widths: Sequence[int], kernel: int = 4) -> None:
        super().__init__()
        dim = len(size)
        self.compute_dtype, self.dim = torch.float32, dim
        padding = same_kernel_padding(kernel)
        blocks: list[nn.Module] = []
        for inputs, outputs in zip([channels, *widths[:-1]], widths, strict=True):
            layers: list[nn.Module] = [Convolution(dim, inputs, outputs, kernel, stride=2, padding=padding, bias=False)]
            if blocks:
                layers.append(batch_norm(dim, outputs))
            blocks.append(nn.Sequential(*layers, nn.LeakyReLU(0.2, inplace=True)))
        self.blocks = nn.ModuleList(blocks)
        grid = [n // 2 ** len(widths) for n in size]
        self.score = MapDense(widths[-1] * math.prod(grid), 1, bias=False)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = x.to(self.compute_dtype)
        for block in self.blocks:
            x = block(x)
        return self.score(x).squeeze(1).float()
