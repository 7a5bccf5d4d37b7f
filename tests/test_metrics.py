"""Metrics against independent references in float64."""

import numpy as np
import pytest
import torch
from scipy import linalg
from scipy.spatial.distance import cdist

from synthoma.errors import EvaluationError
from synthoma.metrics.frechet import Moments, fd, fd_from_moments
from synthoma.metrics.inception_score import inception_score
from synthoma.metrics.kid import kid, kid_with_error
from synthoma.metrics.nearest import nearest
from synthoma.metrics.pair import Pair, Reference
from synthoma.metrics.prdc import prdc


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) / np.sqrt(d)
    return rng.standard_normal((n, d)) @ mixing + shift


def reference_fd(x: np.ndarray, y: np.ndarray) -> float:
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(a @ b).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * np.trace(root))


def reference_kid(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """KID with explicit loops over pairs, and the mean kernel value."""
    kernel = lambda a, b: (np.dot(a, b) / len(a) + 1) ** 3  # noqa: E731
    xx = [kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [kernel(a, b) for a in x for b in y]
    return float(np.mean(xx) + np.mean(yy) - 2 * np.mean(xy)), float(np.mean(np.abs(xy)))


def reference_prdc(fake: np.ndarray, real: np.ndarray, k: int) -> tuple[float, ...]:
    radii_real = np.sort(cdist(real, real), axis=1)[:, k]
    radii_fake = np.sort(cdist(fake, fake), axis=1)[:, k]
    between = cdist(real, fake)
    inside = between < radii_real[:, None]
    return (
        inside.any(axis=0).mean(),
        (between < radii_fake[None, :]).any(axis=1).mean(),
        inside.sum(axis=0).mean() / k,
        (between.min(axis=1) < radii_real).mean(),
    )


def test_fd_equals_sqrtm_where_there_are_more_images_than_features() -> None:
    x, y = features(200, 40, 0), features(150, 40, 1, shift=0.3)
    assert fd(x, y) == pytest.approx(reference_fd(x, y), rel=1e-6)
    assert Pair(x, y).fd() == pytest.approx(reference_fd(x, y), rel=1e-6)


def test_fd_with_fewer_images_than_features_equals_the_covariance_formula() -> None:
    x, y = features(30, 60, 0), features(25, 60, 1, shift=0.2)
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))  # sqrtm is imprecise for singular matrices
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    product = np.linalg.eigvalsh(root @ np.cov(y, rowvar=False) @ root)
    traces = np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + traces - 2 * np.sqrt(np.clip(product, 0, None)).sum()
    assert fd(x, y) == pytest.approx(expected, rel=1e-6)
    assert Pair(x, y).fd() == pytest.approx(expected, rel=1e-6)


def test_fd_knows_singular_covariances_and_equal_sets() -> None:
    x = features(80, 10, 0)
    x[:, 3] = 2.0
    y = features(70, 10, 1)
    y[:, 3] = 2.0
    keep = [i for i in range(10) if i != 3]
    assert fd(x, y) == pytest.approx(reference_fd(x[:, keep], y[:, keep]), rel=1e-6)
    assert fd(x, x) == pytest.approx(0.0, abs=1e-6)


def test_moments_in_batches_give_the_same_fd() -> None:
    x, y = features(90, 12, 0), features(80, 12, 1, shift=1.0)
    streams = Moments(12), Moments(12)
    for stream, values in zip(streams, (x, y), strict=True):
        for batch in np.array_split(values, 7):
            stream.add(batch)
    assert fd_from_moments(*streams) == pytest.approx(fd(x, y), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kid_equals_brute_force(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthoma.metrics.kid.BLOCK", 16)  # several blocks, the last one ragged
    x, y = features(45, 20, 0), features(38, 20, 1, shift)
    expected, scale = reference_kid(x, y)
    assert abs(kid(x, y) - expected) < 1e-9 * scale
    assert abs(float(Pair(x, y).kid()) - expected) < 1e-9 * scale


def test_kid_error_is_the_delete_one_jackknife() -> None:
    x, y = features(20, 8, 0), features(17, 8, 1, 0.4)
    without_x = np.array([kid(np.delete(x, i, 0), y) for i in range(20)])
    without_y = np.array([kid(x, np.delete(y, i, 0)) for i in range(17)])
    expected = np.sqrt(19 * without_x.var() + 16 * without_y.var())
    assert kid_with_error(x, y).error == pytest.approx(expected, rel=1e-9)


def test_kid_of_groups_leaves_out_pairs_within_a_group() -> None:
    x, y = features(20, 6, 0), features(12, 6, 1)
    groups = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 1])
    kernel = (y @ y.T / 6 + 1) ** 3
    different = groups[:, None].numpy() != groups[None, :].numpy()
    xx = (x @ x.T / 6 + 1) ** 3
    expected = (xx.sum() - np.trace(xx)) / (20 * 19) + kernel[different].mean() - 2 * ((x @ y.T / 6 + 1) ** 3).mean()
    assert float(Pair(x, y, None, groups).kid()) == pytest.approx(expected, rel=1e-9)


def test_kid_of_chosen_groups_equals_kid_of_their_rows() -> None:
    x, y = features(30, 6, 0), features(24, 6, 1, 0.3)
    groups = torch.arange(24) // 3
    chosen_x, chosen_y = torch.arange(30)[None] % 2 == 0, torch.arange(8)[None] % 2 == 1
    rows = chosen_y[0][groups]
    subset = Pair(x[::2], y[rows.numpy()], None, torch.unique(groups[rows], return_inverse=True)[1])
    assert float(Pair(x, y, None, groups).kid(chosen_x, chosen_y)) == pytest.approx(float(subset.kid()), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_prdc_equals_brute_force_exactly(shift: float) -> None:
    fake, real = features(120, 16, 0, shift), features(90, 16, 1)
    assert tuple(prdc(fake, real, k=5)) == pytest.approx(reference_prdc(fake, real, 5), abs=1e-15)
    assert tuple(Pair(fake, real).prdc(k=5)) == tuple(prdc(fake, real, k=5))


def test_metrics_of_row_subsets_equal_those_of_the_rows() -> None:
    x, y = features(60, 16, 0), features(50, 16, 1, 0.2)
    rows_x, rows_y = torch.arange(0, 60, 2), torch.arange(0, 50, 3)
    pair = Pair(x, y)
    assert pair.fd(rows_x, rows_y) == pytest.approx(fd(x[::2], y[::3]), rel=1e-9)
    assert tuple(pair.prdc(rows_x, rows_y)) == tuple(prdc(x[::2], y[::3]))


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_single_precision_of_large_sets_stays_far_below_any_interval(
    shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features away from zero, as those of networks are; 20 copies among them, which are at distance zero exactly."""
    x, y = features(300, 40, 0, shift) + 1, features(260, 40, 1) + 1
    x[:20] = y[:20]
    chosen_x, chosen_y = torch.arange(300)[None] % 2 == 0, torch.arange(260)[None] % 2 == 1
    double = Pair(x, y)
    monkeypatch.setattr("synthoma.metrics.pair.SINGLE_FROM", 100)
    single = Pair(x, Reference(y))
    scale = reference_kid(x, y)[1]
    assert single.distances[1].dtype == torch.float32
    assert abs(float(single.kid()) - float(double.kid())) < 1e-7 * scale
    assert abs(float(single.kid(chosen_x, chosen_y)) - float(double.kid(chosen_x, chosen_y))) < 1e-6 * scale
    assert tuple(single.prdc()) == tuple(double.prdc())
    assert single.fd() == pytest.approx(double.fd(), rel=1e-12)
    # Fewer images than features: the root of a singular matrix knows half of the digits.
    assert single.fd(torch.arange(30), torch.arange(35)) == pytest.approx(fd(x[:30], y[:35]), rel=1e-7)
    assert (single.distances[1].diagonal()[:20] == 0).all()
    assert (single.distances[0].diagonal() == 0).all()


def test_one_reference_serves_several_pairs() -> None:
    y, groups = features(50, 16, 1), torch.arange(50) // 2
    reference = Reference(y, groups)
    for seed in (0, 2):
        x = features(60, 16, seed, 0.2)
        shared, own = Pair(x, reference), Pair(x, y, None, groups)
        assert torch.equal(shared.kid(), own.kid())
        assert (shared.fd(), shared.prdc()) == (own.fd(), own.prdc())


def test_inception_score_of_known_cases() -> None:
    assert inception_score(np.eye(10)[np.arange(200) % 10]) == pytest.approx(10.0)
    assert inception_score(np.full((50, 10), 0.1)) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), 100)
    parts = [np.exp(np.mean(np.sum(q * np.log(q / q.mean(0)), axis=1))) for q in np.split(p, 10)]
    assert inception_score(p, splits=10) == pytest.approx(np.mean(parts), rel=1e-9)


def test_nearest_finds_what_brute_force_finds_and_copies_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthoma.metrics.nearest.BLOCK", 13)
    x, y = features(40, 10, 0) + 100, features(50, 10, 1) + 100
    x[7] = y[31]
    distances, rows = nearest(x, y, k=3)
    assert np.array_equal(rows.numpy(), np.argsort(cdist(x, y), axis=1)[:, :3])
    assert distances[7, 0] == 0
    assert rows[7, 0] == 31


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), "two spaces"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "needs"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "not finite"),
        (np.zeros((5, 3, 2)), np.zeros((5, 3)), "feature vectors"),
    ],
)
def test_what_cannot_be_measured_is_refused(x: np.ndarray, y: np.ndarray, words: str) -> None:
    for metric in (kid, fd, prdc):
        with pytest.raises(EvaluationError, match=words):
            metric(x, y)
