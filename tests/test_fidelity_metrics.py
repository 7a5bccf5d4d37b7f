"""The metrics that are functions of descriptions and pairs, against plain numpy and on sets whose answer is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from synthoma.errors import EvaluationError
from synthoma.metrics.fd_infinity import fd_infinity, halves_of, least_images
from synthoma.metrics.frechet import fd
from synthoma.metrics.histogram_distance import histogram_distance, histograms
from synthoma.metrics.msssim import ms_ssim, pairs_between_groups, scales
from synthoma.metrics.pair import Pair
from synthoma.metrics.prdc import prdc
from synthoma.metrics.spectrum import radial_spectra, spectrum_distance
from synthoma.metrics.texture import directions, earth_movers, texture_distance, texture_features, texture_names
from synthoma.metrics.vendi import vendi_score
from synthoma.transforms.degrade import add_noise, gaussian_blur


def smooth(n: int, seed: int, size: tuple[int, ...] = (32, 32), channels: int = 1, sigma: float = 2.0) -> torch.Tensor:
    """Smoothed noise around 0.5: float32 [n, channels, *size] within [0, 1]."""
    noise = np.random.default_rng(seed).standard_normal((n, channels, *size))
    blurred = ndimage.gaussian_filter(noise, (0, 0, *[sigma] * len(size)), mode="wrap")
    return torch.from_numpy(np.clip(0.5 + 0.15 * blurred / blurred.std(), 0, 1)).float()


def test_vendi_is_the_exponential_of_the_entropy_of_the_similarities() -> None:
    x = np.random.default_rng(0).standard_normal((40, 7))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(unit @ unit.T / 40)
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    assert vendi_score(x) == pytest.approx(math.exp(-(eigenvalues * np.log(eigenvalues)).sum()), rel=1e-9)
    assert vendi_score(x[:5]) == pytest.approx(vendi_score(np.tile(x[:5], (3, 1))), rel=1e-9)


def test_vendi_counts_kinds_of_images() -> None:
    kinds = np.eye(6)
    for count in (1, 3, 6):
        assert vendi_score(kinds[np.arange(60) % count]) == pytest.approx(count, rel=1e-9)
    assert vendi_score(np.zeros((10, 4))) == pytest.approx(1.0, rel=1e-9)


def test_fd_infinity_takes_the_bias_away_where_images_outnumber_features() -> None:
    """Normal vectors whose true distance is known; 3 d images a side, where plain FD is far above the truth."""
    d, n = 40, 120
    spread = np.sqrt(1 / np.arange(1, d + 1))
    assert n == max(100, 3 * d) == least_images(d)
    for shift in (0.0, 0.5):
        truth = shift**2 * (spread**2).sum()
        plain, limit = [], []
        for seed in range(16):
            rng = np.random.default_rng(seed)
            x, y = (rng.standard_normal((n, d)) * spread + s * spread for s in (shift, 0.0))
            plain.append(fd(x, y))
            limit.append(fd_infinity(x, y, seed))
        error = np.std(limit, ddof=1) / 4
        assert np.mean(plain) - truth > 10 * abs(np.mean(limit) - truth)
        assert np.mean(limit) == pytest.approx(truth, abs=3 * error + 0.05 * np.mean(plain))


def test_fd_infinity_is_the_limit_of_a_line_through_all_images_and_their_halves() -> None:
    x, y = (np.random.default_rng(seed).standard_normal((91, 4)) for seed in (0, 1))
    halves = [halves_of(91, side) for side in (0, 1)]
    for parts in halves:
        assert sorted(torch.cat(parts).tolist()) == list(range(91))
    means = np.mean([fd(x[a.numpy()], y[b.numpy()]) for a, b in zip(*halves, strict=True)])
    line = np.polyfit([1 / 91, 2 / 91], [fd(x, y), means], 1)
    assert fd_infinity(x, y) == pytest.approx(line[1], rel=1e-9)
    assert Pair(x, y).fd_infinity() == pytest.approx(line[1], rel=1e-9)
    assert fd_infinity(x, y) == fd_infinity(x, y)
    assert fd_infinity(x, y, 0) != fd_infinity(x, y, 1)
    with pytest.raises(EvaluationError, match="needs 9"):
        fd_infinity(x[:8], y)


@pytest.mark.parametrize("size", [(32, 32), (24, 32), (16, 16, 16), (12, 16, 20)])
def test_spectrum_is_the_mean_power_of_each_ring(size: tuple[int, ...]) -> None:
    image = smooth(1, 0, size, channels=2).double().numpy()[0]
    window = np.ones(size)
    for axis, n in enumerate(size):
        window = window * np.hanning(n).reshape([-1 if a == axis else 1 for a in range(len(size))])
    frequencies = np.meshgrid(*[np.fft.fftfreq(n) * 2 for n in size], indexing="ij")
    radius, bins = np.sqrt(sum(f**2 for f in frequencies)), min(32, min(size) // 2)
    power = np.zeros(size)
    for channel in image:
        transformed = np.fft.fftn((channel - channel.mean()) * window)
        power += np.abs(transformed) ** 2 / math.sqrt((window**2).sum() * window.size) / len(image)
    expected = []
    for b in range(bins):
        ring = (np.rint(radius * bins - 0.5).clip(0) == b) & (radius > 0)
        if ring.any():
            expected.append(10 * np.log10(power[ring].mean() + 1e-10))
    np.testing.assert_allclose(radial_spectra(torch.from_numpy(image[None]))[0].numpy(), expected, atol=1e-6)


def test_a_wave_has_its_power_at_its_own_radius() -> None:
    x = torch.arange(64) / 64
    for cycles in (4, 16, 24):
        wave = 0.5 + 0.4 * torch.sin(2 * math.pi * cycles * x)[None, None, None, :].expand(1, 1, 64, 64)
        assert int(radial_spectra(wave)[0].argmax()) in (cycles - 1, cycles)  # 32 bins up to 32 cycles


def test_constant_images_have_a_spectrum_and_a_texture() -> None:
    flat = torch.full((2, 1, 16, 16), 0.5)
    assert torch.isfinite(radial_spectra(flat)).all()
    features = texture_features(flat)[0]
    expected = {"contrast": 0.0, "correlation": 1.0, "homogeneity": 1.0, "entropy": 0.0}
    for name, value in zip(texture_names(), features.tolist(), strict=True):
        assert value == pytest.approx(expected[name.split("_")[0]], abs=1e-12)


def test_texture_agrees_with_a_plain_count_of_pairs() -> None:
    image = smooth(1, 3, (9, 8))[0, 0].numpy()
    levels = np.clip((image.astype(np.float64) * 16).astype(int), 0, 15)
    columns = []
    for distance in (1, 2):
        found = []
        for dy, dx in directions(2):
            p = np.zeros((16, 16))
            for y in range(9):
                for x in range(8):
                    v, w = y + dy * distance, x + dx * distance
                    if 0 <= v < 9 and 0 <= w < 8:
                        p[levels[y, x], levels[v, w]] += 1
                        p[levels[v, w], levels[y, x]] += 1
            p /= p.sum()
            i, j = np.mgrid[:16, :16]
            mean = (i * p).sum()
            variance = ((i - mean) ** 2 * p).sum()
            entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
            correlation = ((i - mean) * (j - mean) * p).sum() / variance
            found.append([((i - j) ** 2 * p).sum(), correlation, (p / (1 + (i - j) ** 2)).sum(), entropy])
        columns += np.mean(found, axis=0).tolist()
    features = texture_features(torch.from_numpy(image[None, None]))[0].numpy()
    np.testing.assert_allclose(features, columns, atol=1e-10)
    assert (len(directions(2)), len(directions(3))) == (4, 13)


def test_texture_does_not_change_when_a_volume_is_turned() -> None:
    volume = smooth(1, 0, (8, 9, 10))
    turned = volume.permute(0, 1, 4, 2, 3).flip(2)
    np.testing.assert_allclose(texture_features(volume).numpy(), texture_features(turned).numpy(), atol=1e-10)


def test_earth_movers_distances_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((31, 3)), rng.standard_normal((47, 3)) * 2 + 1
    expected = [stats.wasserstein_distance(x[:, k], y[:, k]) for k in range(3)]
    np.testing.assert_allclose(earth_movers(torch.from_numpy(x), torch.from_numpy(y)).numpy(), expected, rtol=1e-9)


def test_histogram_distance_is_in_hounsfield_units() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(-600, 100, (20, 1, 16, 16))
    x, y = (histograms(torch.from_numpy(v), (-1200.0, 400.0)) for v in (real + 50, real))
    assert histogram_distance(x, y, 1600 / 256) == pytest.approx(50, abs=0.5)
    other = rng.normal(-500, 180, (20, 1, 16, 16))
    z = histograms(torch.from_numpy(other), (-1200.0, 400.0))
    expected = stats.wasserstein_distance(other.clip(-1200, 400).ravel(), real.clip(-1200, 400).ravel())
    assert histogram_distance(z, y, 1600 / 256) == pytest.approx(expected, abs=1600 / 256)
    assert torch.allclose(z.sum(dim=1), torch.ones(20, dtype=torch.float64))


def reference_ms_ssim(a: np.ndarray, b: np.ndarray, levels: int) -> float:
    """Wang et al. in numpy for one channel in any number of dimensions."""
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:levels]
    weights = weights / weights.sum()

    def mean(x: np.ndarray) -> np.ndarray:
        inner = tuple(slice(5, -5) for _ in range(x.ndim))
        return ndimage.gaussian_filter(x, 1.5, truncate=5 / 1.5)[inner]

    result = 1.0
    for level in range(levels):
        mu, nu = mean(a), mean(b)
        vx, vy, cov = mean(a * a) - mu**2, mean(b * b) - nu**2, mean(a * b) - mu * nu
        structure = (2 * cov + 9e-4) / (vx + vy + 9e-4)
        luminance = (2 * mu * nu + 1e-4) / (mu**2 + nu**2 + 1e-4)
        term = structure.mean() if level < levels - 1 else (luminance * structure).mean()
        result *= max(term, 0.0) ** weights[level]
        shape = [part for n in a.shape for part in (n // 2, 2)]
        a, b = (v[tuple(slice(0, n // 2 * 2) for n in v.shape)].reshape(shape) for v in (a, b))
        a, b = (v.mean(axis=tuple(range(1, v.ndim, 2))) for v in (a, b))
    return result


@pytest.mark.parametrize(("size", "levels"), [((48, 44), 3), ((11, 20), 1), ((24, 22, 26), 2)])
def test_ms_ssim_agrees_with_a_plain_computation(size: tuple[int, ...], levels: int) -> None:
    assert scales(size) == levels
    x = smooth(2, 0, size)
    y = (0.7 * x + 0.3 * smooth(2, 1, size)).clamp(0, 1)
    values = ms_ssim(x, y)
    for a, b, value in zip(x.double().numpy(), y.double().numpy(), values.tolist(), strict=True):
        assert value == pytest.approx(reference_ms_ssim(a[0], b[0], levels), abs=1e-5)
    assert ms_ssim(x, x).tolist() == pytest.approx([1.0, 1.0])
    assert float(ms_ssim(x, y).mean()) > float(ms_ssim(x, smooth(2, 2, size)).mean())
    with pytest.raises(EvaluationError, match="at least 11"):
        ms_ssim(x[..., :10], y[..., :10])


def test_pairs_join_different_groups_and_are_not_repeated() -> None:
    groups = torch.arange(30) // 3
    pairs = pairs_between_groups(groups, 60, seed=0)
    assert len(pairs) == 60 == len({tuple(pair) for pair in pairs.tolist()})
    assert bool((groups[pairs[:, 0]] != groups[pairs[:, 1]]).all())
    assert int(torch.bincount(pairs.flatten(), minlength=30).min()) >= 2
    assert len(pairs_between_groups(torch.zeros(8, dtype=torch.int64), 5, seed=0)) == 0


@pytest.mark.parametrize("damage", ["blur", "noise"])
def test_spectrum_and_texture_respond_to_damage_in_order(damage: str) -> None:
    base, reference = smooth(150, 0, channels=3), smooth(150, 1, channels=3)
    if damage == "blur":
        levels = [gaussian_blur(base, sigma) for sigma in (0.7, 1.4, 2.8)]
    else:
        levels = [add_noise(base, std, 0).clamp(0, 1) for std in (0.02, 0.05, 0.12)]
    for describe, distance in ((radial_spectra, spectrum_distance), (texture_features, texture_distance)):
        real = describe(reference)
        values = [distance(describe(images), real) for images in (base, *levels)]
        assert values == sorted(values)
        assert values[1] > 1.5 * values[0]
        assert values[3] > 4 * values[0]


def test_dropped_kinds_lower_recall_coverage_and_vendi_in_order() -> None:
    """Eight kinds of real images, of which the generator makes 8, 4, 2, 1, as many images each time."""
    centres = np.random.default_rng(0).standard_normal((8, 16)) * 4
    real, base = (np.random.default_rng(seed).standard_normal((400, 16)) for seed in (1, 2))
    real += centres[np.arange(400) % 8]
    measured = []
    for kinds in (8, 4, 2, 1):
        made = base + centres[np.arange(400) % kinds]
        found = prdc(made, real)
        measured.append((found.recall, found.coverage, vendi_score(made)))
        assert found.precision > 0.6  # what is made looks real all the same
    for values in zip(*measured, strict=True):
        assert all(first > 1.3 * second for first, second in itertools.pairwise(values)), values


def test_likeness_within_a_set_rises_when_images_repeat() -> None:
    base = smooth(60, 0, (32, 32))
    pairs = pairs_between_groups(torch.arange(60), 120, seed=0)
    values = []
    for kinds in (60, 6, 2, 1):
        images = base[torch.arange(60) % kinds]
        values.append(float(ms_ssim(images[pairs[:, 0]], images[pairs[:, 1]]).mean()))
    assert values == sorted(values)
    assert values[0] < 0.5
    assert values[3] == pytest.approx(1.0)
