"""Layers in two or three dimensions from one integer `dim`, computing in the dtype of what comes in.

Weights stay in float32; a layer casts them to the dtype of its input. A network that computes in bf16 casts its
input once, and no autocast context decides behind its back.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthoma.networks.convolve import Geometry, convolve

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
# Below this many channels at the fine end a strided layer is computed as one of stride 1 over blocks of pixels (CPU).
FEW_CHANNELS = 8
BATCH_NORM: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Weighted:
    """What layers do to their weight before they use it; mixed into `nn.Module`s that have a `weight`.

    scale: the weight is multiplied with it at run time: the equalised learning rate of Karras et al. 2018, where weights
    are drawn from N(0, 1) and `scale` is gain / sqrt(fan in). With spectral norm (`add_spectral_norm`) the weight is
    divided by its largest singular value.
    """

    weight: Tensor
    scale: float = 1.0
    transposed = False

    def effective_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight as it is used, in `dtype`; differentiable in the stored one."""
        weight: Tensor = self.weight
        left = getattr(self, "spectral_left", None)
        if left is not None:
            # sigma = u W v with fixed u and v: its gradient in W is u v^T, as in the paper.
            weight = weight / torch.dot(left, _as_matrix(weight, self.transposed) @ self.spectral_right)  # type: ignore[attr-defined]
        if self.scale != 1.0:
            weight = weight * self.scale
        return weight.to(dtype)


class Convolution(Weighted, nn.Module):
    """Cross-correlation [n, in, *spatial] -> [n, out, *spatial / stride]."""

    def __init__(
        self,
        dim: int,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        groups: int = 1,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.dim, self.stride, self.padding, self.groups, self.scale = dim, stride, padding, groups, scale
        shape = (inputs, outputs // groups) if self.transposed else (outputs, inputs // groups)
        self.weight = nn.Parameter(torch.empty(*shape, *([kernel] * dim)))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.effective_weight(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        if self._over_blocks(x):
            over_blocks = convolve_transposed_over_blocks if self.transposed else convolve_over_blocks
            return over_blocks(x, weight, bias, self.padding)
        geometry = Geometry(self.dim, self.stride, self.padding, self.groups, self.transposed)
        return convolve(x, weight, bias, geometry)

    def _over_blocks(self, x: Tensor) -> bool:
        """Whether this call goes from many channels to few pixels' worth on a CPU, forwards or in its input's gradient.

        oneDNN has no good kernel for that (a quarter of the speed of the same arithmetic with stride 1, measured).
        """
        few = self.weight.shape[1] < FEW_CHANNELS and self.stride == 2 and self.weight.shape[-1] == 2 * self.padding + 2
        return few and self.groups == 1 and x.device.type == "cpu" and (self.transposed or x.requires_grad)


class TransposedConvolution(Convolution):
    """Transposed convolution [n, in, *spatial] -> [n, out, *spatial * stride] (for kernel = stride + 2 * padding)."""

    transposed = True


def convolve_over_blocks(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """A convolution of stride 2, [n, in, *spatial] -> [n, out, *spatial / 2], as one of stride 1.

    Each block of 2^dim pixels becomes one pixel with 2^dim times the channels, and the kernel is cut up likewise.
    """
    dim = x.ndim - 2
    x = F.pad(x, (padding, padding) * dim).movedim(1, -1)
    blocks = x.reshape(len(x), *(m for n in x.shape[1:-1] for m in (n // 2, 2)), x.shape[-1])
    blocks = blocks.permute(0, *range(1, 2 * dim, 2), *range(2, 2 * dim + 1, 2), 2 * dim + 1).flatten(dim + 1)
    return convolve(blocks.movedim(-1, 1), _kernel_of_blocks(weight), bias, Geometry(dim))


def convolve_transposed_over_blocks(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """A transposed convolution of stride 2, [n, in, *spatial] -> [n, out, *spatial * 2], as one of stride 1.

    It makes all channels of a block of 2^dim pixels at once; the blocks are then laid out and the margin cut off.
    """
    dim = x.ndim - 2
    y = convolve(x, _kernel_of_blocks(weight), None, Geometry(dim, transposed=True)).movedim(1, -1)
    grid = y.shape[1:-1]
    y = y.unflatten(-1, (*[2] * dim, weight.shape[1]))
    y = y.permute(0, *(axis for i in range(1, dim + 1) for axis in (i, i + dim)), 2 * dim + 1)
    y = y.reshape(len(y), *(2 * n for n in grid), weight.shape[1])
    y = y[(slice(None), *[slice(padding, -padding)] * dim)].movedim(-1, 1)
    return y if bias is None else y + bias.reshape(-1, *[1] * dim)


def _kernel_of_blocks(weight: Tensor) -> Tensor:
    """[a, b, *kernel] -> [a, 2^dim * b, *kernel / 2], channels last; the place within a block goes to the channels."""
    dim = weight.ndim - 2
    parts = weight.reshape(*weight.shape[:2], *(m for n in weight.shape[2:] for m in (n // 2, 2)))
    places = [*range(3, 2 * dim + 2, 2)]
    parts = parts.permute(0, *places, 1, *range(2, 2 * dim + 2, 2)).flatten(1, dim + 1)
    return parts.contiguous(memory_format=CHANNELS_LAST[dim])


class Dense(Weighted, nn.Linear):
    """Fully connected layer that computes in the dtype of its input."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, scale: float = 1.0) -> None:
        super().__init__(inputs, outputs, bias)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.effective_weight(x.dtype), bias)


class MapDense(Dense):
    """Fully connected layer over a feature map [n, c, *spatial] -> [n, outputs]; weights in the order (c, *spatial).

    It computes what a flatten and a `Dense` compute. Flattening a channels-last map would copy it, and send back a
    gradient in the other layout, on which the elementwise backward before it is some thirty times slower on a CPU; so
    the weights are turned to the map's order instead.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight = self.effective_weight(x.dtype).unflatten(1, x.shape[1:]).movedim(1, -1).flatten(1)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x.movedim(1, -1).flatten(1), weight, bias)


class ConditionEmbedding(Dense):
    """Conditions [n, k] -> vectors [n, outputs]: an embedding of the class, linear in continuous attributes.

    Drawn from N(0, 1), as embeddings are; no bias.
    """

    def __init__(self, conditions: int, outputs: int) -> None:
        super().__init__(conditions, outputs, bias=False)

    def forward(self, conditions: Tensor | None) -> Tensor:
        if conditions is None:
            raise ValueError("this network is conditional: conditions are missing")
        return super().forward(conditions)


class GroupNorm(nn.Module):
    """Normalisation over groups of channels and all places of one sample (Wu and He 2018), in float32.

    One channel a group is instance norm. It couples no samples, so gradient penalties and accumulation are right with it.
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        y = F.group_norm(exact, self.groups, self.weight, self.bias).to(x.dtype)
        return y.contiguous(memory_format=CHANNELS_LAST[x.ndim - 2]) if x.ndim > 2 else y


def norm_layer(name: str, dim: int, channels: int) -> list[nn.Module]:
    """The layers of a norm over [n, c, *spatial] of `dim` axes, or over [n, c] for `dim` 1; none for "none".

    Statistics are float32. Instance norm of a vector would be zero everywhere: there it is layer norm (one group).
    """
    if name == "none":
        return []
    if name == "batch":
        return [BATCH_NORM[dim](channels)]
    if dim == 1:
        return [GroupNorm(1, channels)]
    return [GroupNorm(channels if name == "instance" else math.gcd(channels, 8), channels)]


def lay_out(network: nn.Module, dim: int, device: torch.device) -> None:
    """Move a network to a device, its convolution weights to channels-last: with norm-free or batch-norm nets that is
    15 to 30 % faster on CPUs, and what tensor cores want."""
    network.to(device)
    for parameter in network.parameters():
        if parameter.ndim == dim + 2:
            # Written anew, as a weight for a single channel is in both layouts at once: it would stay in the other one by
            # its strides, and all maps after it would follow and be copied back (a tenth of a step on grey volumes).
            parameter.data = torch.empty_like(parameter.data, memory_format=CHANNELS_LAST[dim]).copy_(parameter.data)


def same_kernel_padding(kernel: int) -> int:
    """Padding with which a convolution of stride 2 halves, and a transposed one doubles, each axis exactly."""
    if kernel < 4 or kernel % 2:
        raise ValueError(
            f"kernel {kernel}: strided layers need an even kernel of at least 4 to halve and double exactly"
        )
    return (kernel - 2) // 2


def initialise(network: nn.Module, scheme: str, generator: torch.Generator) -> None:
    """Draw all weights of a network: `normal` N(0, 0.02) as in the DCGAN paper (Radford et al. 2016), batch-norm gains
    N(1, 0.02); `xavier` uniform as Keras does, gains 1. Biases 0. Embeddings of conditions N(0, 1) in both."""
    for module in network.modules():
        if isinstance(module, ConditionEmbedding):
            nn.init.normal_(module.weight, generator=generator)
        elif isinstance(module, (Convolution, nn.Linear)):
            if scheme == "normal":
                nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
            else:
                nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.modules.batchnorm._BatchNorm, GroupNorm)):
            if scheme == "normal":
                nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
            else:
                nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def add_spectral_norm(network: nn.Module, source: torch.Generator) -> None:
    """Spectral normalisation (Miyato et al. 2018) of all convolutions and dense layers of a network, after its weights
    have been drawn.

    The singular vectors are buffers that only `advance_spectral_norm` moves, once an update: a forward pass changes
    nothing, so that micro-batches and processes see the same network, and a resumed run the same vectors.
    """
    for layer in [module for module in network.modules() if isinstance(module, (Convolution, Dense))]:
        rows, columns = _as_matrix(layer.weight, layer.transposed).shape
        layer.register_buffer("spectral_left", F.normalize(torch.randn(rows, generator=source), dim=0))
        layer.register_buffer("spectral_right", F.normalize(torch.randn(columns, generator=source), dim=0))
    advance_spectral_norm(network, iterations=20)


@torch.no_grad()
def advance_spectral_norm(network: nn.Module, iterations: int = 1) -> None:
    """One power iteration for each spectrally normalised layer (Miyato et al. 2018, algorithm 1)."""
    for layer in network.modules():
        if getattr(layer, "spectral_left", None) is None:
            continue
        matrix = _as_matrix(layer.weight, layer.transposed)  # type: ignore[arg-type]
        for _ in range(iterations):
            layer.spectral_right.copy_(F.normalize(matrix.T @ layer.spectral_left, dim=0))  # type: ignore[operator]
            layer.spectral_left.copy_(F.normalize(matrix @ layer.spectral_right, dim=0))  # type: ignore[operator]


def _as_matrix(weight: Tensor, transposed: bool) -> Tensor:
    """Weights as the matrix [outputs, everything else]."""
    return (weight.movedim(1, 0) if transposed else weight).flatten(1)
