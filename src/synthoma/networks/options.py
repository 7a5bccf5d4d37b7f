"""Parts that combine with more than one family: attention, minibatch deviation, conditioning, several scales."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthoma.networks.layers import CHANNELS_LAST, ConditionEmbedding, Convolution, MapDense


class SelfAttention(nn.Module):
    """Self-attention over all places of a map (Zhang et al. 2019, SAGAN): [n, c, *spatial] -> the same shape.

    Starts as the identity: its output is weighted by a learned number that begins at zero. Costs memory that grows with
    the square of the number of places, so it belongs to maps of some 32 x 32 or 10 x 10 x 10 at most.
    """

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        inner = max(channels // 8, 1)
        self.query = Convolution(dim, channels, inner, 1, bias=False)
        self.key = Convolution(dim, channels, inner, 1, bias=False)
        self.value = Convolution(dim, channels, max(channels // 2, 1), 1, bias=False)
        self.out = Convolution(dim, max(channels // 2, 1), channels, 1, bias=False)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        # float32: the softmax over a thousand places is where eight bits of mantissa would show.
        scores = (query.transpose(1, 2) @ key).float() / math.sqrt(key.shape[1])
        attended = value @ scores.softmax(dim=2).to(value.dtype).transpose(1, 2)
        attended = attended.unflatten(2, x.shape[2:]).contiguous(memory_format=CHANNELS_LAST[x.ndim - 2])
        return x + self.strength.to(x.dtype) * self.out(attended)


class MinibatchDeviation(nn.Module):
    """Adds one channel with the standard deviation over groups of samples (Karras et al. 2018): [n, c, *s] -> [n, c + 1, *s].

    It lets a discriminator see that fakes are too much alike, and couples the samples of a pass. Groups have `group`
    samples, or the largest divisor of n below that, so that a last small batch passes too.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        group = next(size for size in range(min(self.group, n), 0, -1) if n % size == 0)
        # Sample i is in the group of i mod (n / group): neighbours in the batch land in different groups.
        parted = x.float().unflatten(0, (group, n // group))
        deviation = (parted - parted.mean(0)).square().mean(0).add(1e-8).sqrt()
        channel = deviation.flatten(1).mean(1).repeat(group).reshape(n, 1, *[1] * (x.ndim - 2))
        channel = channel.expand(n, 1, *x.shape[2:]).to(x.dtype)
        return torch.cat((x, channel), dim=1).contiguous(memory_format=CHANNELS_LAST[x.ndim - 2])


class ConditionPlanes(nn.Module):
    """Conditions [n, k] as one learned plane beside the image's channels: [n, c, *size] -> [n, c + 1, *size]."""

    def __init__(self, conditions: int, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)
        self.embed = ConditionEmbedding(conditions, math.prod(size))

    def forward(self, x: Tensor, conditions: Tensor | None) -> Tensor:
        plane = self.embed(conditions).unflatten(1, (1, *self.size))
        return torch.cat((x, plane.to(x.dtype)), dim=1)


class Score(nn.Module):
    """Last layer of a discriminator: map [n, c, *grid] (and conditions [n, k]) -> logits float32 [n].

    With `conditions` it adds the projection of Miyato and Koyama 2018: the inner product of the map's sum over its
    places, scaled by their number, and an embedding of the conditions.
    """

    def __init__(self, channels: int, grid: Sequence[int], conditions: int = 0, bias: bool = True) -> None:
        super().__init__()
        self.dense = MapDense(channels * math.prod(grid), 1, bias=bias)
        self.project = ConditionEmbedding(conditions, channels) if conditions else None

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        logits = self.dense(x).squeeze(1)
        if self.project is not None:
            pooled = x.mean(dim=tuple(range(2, x.ndim)))
            logits = logits + (pooled * self.project(conditions).to(x.dtype)).sum(1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class MultiScale(nn.Module):
    """Several discriminators on the image at halved and halved again resolution: logits [n, scales].

    After Wang et al. 2018 (pix2pixHD): each judges at its own scale; losses are means over scales.
    """

    def __init__(self, discriminators: Sequence[nn.Module]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(discriminators)

    @property
    def blocks(self) -> list[nn.ModuleList]:
        """Ordered from the image inwards: the first blocks of all scales, then the second, ..."""
        of_scales = [list(network.blocks) for network in self.scales]  # type: ignore[arg-type]
        depth = max(map(len, of_scales))
        return [nn.ModuleList(blocks[i] for blocks in of_scales if i < len(blocks)) for i in range(depth)]

    @property
    def compute_dtype(self) -> torch.dtype:
        return self.scales[0].compute_dtype  # type: ignore[return-value]

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype) -> None:
        for network in self.scales:
            network.compute_dtype = dtype  # type: ignore[assignment]

    def forward(self, x: Tensor, conditions: Tensor | None = None) -> Tensor:
        logits = []
        for number, network in enumerate(self.scales):
            if number:
                x = halve(x)
            logits.append(network(x, conditions))
        return torch.stack(logits, dim=1)


def halve(x: Tensor) -> Tensor:
    """Mean over blocks of two pixels an axis: [n, c, *spatial] -> [n, c, *spatial / 2]."""
    if x.ndim == 4:
        return nn.functional.avg_pool2d(x, 2)
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        # torch (2.13) has no kernel for that.
        return nn.functional.avg_pool3d(x.float(), 2).to(x.dtype)
    return nn.functional.avg_pool3d(x, 2)


def to_full_size(images: Tensor, size: Sequence[int]) -> Tensor:
    """[n, c, *coarse] -> [n, c, *size] by repeating pixels: coarse images look coarse, and are measured as such."""
    for axis, wanted in enumerate(size, start=2):
        if images.shape[axis] != wanted:
            images = images.repeat_interleave(wanted // images.shape[axis], dim=axis)
    return images
