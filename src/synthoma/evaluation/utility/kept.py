"""Fits of a fold on disk, so that an interrupted study goes on where it stopped. Numbers only: no images, no names."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.evaluation.utility.study import Fits
from synthoma.run import read_json, write_json


def load_fits(file: Path, key: str) -> dict[str, Fits] | None:
    """Arm -> fits, as `save_fits` left them; None where there are none, or they were made of something else."""
    if not file.is_file():
        return None
    kept = read_json(file)
    if kept.get("key") != key:
        return None
    return {
        name: Fits(
            [np.array(one, dtype=np.float64) for one in arm["probabilities"]],
            [np.array(one, dtype=np.float64) for one in arm["thresholds"]],
            arm["records"],
            [np.array(one, dtype=np.int64) for one in arm["on_synthetic"]],
        )
        for name, arm in kept["arms"].items()
    }


def save_fits(file: Path, key: str, fits: dict[str, Fits]) -> None:
    """Write the fits of a fold. key: hash of all that they depend on."""
    arms = {
        name: {
            "probabilities": [one.tolist() for one in arm.probabilities],
            "thresholds": [_numbers(one) for one in arm.thresholds],
            "records": arm.records,
            "on_synthetic": [one.tolist() for one in arm.on_synthetic],
        }
        for name, arm in fits.items()
    }
    write_json(file, {"key": key, "arms": arms})


def _numbers(values: NDArray[np.float64]) -> list[Any]:
    """JSON has no NaN (a class without a threshold): None, which numpy reads as NaN."""
    return [None if math.isnan(value) else value for value in values.tolist()]
