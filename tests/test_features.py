"""Feature spaces: what they see, whose weights they know, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from synthoma.errors import EvaluationError
from synthoma.networks.features import build_extractor, load_extractor
from synthoma.networks.features.inception import FidInception, resize_like_tensorflow1
from synthoma.networks.features.mobilenet import MobileNetV2
from synthoma.networks.features.randconv import RandConv
from synthoma.networks.features.squeezenet import SqueezeNet
from synthoma.transforms.degrade import add_noise, gaussian_blur


def pictures(n: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((n, shape[0], *[4] * (len(shape) - 1))).astype(np.float32))
    smooth = nn.functional.interpolate(coarse, shape[1:], mode="bilinear" if len(shape) == 3 else "trilinear")
    texture = rng.normal(0, 0.05, smooth.shape)
    return np.clip(255 * (smooth.numpy() + texture), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 24, 40), (2, 16, 16), (1, 12, 16, 20), (3, 8, 8, 8)])
@pytest.mark.parametrize("name", ["randconv", "pca"])
def test_weight_free_spaces_take_any_dimension_channels_and_shape(name: str, shape: tuple[int, ...]) -> None:
    images = pictures(12, shape)
    extractor = build_extractor(name, shape[0], len(shape) - 1, reference=images, reference_key="key")
    features = extractor.features(images)
    assert features.shape == (12, extractor.dimension)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert extractor.probabilities(images) is None


def test_randconv_is_the_same_net_on_every_machine() -> None:
    """Features of a fixed picture, as they were when the space was made."""
    first, second = RandConv(2, 3), RandConv(2, 3)
    images = pictures(4, (3, 32, 32))
    assert np.array_equal(first.features(images), second.features(images))
    assert first.hash == second.hash
    ramp = np.arange(3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32) / (3 * 32 * 32)
    features = first.features(ramp, (0.0, 1.0))[0]
    assert features[[6, 100, 469]] == pytest.approx([0.11161798, -0.01622389, -1.9189042], abs=1e-4)


def test_values_count_and_not_their_encoding() -> None:
    images = pictures(6, (1, 32, 32))
    extractor = RandConv(2, 1)
    hounsfield = images.astype(np.int16) * 4 - 1000
    assert extractor.features(hounsfield, (-1000.0, 20.0)) == pytest.approx(extractor.features(images), abs=1e-4)


def test_images_do_not_influence_each_other() -> None:
    images = pictures(70, (3, 64, 64))
    extractor = RandConv(2, 3)
    assert extractor.features(images[66:68]) == pytest.approx(extractor.features(images)[66:68], abs=1e-5)


@pytest.mark.parametrize("reference", [False, True])
def test_randconv_sees_blur_and_noise_that_pca_of_pixels_overlooks(reference: bool) -> None:
    images = pictures(60, (1, 32, 32))
    extractor = RandConv(2, 1, images if reference else None, reference_key="key")
    base = extractor.features(images)
    spread = base.std(axis=0) + 1e-6
    floats = torch.from_numpy(images).float()
    for degraded in (gaussian_blur(floats, 0.7), add_noise(floats, 12.0, seed=0)):
        moved = np.abs(extractor.features(degraded.numpy()).mean(axis=0) - base.mean(axis=0)) / spread
        assert moved.max() > 2


def test_pca_is_whitened_and_named_by_its_reference() -> None:
    images = pictures(200, (1, 32, 32))
    extractor = build_extractor("pca", 1, 2, reference=images, reference_key="a")
    features = extractor.features(images)
    assert np.cov(features, rowvar=False) == pytest.approx(np.eye(extractor.dimension), abs=0.02)
    assert build_extractor("pca", 1, 2, reference=images, reference_key="b").hash != extractor.hash
    with pytest.raises(EvaluationError, match="fitted to images of shape"):
        extractor.features(pictures(3, (1, 16, 16)))


def test_unknown_spaces_and_missing_references_are_told() -> None:
    with pytest.raises(EvaluationError, match="did you mean 'randconv'"):
        build_extractor("randcnov", 3, 2)
    with pytest.raises(EvaluationError, match="fitted to training images"):
        build_extractor("pca", 3, 2)
    with pytest.raises(EvaluationError, match="all training images are the same"):
        build_extractor("pca", 1, 2, reference=np.zeros((9, 1, 16, 16), np.uint8))


def test_inception_has_the_parameters_of_the_fid_network() -> None:
    """Names, shapes and counts of torch-fidelity's file, which has 23,885,392 values without the counters."""
    with torch.device("meta"):
        state = FidInception().state_dict()
    values = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert sum(tensor.numel() for tensor in values.values()) == 23_885_392
    assert len(values) == 2 + 94 * 5
    expected = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
        "Mixed_6b.branch7x7dbl_5.conv.weight": (192, 128, 1, 7),
        "Mixed_6e.branch7x7_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
        "fc.weight": (1008, 2048),
    }
    assert {name: tuple(values[name].shape) for name in expected} == expected


def test_resize_like_tensorflow1_aligns_upper_left_corners() -> None:
    image = torch.tensor([0.0, 10.0, 20.0]).expand(1, 1, 3, 3)
    # Output column i lies at i * 3/6 of the input, and the last one holds.
    assert resize_like_tensorflow1(image, (6, 6))[0, 0, 0].tolist() == pytest.approx([0, 5, 10, 15, 20, 20])
    unchanged = torch.rand(1, 3, 7, 5)
    assert torch.allclose(resize_like_tensorflow1(unchanged, (7, 5)), unchanged)


def saved(network: nn.Module, path: Path) -> Path:
    state = network.state_dict()
    safetensors.torch.save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("build", "name", "dimension", "classes", "suffix"),
    [
        (MobileNetV2, "mobilenet_v2", 1280, 1000, ".pth"),
        (SqueezeNet, "squeezenet1_1", 512, 1000, ".safetensors"),
        pytest.param(FidInception, "inception_v3_fid", 2048, 1008, ".pth", marks=pytest.mark.slow),
    ],
)
def test_weights_files_are_recognised_by_their_tensors(
    tmp_path: Path, build: type[nn.Module], name: str, dimension: int, classes: int, suffix: str
) -> None:
    torch.manual_seed(0)
    extractor = load_extractor(saved(build(), tmp_path / f"some name{suffix}"))
    assert (extractor.name, extractor.dimension) == (name, dimension)
    assert extractor.is_fid_inception == (name == "inception_v3_fid")
    grey, colour = pictures(2, (1, 32, 32)), pictures(2, (3, 32, 32))
    measured = extractor.measure(colour, (0.0, 255.0))
    assert measured.features.shape == (2, dimension)
    assert measured.probabilities is not None
    assert measured.probabilities.sum(axis=1) == pytest.approx(np.ones(2), abs=1e-4)
    assert measured.probabilities.shape == (2, classes)
    repeated = extractor.features(np.repeat(grey, 3, axis=1))
    assert extractor.features(grey) == pytest.approx(repeated, abs=1e-5)
    with pytest.raises(EvaluationError, match="two-dimensional"):
        extractor.features(pictures(2, (1, 8, 8, 8)))
    with pytest.raises(EvaluationError, match="2 channels"):
        extractor.features(pictures(2, (2, 32, 32)))


def test_files_that_are_no_known_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="does not exist"):
        load_extractor(tmp_path / "none.pth")
    with pytest.raises(
        EvaluationError, match=r"no known feature extractor\. Known: Inception.*MobileNetV2.*SqueezeNet"
    ):
        load_extractor(saved(nn.Linear(3, 3), tmp_path / "linear.pth"))
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "text.safetensors").write_text("not weights")
    for name in ("text.pth", "text.safetensors"):
        with pytest.raises(EvaluationError, match="cannot be read as weights"):
            load_extractor(tmp_path / name)
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")  # a pickled object: reading it would run code
    with pytest.raises(EvaluationError, match="cannot be read as weights"):
        load_extractor(tmp_path / "module.pth")
    state = SqueezeNet().state_dict()
    del state["features.3.squeeze.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(EvaluationError, match=r"(?s)looks like SqueezeNet.*features\.3\.squeeze\.bias"):
        load_extractor(tmp_path / "part.pth")


def test_the_hash_follows_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = load_extractor(saved(SqueezeNet(), tmp_path / "a.pth"))
    second = load_extractor(saved(SqueezeNet(), tmp_path / "b.pth"))
    assert first.hash != second.hash


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "preprocessing"),
    [
        ("mobilenet_v2_imagenet_fp16.pth", "x / 127.5 - 1"),
        ("squeezenet1_1_imagenet.pth", "mean and standard deviation"),
    ],
)
def test_real_weights_load_strictly_and_tell_pictures_apart(data_root: Path, file: str, preprocessing: str) -> None:
    path = data_root / "weights" / file
    if not path.is_file():
        pytest.skip(f"no {file} among the data")
    extractor = load_extractor(path)
    assert preprocessing in extractor.preprocessing
    measured = extractor.measure(pictures(8, (3, 64, 64)), (0.0, 255.0))
    assert measured.probabilities is not None
    assert np.unique(measured.features, axis=0).shape[0] == 8
    assert measured.probabilities.max() > 0.02  # a thousand classes: untrained weights give 0.001 each
