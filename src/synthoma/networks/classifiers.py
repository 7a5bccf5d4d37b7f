"""The fixed classifier of utility studies: a small residual network of MONAI (extra `utility`), in 2D and 3D.

He et al. 2016 ("Deep residual learning for image recognition") with one block a stage. It is small on purpose: a study
makes dozens of fits on the processor at hand, and what is compared is the training images, not the classifiers.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from synthoma.errors import EvaluationError, MissingExtraError

PLANES = (16, 32, 64, 128)
# The stem halves, thirds, ... an image until its longest side is at most this long.
_LONGEST = {2: 64, 3: 24}
_SHORTEST = 8
# A grid shorter than this after the stem is not halved once more before the first stage.
_POOLED = 16
_IMAGES_AT_ONCE = 64


def build_classifier(channels: int, size: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """A network [n, channels, *size] -> logits [n, classes] whose initial weights depend on `seed` only.

    Raises `MissingExtraError` without MONAI, and `EvaluationError` for fewer than two classes or too small images.
    """
    if len(size) not in (2, 3) or classes < 2 or min(size) < _SHORTEST:
        raise EvaluationError(
            f"a classifier takes images of two or three axes of at least {_SHORTEST} pixels, and two or more classes; these are "
            f"{' x '.join(str(n) for n in size)} in {classes} class{'' if classes == 1 else 'es'}."
        )
    try:
        from monai.networks.nets import ResNet
    except ImportError as error:
        raise MissingExtraError(
            "utility studies and selection use a classifier of MONAI: pip install 'synthoma[utility]'"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = ResNet(num_classes=classes, **_options(channels, size))
    return network


def describe_classifier(channels: int, size: tuple[int, ...], classes: int) -> dict[str, Any]:
    """What a protocol states of the network: its options, its parameters, and the GFLOP of one image forward.

    A multiplication and its addition count as two operations.
    """
    network = build_classifier(channels, size, classes, seed=0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, channels, *size))
    return {
        "network": "monai.networks.nets.ResNet",
        "options": {name: list(v) if isinstance(v, tuple) else v for name, v in _options(channels, size).items()},
        "classes": classes,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "gflop_forward": round(counter.get_total_flops() / 1e9, 4),
    }


@torch.no_grad()
def classify(network: nn.Module, images: Tensor) -> Tensor:
    """Class probabilities of images in [-1, 1] with running statistics: float64 [n, classes] on the CPU."""
    network.eval()
    parts = [network(block).double().softmax(dim=1).cpu() for block in images.split(_IMAGES_AT_ONCE)]
    return torch.cat(parts)


def _options(channels: int, size: tuple[int, ...]) -> dict[str, Any]:
    dim = len(size)
    stride = -(-max(size) // _LONGEST[dim])
    return {
        "block": "basic",
        "layers": (1, 1, 1, 1),
        "block_inplanes": PLANES,
        "spatial_dims": dim,
        "n_input_channels": channels,
        "conv1_t_size": max(3, 2 * stride - 1),  # every pixel is seen, whatever the stride
        "conv1_t_stride": stride,
        "no_max_pool": max(size) // stride < _POOLED,
        "bias_downsample": False,
    }
