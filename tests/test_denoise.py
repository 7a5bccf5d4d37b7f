"""Noise goes, edges stay, and what becomes of fine texture is measured: the methods, the check, and both in `prepare`."""

import sys
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from preparation_fixture import make_recipe, run, sums
from synthoma.dataset import Dataset
from synthoma.errors import DataError, MissingExtraError, RecipeError
from synthoma.phantoms import draw, write_phantom
from synthoma.preparation.denoise import denoise, estimate_noise, require_method
from synthoma.preparation.resize import resize
from synthoma.preparation.texture_check import TextureCheck, compare, texture_kept
from synthoma.recipe import load_recipe

METHODS = ("bilateral", "tv", "median")
SIGMA = 6.0
# What is left of the deviation from the clean image at most, and of the slope of edges at least, where noise of 6 grey levels
# was added and its strength is estimated: (2D colour, 2D grey, 3D grey).
LEFT = {"bilateral": (0.45, 0.45, 0.45), "tv": (0.6, 0.6, 0.6), "median": (0.6, 0.6, 0.6)}
EDGES = {"bilateral": 0.95, "tv": 0.9, "median": 0.9}


def noisy(clean: np.ndarray, sigma: float = SIGMA, seed: int = 0) -> np.ndarray:
    noise = sigma * np.random.default_rng(seed).standard_normal(clean.shape)
    return np.rint((clean + noise).clip(0, 255)).astype(np.uint8)


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    spatial = (sigma,) * (image.ndim - 1)
    return np.rint(gaussian_filter(image.astype(float), (*spatial, 0))).astype(np.uint8)


@lru_cache
def cell(label: str = "light_dysplastic", index: int = 0) -> np.ndarray:
    """A phantom cell [192, 192, 3] without its own noise, as floats; chromatin is its fine texture."""
    return gaussian_filter(draw("pap-smear", label, 3, index, 192).astype(float), (0.8, 0.8, 0))


@lru_cache
def nodule() -> np.ndarray:
    """A volume [28, 40, 40, 1]: two balls with sharp edges, one of them with stripes 5 voxels wide."""
    z, y, x = np.mgrid[:28, :40, :40].astype(float)
    smooth = 60.0 + 110.0 * (np.hypot(np.hypot(z - 14, y - 12), x - 12) < 8)
    striped = np.hypot(np.hypot(z - 14, y - 26), x - 27) < 10
    values = np.where(striped, 130.0 + 22.0 * np.sin(2 * np.pi * (x + y) / 7.0), smooth)
    return gaussian_filter(values, 0.5)[..., None]


def scene(kind: str) -> np.ndarray:
    return {"colour": cell(), "grey": cell().mean(axis=-1, keepdims=True), "volume": nodule()}[kind]


@pytest.mark.parametrize("kind", ["colour", "grey", "volume"])
@pytest.mark.parametrize("method", METHODS)
def test_noise_falls_and_edges_stay(method: str, kind: str) -> None:
    clean = scene(kind)
    before = noisy(clean)
    after = denoise(before, method)
    assert after.shape == before.shape
    assert after.dtype == np.uint8
    left = np.std(after - clean) / np.std(before - clean)
    assert left < LEFT[method][("colour", "grey", "volume").index(kind)]
    found = compare(before, after)
    assert found.noise[0] == pytest.approx(SIGMA, rel=0.1)
    assert found.noise[1] < 0.45 * found.noise[0]
    assert found.edges is not None
    assert found.edges > EDGES[method]
    assert np.array_equal(after, denoise(before, method, estimate_noise(before)))  # that is what auto takes


@pytest.mark.parametrize("method", METHODS)
def test_more_strength_removes_more_noise(method: str) -> None:
    before = noisy(np.full((64, 64, 1), 120.0), 8.0)
    spreads = [denoise(before, method, strength).std() for strength in (0.4, 4.0, 16.0)]
    assert spreads[0] == before.std()  # less than half a grey level is left alone
    assert spreads[0] > spreads[1] > spreads[2]


def test_without_a_method_the_very_same_image_comes_back() -> None:
    image = noisy(cell())
    assert denoise(image, "none", 9.0) is image


@pytest.mark.parametrize("method", ["none", *METHODS])
@pytest.mark.parametrize("kind", [np.uint16, np.float32, np.int16])
def test_other_types_than_eight_bits_are_refused(method: str, kind: type) -> None:
    with pytest.raises(TypeError, match="8 bits"):
        denoise(np.zeros((20, 20, 1), kind), method)


@pytest.mark.parametrize("shape", [(30, 33, 3), (30, 33, 1), (12, 20, 17, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_an_even_image_stays_as_it_is(method: str, shape: tuple[int, ...]) -> None:
    image = np.full(shape, 93, np.uint8)
    assert estimate_noise(image) == 0
    assert np.array_equal(denoise(image, method), image)
    assert np.array_equal(denoise(image, method, 5.0), image)
    check = texture_kept([image], [denoise(image, method)])
    assert check == TextureCheck(1, 0.0, 0.0, None, None, None, None)
    assert check.noise_removed is None


@pytest.mark.parametrize("sigma", [1.5, 5.0, 12.0])
@pytest.mark.parametrize("shape", [(90, 91, 1), (64, 65, 3), (24, 25, 26, 1)])
def test_the_estimate_is_the_noise_that_was_added(shape: tuple[int, ...], sigma: float) -> None:
    ramp = np.linspace(60, 190, shape[0]).reshape(-1, *(1,) * (len(shape) - 1)) + np.zeros(shape)
    assert estimate_noise(noisy(ramp, sigma)) == pytest.approx(sigma, rel=0.07)


def test_saturated_areas_do_not_lower_the_estimate() -> None:
    image = noisy(np.full((96, 96, 1), 120.0), 5.0)
    image[:, :64] = 255
    assert estimate_noise(image) == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("shape", [(9, 11, 3), (9, 11, 1), (6, 7, 8, 1)])
def test_bilateral_is_its_formula(shape: tuple[int, ...]) -> None:
    image, sigma = np.random.default_rng(1).integers(90, 130, shape, dtype=np.uint8), 7.0
    found, values, dim = denoise(image, "bilateral", sigma), image.astype(float), len(shape) - 1
    for place in product(*(range(n) for n in shape[:-1])):
        total, weights = np.zeros(shape[-1]), 0.0
        for offset in product(range(-2, 3), repeat=dim):
            other = values[tuple(np.clip(p + o, 0, n - 1) for p, o, n in zip(place, offset, shape, strict=False))]
            colour = np.square(other - values[place]).mean() / (2 * sigma) ** 2
            weight = np.exp(-0.5 * (np.square(offset).sum() + colour))
            total, weights = total + weight * other, weights + weight
        assert np.abs(total / weights - found[place]).max() < 0.501


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"synthoma\[denoise\]"):
        denoise(noisy(cell()), "tv")
    write_phantom("pap-smear", tmp_path / "data", 42, size=32)
    with pytest.raises(MissingExtraError, match=r"synthoma\[denoise\]"):
        run(tmp_path / "data", tmp_path / "out", make_recipe(denoise="tv"))
    assert not (tmp_path / "out").exists()
    for method in ("none", "bilateral", "median"):
        require_method(method)
        denoise(noisy(cell()), method)


def true_share(clean: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """Power of fine texture kept, by the clean image: away from edges and where the texture is stronger than the noise."""
    clean, before, after = (image.mean(axis=-1) for image in (clean, before, after))

    def band(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 0.7) - gaussian_filter(image, 2.0)

    steep = np.hypot(*(gaussian_filter(clean, 1.5, order=order) for order in ((0, 1), (1, 0))))
    calm = gaussian_filter((steep > np.quantile(steep, 0.97)).astype(float), 3.0) < 0.02
    power = gaussian_filter(band(clean) ** 2, 3.0)
    here = calm & (power > 2 * gaussian_filter((band(before) - band(clean)) ** 2, 12.0))
    return float((band(clean) * band(after))[here].sum() / np.square(band(clean))[here].sum()) ** 2


@pytest.mark.parametrize(
    ("method", "strength"), [("bilateral", 4.0), ("bilateral", 12.0), ("median", 3.0), ("blur", 1.0)]
)
@pytest.mark.parametrize("label", ["light_dysplastic", "severe_dysplastic"])
def test_the_check_finds_what_the_clean_image_would_tell(label: str, method: str, strength: float) -> None:
    clean = cell(label)
    before = noisy(clean, 3.0)
    after = blurred(before, strength) if method == "blur" else denoise(before, method, strength)
    found = compare(before, after).texture
    assert found == pytest.approx(true_share(clean, before, after), abs=0.12)


def test_a_strong_blur_is_caught() -> None:
    before = [noisy(cell(label), 3.0) for label in ("light_dysplastic", "moderate_dysplastic", "severe_dysplastic")]
    check = texture_kept(before, [blurred(image, 2.5) for image in before])
    assert check.images == 3
    assert check.edges is not None
    assert check.texture is not None
    assert check.edges < 0.85  # the edges of these cells are soft
    assert check.texture < 0.25
    gentle = texture_kept(before, [denoise(image, "bilateral") for image in before])
    assert gentle.edges is not None
    assert gentle.texture is not None
    assert gentle.edges > 0.95
    assert gentle.texture > 0.7


def test_a_blurred_volume_is_caught() -> None:
    before = noisy(nodule(), 3.0)
    found = compare(before, blurred(before, 2.0))
    assert found.edges is not None
    assert found.texture is not None
    assert found.edges < 0.7
    assert found.texture < 0.3


def test_nothing_done_keeps_everything() -> None:
    image = noisy(cell(), 3.0)
    check = texture_kept([image], [image])
    assert check.edges == check.texture == 1.0
    assert check.noise_removed == 0.0


def test_noise_alone_is_no_texture() -> None:
    before = noisy(np.full((128, 128, 3), 120.0), 6.0)
    found = compare(before, blurred(before, 2.0))
    assert found.edges is None
    assert found.texture is None
    assert found.noise[1] < 0.2 * found.noise[0]


def test_images_that_are_no_pairs_are_refused() -> None:
    image = noisy(cell(), 3.0)
    with pytest.raises(ValueError, match="no image"):
        texture_kept([], [])
    with pytest.raises(ValueError, match="shorter"):
        texture_kept([image, image], [image])
    with pytest.raises(ValueError, match="changed its shape"):
        texture_kept([image], [image[1:]])


@pytest.fixture(scope="module")
def smears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of 49 phantom smears of 64 pixels, with noise of 6 grey levels."""
    root = tmp_path_factory.mktemp("smears") / "data"
    write_phantom("pap-smear", root, 49, size=64, seed=4)
    for number, path in enumerate(sorted(root.glob("*/*.jpg"))):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        Image.fromarray(noisy(pixels.astype(float), seed=number)).save(path.with_suffix(".png"))
        path.unlink()
    (root / "groups.csv").write_text((root / "groups.csv").read_text().replace(".jpg", ".png"))
    return root


def test_prepare_denoises_before_it_resizes_and_says_what_that_did(smears: Path, tmp_path: Path) -> None:
    recipe = make_recipe(size=32, denoise="bilateral", denoise_strength=6.0)
    result = run(smears, tmp_path / "out", recipe)
    dataset = Dataset.open(tmp_path / "out", full=True)
    links = pq.read_table(tmp_path / "out" / "private" / "links.parquet").to_pylist()
    file_of = {link["key"]: link["file"] for link in links}
    for row in (0, 20, 48):
        raw = np.asarray(Image.open(smears / file_of[dataset.column("key")[row]]))
        clean = denoise(raw, "bilateral", 6.0)
        np.testing.assert_array_equal(np.moveaxis(resize(clean, (32, 32), "crop"), -1, 0), dataset.images[row])
    said = [note for note in result.notes if note.startswith("Denoising removed")]
    assert len(said) == 1
    assert " % of the noise (sigma " in said[0]
    assert " % of edge sharpness" in said[0]
    assert "(bilateral, medians of 32 images)" in said[0]
    found = dataset.info["preparation"]["denoised"]
    assert found["images"] == 32
    assert found["noise_before"] > 5
    assert found["noise_after"] < 0.5 * found["noise_before"]
    assert found["edges"] > 0.9
    warned = [warning for warning in result.warnings if "Denoising keeps only" in warning]
    assert len(warned) == (found["edges"] < 0.8) + (found["texture"] < 0.8)


def test_prepare_warns_where_texture_is_lost(smears: Path, tmp_path: Path) -> None:
    result = run(smears, tmp_path / "out", make_recipe(size=32, denoise="bilateral", denoise_strength=40.0))
    warned = [warning for warning in result.warnings if warning.startswith("Denoising keeps only")]
    assert any("of fine texture" in warning for warning in warned)
    assert all("preparation.denoise_strength" in warning for warning in warned)


def test_prepare_without_denoising_says_nothing_of_it(smears: Path, tmp_path: Path) -> None:
    result = run(smears, tmp_path / "out", make_recipe(size=32))
    assert result.dataset.info["preparation"]["denoised"] is None
    assert not [line for line in (*result.notes, *result.warnings) if "enois" in line]


@pytest.mark.slow
def test_workers_denoise_to_the_same_bytes(smears: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        run(smears, tmp_path / str(workers), make_recipe(size=32, denoise="median"), workers=workers)
    assert sums(tmp_path / "1") == sums(tmp_path / "2")


def test_prepare_denoises_volumes(tmp_path: Path) -> None:
    volumes = np.stack([noisy(np.roll(nodule(), i, axis=2), seed=i)[..., 0] for i in range(26)])
    np.savez(tmp_path / "cubes.npz", train_images=volumes)
    recipe = make_recipe(
        size=[28, 40, 40], colour="grey", denoise="median", denoise_strength=6.0, near_duplicates=False
    )
    result = run(tmp_path / "cubes.npz", tmp_path / "out", recipe)
    wanted = {denoise(volume[..., None], "median", 6.0).tobytes() for volume in volumes}
    assert {image.tobytes() for image in np.asarray(result.dataset.images)} == wanted
    assert any(note.startswith("Denoising removed") for note in result.notes)


def test_sixteen_bits_are_left_out_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i in range(26):
        Image.fromarray(noisy(cell(index=i))[::4, ::4]).save(tmp_path / "data" / f"{i}.png")
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "data" / "deep.png")
    recipe = make_recipe(denoise="median", near_duplicates=False)
    result = run(tmp_path / "data", tmp_path / "out", recipe)
    assert len(result.dataset) == 26
    assert any("not of 8 bits, which preparation.denoise needs (1)" in warning for warning in result.warnings)
    for i in range(26):
        (tmp_path / "data" / f"{i}.png").unlink()
    with pytest.raises(DataError, match=r"not of 8 bits, which preparation\.denoise needs"):
        run(tmp_path / "data", tmp_path / "none", recipe)


def test_recipe_keys() -> None:
    plain = load_recipe("pap-smear-wgan-gp").preparation
    assert (plain.denoise, plain.denoise_strength) == ("none", "auto")
    chosen = load_recipe("pap-smear-wgan-gp", ["preparation.denoise=tv", "preparation.denoise_strength=4"]).preparation
    assert (chosen.denoise, chosen.denoise_strength) == ("tv", 4.0)
    for setting in ("denoise=wiener", "denoise_strength=0.1", "denoise_strength=much", "denoise_strength=300"):
        with pytest.raises(RecipeError, match="denoise"):
            load_recipe("pap-smear-wgan-gp", [f"preparation.{setting}"])


@pytest.mark.slow
def test_on_real_smears_auto_leaves_alone_what_has_no_noise(data_root: Path) -> None:
    """JPEG and enlargement took the noise of these pictures: there is little to remove, and more strength costs texture."""
    files = sorted((data_root / "pap_smear").glob("*/*.jpg"))[::24]
    before = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    gentle = texture_kept(before, [denoise(image, "bilateral") for image in before])
    strong = texture_kept(before, [denoise(image, "bilateral", 4.0) for image in before])
    assert gentle.noise_before < 1.0
    assert min(gentle.edges or 0, gentle.texture or 0) > 0.9
    assert (strong.edges or 0) > 0.9
    assert (strong.texture or 1) < 0.8
