"""Layers that are computed in another form than they are written: the form must not change what they compute."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from synthoma.networks import layers
from synthoma.networks.layers import Convolution, MapDense, TransposedConvolution

SIZES = {2: (8, 12), 3: (4, 6, 8)}


def plain(layer: Convolution, x: Tensor) -> Tensor:
    """The layer as torch's own strided convolution."""
    plain_layers = {True: (F.conv_transpose2d, F.conv_transpose3d), False: (F.conv2d, F.conv3d)}
    convolve = plain_layers[layer.transposed][layer.dim - 2]
    return convolve(x, layer.weight, layer.bias, stride=2, padding=layer.padding)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("kernel", [4, 6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "inputs", "outputs"), [(Convolution, 3, 10), (TransposedConvolution, 10, 3)])
def test_strided_layers_over_blocks_equal_torchs(
    kind: type[Convolution], inputs: int, outputs: int, bias: bool, kernel: int, dim: int
) -> None:
    random = torch.Generator().manual_seed(0)
    layer = kind(dim, inputs, outputs, kernel, stride=2, padding=(kernel - 2) // 2, bias=bias).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    x = torch.randn(2, inputs, *SIZES[dim], generator=random, dtype=torch.float64, requires_grad=True)
    assert layer._over_blocks(x)
    ours, theirs = layer(x), plain(layer, x)
    torch.testing.assert_close(ours, theirs)
    towards = torch.randn(ours.shape, generator=random, dtype=torch.float64)
    wanted = [x, *layer.parameters()]
    for mine, other in zip(
        torch.autograd.grad(ours, wanted, towards), torch.autograd.grad(theirs, wanted, towards), strict=True
    ):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("dim", [2, 3])
def test_map_dense_equals_flatten_and_linear(dim: int) -> None:
    random = torch.Generator().manual_seed(0)
    layer = MapDense(5 * torch.Size(SIZES[dim]).numel(), 2).double()
    x = torch.randn(3, 5, *SIZES[dim], generator=random, dtype=torch.float64)
    x = x.contiguous(memory_format=layers.CHANNELS_LAST[dim]).requires_grad_()
    ours, theirs = layer(x), F.linear(x.flatten(1), layer.weight, layer.bias)
    torch.testing.assert_close(ours, theirs)
    mine, weight = torch.autograd.grad(ours.square().sum(), [x, layer.weight])
    other, other_weight = torch.autograd.grad(theirs.square().sum(), [x, layer.weight])
    torch.testing.assert_close(mine, other)
    torch.testing.assert_close(weight, other_weight)
    # The reason of its being: the gradient comes back in the layout of the map.
    assert mine.is_contiguous(memory_format=layers.CHANNELS_LAST[dim])


@pytest.mark.parametrize("dim", [2, 3])
def test_maps_of_grey_images_are_channels_last_from_the_first_layer_on(dim: int) -> None:
    layer = Convolution(dim, 1, 8, 4, stride=2, padding=1)
    torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
    before = layer.weight.detach().clone()
    layers.lay_out(layer, dim, torch.device("cpu"))
    torch.testing.assert_close(layer.weight.detach(), before, rtol=0, atol=0)
    image = torch.zeros(2, 1, *SIZES[dim]).contiguous(memory_format=layers.CHANNELS_LAST[dim])
    assert layer(image).is_contiguous(memory_format=layers.CHANNELS_LAST[dim])
