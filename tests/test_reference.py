"""Our metrics against torch-fidelity's, from the same features. Runs where torch-fidelity can be imported (extra: reference).

torch-fidelity imports torchvision, which does not load beside every build of torch (docs/decisions.md); without it the
tests are skipped and say so, and the others compare with references of their own.
"""

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from synthoma.metrics.frechet import fd
from synthoma.metrics.inception_score import inception_score
from synthoma.metrics.kid import kid
from synthoma.metrics.prdc import prdc

# Features of the size of a small clinic's sets; d below and above n.
SHAPES = [(600, 64), (300, 512)]


def reference(name: str) -> ModuleType:
    """A module of torch-fidelity; skips the test where it cannot be imported."""
    try:
        return importlib.import_module(f"torch_fidelity.{name}")
    except ImportError as error:
        pytest.skip(f"torch-fidelity cannot be imported ({error}): pip install 'synthoma[reference]'")
    except RuntimeError as error:  # what a torchvision of another build of torch raises
        pytest.skip(f"torch-fidelity's torchvision does not fit this torch ({error})")


def features(shape: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and synthetic features [n, d] float64, skewed as those behind a ReLU are, and moved apart."""
    rng = np.random.default_rng(seed)
    spread = 1 / np.sqrt(np.arange(1, shape[1] + 1))
    real = np.maximum(rng.standard_normal(shape) * spread + 0.2, 0)
    synthetic = np.maximum(rng.standard_normal(shape) * spread * 1.05 + 0.21, 0)
    return torch.from_numpy(real), torch.from_numpy(synthetic)


@pytest.mark.parametrize("shape", SHAPES)
def test_fd(shape: tuple[int, int]) -> None:
    theirs = reference("metric_fid")
    real, synthetic = features(shape, 0)
    statistics = [theirs.fid_features_to_statistics(part) for part in (synthetic, real)]
    found = theirs.fid_statistics_to_metric(*statistics, False)[theirs.KEY_METRIC_FID]
    # Below d images the root of a singular product: their general eigenvalues lose half of the digits there.
    assert fd(synthetic, real) == pytest.approx(found, rel=1e-8 if shape[0] > shape[1] else 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_kid(shape: tuple[int, int]) -> None:
    """One subset of all images is the estimator that we use."""
    theirs = reference("metric_kid")
    real, synthetic = features(shape, 1)
    options: dict[str, Any] = {"kid_subsets": 1, "kid_subset_size": shape[0], "verbose": False}
    found = theirs.kid_features_to_metric(synthetic, real, **options)[theirs.KEY_METRIC_KID_MEAN]
    assert kid(synthetic, real) == pytest.approx(found, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_precision_and_recall(shape: tuple[int, int], k: int) -> None:
    theirs = reference("metric_prc")
    real, synthetic = features(shape, 2)
    options: dict[str, Any] = {"prc_neighborhood": k, "prc_batch_size": 200, "save_cpu_ram": False, "verbose": False}
    found = theirs.prc_features_to_metric(
        synthetic, real, **options
    )  # this order since 0.4; before it was the other one
    ours = prdc(synthetic, real, k)
    assert 0 < ours.precision < 1
    assert 0 < ours.recall < 1
    assert (ours.precision, ours.recall) == pytest.approx(
        (found[theirs.KEY_METRIC_PRECISION], found[theirs.KEY_METRIC_RECALL]), abs=1e-6
    )


@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score(splits: int) -> None:
    theirs = reference("metric_isc")
    logits = torch.from_numpy(np.random.default_rng(3).standard_normal((500, 100)) * 3)
    found = theirs.isc_features_to_metric(logits, splits=splits, shuffle=False)[theirs.KEY_METRIC_ISC_MEAN]
    assert inception_score(logits.softmax(dim=1), splits) == pytest.approx(found, rel=1e-10)
