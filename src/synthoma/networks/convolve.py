"""Convolutions whose second-order gradients cost what first-order ones do.

The gradient of a convolution is made of convolutions: with y = C(x, w), and g the gradient of y, that of x is
C'(g, w), the transposed convolution, and that of w is a correlation W(x, g). All three are linear in each argument, so
the gradients of C' and W are again C, C' and W. Torch knows this for the first order only: when it differentiates C'
it computes W(v, g) as a convolution with a kernel as large as the image, group by group, several times as slow.
Gradient penalties spend most of their time just there.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """What tells convolutions of the same arguments apart; the same on all axes."""

    dim: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    transposed: bool = False

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """C(x, w) + b."""
        if self._pointwise(weight):
            return _as_volume(PLANE.forward(_as_planes(x), weight.flatten(3), bias), x)
        return torch.convolution(x, weight, bias, *self._arguments)

    def input_gradient(self, gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """C'(g, w); of x only shape and layout matter."""
        if self._pointwise(weight):
            return _as_volume(PLANE.input_gradient(_as_planes(gradient), weight.flatten(3), _as_planes(x)), x)
        return self._backward(gradient, x, weight, (True, False, False))[0]

    def weight_gradient(self, x: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
        """W(x, g); of the weight only shape and layout matter."""
        if self._pointwise(weight):
            found = PLANE.weight_gradient(_as_planes(x), _as_planes(gradient), weight.flatten(3))
            return found.reshape(weight.shape)
        return self._backward(gradient, x, weight, (False, True, False))[1]

    def _pointwise(self, weight: Tensor) -> bool:
        """Whether this is a 1x1x1 convolution on a CPU.

        Torch computes those without oneDNN in a single thread, some 1.5 times as slowly. As a 1x1 convolution of many
        flat images it computes the very same with it.
        """
        alone = self == Geometry(3) and weight.shape[2:].numel() == 1
        return alone and weight.device.type == "cpu"

    @property
    def _arguments(self) -> tuple[Any, ...]:
        d = self.dim
        return [self.stride] * d, [self.padding] * d, [1] * d, self.transposed, [0] * d, self.groups

    def _backward(self, gradient: Tensor, x: Tensor, weight: Tensor, mask: tuple[bool, ...]) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, *self._arguments, mask
        )
        return found


PLANE = Geometry(2)


def _as_planes(x: Tensor) -> Tensor:
    """[n, c, z, y, x] -> [n * z, c, 1, y * x]; no copy where the channels are last."""
    rows = x.movedim(1, -1)
    return rows.reshape(rows.shape[0] * rows.shape[1], 1, -1, rows.shape[-1]).permute(0, 3, 1, 2)


def _as_volume(planes: Tensor, like: Tensor) -> Tensor:
    """[n * z, c, 1, y * x] -> [n, c, z, y, x], with the batch and the places of `like`."""
    rows = planes.permute(0, 2, 3, 1)
    return rows.reshape(like.shape[0], *like.shape[2:], rows.shape[-1]).movedim(-1, 1)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """C(x, w) + b for x [n, in, *spatial], like torch's functions of `geometry.dim` axes; differentiable at will.

    Compiled, it is torch's convolution: a compiled vjp loses the gradients of own functions without a word (torch 2.13).
    """
    if torch.compiler.is_compiling():
        return geometry.forward(x, weight, bias)
    result: Tensor = _Forward.apply(x, weight, bias, geometry)
    return result


class _Forward(torch.autograd.Function):
    """C(x, w) + b."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        return geometry.forward(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        return (
            _InputGradient.apply(gradient, weight, x.detach(), ctx.geometry) if need_x else None,
            _WeightGradient.apply(x, gradient, weight.detach(), ctx.geometry) if need_weight else None,
            gradient.sum((0, *range(2, gradient.ndim))) if need_bias else None,
            None,
        )


class _InputGradient(torch.autograd.Function):
    """C'(g, w), for an x whose values are not looked at."""

    @staticmethod
    def forward(gradient: Tensor, weight: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        return geometry.input_gradient(gradient, weight, x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        gradient, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(gradient, weight)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
        gradient, weight = ctx.saved_tensors
        need_gradient, need_weight, *_ = ctx.needs_input_grad
        return (
            _Forward.apply(second, weight, None, ctx.geometry) if need_gradient else None,
            _WeightGradient.apply(second, gradient, weight.detach(), ctx.geometry) if need_weight else None,
            None,
            None,
        )


class _WeightGradient(torch.autograd.Function):
    """W(x, g), for a weight whose values are not looked at."""

    @staticmethod
    def forward(x: Tensor, gradient: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        return geometry.weight_gradient(x, gradient, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, gradient, _, ctx.geometry = inputs
        ctx.save_for_backward(x, gradient)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, ...]:
        x, gradient = ctx.saved_tensors
        need_x, need_gradient, *_ = ctx.needs_input_grad
        return (
            _InputGradient.apply(gradient, second, x.detach(), ctx.geometry) if need_x else None,
            _Forward.apply(x, second, None, ctx.geometry) if need_gradient else None,
            None,
            None,
        )
