"""Activation checkpointing that holds for gradients of gradients: a module keeps its input, and computes the rest again.

torch.utils.checkpoint saves memory in a first gradient only: with `create_graph=True` the graph of the first gradient
keeps every activation that it recomputed, and under `torch.func.vjp` its hooks are refused. Here the first gradient is
itself a function that keeps nothing but its inputs, so that an update with a gradient penalty holds, beyond the inputs
of the modules, the activations of one module at a time (Chen et al. 2016, applied twice).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def recomputed(module: nn.Module, x: Tensor) -> Tensor:
    """module(x), with nothing kept for the gradient but x and the parameters.

    The module is a pure function of one tensor and its parameters: no random numbers, no buffers that change. Gradients
    of first and second order are those of module(x), bit by bit, by autograd and by `torch.func.vjp` alike. Raises
    RuntimeError within torch.compile, where a vjp would lose them without a word (torch 2.13).
    """
    if torch.compiler.is_compiling():
        raise RuntimeError("recomputed activations do not compile: run this step uncompiled")
    names, parameters = zip(*module.named_parameters(), strict=True)
    result: Tensor = _Recomputed.apply(module, names, x, *parameters)
    return result


class _Recomputed(torch.autograd.Function):
    """(x, *parameters) -> module(x)."""

    @staticmethod
    def forward(module: nn.Module, names: Sequence[str], *tensors: Tensor) -> Tensor:
        with torch.no_grad():
            return _call(module, names, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.module, ctx.names, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = tuple(ctx.needs_input_grad[2:])
        found = iter(_Gradient.apply(ctx.module, ctx.names, wanted, gradient, *ctx.saved_tensors))
        return None, None, *(next(found) if want else None for want in wanted)


class _Gradient(torch.autograd.Function):
    """(gradient of the output, x, *parameters) -> gradients of those among x and the parameters that are wanted."""

    @staticmethod
    def forward(
        module: nn.Module, names: Sequence[str], wanted: Sequence[bool], gradient: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        leaves = [tensor.detach().requires_grad_(want) for tensor, want in zip(tensors, wanted, strict=True)]
        with torch.enable_grad():
            output = _call(module, names, leaves)
            return torch.autograd.grad(output, [leaf for leaf in leaves if leaf.requires_grad], gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.module, ctx.names, ctx.wanted, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *second: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[3:]
        leaves = [
            tensor.detach().requires_grad_(need or want)
            for tensor, need, want in zip(ctx.saved_tensors, needed, (True, *ctx.wanted), strict=True)
        ]
        with torch.enable_grad():
            output = _call(ctx.module, ctx.names, leaves[1:])
            asked = [leaf for leaf, want in zip(leaves[1:], ctx.wanted, strict=True) if want]
            first = torch.autograd.grad(output, asked, leaves[0], create_graph=True)
            goals = [leaf for leaf, need in zip(leaves, needed, strict=True) if need]
            found = iter(torch.autograd.grad(first, goals, second, allow_unused=True))
        return None, None, None, *(next(found) if need else None for need in needed)


def _call(module: nn.Module, names: Sequence[str], tensors: Sequence[Tensor]) -> Tensor:
    output: Tensor = functional_call(module, dict(zip(names, tensors[1:], strict=True)), (tensors[0],))
    return output
