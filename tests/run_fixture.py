"""A made-up run folder with everything that a report reads; it draws its small pictures itself.

Each real picture carries `MARK` in its top left corner, so that a test can look for real pixels in a page.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synthoma.cohort import cohort_hash
from synthoma.dataset import Dataset, seal_dataset
from synthoma.pictures import contact_sheet, grid, write_gif, write_png
from synthoma.recipe import content_hash, validate_recipe
from synthoma.run import Run, environment, write_atomically, write_json

CLASSES = ("basal_cell_carcinoma", "melanoma", "nevus", "vascular_lesion")
SHARES = (0.2, 0.3, 0.4, 0.1)
# Values that the made-up synthetic pictures never have side by side.
MARK = np.array([[3, 251, 7], [249, 5, 253], [9, 247, 1]], dtype=np.uint8)


def draw(
    count: int, channels: int, size: tuple[int, ...], labels: np.ndarray, seed: int, blur: float = 0.0
) -> np.ndarray:
    """Blobs on skin whose radius and tone follow the class: uint8 [n, c, *size], values within 20 and 235."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij")
    images = np.empty((count, channels, *size), dtype=np.uint8)
    for i, label in enumerate(labels):
        centre = random.uniform(-0.25, 0.25, len(size))
        distance = sum((axis - c) ** 2 * random.uniform(0.7, 1.4) for axis, c in zip(axes, centre, strict=True))
        blob = 1 / (1 + np.exp((np.sqrt(distance) - 0.35 - 0.08 * (label % 4)) * (14 - 9 * blur)))
        for channel in range(channels):
            skin, lesion = (
                (216, 178, 160)[channel],
                ((168, 92, 110), (70, 48, 44), (128, 84, 60), (176, 30, 60))[label % 4][channel],
            )
            tone = skin + (lesion - skin) * blob + random.normal(0, 3 + 14 * blur, size)
            images[i, channel] = np.clip(tone, 20, 235)
    return images


def plant(images: np.ndarray) -> None:
    """Write `MARK` into the top left corner of the first channel of each picture (of the middle slice of a volume)."""
    if images.ndim == 4:
        images[:, 0, :3, :3] = MARK
    else:
        images[:, 0, images.shape[2] // 2, :3, :3] = MARK


def make_dataset(
    folder: Path, classes: tuple[str, ...], channels: int, size: tuple[int, ...], count: int = 120
) -> Dataset:
    """A valid dataset of marked pictures, two to a group, with a few findings to tell about."""
    random = np.random.default_rng(1)
    shares = np.array((SHARES * 9)[: max(len(classes), 1)])
    labels = np.sort(random.choice(len(shares), count, p=shares / shares.sum()))
    images = draw(count, channels, size, labels, seed=2)
    plant(images)
    if images.ndim == 4:
        images[1] = images[0, :, :, ::-1]  # a mirrored copy in the same group
        images[1, 0, :3, :3] = MARK
    names = [classes[label] if classes else None for label in labels]
    contents = [content_hash(image.tolist()) for image in images]
    groups = [f"G{n // 2 + 1:05d}" for n in range(count)]
    splits = [("train", "train", "train", "val", "train", "test", "train")[(n // 2) % 7] for n in range(count)]
    keys = [content[:16] for content in contents]
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    unit = "rgb8" if channels == 3 else "grey8"
    columns: dict[str, Any] = {
        "row": list(range(count)),
        "key": keys,
        "content": contents,
        "label": names,
        "group": groups,
    }
    columns |= {"split": splits, "unit": [unit] * count, "spacing": [None] * count, "upscaled": [False] * count}
    pq.write_table(pa.table(columns), folder / "records.parquet")
    seal_dataset(folder, dataset_info(classes, names, groups, splits, contents, keys, unit, channels, size))
    overview = contact_sheet(
        [(f"{split}", images[[i for i, s in enumerate(splits) if s == split][:16]]) for split in ("train", "test")]
    )
    write_png(overview, folder / "private" / "overview.png")
    return Dataset.open(folder)


def dataset_info(
    classes: tuple[str, ...],
    names: list,
    groups: list,
    splits: list,
    contents: list,
    keys: list,
    unit: str,
    channels: int,
    size: tuple,
) -> dict[str, Any]:
    rows = list(zip(names, groups, splits, strict=True))
    kinds = classes or ("",)
    counts = {
        s: {k: sum(1 for n, _, t in rows if t == s and (n or "") == k) for k in kinds} for s in ("train", "val", "test")
    }
    return {
        "name": "skin",
        "recipe_hash": "5f0c2d9a71b3e844",
        "encoding": {"unit": unit, "channels": channels, "size": list(size), "dtype": "uint8"},
        "classes": list(classes),
        "counts": counts,
        "groups": {s: len({g for _, g, t in rows if t == s}) for s in counts},
        "cohort": {
            "hash": cohort_hash(contents, groups, splits),
            "fractions": [0.7, 0.15, 0.15],
            "seed": 0,
            "deviations": ["vascular_lesion: 9 % of it is in val instead of 15 %, its groups allow no better"],
            "independent_reference": True,
        },
        "content": content_hash([contents, names, splits]),
        "data": {"licence": "CC-BY-NC-4.0", "citation": "A. Author et al., Skin pictures, 2019.", "may_release": None},
        "preparation": {
            "found": len(rows) + 7,
            "kept": len(rows),
            "rejected": {"the file is truncated": 2, "the file is empty": 1},
            "duplicates": 3,
            "conflicts": 1,
            "near_duplicate_groups": int(len(size) == 2),
            "near_duplicates_apart": 2,
            "label_check_accuracy": 0.88,
            "upscaled_share": 0.04,
            "fit": "crop",
            "colour": "rgb" if channels == 3 else "grey",
            "imbalance": 4.0,
        },
        "notes": [
            "Pictures in Train/ and Test/ were pooled and split anew.",
            f"Group {groups[0]} from /home/someone/scans is large.",
        ],
        "warnings": ["Class vascular_lesion has fewer training pictures than a batch; they are drawn with repetition."]
        if classes
        else [],
        "label_errors": [
            {"key": keys[5], "label": names[5], "suggested": classes[-1], "probability": 0.93},
            {"key": keys[40], "label": names[40], "suggested": classes[0], "probability": 0.81},
        ]
        if classes
        else [],
    }


def estimate(
    value: float, half: float, floor: float, floor_half: float, direction: str, n: int, **more: Any
) -> dict[str, Any]:
    apart, reach = value - floor, math.hypot(half, floor_half)
    return {
        "kind": "estimate",
        "value": value,
        "low": value - half,
        "high": value + half,
        "n": {"synthetic": 4 * n, "reference": n},
        "groups": n // 2,
        "floor": {"value": floor, "low": floor - floor_half, "high": floor + floor_half},
        "direction": direction,
        "protocol": "1f3a5b7c9d2e4f60",
        "less_floor": {"value": apart, "low": apart - reach, "high": apart + reach},
        **more,
    }


def metrics(shift: float, n: int) -> dict[str, Any]:
    """All metrics of a space; `shift` moves them away from their floors."""
    if n < 16:
        return {
            name: {"kind": "withheld", "reason": f"{n} test images; this metric needs at least 16 on each side"}
            for name in METRIC_NAMES
        }
    yardstick = {
        "value": 1.31,
        "what": "real training images after a Gaussian blur of 0.75 px, against the same test images",
    }
    withheld = {"kind": "withheld", "reason": "this feature space has no class probabilities"}
    few = {"kind": "withheld", "reason": f"{n} test images; this metric needs at least 50 on each side"}
    kid = estimate(0.182 + shift, 0.031 + shift / 5, 0.0021, 0.012, "lower", n, yardstick=yardstick)
    if n < 50:
        return {name: kid if name == "kid" else few for name in METRIC_NAMES}
    return {
        "kid": kid,
        "fd": estimate(14.2 + 9 * shift, 1.9, 3.1, 0.4, "lower", n),
        "precision": estimate(0.61 - shift / 3, 0.06, 0.82, 0.04, "higher", n),
        "recall": estimate(0.43 - shift / 3, 0.07, 0.80, 0.05, "higher", n),
        "density": estimate(0.66 - shift / 3, 0.09, 1.01, 0.06, "higher", n),
        "coverage": estimate(0.57 - shift / 3, 0.06, 0.93, 0.03, "higher", n),
        "inception_score": withheld,
    }


METRIC_NAMES = ("kid", "fd", "precision", "recall", "density", "coverage", "inception_score")


def write_fidelity(run: Run, classes: tuple[str, ...], withhold: str | None = None) -> None:
    spaces = {}
    for name, title in (
        ("randconv", "random convolutional features (fixed seed, no training)"),
        ("pca", "principal components of pixels (whitened)"),
    ):
        everything = metrics(0.0 if name == "randconv" else 0.12, 60)
        each = {label: metrics(0.05 * (i + 1), (72, 64, 31, 9)[i % 4]) for i, label in enumerate(classes)}
        if withhold:
            everything = {metric: {"kind": "withheld", "reason": withhold} for metric in METRIC_NAMES}
            each = dict.fromkeys(classes, everything)
        spaces[name] = {"title": title, "dimension": 448, "all": everything, "classes": each}
    write_json(
        run.evaluation / "fidelity.json",
        {
            "schema": 1,
            "protocol": {
                "hash": "1f3a5b7c9d2e4f60",
                "subsamples": 100,
                "floors": 5,
                "interval": "95%, half-samples of whole groups",
            },
            "reference": "test",
            "counts": {"synthetic": 240, "test": 60, "train": 200, "groups_test": 30},
            "spaces": spaces,
            "warnings": [
                "Class vascular_lesion has 9 test images: most of its metrics are withheld.",
                "Group G00007 holds half of them.",
            ]
            if classes
            else [],
        },
    )


def write_training(
    run: Run, recipe: Any, dataset: Dataset, classes: tuple[str, ...], validated: bool, kimg: int = 60
) -> None:
    random = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for step in range(1, kimg + 1):
        seen, decay = step * 1000, float(np.exp(-step / 15))
        tick = {
            "kind": "tick",
            "images_seen": seen,
            "iteration": seen // 16,
            "seconds": step * 5.0,
            "images_per_second": 200 + random.normal(0, 6),
        }
        tick |= {
            "loss_discriminator": 0.9 + 0.5 * decay + random.normal(0, 0.05),
            "loss_generator": 1.6 + decay + random.normal(0, 0.12),
        }
        tick |= {
            "d_real": 0.68 + 0.2 * decay + random.normal(0, 0.02),
            "d_fake": 0.31 - 0.2 * decay + random.normal(0, 0.02),
        }
        rows.append({**tick, "data_wait_share": 0.002, "memory_mib": 812.0})
        if validated and step % 5 == 0:
            rows.append(
                {
                    "kind": "validation",
                    "images_seen": seen,
                    "kid": 0.2 + 2.1 * decay,
                    "kid_se": 0.02 + 0.06 * decay,
                    "count": 300,
                }
            )
    write_atomically(run.stats_file, "".join(json.dumps(row) + "\n" for row in rows))
    best = {
        "images_seen": kimg * 1000 - 5000,
        "kid": 0.24,
        "kid_se": 0.021,
        "why": "lowest validation KID by more than its standard error",
    }
    write_json(
        run.training_file,
        {
            "finished": True,
            "images_seen": kimg * 1000,
            "iteration": kimg * 1000 // 16,
            "seconds": kimg * 5.0,
            "precision": "bf16",
            "precision_reason": "the self-test found it right and 1.6 times as fast",
            "device": "cpu",
            "parameters": {"generator": 1_634_211, "discriminator": 702_113},
            "dataset": {"content": dataset.content_hash, "cohort": dataset.cohort_hash, "name": "skin"},
            "best": best if validated else None,
            "warnings": ["Group G00003 was seen often."],
        },
    )
    frames = []
    for seen in range(0, kimg * 1000 + 1, 10_000):
        labels = np.repeat(np.arange(max(len(classes), 1)), 8)
        picture = grid(
            draw(len(labels), dataset.channels, dataset.size, labels, 9, blur=1 - seen / (kimg * 1000)),
            8,
            row_labels=classes or None,
        )
        write_png(picture, run.samples / f"{seen:09d}.png")
        frames.append(picture)
    write_gif(frames, run.samples / "progress.gif", 0.25)


def write_model(run: Run, recipe: Any, dataset: Dataset, classes: tuple[str, ...]) -> None:
    write_json(
        run.model / "model.json",
        {
            "schema": 1,
            "name": recipe.name,
            "title": recipe.title,
            "family": recipe.model.family,
            "classes": list(classes),
            "class_counts": dataset.info["counts"]["train"] if classes else {},
            "channels": dataset.channels,
            "size": list(dataset.size),
            "latent": recipe.model.latent,
            "encoding": dict(dataset.info["encoding"]),
            "weights_sha256": "9b" * 32,
            "model_hash": "c0ffee00c0ffee00",
            "recipe_hash": recipe.part_hash(),
            "dataset": {
                "content": dataset.content_hash,
                "cohort": dataset.cohort_hash,
                "counts": dataset.info["counts"],
                **dataset.info["data"],
            },
            "images_seen": 55_000,
            "synthoma": "0.1.0",
        },
    )


def write_evaluation(run: Run, dataset: Dataset, classes: tuple[str, ...], withhold: str | None) -> None:
    write_fidelity(run, classes, withhold)
    count = 12 * max(len(classes), 1)
    labels = np.arange(count) % max(len(classes), 1)
    images = draw(count, dataset.channels, dataset.size, labels, seed=17, blur=0.15)
    np.savez_compressed(
        run.evaluation / "synthetic.npz", images=images, labels=labels if classes else np.full(count, -1)
    )
    pairs = [
        {
            "synthetic": i,
            "train_row": int(dataset.rows("train")[i * 3]),
            "distance": 0.21 + i / 50,
            "pixel_distance": 0.08 + i / 90,
        }
        for i in range(8)
    ]
    write_json(run.private / "neighbours.json", {"space": "randconv", "pairs": pairs})


def make_run(
    folder: Path,
    *,
    classes: tuple[str, ...] = CLASSES,
    channels: int = 3,
    size: tuple[int, ...] = (32, 32),
    evaluated: bool = True,
    validated: bool = True,
    trained: bool = True,
    withhold: str | None = None,
    kimg: int = 60,
) -> tuple[Run, Dataset]:
    """A finished run and its dataset; the switches leave parts out."""
    run = Run(folder)
    recipe = validate_recipe(
        {
            "name": "skin-cgan" if classes else "chest-ct-dcgan",
            "title": "Conditional GAN for dermoscopic skin lesions" if classes else "DCGAN for chest CT slices",
            "source": {"groups": "/home/someone/patients/groups.csv"},
            "preparation": {"size": list(size), "colour": "rgb" if channels == 3 else "grey"},
            "model": {"family": "cgan" if classes else "dcgan"},
            "training": {"kimg": kimg},
            "data": {"licence": "CC-BY-NC-4.0"},
        },
        "made up",
    )
    write_atomically(run.recipe_file, recipe.to_yaml())
    write_json(run.environment_file, environment())
    dataset = make_dataset(run.own_dataset, classes, channels, size)
    if trained:
        write_training(run, recipe, dataset, classes, validated, kimg)
        write_model(run, recipe, dataset, classes)
    if evaluated:
        write_evaluation(run, dataset, classes, withhold)
    return run, dataset
