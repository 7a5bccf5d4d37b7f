"""The segmenter on real nodules that radiologists outlined, and the lungs of two real chests."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from synthoma.measure.lungs import body_mask, lung_mask, lung_share
from synthoma.measure.nodule import SegmenterError, segmenter_error

pytestmark = pytest.mark.slow


def error_on(data_root, split, center):
    path = data_root / "nodules3d" / "lidc_nodules_51.npz"
    if not path.is_file():
        pytest.skip(f"{path} does not exist")
    with np.load(path, allow_pickle=False) as archive:
        # Stored as (y, x, z); the measures want the slices first.
        cubes = np.moveaxis(archive[f"{split}_images"], -1, 1)
        masks = np.moveaxis(archive[f"{split}_masks"], -1, 1)
    centers = None if center is None else [center] * len(cubes)
    error = segmenter_error(list(cubes), list(masks), [None] * len(cubes), "unknown", centers)
    print(split, center, error)
    return error


@pytest.mark.parametrize(("split", "n", "dice", "diameter"), [("train", 86, 0.718, 1.46), ("val", 14, 0.713, 1.54)])
def test_dice_on_real_nodules_whose_middle_is_told(data_root, split, n, dice, diameter):
    """All masks of this set have their middle within half a voxel of 26.5, beside the cube's own middle of 25."""
    error: SegmenterError = error_on(data_root, split, (26, 26, 26))
    assert (error.n, error.empty, error.units) == (n, 0, "voxels")
    assert error.dice_mean > dice - 0.02
    assert error.diameter_error < diameter + 0.15
    assert abs(error.diameter_bias) < 0.6


@pytest.mark.parametrize(("split", "dice", "diameter"), [("train", 0.688, 1.57), ("val", 0.687, 1.68)])
def test_dice_on_real_nodules_with_the_cubes_middle(data_root, split, dice, diameter):
    error = error_on(data_root, split, None)
    assert error.empty == 0
    assert error.dice_mean > dice - 0.02
    assert error.diameter_error < diameter + 0.15


def volume_of_nifti(data_root) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """HU [z, y, x], first slice lowest, and the spacing."""
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(data_root / "ct_volume" / "Lung_Dx-A0002_B40f.nii.gz")
    x, y, z = (float(length) for length in image.header.get_zooms())
    return np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0), (z, y, x)


def volume_of_dicom(data_root) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    simple_itk = pytest.importorskip("SimpleITK")
    reader = simple_itk.ImageSeriesReader()
    (folder,) = {path.parent for path in (data_root / "ct_volume" / "dicom").rglob("*.dcm")}
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    x, y, z = image.GetSpacing()
    return simple_itk.GetArrayFromImage(image).astype(np.float32), (z, y, x)


# Litres as measured; the masks were looked at slice by slice.
@pytest.mark.parametrize(("read", "litres"), [(volume_of_dicom, 5.59), (volume_of_nifti, 2.72)])
def test_lungs_of_real_chests(data_root, read, litres):
    if not (data_root / "ct_volume").is_dir():
        pytest.skip(f"{data_root} has no folder ct_volume")
    hu, spacing = read(data_root)
    lungs, body = lung_mask(hu, spacing), body_mask(hu, spacing)
    assert lungs.sum() * math.prod(spacing) / 1e6 == pytest.approx(litres, rel=0.03)
    assert not (lungs & ~body).any()
    # Most of it is lung tissue, the rest vessels, tumour and partial volume.
    assert ((hu[lungs] < -500) & (hu[lungs] > -1010)).mean() > 0.85
    # Nearly all lung tissue of the body is in it; the rest is trachea and gas.
    tissue = body & (hu < -600) & (hu > -930)
    assert lungs[tissue].mean() > 0.93
    share = lung_share(lungs, body)
    assert share[0] < 0.05
    assert share[-1] == 0
    assert 0.25 < share.max() < 0.55
