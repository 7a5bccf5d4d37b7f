"""Hounsfield units all the way: prepared, trained on through a window, generated and exported as int16."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from preparation_fixture import make_recipe
from synthoma.dataset import Dataset
from synthoma.draws import StepDraws
from synthoma.errors import DataError, RecipeError
from synthoma.evaluation.folders import read_folder
from synthoma.formats.nifti import read_nifti
from synthoma.preparation import prepare
from synthoma.recipe import Recipe, load_recipe
from synthoma.records import Origin, Pixels, Record, Unit, record_key
from synthoma.settings import DeformSection
from synthoma.sources.source import ListedSource
from synthoma.synthesis import export_dataset
from synthoma.training.deform import Deform
from synthoma.training.images import RealImages

SIZE = (8, 10, 12)


@dataclass
class Volumes(ListedSource):
    """Noise volumes in HU with a cube of tissue as mask."""

    folder: Path
    count: int = 24
    size: tuple[int, ...] = SIZE
    unit: Unit = "hu"
    dtype: type = np.int16
    walks: bool = False
    parallel: bool = False

    @property
    def root(self) -> Path:
        return self.folder

    def _list(self) -> list[Record]:
        return [
            Record(record_key(str(i)), "ab"[i % 2], str(i), Origin(self.folder, str(i)), unit=self.unit,
                   spacing=(1.5, 1.0, 0.5)[-len(self.size):])
            for i in range(self.count)
        ]  # fmt: skip

    def array(self, i: int) -> NDArray[np.generic]:
        values = np.random.default_rng(i).integers(-1024, 2000, (*self.size, 1))
        return np.abs(values // 16).astype(np.uint8) if self.dtype is np.uint8 else values.astype(self.dtype)

    def read(self, record: Record, max_pixels: int) -> Pixels:
        i = int(record.origin.inside)
        mask = np.zeros((*self.size, 1), np.uint8)
        mask[tuple(slice(2, 5) for _ in self.size)] = 1
        unit: Unit = "grey8" if self.dtype is np.uint8 else self.unit
        return Pixels(self.array(i), unit, record.spacing, mask)


def recipe_of(size: tuple[int, ...] = SIZE, **ct: object) -> Recipe:
    recipe = make_recipe(size=list(size), colour="grey", near_duplicates=False)
    return recipe.model_copy(update={"ct": recipe.ct.model_copy(update=ct)})


def prepared(tmp_path: Path, source: Volumes | None = None, **ct: object) -> Dataset:
    source = source or Volumes(tmp_path / "raw")
    return prepare(source, recipe_of(source.size, **ct), tmp_path / "set", workers=1).dataset


@pytest.mark.parametrize("size", [SIZE, (10, 12)])
def test_hu_out_is_hu_in(tmp_path: Path, size: tuple[int, ...]) -> None:
    source = Volumes(tmp_path / "raw", size=size)
    dataset = prepared(tmp_path, source)
    assert dataset.images.dtype == np.int16
    assert dataset.info["encoding"] == {
        "unit": "hu", "channels": 1, "size": list(size), "dtype": "int16", "window": [-1000.0, 400.0]
    }  # fmt: skip
    export_dataset(dataset, tmp_path / "files")
    for record in source.records():
        values, spacing = read_nifti(tmp_path / "files" / "images" / f"{record.key}.nii.gz")
        expected = np.moveaxis(source.array(int(record.origin.inside)), -1, 0)
        np.testing.assert_array_equal(values if len(size) == 3 else values[:, 0], expected)
        assert spacing == pytest.approx((1.5, 1.0, 0.5) if len(size) == 3 else (1.0, 1.0, 0.5))
        mask, _ = read_nifti(tmp_path / "files" / "masks" / f"{record.key}.nii.gz")
        assert set(np.unique(mask)) == {0, 1}
    back = read_folder(tmp_path / "files" / "images")
    assert back.images.shape == (24, 1, *size)
    assert back.images.dtype == np.int16


def test_png_of_slices_shows_the_window_and_other_formats_keep_hu(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, Volumes(tmp_path / "raw", size=(10, 12)))
    export_dataset(dataset, tmp_path / "png", "test", "png")
    shown = read_folder(tmp_path / "png" / "images")
    assert shown.images.dtype == np.uint8
    assert {0, 255} <= set(np.unique(shown.images))
    export_dataset(dataset, tmp_path / "npy", "test", "npy")
    assert np.load(next((tmp_path / "npy" / "images").glob("*.npy")), allow_pickle=False).dtype == np.int16


def test_networks_see_the_window_and_no_more(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, window=(-200.0, 300.0))
    recipe = load_recipe("lung-nodule-wgan-gp")
    reals = RealImages(dataset, torch.device("cpu"), recipe.model)
    images = reals.read(torch.arange(4))
    stored = np.asarray(dataset.images[dataset.rows("train")[:4]], dtype=np.float32)
    expected = (np.clip(stored, -200, 300) + 200) / 500 * 2 - 1
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-5)
    assert float(images.min()) == -1.0
    assert float(images.max()) == 1.0


def test_the_window_is_part_of_the_dataset(tmp_path: Path) -> None:
    first = prepared(tmp_path).content_hash
    assert prepared(tmp_path, window=(-1000.0, 200.0)).content_hash != first


def test_an_unknown_unit_has_the_range_of_its_numbers(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, Volumes(tmp_path / "raw", unit="unknown"))
    low, high = int(dataset.images.min()), int(dataset.images.max())
    assert dataset.info["encoding"]["unit"] == "unknown"
    assert dataset.info["encoding"]["window"] == [low, high]


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    @dataclass
    class Mixed(Volumes):
        def read(self, record: Record, max_pixels: int) -> Pixels:
            pixels = super().read(record, max_pixels)
            if int(record.origin.inside) % 3:
                return pixels
            return self.other(pixels)

        def other(self, pixels: Pixels) -> Pixels:
            return Pixels(
                (pixels.array // 16 + 100).clip(0, 255).astype(np.uint8), "grey8", pixels.spacing, pixels.mask
            )

    class Units(Mixed):
        def other(self, pixels: Pixels) -> Pixels:
            return Pixels(pixels.array, "unknown", pixels.spacing, pixels.mask)

    with pytest.raises(DataError, match="Prepare them apart"):
        prepared(tmp_path, Mixed(tmp_path / "raw"))
    with pytest.raises(DataError, match=r"ct\.unit=hu"):
        prepared(tmp_path, Units(tmp_path / "raw"))
    with pytest.raises(DataError, match=r"preparation\.colour=grey"):
        prepare(Volumes(tmp_path / "raw"), make_recipe(size=list(SIZE)), tmp_path / "set", workers=1)


def test_padding_is_air(tmp_path: Path) -> None:
    source = Volumes(tmp_path / "raw", size=(4, 10, 12))
    recipe = make_recipe(size=[8, 10, 12], colour="grey", near_duplicates=False, fit="pad", resample=False)
    dataset = prepare(source, recipe, tmp_path / "set", workers=1).dataset
    assert (dataset.images[:, :, :2] == -1024).all()


def test_real_volumes_are_deformed_by_sample_number() -> None:
    section = DeformSection(rotation=15, scaling=(0.9, 1.1), elastic=0.25, shift=2, noise=0.05)
    deform = Deform(section, (16, 16, 16), 1, (-1.0, 1.0))
    images = torch.rand(6, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = images.contiguous(memory_format=torch.channels_last_3d)
    index = torch.arange(6)
    whole = deform(images, StepDraws(3, 5, index))
    assert whole.shape == images.shape
    assert whole.is_contiguous(memory_format=torch.channels_last_3d)
    assert not torch.equal(whole, images)
    part = deform(images[2:4].contiguous(memory_format=torch.channels_last_3d), StepDraws(3, 5, index[2:4]))
    assert torch.equal(part, whole[2:4])
    assert float(whole[:, :1].abs().max()) <= 1.0
    nothing = Deform(DeformSection(), (16, 16, 16), 1, (-1.0, 1.0))
    assert nothing(images, StepDraws(3, 5, index)) is images


def test_deformation_is_refused_where_it_makes_no_sense() -> None:
    with pytest.raises(RecipeError, match="these are pictures"):
        Deform(DeformSection(noise=1), (16, 16), 1, (-1.0, 1.0))
    with pytest.raises(RecipeError, match=r"less than or equal to 0\.4"):
        load_recipe("lung-nodule-wgan-gp", ["training.deform.elastic=0.5"])
