"""Part B of modes.py: every family, through the real training code, on stacked shapes of 16 x 16 pixels with 100 modes.

Each run is that of a user: a recipe, a dataset folder, `train`, and samples of the released generator. Families have
their own objective and optimizer and the same narrow widths. `cgan` is conditional by nature: it is told the shape of
the first channel, one of ten, and has to find those of the second.
"""

import hashlib
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from family_recipes import family_recipe
from modes_classifier import Classify, count_modes
from synthoma.cohort import cohort_hash
from synthoma.dataset import Dataset, seal_dataset
from synthoma.phantoms.stacked import SHAPES, draw_stacked, mode_count
from synthoma.recipe import Recipe, content_hash, validate_recipe
from synthoma.run import Run
from synthoma.training.loop import train
from synthoma.training.start import prepare_run

SIZE, CHANNELS, SAMPLES, BATCH = 16, 2, 5_000, 64
TRAIN, HELD_OUT = 20_000, 8


class Quiet:
    """An observer that shows warnings only."""

    def say(self, message: str) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        print(message, flush=True)

    def row(self, row: dict[str, Any], total_images: int) -> None:
        """Nothing."""


def write_stacked_dataset(folder: Path, train_images: int = TRAIN, seed: int = 0) -> Dataset:
    """A dataset folder of stacked shapes; an existing one is opened.

    The class is the first channel's shape. 8 images each in val and test: too few to choose a checkpoint, so that the
    last average is what is judged.
    """
    if (folder / "dataset.json").is_file():
        return Dataset.open(folder)
    count = train_images + 2 * HELD_OUT
    images, modes = draw_stacked(seed, np.arange(count), CHANNELS, SIZE)
    labels = [SHAPES[mode // len(SHAPES)] for mode in modes]
    splits = ["train"] * train_images + ["val"] * HELD_OUT + ["test"] * HELD_OUT
    contents = [hashlib.sha256(image.tobytes()).hexdigest()[:32] for image in images]
    groups = [f"G{number:05d}" for number in range(count)]
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    table = {
        "row": list(range(count)),
        "key": [content[:16] for content in contents],
        "content": contents,
        "label": labels,
        "group": groups,
        "split": splits,
        "unit": ["unknown"] * count,
        "spacing": [None] * count,
        "upscaled": [False] * count,
    }
    pq.write_table(pa.table(table), folder / "records.parquet")
    placed = list(zip(splits, labels, strict=True))
    seal_dataset(
        folder,
        {
            "name": "stacked shapes",
            "recipe_hash": "0" * 16,
            "encoding": {"unit": "unknown", "channels": CHANNELS, "size": [SIZE, SIZE], "dtype": "uint8"},
            "classes": sorted(SHAPES),
            "counts": {split: {name: placed.count((split, name)) for name in SHAPES} for split in set(splits)},
            "cohort": {"hash": cohort_hash(contents, groups, splits)},
            "content": content_hash([contents, labels, splits]),
            "data": {"licence": "CC0-1.0", "citation": None, "may_release": True},
        },
    )
    return Dataset.open(folder)


# R3GAN's rates are for two thousand times as many images; a tenfold rate, half the batch and narrow fine levels fit what a
# CPU can do. Found in one trial of 60 kimg (85 modes, 30 % good) after one of 20 kimg with R3GAN's batch (7 modes).
QUICK_R3: dict[str, Any] = {
    "batch": 32,
    "gamma": 0.3,
    "learning_rate": {"start": 2e-3, "end": 5e-4},
    "ema_kimg": 3,
}
NARROW_R3: dict[str, Any] = {
    "generator_widths": [96, 64, 32],
    "discriminator_widths": [32, 64, 96],
    "blocks": 1,
}


def make_recipe(family: str, seed: int, kimg: float) -> Recipe:
    """The family at 16 pixels, its own way; nothing is measured on the way and one checkpoint is written at the end."""
    rare = {"sample_kimg": kimg, "checkpoint_kimg": kimg, "tick_kimg": max(kimg / 50, 1.0)}
    plain = family_recipe(
        family, (SIZE, SIZE), BATCH, channels=CHANNELS, kimg=kimg, seed=seed, precision="fp32", **rare
    )
    if family != "r3":
        return plain
    values = plain.model_dump(mode="json")
    values["model"] |= NARROW_R3
    values["training"] |= QUICK_R3
    return validate_recipe(values, "r3 on stacked shapes")


def train_images(family: str, seed: int, kimg: float, work: Path, classify: Classify) -> dict[str, Any]:
    """Train on stacked shapes, sample the released generator, count modes; the run's folder is removed again."""
    dataset = write_stacked_dataset(work / "dataset")
    run = Run(work / f"{family}-{seed}")
    recipe = prepare_run(run, make_recipe(family, seed, kimg))
    start = time.process_time()
    model = train(run, dataset, Quiet())
    seconds = time.process_time() - start
    rows = [row for row in run.stats() if row["kind"] == "tick"]
    found = count_modes(classify(np.asarray(model.generate(SAMPLES, seed=1).images, np.uint8)), mode_count(CHANNELS))
    result = {
        "covered": found.covered,
        "modes": mode_count(CHANNELS),
        "good": round(found.good, 4),
        "divergence": round(found.divergence, 4),
        "images_seen": rows[-1]["images_seen"],
        "iterations": rows[-1]["iteration"],
        "cpu_seconds": round(seconds, 1),
        "health": [row["message"] for row in run.stats() if row["kind"] == "health"],
        "recipe": recipe.part_hash("model", "training"),
    }
    shutil.rmtree(run.path)
    return result
