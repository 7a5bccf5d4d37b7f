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

MODES = {2: "bilinear", 3: "trilinear"}
TRANSPOSED = {
    2: torch.ops.aten.upsample_bilinear2d_backward,
    3: torch.ops.aten.upsample_trilinear3d_backward,
}


def upsample(x: Tensor) -> Tensor:
    """Bilinear or trilinear interpolation [n, c, *spatial] -> [n, c, *spatial * 2].

    On a CPU by torch's own kernel, which is the fastest there. On a GPU that kernel's gradient adds up by atomic
    operations, in bf16 with their rounding and in any order; there it is plain arithmetic.
    """
    if x.device.type == "cpu":
        return F.interpolate(x, scale_factor=2, mode=MODES[x.ndim - 2])
    return upsample_plainly(x)


def downsample(x: Tensor) -> Tensor:
    """Anti-aliased half [n, c, *spatial] -> [n, c, *spatial / 2] for even sizes, the transpose of `upsample` / 2^dim."""
    dim = x.ndim - 2
    if x.device.type == "cpu":
        half = [*x.shape[:2], *(n // 2 for n in x.shape[2:])]
        return TRANSPOSED[dim](x, list(x.shape[2:]), half, False) * 0.5**dim
    return downsample_plainly(x)


def upsample_plainly(x: Tensor) -> Tensor:
    """What `upsample` computes, axis by axis in plain arithmetic; channels last comes out.

    Compiled, the gradient is that of the arithmetic (a compiled vjp loses the gradients of own functions, torch 2.13).
    """
    result: Tensor = _double(x) if torch.compiler.is_compiling() else _Upsample.apply(x)
    return result


def downsample_plainly(x: Tensor) -> Tensor:
    """What `downsample` computes, axis by axis in plain arithmetic; channels last comes out."""
    result: Tensor = _halve(x) if torch.compiler.is_compiling() else _Downsample.apply(x)
    return result


class _Upsample(torch.autograd.Function):
    """Own gradient, because that of slicing fills a map with zeros for each slice."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _double(x)

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
        return _halve(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """A linear function: its gradient needs nothing of its input."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Upsample.apply(gradient) * 0.5 ** (gradient.ndim - 2)


def _double(x: Tensor) -> Tensor:
    x = x.movedim(1, -1)
    for axis in range(1, x.ndim - 1):
        before, after = _shifted(x, x, axis)
        x = torch.stack((torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)), axis + 1).flatten(axis, axis + 1)
    return x.movedim(-1, 1)


def _halve(x: Tensor) -> Tensor:
    x = x.movedim(1, -1)
    for axis in range(1, x.ndim - 1):
        even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
        before, after = _shifted(even, odd, axis)
        x = 0.375 * (even + odd) + 0.125 * (before + after)
    return x.movedim(-1, 1)


def _shifted(even: Tensor, odd: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """For pairs of pixels (even, odd) side by side: the pixel before each pair and the one after; edges are repeated."""
    n = even.shape[axis]
    before = torch.cat((even.narrow(axis, 0, 1), odd.narrow(axis, 0, n - 1)), axis)
    after = torch.cat((even.narrow(axis, 1, n - 1), odd.narrow(axis, n - 1, 1)), axis)
    return before, after
