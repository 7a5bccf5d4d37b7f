"""A worker (see worker.py) with our own reading of a series, or our augmentation of a cube with its mask.

augment-float    `synthoma.augment_nodule` of float32, a sample a step
augment-hu       the same of int16
reading          `list_volumes` and `read_volume` as `synthoma cut` calls them: all headers, all checks, all voxels
"""

import argparse
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

import synthoma
from synthoma.formats.volumes.registry import list_volumes, read_volume
from synthoma.memory import keep_freed_memory
from worker import serve, timed_steps

Step = Callable[[], object]


def augment(file: Path, dtype: type) -> Step:
    """Rotation, scaling, elastic deformation and noise of image and mask, other draws every time."""
    torch.set_num_threads(1)
    with np.load(file, allow_pickle=False) as arrays:
        cube, mask = arrays["image"].astype(dtype), arrays["mask"]
    numbers = count()
    return lambda: synthoma.augment_nodule(
        cube, mask, elastic_deformation=4.0, gaussian_noise=(0, 20), number=next(numbers)
    )


def reading(folder: Path) -> Step:
    """What a user's command does with one series, in a process that keeps freed memory as its workers do."""
    keep_freed_memory()

    def step() -> Any:
        (volume,) = list_volumes(folder).volumes
        return read_volume(volume).array

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", choices=("augment-float", "augment-hu", "reading"), required=True)
    parser.add_argument("--cube", type=Path)
    parser.add_argument("--series", type=Path)
    options = parser.parse_args()
    if options.style == "reading":
        step = reading(options.series)
    else:
        step = augment(options.cube, np.float32 if options.style == "augment-float" else np.int16)
    serve({"version": synthoma.__version__}, lambda seconds: {"seconds": timed_steps(step, seconds)})


if __name__ == "__main__":
    main()
