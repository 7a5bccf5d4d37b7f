"""Images and masks made together: one channel more on the way in, masks of 0 and 1 on the way out."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from family_fixture import small_family
from make_dataset import Silent, make_dataset
from synthoma.errors import DatasetError, RecipeError
from synthoma.model import Model
from synthoma.recipe import Recipe
from synthoma.run import Run
from synthoma.settings import ModelSection
from synthoma.synthesis.write_images import write_images
from synthoma.training import loop, prepare_run, train
from synthoma.training.checkpoint import checkpoint_folders
from synthoma.training.images import RealImages
from synthoma.transforms.distance import mask_of, signed_distance

FLAT, SOLID = (16, 24), (8, 8, 8)


def recipe_for(size: tuple[int, ...], channels: int, **training: object) -> Recipe:
    model = {"masks": "signed_distance", "mask_distance": 4.0}
    return small_family("r3", size, channels, model=model, **{"kimg": 0.064, "tick_kimg": 0.064, **training})


@pytest.mark.parametrize("limit", [2.0, 8.0, 100.0])
@pytest.mark.parametrize("size", [FLAT, SOLID])
def test_masks_come_back_exactly(size: tuple[int, ...], limit: float) -> None:
    random = np.random.default_rng(0)
    masks = (random.random((12, *size)) < np.linspace(0, 1, 12).reshape(-1, *(1,) * len(size))).astype(np.uint8)
    assert not masks[0].any()
    assert masks[-1].all()
    distance = signed_distance(masks, limit)
    assert np.abs(distance).max() <= 1
    np.testing.assert_array_equal(mask_of(distance), masks)


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "from disk"])
@pytest.mark.parametrize(("size", "channels"), [(FLAT, 3), (SOLID, 1)])
def test_real_images_carry_the_distance_as_their_last_channel(
    size: tuple[int, ...], channels: int, resident: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(tmp_path / "data", count=20, size=size, channels=channels, masks=True)
    if not resident:
        monkeypatch.setattr("synthoma.training.images.RESIDENT_SHARE", 0.0)
    reals = RealImages(data, torch.device("cpu"), ModelSection(masks="signed_distance", mask_distance=6.0))
    assert (reals.resident is not None) == resident
    assert reals.channels == channels + 1
    shown = reals.read(torch.arange(reals.count))
    assert shown.shape == (reals.count, channels + 1, *size)
    rows = data.rows("train")
    np.testing.assert_array_equal(mask_of(shown[:, -1].numpy()), data.masks[rows][:, 0])
    np.testing.assert_allclose(shown[:, -1].numpy(), signed_distance(data.masks[rows][:, 0], 6.0), atol=1 / 255 + 1e-6)
    plain = RealImages(data, torch.device("cpu"), ModelSection()).read(torch.arange(reals.count))
    assert torch.equal(shown[:, :-1], plain)


@pytest.mark.parametrize(("size", "channels"), [(FLAT, 3), (SOLID, 1)])
def test_a_run_makes_masks_with_its_images(
    size: tuple[int, ...], channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(tmp_path / "data", count=120, size=size, channels=channels, masks=True)
    measured: list[tuple[int, ...]] = []
    plain = loop.draw_samples

    def watching(session: loop.Session) -> None:
        extractor = session.validator.extractor
        measure = extractor.measure

        def noted(images: np.ndarray, window: tuple[float, float]) -> object:
            measured.append(images.shape[1:])
            return measure(images, window)

        monkeypatch.setattr(extractor, "measure", noted)
        plain(session)

    monkeypatch.setattr(loop, "draw_samples", watching)
    run = Run(tmp_path / "run")
    policy = {"policy": ["colour", "translation", "cutout"]}
    prepare_run(run, recipe_for(size, channels, augment=policy, symmetries="mirror"))
    train(run, data, Silent())
    assert measured
    assert set(measured) == {(channels, *size)}, "the validation sees image channels only"
    grids = list(run.samples.glob("[0-9]*.png"))
    assert {Image.open(file).mode for file in grids} <= ({"RGB"} if channels == 3 else {"L", "RGB"})
    model = Model.load(run.model)
    samples = model.generate(5)
    assert samples.images.shape == (5, channels, *size)
    assert samples.masks is not None
    assert samples.masks.shape == (5, *size)
    assert samples.masks.dtype == np.uint8
    assert set(np.unique(samples.masks)) <= {0, 1}
    assert len(checkpoint_folders(run.checkpoints)) == 1


@pytest.mark.parametrize(("size", "channels"), [(FLAT, 3), (SOLID, 1)])
def test_masks_are_written_beside_their_images(size: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=40, size=size, channels=channels, masks=True)
    run = Run(tmp_path / "run")
    prepare_run(run, recipe_for(size, channels))
    train(run, data, Silent())
    model = Model.load(run.model)
    flat = len(size) == 2
    written = write_images(model, tmp_path / "out", 3, file_format="auto" if flat else "npy")
    assert written.masks
    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    masks = model.generate(3).masks
    assert masks is not None
    for row, mask in zip(sorted(rows, key=lambda row: row["index"]), masks, strict=True):
        file = tmp_path / "out" / row["mask"]
        saved = np.asarray(Image.open(file)) if flat else np.load(file).reshape(size)
        np.testing.assert_array_equal(saved > 0, mask > 0)
        assert (tmp_path / "out" / row["file"]).is_file()


def test_a_dataset_without_masks_is_refused_in_words(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=40, size=FLAT)
    run = Run(tmp_path / "run")
    prepare_run(run, recipe_for(FLAT, 3))
    with pytest.raises(DatasetError, match=r"has no masks.*model\.masks=none"):
        train(run, data, Silent())


def test_fully_connected_networks_make_no_masks(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", count=40, size=(8, 8), masks=True)
    run = Run(tmp_path / "run")
    prepare_run(run, small_family("mlp", (8, 8), model={"masks": "signed_distance"}))
    with pytest.raises(RecipeError, match=r"model\.masks"):
        train(run, data, Silent())
