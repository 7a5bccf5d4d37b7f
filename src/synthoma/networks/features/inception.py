"""The Inception v3 of the Fréchet Inception distance, as the TensorFlow graph of 2015-12-05 has it.

It differs from the published Inception v3 (Szegedy et al., CVPR 2016): 1008 outputs, average pooling that does not
count the border, a maximum in the last block, and TensorFlow 1's bilinear resize, which aligns upper left corners.
Parameter names are those of torch-fidelity's file `weights-inception-2015-12-05-6726825d.pth`, which loads strictly.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=0, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)
        self._border = (sides[0] // 2, sides[1] // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu_()

    def same(self) -> "Convolution":
        """The same layer with a border of zeros that keeps the size."""
        self.conv.padding = self._border
        return self


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class InceptionA(nn.Module):
    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64, 1)
        self.branch5x5_1 = Convolution(inputs, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5).same()
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3).same()
        self.branch3x3dbl_3 = Convolution(96, 96, 3).same()
        self.branch_pool = Convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch1x1(x), five, three, self.branch_pool(_average(x))), dim=1)


class InceptionB(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3).same()
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat((self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)), dim=1)


class InceptionC(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 192, 1)
        self.branch7x7_1 = Convolution(inputs, width, 1)
        self.branch7x7_2 = Convolution(width, width, (1, 7)).same()
        self.branch7x7_3 = Convolution(width, 192, (7, 1)).same()
        self.branch7x7dbl_1 = Convolution(inputs, width, 1)
        self.branch7x7dbl_2 = Convolution(width, width, (7, 1)).same()
        self.branch7x7dbl_3 = Convolution(width, width, (1, 7)).same()
        self.branch7x7dbl_4 = Convolution(width, width, (7, 1)).same()
        self.branch7x7dbl_5 = Convolution(width, 192, (1, 7)).same()
        self.branch_pool = Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat((self.branch1x1(x), single, double, self.branch_pool(_average(x))), dim=1)


class InceptionD(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(inputs, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(inputs, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7)).same()
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1)).same()
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat((three, seven, F.max_pool2d(x, 3, stride=2)), dim=1)


class InceptionE(nn.Module):
    def __init__(self, inputs: int, maximum: bool) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 320, 1)
        self.branch3x3_1 = Convolution(inputs, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3)).same()
        self.branch3x3_2b = Convolution(384, 384, (3, 1)).same()
        self.branch3x3dbl_1 = Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3).same()
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3)).same()
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1)).same()
        self.branch_pool = Convolution(inputs, 192, 1)
        self.maximum = maximum

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.maximum else _average(x)
        branches = (
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        )
        return torch.cat(branches, dim=1)


class FidInception(nn.Module):
    """RGB [n, 3, y, x] with values 0 to 255 -> pooled features [n, 2048] and logits without bias [n, 1008]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3).same()
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280, maximum=False)
        self.Mixed_7c = InceptionE(2048, maximum=True)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = (resize_like_tensorflow1(images, (SIDE, SIDE)) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        features = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean(dim=(2, 3))
        # The bias belongs to a softmax over 1008 outputs that the score of 2016 was computed without.
        return features, features @ self.fc.weight.T


def resize_like_tensorflow1(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of [n, c, y, x] in which output pixel i lies at i * (old / new) of the input (no half pixels)."""
    rows = _bilinear_weights(images.shape[2], size[0]).to(images)
    columns = _bilinear_weights(images.shape[3], size[1]).to(images)
    return torch.einsum("ij,ncjk,lk->ncil", rows, images, columns)


def _bilinear_weights(old: int, new: int) -> Tensor:
    """Weights [new, old] of the input pixels in each output pixel."""
    place = torch.arange(new, dtype=torch.float32) * (old / new)
    lower = place.floor().long().clamp(max=old - 1)
    upper = (lower + 1).clamp(max=old - 1)
    share = place - lower
    weights = torch.zeros(new, old)
    weights.scatter_add_(1, lower[:, None], (1 - share)[:, None])
    return weights.scatter_add_(1, upper[:, None], share[:, None])
