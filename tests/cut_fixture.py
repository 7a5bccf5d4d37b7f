"""CT volumes that tests cut, and how."""

from pathlib import Path
from typing import Any

import numpy as np

from synthoma.preparation.ct.cut import CutResult, cut_volumes
from synthoma.preparation.ct.find import VolumeSet, find_volumes
from synthoma.recipe import Recipe, load_recipe


def recipe(*settings: str) -> Recipe:
    return load_recipe("lung-nodule-wgan-gp", ["ct.cube=24", "ct.spacing=2", "ct.indeterminate=keep", *settings])


SLICES = ("ct.cut=slices", "ct.slices.least_lung=0", "ct.spacing=1", "ct.cube=null")


def cut(
    data: Path,
    out: Path,
    key: Path,
    *settings: str,
    marks: Path | None = None,
    groups: Path | None = None,
    **options: Any,
) -> tuple[VolumeSet, CutResult]:
    wanted = recipe(*settings)
    found = find_volumes(data, wanted, marks, groups, key_file=key)
    return found, cut_volumes(found, wanted, out, workers=2, **options)


def body(size: tuple[int, int, int] = (8, 70, 72), seed: int = 0) -> np.ndarray:
    """HU without lungs: a block of tissue in air."""
    hu = np.random.default_rng(seed).integers(-1010, -990, size).astype(np.int16)
    hu[:, 10:-10, 12:-12] += 1040
    return hu
