"""The conditional GAN of the skin-cancer recipe (after Mirza and Osindero 2014, with DCGAN-like layers).

The label enters both networks by concatenation: as a learned vector beside z in the generator, and as a learned
plane beside the image's channels in the discriminator.
"""

import itertools
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


class ConditionalGenerator(nn.Module):
    """(z [n, latent], labels int64 [n]) -> image [n, channels, *size].

    Dense -> batch norm over its flat output -> LeakyReLU -> base grid -> a doubling a width.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        classes: int,
        latent: int,
        widths: Sequence[int],
        embedding: int,
        kernel: int = 4,
        output: str = "tanh",
    ) -> None:
        super().__init__()
        dim = len(size)
        self.latent, self.compute_dtype, self.dim = latent, torch.float32, dim
        self.grid = tuple(n // 2 ** len(widths) for n in size)
        padding = same_kernel_padding(kernel)
        features = widths[0] * math.prod(self.grid)
        self.embed = nn.Embedding(classes, embedding)
        self.project = Dense(latent + embedding, features, bias=False)
        self.stem = nn.Sequential(batch_norm(1, features), nn.LeakyReLU(0.2, inplace=True))
        blocks: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            blocks.append(
                nn.Sequential(
                    TransposedConvolution(dim, inputs, outputs, kernel, stride=2, padding=padding, bias=False),
                    batch_norm(dim, outputs),
                    nn.LeakyReLU(0.2, inplace=True),
                )
            )
        blocks.append(TransposedConvolution(dim, widths[-1], channels, kernel, stride=2, padding=padding))
        self.blocks = nn.ModuleList(blocks)
        self.tanh = output == "tanh"

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = torch.cat((z, self.embed(labels)), dim=1).to(self.compute_dtype)
        x = self.stem(self.project(x)).unflatten(1, (-1, *self.grid)).contiguous(memory_format=CHANNELS_LAST[self.dim])
        for block in self.blocks:
            x = block(x)
        x = x.float()
        return torch.tanh(x) if self.tanh else x


class ConditionalDiscriminator(nn.Module):
    """(image [n, channels, *size], labels int64 [n]) -> logit [n]. Batch norm but in the first layer: couples samples."""

    def __init__(
        self, size: Sequence[int], channels: int, classes: int, widths: Sequence[int], kernel: int = 4
    ) -> None:
        super().__init__()
        dim = len(size)
        self.compute_dtype, self.dim, self.size = torch.float32, dim, tuple(size)
        padding = same_kernel_padding(kernel)
        self.embed = nn.Embedding(classes, math.prod(size))
        blocks: list[nn.Module] = []
        for inputs, outputs in zip([channels + 1, *widths[:-1]], widths, strict=True):
            first = not blocks
            layers: list[nn.Module] = [Convolution(dim, inputs, outputs, kernel, stride=2, padding=padding, bias=first)]
            if not first:
                layers.append(batch_norm(dim, outputs))
            blocks.append(nn.Sequential(*layers, nn.LeakyReLU(0.2, inplace=True)))
        self.blocks = nn.ModuleList(blocks)
        grid = [n // 2 ** len(widths) for n in size]
        self.score = MapDense(widths[-1] * math.prod(grid), 1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        plane = self.embed(labels).unflatten(1, (1, *self.size))
        x = torch.cat((x, plane), dim=1).to(self.compute_dtype, memory_format=CHANNELS_LAST[self.dim])
        for block in self.blocks:
            x = block(x)
        return self.score(x).squeeze(1).float()
