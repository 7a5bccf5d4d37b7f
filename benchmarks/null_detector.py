"""One repetition of the null study of the detector: its AUC on images that it has not seen, against that of the population.

A detector refuses a test image that is a training image. So the population is cut at random into three pools of patients,
from which training patients, test patients, and posing images (single ones, as a generator makes them; blurred ones at the
shift) are drawn with replacement. The truth is the AUC of the detector that was trained here between all images of the
posing pool and all of the test pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from null_intervals import cover
from null_populations import SHIFT, Population, split_patients
from synthoma.evaluation.detector import auc_of, train_detector
from synthoma.evaluation.imagesets import ImageSet
from synthoma.metrics.estimate import Estimate

SIZES = {"train": 300, "test": 150, "posing": 300}  # images; half of the posing ones train the detector
ARMS = {"equality": 0.0, "shift": SHIFT}


def repeat(population: Population, repetition: int) -> dict[str, Any]:
    """Both arms, each with sets of their own."""
    return {
        arm: _one(population, np.random.default_rng([repetition, 10 + number]), sigma, repetition)
        for number, (arm, sigma) in enumerate(ARMS.items())
    }


def _one(population: Population, random: np.random.Generator, sigma: float, seed: int) -> dict[str, float]:
    third = len(population.images) // 3
    pools = dict(zip(SIZES, split_patients(population, random, (third, third, third)), strict=True))
    posing, test, train = (Population(side, pools[side]) for side in ("posing", "test", "train"))
    everything = posing.blurred(sigma)
    made = everything.take(random.integers(len(everything), size=SIZES["posing"]))
    detector, found = train_detector(made, _patients(test, random), _patients(train, random), seed)
    if detector is None or not isinstance(found, Estimate):
        raise SystemExit(f"the detector was withheld: {found}")
    return {
        "truth": auc_of(detector.score(everything.images), detector.score(test.images.images)),
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "floor_low": found.floor.low,
        "floor_high": found.floor.high,
    }


def _patients(pool: Population, random: np.random.Generator) -> ImageSet:
    """Drawn patients, under names of their own: one that is drawn twice counts as two, who look alike."""
    rows, groups = pool.draw_patients(random, SIZES[pool.name])
    return replace(pool.images.take(rows), groups=np.array([f"{pool.name}{group}" for group in groups]))


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Coverage and widths in each arm."""
    arms = {}
    for arm in ARMS:
        found = [row[arm] for row in rows]
        arms[arm] = {"detector_auc": cover(found, [one["truth"] for one in found], 0.5)}
        arms[arm]["detector_auc"]["floor_covers_half"] = sum(
            one["floor_low"] <= 0.5 <= one["floor_high"] for one in found
        )
    return {"repetitions": len(rows), "images": SIZES, "arms": arms}
