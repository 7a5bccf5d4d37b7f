"""A worker (see worker.py) with other people's tools for CT, in an environment of their own: it imports nothing of ours.

torchio          RandomAffineElasticDeformation and RandomNoise of a Subject with image and mask
torchio-two      RandomAffine, RandomElasticDeformation and RandomNoise, one after another
monai            Rand3DElasticd (with its affine part) and RandGaussianNoised
monai-grid       RandGridDistortiond, RandAffined and RandGaussianNoised: two resamplings, pieces of straight lines
simpleitk        ImageSeriesReader, file names by GDCM, voxels as an array
highdicom        imread of each slice and get_volume_from_series, its checks included
"""

import argparse
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from worker import serve, timed_steps

NOISE, DEGREES, SCALES, POINTS, DISPLACEMENT = 20.0, 15.0, (0.9, 1.1), 7, 4.0
Step = Callable[[], object]


def torchio(cube: Any, mask: Any, combined: bool) -> Step:
    """A Subject a step, image float32 and mask uint8 [1, z, y, x]."""
    import torch
    import torchio as tio

    torch.set_num_threads(1)
    subject = tio.Subject(
        image=tio.ScalarImage(tensor=torch.from_numpy(cube)[None]),
        mask=tio.LabelMap(tensor=torch.from_numpy(mask)[None]),
    )
    affine = {"scales": SCALES, "degrees": DEGREES}
    elastic = {"num_control_points": POINTS, "max_displacement": DISPLACEMENT}
    moves = (
        [tio.RandomAffineElasticDeformation(affine_kwargs=affine, elastic_kwargs=elastic)]
        if combined
        else [tio.RandomAffine(**affine), tio.RandomElasticDeformation(**elastic)]
    )
    whole = tio.Compose([*moves, tio.RandomNoise(std=(0, NOISE))])
    return lambda: whole(subject)


def monai(cube: Any, mask: Any, grid: bool) -> Step:
    """A dictionary a step, image float32 and mask uint8 [1, z, y, x]."""
    import torch
    from monai.transforms import (
        Compose,
        Rand3DElasticd,
        RandAffined,
        RandGaussianNoised,
        RandGridDistortiond,
    )

    torch.set_num_threads(1)
    keys, angle = ["image", "mask"], math.radians(DEGREES)
    both = {"keys": keys, "prob": 1.0, "mode": ("bilinear", "nearest"), "padding_mode": "border"}
    affine = {"rotate_range": (angle,) * 3, "scale_range": (0.1,) * 3}
    moves = (
        [RandGridDistortiond(**both, num_cells=POINTS - 3, distort_limit=(-0.1, 0.1)), RandAffined(**both, **affine)]
        if grid
        else [Rand3DElasticd(**both, sigma_range=(5, 5), magnitude_range=(50, 100), **affine)]
    )
    whole = Compose([*moves, RandGaussianNoised(keys=["image"], prob=1.0, std=NOISE)])
    image, label = torch.from_numpy(cube)[None], torch.from_numpy(mask)[None]
    return lambda: whole({"image": image.clone(), "mask": label.clone()})


def simpleitk(folder: Path) -> Step:
    """As its documentation reads a series."""
    import SimpleITK

    def step() -> Any:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        return SimpleITK.GetArrayFromImage(reader.Execute())

    return step


def highdicom(folder: Path) -> Step:
    """Its strict reader: the slices are checked to make a regular volume."""
    import highdicom as hd
    import pydicom

    def step() -> Any:
        slices = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        return hd.get_volume_from_series(slices).array

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", required=True)
    parser.add_argument("--cube", type=Path, help="an .npz with `image` float32 and `mask` uint8 [z, y, x]")
    parser.add_argument("--series", type=Path, help="a folder with the files of one series")
    options = parser.parse_args()
    if options.cube is not None:
        with np.load(options.cube, allow_pickle=False) as arrays:
            cube, mask = arrays["image"], arrays["mask"]
        steps = {
            "torchio": lambda: torchio(cube, mask, combined=True),
            "torchio-two": lambda: torchio(cube, mask, combined=False),
            "monai": lambda: monai(cube, mask, grid=False),
            "monai-grid": lambda: monai(cube, mask, grid=True),
        }
    else:
        steps = {"simpleitk": lambda: simpleitk(options.series), "highdicom": lambda: highdicom(options.series)}
    step = steps[options.style]()
    package = options.style.partition("-")[0]
    serve({"version": version(package)}, lambda seconds: {"seconds": timed_steps(step, seconds)})


if __name__ == "__main__":
    main()
