"""Real CT of Lung-PET-CT-Dx: each box lands on its tumour, absent images are counted, and voxels stay what they are."""

import csv
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("SimpleITK")
pytest.importorskip("nibabel")

from synthoma.formats.cuts import cuts_shards
from synthoma.formats.volumes.registry import read_volume
from synthoma.preparation.ct.cut import cut_volumes
from synthoma.preparation.ct.find import find_volumes
from synthoma.preparation.ct.summary import describe_cuts
from synthoma.recipe import load_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "own.key"


def test_boxes_of_a_real_series_become_a_cube_around_the_tumour(
    data_root: Path, tmp_path: Path, key_file: Path
) -> None:
    recipe = load_recipe("lung-nodule-wgan-gp", ["ct.cube=64", "ct.spacing=1.5"])
    boxes = data_root / "annotations" / "pet_ct_dx_voc" / "A0001"
    found = find_volumes(data_root / "ct_volume" / "dicom", recipe, boxes, key_file=key_file)
    assert found.lost == {"box_absent": 9}
    assert "9 boxes name images that are not here." in found.warnings
    result = cut_volumes(found, recipe, tmp_path / "cuts", workers=1)
    (shard,) = cuts_shards(result.folder)
    assert shard.info["classes"] == {"adenocarcinoma": 1}
    (cube,) = shard.pixels()
    assert cube.dtype == np.int16
    # A tumour at the centre, and lung somewhere around it.
    assert -100 < np.median(cube[28:36, 28:36, 28:36]) < 150
    assert (cube < -700).mean() > 0.1
    told = str(describe_cuts(result))
    assert "A0001" not in told
    assert "1.3.6.1" not in told


def test_slices_of_a_real_series_are_its_voxels_and_the_boxed_ones_have_the_class(
    data_root: Path, tmp_path: Path, key_file: Path
) -> None:
    settings = ["ct.cut=slices", "ct.slices.unmarked=other", "ct.slices.least_lung=0.05"]
    recipe = load_recipe("chest-ct-dcgan", settings)
    boxes = data_root / "annotations" / "pet_ct_dx_voc" / "A0001"
    found = find_volumes(data_root / "ct_volume" / "dicom", recipe, boxes, key_file=key_file)
    result = cut_volumes(found, recipe, tmp_path / "cuts", workers=1)
    (shard,) = cuts_shards(result.folder)
    table, pixels, masks = shard.table(), shard.pixels(), shard.masks()
    assert masks is not None
    with (data_root / "ct_volume" / "Lung_Dx-A0001_boxes.csv").open() as file:
        rows = {int(row["slice_index"]): row for row in csv.DictReader(file)}
    marked = {int(k) for k, label in zip(table["index_z"], table["label"], strict=True) if label == "adenocarcinoma"}
    assert marked == set(rows)
    hu = read_volume(found.volumes[0]).array
    for k, row, label in zip(table["index_z"], table["row"], table["label"], strict=True):
        if row is None:
            continue
        np.testing.assert_array_equal(pixels[row], hu[int(k)])
        if label == "adenocarcinoma":
            x0, y0, x1, y1 = (int(rows[int(k)][name]) for name in ("xmin", "ymin", "xmax", "ymax"))
            assert masks[row, y0 : y1 + 1, x0 : x1 + 1].all()
            assert abs(int(masks[row].sum()) - (y1 - y0 + 1) * (x1 - x0 + 1)) <= 2 * (x1 - x0 + y1 - y0 + 2)
    # The lowest and highest slices show no lung.
    assert table["reason"][0] != ""
    assert 0.1 < max(table["lung_share"]) < 0.7
