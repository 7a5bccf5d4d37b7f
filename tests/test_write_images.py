"""Images, masks and volumes on disk with their manifest: files, formats, and folders that hold something else."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synthoma.errors import MissingExtraError, ModelError
from synthoma.model import Model
from synthoma.run import file_sha256
from synthoma.synthesis import write_images
from synthoma.synthesis.encoding import description


@dataclass
class StandIn:
    """What `write_images` asks of a model: noise of a declared shape, with masks and attributes where wanted."""

    size: tuple[int, ...] = (4, 6, 8)
    channels: int = 1
    masks: bool = False
    attributes: tuple[str, ...] = ()
    spacing: tuple[float, ...] | None = None
    hash: str = "c0ffee00c0ffee00"

    @property
    def info(self) -> dict[str, Any]:
        encoding = {"unit": "hu", "dtype": "int16"} | ({"spacing": list(self.spacing)} if self.spacing else {})
        return {"size": list(self.size), "encoding": encoding}

    def blocks(
        self, count: int, label: str | None, seed: int, *, attributes: Any = None, truncation: float = 1.0
    ) -> Iterator[Any]:
        random = np.random.default_rng(seed)
        shape = (count, self.channels, *self.size)
        dtype = np.int16 if len(self.size) == 3 else np.uint8
        yield SimpleSamples(
            images=random.integers(0, 255, shape).astype(dtype),
            labels=np.full(count, -1 if label is None else 0),
            indices=np.arange(count),
            seed=seed,
            model_hash=self.hash,
            classes=(label or "",),
            masks=random.integers(0, 2, (count, *self.size), dtype=np.uint8) if self.masks else None,
            attributes={
                name: np.full(count, attributes[name]) if attributes else np.linspace(3, 9, count)
                for name in self.attributes
            },
        )


class SimpleSamples(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.images)


def write(model: StandIn, folder: Path, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    stand_in: Any = model
    real: Model = stand_in
    write_images(real, folder, *arguments, **options)
    rows: list[dict[str, Any]] = pq.read_table(folder / "manifest.parquet").to_pylist()
    return rows


def test_volumes_are_nifti_with_spacing_and_provenance(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    rows = write(StandIn(spacing=(2.5, 0.7, 0.6)), tmp_path / "out", 3, "nodule", 7)
    assert [row["file"] for row in rows] == [f"nodule_seed7_{i:06d}.nii.gz" for i in range(3)]
    image = nibabel.load(tmp_path / "out" / rows[2]["file"])
    assert image.shape == (8, 6, 4)
    assert image.header.get_zooms() == pytest.approx((0.6, 0.7, 2.5))
    assert image.header["descrip"].item().decode() == (
        "SYNTHETIC, not for diagnosis; model c0ffee00c0ffee00 seed 7 index 2"
    )
    told = json.loads(image.header.extensions[0].get_content().decode().rstrip("\0"))
    assert (told["class"], told["index"], told["model_hash"]) == ("nodule", 2, "c0ffee00c0ffee00")
    assert "YES" in told["synthetic"]
    assert all(file_sha256(tmp_path / "out" / row["file"]) == row["sha256"] for row in rows)


def test_masks_lie_beside_their_volumes_in_the_same_place(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    model = StandIn(masks=True, spacing=(2.0, 1.0, 1.0))
    for row in write(model, tmp_path / "out", 2):
        assert row["mask"] == row["file"].replace(".nii.gz", "_mask.nii.gz")
        image, mask = (nibabel.load(tmp_path / "out" / row[key]) for key in ("file", "mask"))
        assert mask.get_data_dtype() == np.uint8
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine)
        assert set(np.unique(mask.dataobj)) == {0, 1}


def test_masks_of_pictures_and_arrays(tmp_path: Path) -> None:
    (picture,) = write(StandIn(size=(6, 8), channels=3, masks=True), tmp_path / "png", 1)
    assert picture["mask"] == "synthetic_seed0_000000_mask.png"
    mask = Image.open(tmp_path / "png" / picture["mask"])
    assert (mask.mode, mask.size) == ("L", (8, 6))
    assert mask.text["synthoma:kind"] == "mask"
    (array,) = write(StandIn(masks=True), tmp_path / "npy", 1, file_format="npy")
    assert np.load(tmp_path / "npy" / array["mask"], allow_pickle=False).shape == (1, 4, 6, 8)


def test_without_masks_and_attributes_the_manifest_says_so(tmp_path: Path) -> None:
    (row,) = write(StandIn(), tmp_path / "out", 1, file_format="npy")
    assert row["mask"] is None
    assert not [key for key in row if key.startswith("attribute:")]


def test_attributes_are_columns_also_beside_images_without_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(StandIn(attributes=("diameter_mm",)), out, 3, "large", file_format="npy")
    rows = write(StandIn(attributes=("malignancy",)), out, 1, "small", file_format="npy")
    assert [row["attribute:diameter_mm"] for row in rows] == [3.0, 6.0, 9.0, None]
    assert [row["attribute:malignancy"] for row in rows] == [None, None, None, 3.0]


def test_default_format_follows_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    assert write(StandIn(), tmp_path / "auto", 1)[0]["file"].endswith(".npy")
    with pytest.raises(MissingExtraError, match=r"synthoma\[ct\]"):
        write(StandIn(), tmp_path / "asked", 1, file_format="nii.gz")


def test_a_format_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"makes pictures, which are written as png, not nii\.gz"):
        write(StandIn(size=(6, 8)), tmp_path / "out", 1, file_format="nii.gz")
    with pytest.raises(ModelError, match=r"makes volumes, which are written as nii\.gz or npy, not png"):
        write(StandIn(), tmp_path / "out", 1, file_format="png")
    assert not (tmp_path / "out").exists()


def test_a_folder_holds_one_format(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    write(StandIn(), tmp_path / "out", 1, file_format="npy")
    with pytest.raises(ModelError, match=r"same --format"):
        write(StandIn(), tmp_path / "out", 1, file_format="nii.gz")


def test_the_same_call_leaves_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    for name in ("one", "two"):
        write(StandIn(masks=True, attributes=("diameter_mm",)), tmp_path / name, 2, "a b", 3)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 5
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_a_description_fits_the_header_for_any_seed() -> None:
    provenance = {"model_hash": "c0ffee00c0ffee00", "seed": 2**63 - 1, "index": 999_999}
    assert len(description(provenance)) <= 79
    assert "c0ffee00c0ffee00" in description(provenance)


def test_other_requests_with_one_seed_do_not_overwrite_each_other(tmp_path: Path) -> None:
    model, out = StandIn(size=(6, 8), attributes=("diameter_mm",)), tmp_path / "out"
    for diameter in (5.0, 12.5):
        write(model, out, 2, "nodule", attributes={"diameter_mm": diameter})
    rows = write(model, out, 2, "nodule", truncation=0.7)
    assert [(row["file"], row["attribute:diameter_mm"], row["truncation"]) for row in rows] == [
        ("nodule_diameter_mm12.5_seed0_000000.png", 12.5, 1.0),
        ("nodule_diameter_mm12.5_seed0_000001.png", 12.5, 1.0),
        ("nodule_diameter_mm5_seed0_000000.png", 5.0, 1.0),
        ("nodule_diameter_mm5_seed0_000001.png", 5.0, 1.0),
        ("nodule_truncation0.7_seed0_000000.png", 3.0, 0.7),
        ("nodule_truncation0.7_seed0_000001.png", 9.0, 0.7),
    ]
