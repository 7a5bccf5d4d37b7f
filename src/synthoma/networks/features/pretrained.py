"""Extractors from a weights file of the user's, recognised by the names of its tensors. Nothing is ever downloaded."""

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from synthoma.errors import EvaluationError
from synthoma.networks.features.extractor import BaseExtractor, Measured, ValueRange, run_batches, three_channels
from synthoma.networks.features.inception import FidInception
from synthoma.networks.features.mobilenet import MobileNetV2, has_folded_norms
from synthoma.networks.features.squeezenet import SqueezeNet
from synthoma.run import file_sha256

VERSION = 1
_BATCH = 32
_SIDE = 224
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network whose files are known: `marks` are tensor names and shapes that tell it from the others."""

    name: str
    title: str
    licence: str
    dimension: int
    build: Callable[[], nn.Module]
    marks: dict[str, tuple[int, ...]]


ARCHITECTURES = (
    Architecture(
        "inception_v3_fid",
        "Inception v3 of 2015-12-05 (the network of FID)",
        "Apache-2.0 (TensorFlow models; torch-fidelity's file)",
        2048,
        FidInception,
        {"Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1), "fc.weight": (1008, 2048)},
    ),
    Architecture(
        "mobilenet_v2",
        "MobileNetV2 (ImageNet)",
        "as the file's source says; the TensorFlow models are Apache-2.0",
        1280,
        MobileNetV2,
        {"features.18.0.weight": (1280, 320, 1, 1), "classifier.1.weight": (1000, 1280)},
    ),
    Architecture(
        "squeezenet1_1",
        "SqueezeNet 1.1 (ImageNet)",
        "as the file's source says; SqueezeNet is BSD-2-Clause",
        512,
        SqueezeNet,
        {"features.12.expand3x3.weight": (256, 64, 3, 3), "classifier.1.weight": (1000, 512, 1, 1)},
    ),
)


class Pretrained(BaseExtractor):
    """A known network with weights from a file; grey images are repeated to three channels."""

    def __init__(self, path: Path) -> None:
        state = read_state(path)
        architecture = recognise(state, path)
        self.name, self.title, self.licence = architecture.name, architecture.title, architecture.licence
        self.dimension = architecture.dimension
        self.is_fid_inception = architecture.build is FidInception
        self._network = _load(architecture, state, path)
        if self.is_fid_inception:
            self.preprocessing = "values 0 to 255, TensorFlow 1 bilinear to 299 x 299, (x - 128) / 128"
            self._prepare: Callable[[Tensor], Tensor] = _to_bytes
        elif architecture.build is MobileNetV2 and has_folded_norms(state):
            self.preprocessing = "antialiased bicubic to 224 x 224, 8 bits, x / 127.5 - 1"
            self._prepare = lambda images: _resized(images) * 2 - 1
        else:
            self.preprocessing = "antialiased bicubic to 224 x 224, 8 bits, ImageNet mean and standard deviation"
            self._prepare = lambda images: _normalised(_resized(images))
        identity = f"{self.name}/{VERSION}/{self.preprocessing}/{file_sha256(path)}"
        self.hash = hashlib.sha256(identity.encode()).hexdigest()[:16]

    def measure(self, images: NDArray[np.generic], value_range: ValueRange) -> Measured:
        """Features [n, d] and probabilities [n, classes] of 2D images with one or three channels."""
        return run_batches(images, value_range, self._features, _BATCH)

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        rgb = self._prepare(three_channels(images, self.name)).contiguous(memory_format=torch.channels_last)
        features, logits = self._network(rgb)
        return features, logits.softmax(dim=1)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a state dict, which is read without running any code from it."""
    if not path.is_file():
        raise EvaluationError(f"{path} does not exist; evaluation.weights lists files with weights.")
    try:
        if path.suffix == ".safetensors":
            state: object = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise EvaluationError(
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors. Give a state dict saved by "
            "torch.save, or a .safetensors file."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EvaluationError(
            f"{path} is no state dict (names with tensors); save `model.state_dict()`, not the model."
        )
    return state


def recognise(state: dict[str, Tensor], path: Path) -> Architecture:
    """The architecture whose marks are among the tensors; `EvaluationError` lists those that are known."""
    for architecture in ARCHITECTURES:
        if all(name in state and tuple(state[name].shape) == shape for name, shape in architecture.marks.items()):
            return architecture
    known = ", ".join(architecture.title for architecture in ARCHITECTURES)
    raise EvaluationError(f"{path} holds weights of no known feature extractor. Known: {known}.")


def _load(architecture: Architecture, state: dict[str, Tensor], path: Path) -> nn.Module:
    with torch.device("meta"):
        network = architecture.build()
    # Some files leave out the counters of batches that batch norms have; they do not enter the result.
    counters = {
        name: torch.zeros((), dtype=torch.int64) for name in network.state_dict() if name.endswith("batches_tracked")
    }
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    try:
        network.load_state_dict(counters | tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise EvaluationError(f"{path} looks like {architecture.title} but does not fit it: {error}") from error
    return network.eval().requires_grad_(False)


def _to_bytes(images: Tensor) -> Tensor:
    """Unit images as whole values 0 to 255, as a PNG would hold them."""
    return (images * 255).round_()


def _resized(images: Tensor) -> Tensor:
    """Unit images at 224 x 224 (stretched where not square), rounded to 8 bits as a decoder's output would be."""
    resized = F.interpolate(_to_bytes(images), (_SIDE, _SIDE), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp_(0, 255).round_() / 255


def _normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    return (images - mean) / std
