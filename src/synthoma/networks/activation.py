"""Leaky ReLU whose gradient has a gradient in one argument only, as it is linear almost everywhere."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """max(x, slope * x), for 0 < slope < 1.

    The second derivative is zero. Torch makes a map of zeros of it and sends that through all layers before; here
    nothing is sent, which saves a gradient penalty that pass.
    """
    if torch.compiler.is_compiling():
        # A compiled vjp loses the gradients of own functions without a word (torch 2.13).
        return F.leaky_relu(x, slope)
    result: Tensor = _Leaky.apply(x, slope)
    return result


class LeakyReLU(nn.Module):
    """`leaky_relu` as a layer, for networks whose gradients are penalised."""

    def __init__(self, slope: float = 0.2) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.slope)


class _Leaky(torch.autograd.Function):
    """Keeps its output: that of the layer before need not stay."""

    @staticmethod
    def forward(x: Tensor, slope: float) -> Tensor:
        return F.leaky_relu(x, slope)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.slope = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        return _Slope.apply(gradient, output.detach(), ctx.slope), None


class _Slope(torch.autograd.Function):
    """gradient * (1 where output > 0, else slope): linear in the gradient, constant in the output."""

    @staticmethod
    def forward(gradient: Tensor, output: Tensor, slope: float) -> Tensor:
        # An output has the sign of its input.
        return torch.ops.aten.leaky_relu_backward(gradient, output, slope, True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        ctx.slope = inputs[2]
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor, None, None]:
        (output,) = ctx.saved_tensors
        return _Slope.apply(second, output, ctx.slope), None, None
