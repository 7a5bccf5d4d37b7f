"""Drawn textures, labelled folders of images, and models for the tests of utility studies and of selection."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from synthoma.conditions import Conditions
from synthoma.dataset import Dataset
from synthoma.evaluation.imagesets import ImageSet, pixel_hash
from synthoma.evaluation.utility import Sides
from synthoma.families import ImageSpace, build_family
from synthoma.model import Model
from synthoma.recipe import ModelSection, TrainingSection
from synthoma.synthesis.encoding import Encoder
from synthoma.synthesis.write_images import MANIFEST, SCHEMA

NAMES = ("fine", "coarse")


def textures(count: int, seed: int, noise: float = 40.0, groups: str = "p", classes: int = 2) -> ImageSet:
    """Grey stripes 16 px wide whose period tells the class, at any angle and phase, under noise; two images a patient."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) // 2 % classes
    y, x = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    images = np.empty((count, 1, 16, 16), dtype=np.uint8)
    for i, label in enumerate(labels):
        angle, phase = random.uniform(0, np.pi), random.uniform(0, 2 * np.pi)
        wave = np.cos((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / (3.5 + 2.0 * label) + phase)
        images[i, 0] = np.clip(128 + 60 * wave + random.normal(0, noise, wave.shape), 0, 255)
    names = [f"{groups}{seed}-{i // 2}" for i in range(count)]
    known = [*NAMES, "third"][:classes]
    return ImageSet(images, labels.astype(np.int64), known, np.array(names), pixel_hash(images))


def sides(train: int = 24, held: int = 40, noise: float = 40.0) -> Sides:
    return Sides(textures(train, 1, noise), textures(held, 2, noise), textures(held, 3, noise))


def with_labels(images: ImageSet, labels: np.ndarray) -> ImageSet:
    return ImageSet(images.images, labels, images.classes, images.groups, images.content)


def write_generated(folder: Path, images: np.ndarray, names: Sequence[str | None]) -> Path:
    """A folder as `write_images` leaves it, with chosen pixels [n, c, y, x] and classes."""
    folder.mkdir(parents=True)
    rows = []
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        provenance: dict[str, Any] = {
            "class": name,
            "seed": 0,
            "index": index,
            "model_hash": "c0ffee00c0ffee00",
            "truncation": 1.0,
        }
        content = Encoder(".png").image(image, provenance)
        file = f"{name or 'synthetic'}_seed0_{index:06d}.png"
        (folder / file).write_bytes(content)
        rows.append({"file": file, "mask": None, **provenance, "sha256": hashlib.sha256(content).hexdigest()})
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / MANIFEST)
    return folder


def save_model_of(dataset: Dataset, run: Path, *, conditional: bool = True, **of_dataset: Any) -> Path:
    """A run with an untrained model that says it was trained on `dataset`; `of_dataset` changes what it says."""
    section = ModelSection(
        family="cgan" if conditional else "dcgan",
        latent=8,
        generator_widths=[16, 8],
        discriminator_widths=[8, 16],
        label_embedding=4,
    )
    classes = dataset.classes if conditional else []
    counts = tuple(dataset.info["counts"]["train"][name] for name in classes)
    conditions = Conditions(tuple(classes), None, counts, (), ())
    space = ImageSpace(dataset.size, dataset.channels, conditions.width)
    built = build_family(section, TrainingSection(seed=0), space, torch.device("cpu"))
    info = {
        "name": "test",
        "networks": section.model_dump(mode="json"),
        "classes": classes,
        "conditions": conditions.to_json(),
        "class_counts": dataset.info["counts"]["train"],
        "channels": dataset.channels,
        "size": list(dataset.size),
        "encoding": dict(dataset.info["encoding"]),
        "dataset": {"content": dataset.content_hash, "cohort": dataset.cohort_hash, **of_dataset},
    }
    Model.save(run / "model", built.generator, info, "# Card\n")
    return run
