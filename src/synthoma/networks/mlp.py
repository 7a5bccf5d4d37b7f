"""The first GAN (Goodfellow et al. 2014): fully connected layers from z to pixels and from pixels to a logit.

With the default widths at 64x64 these are the chest-CT project's first trial: 100-128-256-512-1024-4096 and
4096-512-256-1.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthoma.networks.layers import CHANNELS_LAST, ConditionEmbedding, Dense, norm_layer


class MLPGenerator(nn.Module):
    """(z [n, latent], conditions [n, k] or None) -> image [n, channels, *size]. Norm but in the first layer."""

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        latent: int,
        widths: Sequence[int],
        *,
        conditions: int = 0,
        embedding: int = 50,
        norm: str = "batch",
        output: str = "tanh",
    ) -> None:
        super().__init__()
        self.latent, self.compute_dtype, self.shape = latent, torch.float32, (channels, *size)
        self.embed = ConditionEmbedding(conditions, embedding) if conditions else None
        blocks: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([latent + (embedding if conditions else 0), *widths]):
            own_norm = norm_layer(norm, 1, outputs) if blocks else []
            blocks.append(nn.Sequential(Dense(inputs, outputs), *own_norm, nn.LeakyReLU(0.2, inplace=True)))
        self.blocks = nn.ModuleList(blocks)
        self.last = Dense(widths[-1], math.prod(self.shape))
        self.tanh = output == "tanh"

    def forward(self, z: Tensor, conditions: Tensor | None = None) -> Tensor:
        if self.embed is not None:
            z = torch.cat((z, self.embed(conditions)), dim=1)
        x = z.to(self.compute_dtype)
        for block in self.blocks:
            x = block(x)
        x = self.last(x).to(torch.promote_types(x.dtype, torch.float32)).unflatten(1, self.shape)
        x = x.contiguous(memory_format=CHANNELS_LAST[len(self.shape) - 1])
        return torch.tanh(x) if self.tanh else x


class MLPDiscriminator(nn.Module):
    """(image [n, channels, *size], conditions [n, k] or None) -> logit [n].

    Conditions are embedded and stand beside the pixels (concat), or beside the last features as an inner product.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        widths: Sequence[int],
        *,
        conditions: int = 0,
        conditioning: str = "concat",
        embedding: int = 50,
        norm: str = "none",
    ) -> None:
        super().__init__()
        self.compute_dtype = torch.float32
        concat = bool(conditions) and conditioning == "concat"
        self.embed = ConditionEmbedding(conditions, embedding) if concat else None
        self.project = ConditionEmbedding(conditions, widths[-1]) if conditions and not concat else None
        blocks: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([channels * math.prod(size) + embedding * concat, *widths]):
            own_norm = norm_layer(norm, 1, outputs) if blocks else []
            blocks.append(nn.Sequential(Dense(inputs, outputs), *own_norm, nn.LeakyReLU(0.2, inplace=True)))
        self.blocks = nn.ModuleList(blocks)
        self.last = Dense(widths[-1], 1)

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        x = x.flatten(1)
        if self.embed is not None:
            x = torch.cat((x, self.embed(conditions)), dim=1)
        x = x.to(self.compute_dtype)
        for block in self.blocks:
            x = block(x)
        logits = self.last(x).squeeze(1)
        if self.project is not None:
            logits = logits + (x * self.project(conditions).to(x.dtype)).sum(1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
