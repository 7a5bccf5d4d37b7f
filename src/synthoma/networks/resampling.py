"""Linear resampling by a factor of two in any dimension: `upsample` and its mirror image `downsample`.

Along each axis a new pixel lies a quarter of the old distance from its nearest neighbour, so that upsampling weights
two neighbours with 3/4 and 1/4; `downsample` is the low-pass filter (1, 3, 3, 1) / 8 at every second place. Edges are
repeated. With these edges the one is, up to 2^dim, the transpose of the other, which is all that gradients of any
order need.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from synthoma.networks.layers import CHANNELS_LAST

MODES = {2: "bilinear", 3: "trilinear"}
TRANSPOSED = {
    2: torch.ops.aten.upsample_bilinear2d_backward,
    3: torch.ops.aten.upsample_trilinear3d_backward,
}


def upsample(x: Tensor) -> Tensor:
    """Bilinear or trilinear interpolation [n, c, *spatial] -> [n, c, *spatial * 2].

    On a CPU by torch's own kernel, which is the fastest there. On a GPU that kernel's gradient adds up by atomic
    operations, in bf16 with their rounding and in any order; there it is a few fused multiply-adds of slices.
    """
    if x.device.type == "cpu":
        return F.interpolate(x, scale_factor=2, mode=MODES[x.ndim - 2])
    return upsample_slices(x)


def downsample(x: Tensor) -> Tensor:
    """Anti-aliased half [n, c, *spatial] -> [n, c, *spatial / 2] for even sizes, the transpose of `upsample` / 2^dim."""
    dim = x.ndim - 2
    if x.device.type == "cpu":
        half = [*x.shape[:2], *(n // 2 for n in x.shape[2:])]
        return TRANSPOSED[dim](x, list(x.shape[2:]), half, False) * 0.5**dim
    return downsample_slices(x)


def upsample_slices(x: Tensor) -> Tensor:
    """What `upsample` computes, axis by axis in plain arithmetic."""
    result: Tensor = _Upsample.apply(x)
    return result


def downsample_slices(x: Tensor) -> Tensor:
    """What `downsample` computes, axis by axis in plain arithmetic."""
    result: Tensor = _Downsample.apply(x)
    return result


class _Upsample(torch.autograd.Function):
    """Own gradient, because that of slicing fills a map of zeros for each slice."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        for axis in range(2, x.ndim):
            x = _double_axis(x, axis)
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """A linear function: its gradient needs nothing of its input."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Downsample.apply(gradient) * 2 ** (gradient.ndim - 2)


class _Downsample(torch.autograd.Function):
    """The other half of the pair."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        for axis in range(2, x.ndim):
            x = _halve_axis(x, axis)
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """A linear function: its gradient needs nothing of its input."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Upsample.apply(gradient) * 0.5 ** (gradient.ndim - 2)


def _double_axis(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis]
    shape = [2 * size if i == axis else size for i, size in enumerate(x.shape)]
    doubled = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=CHANNELS_LAST[x.ndim - 2])
    even, odd = doubled.unflatten(axis, (n, 2)).unbind(axis + 1)
    before, after = x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1)
    even.narrow(axis, 1, n - 1).copy_(torch.lerp(after, before, 0.25))
    odd.narrow(axis, 0, n - 1).copy_(torch.lerp(before, after, 0.25))
    even.narrow(axis, 0, 1).copy_(x.narrow(axis, 0, 1))
    odd.narrow(axis, n - 1, 1).copy_(x.narrow(axis, n - 1, 1))
    return doubled


def _halve_axis(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis] // 2
    even, odd = x.unflatten(axis, (n, 2)).unbind(axis + 1)
    halved = (even + odd).mul_(0.375)
    halved.narrow(axis, 1, n - 1).add_(odd.narrow(axis, 0, n - 1), alpha=0.125)
    halved.narrow(axis, 0, n - 1).add_(even.narrow(axis, 1, n - 1), alpha=0.125)
    halved.narrow(axis, 0, 1).add_(even.narrow(axis, 0, 1), alpha=0.125)
    halved.narrow(axis, n - 1, 1).add_(odd.narrow(axis, n - 1, 1), alpha=0.125)
    return halved
