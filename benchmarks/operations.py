"""Counts the floating-point operations of convolutions and matrix products as torch executes them, gradients included.

`torch.utils.flop_counter.FlopCounterMode` does not run under `torch.func.vjp`, and takes the weight gradient of a grouped
convolution for that of a dense one; so convolutions are counted here.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)


class OperationCount(TorchDispatchMode):
    """Within the block, `total` grows by two for each multiplication with addition."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        if operation is aten.convolution:
            self.total += convolution(args[0], args[1], result, args[6])
        elif operation is aten.convolution_backward:
            gradient, x, weight, mask = args[0], args[1], args[2], args[10]
            # The gradients of input and of weight each take the same products once more.
            self.total += convolution(x, weight, gradient, args[7]) * sum(mask[:2])
        elif operation in PRODUCTS:
            self.total += flop_registry[operation](*args, **(kwargs or {}), out_val=result)
        return result


def convolution(x: Tensor, weight: Tensor, y: Tensor, transposed: bool) -> int:
    """Each value of the coarse side (y, or x where transposed) meets the kernel, over the channels of its group."""
    return 2 * (x if transposed else y).numel() * math.prod(weight.shape[1:])
