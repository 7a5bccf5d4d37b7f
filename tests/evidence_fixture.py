"""Results of the studies as they write them, by hand and with plausible numbers, for a made-up run."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from run_fixture import CLASSES, estimate, make_run
from synthoma.dataset import Dataset
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.recipe import content_hash
from synthoma.run import Run, file_sha256, read_json, write_json

BLUR = "real training images after a Gaussian blur of 0.75 px, against the same test images"


def seal(run: Run, may_release: bool | None = True) -> str:
    """Make model.json fit its weights and its own hash, as `Model.save` does; returns the hash."""
    weights = run.model / "generator.safetensors"
    weights.write_bytes(b"made-up weights")
    model = read_json(run.model / "model.json")
    model["dataset"]["may_release"] = may_release
    model["weights_sha256"] = file_sha256(weights)
    del model["model_hash"]
    write_json(run.model / "model.json", {**model, "model_hash": content_hash(model)})
    return content_hash(model)


def controlled(value: float, half: float, control: float, **more: Any) -> dict[str, Any]:
    arms = [{"value": v, "low": v - half, "high": v + half, "n": 240, "groups": 90} for v in (value, control)]
    return {"kind": "controlled", **arms[0], "control": arms[1], "direction": "higher", **more}


def attack(auc: float, half: float = 0.05, control: float = 0.499) -> dict[str, Any]:
    numbers = {"n": {"members": 120, "non_members": 60}, "groups": {"members": 60, "non_members": 30}}
    return {
        "kind": "attack",
        "auc": auc,
        "low": auc - half,
        "high": auc + half,
        **numbers,
        "control": {"auc": control, "low": control - half, "high": control + half, **numbers},
        "excess": {"value": auc - control, "low": auc - half - control, "high": auc + half - control},
        "true_positive_rate_at_1_percent": {"value": 0.017, "low": 0.004, "high": 0.05, "control": 0.012},
    }


def privacy(content: str, model_hash: str, found: int = 0, n: int = 2000) -> dict[str, Any]:
    low, high = stats.binomtest(found, n).proportion_ci(0.95)
    rate = {"value": found / n, "low": float(low), "high": float(high), "upper_95": 3 / n if not found else float(high)}
    alike = {"median": 0.61, "largest": 0.91}
    return {
        "schema": 1,
        "protocol": {"hash": "f497a68cdba63be3", "train": f"{content}/train", "holdout": f"{content}/val+test"},
        "counts": {"synthetic": n, "train": 80, "holdout": 40, "groups_train": 40, "groups_holdout": 20},
        "copies": {
            "found": found,
            "n": n,
            "rate": rate,
            "thresholds": {
                "similarity": 0.9675,
                "lead": 0.91,
                "feature_distance": 0.4657,
                "set_by_data": True,
                "overlap": False,
            },
            "recall": {"exact": 1.0, "flipped": 1.0, "shifted": 1.0, "brightened": 0.83, "jpeg": 0.98},
            "control": {"found": 0, "n": 40, "what": "held-out real images, called copies"},
            "similarity": {"synthetic": alike, "held_out": {"median": 0.73, "largest": 0.89}},
            "without_structure": 0,
        },
        "authenticity": controlled(0.64, 0.06, 0.61),
        "c_t": controlled(0.8, 1.1, 0.02, cells=4),
        "membership": {
            "features": attack(0.512, 0.04),
            "pixels": attack(0.524, 0.05),
            "discriminator": attack(0.71, 0.06),
        },
        "warnings": ["Group G00007 holds most of the held-out images."],
        "model_hash": model_hash,
    }


def above_floor(value: float = 0.18, half: float = 0.05) -> dict[str, Any]:
    kid = estimate(value, half, 0.0, 0.012, "lower", 60, yardstick={"value": 1.31, "what": BLUR})
    units = {"synthetic": 240, "training": 100}
    test = {"kind": "permutation", "difference": value, "p": 0.003, "permutations": 999, "units": units}
    return {"all": {"kid_above_floor": kid, "permutation": test}, "classes": {}}


def appearance() -> dict[str, Any]:
    radii = np.linspace(0, 1, 24)
    yardstick = {"value": 6.2, "what": BLUR}
    caveat = "Above the floor the generator repeats itself; below it its images are more scattered than real ones."
    return {
        "title": "appearance (no network: spectra, texture, pairs of images)",
        "protocol": "b3f6096f94ab2ce9",
        "all": {
            "spectrum": estimate(1.9, 0.4, 0.56, 0.2, "lower", 60, yardstick=yardstick),
            "texture": estimate(0.71, 0.12, 0.25, 0.1, "lower", 60),
            "ms_ssim": estimate(0.41, 0.05, 0.33, 0.05, "lower", 60, caveat=caveat),
        },
        "classes": {},
        "spectra": {
            "all": {"synthetic": (40 - 52 * radii).tolist(), "test": (40 - 47 * radii).tolist()},
            "classes": {},
        },
    }


def complete_fidelity(run: Run, content: str, model_hash: str) -> dict[str, Any]:
    """Fidelity as `run_fixture` writes it, with what the gate reads beside the metrics."""
    fidelity = read_json(run.evaluation / "fidelity.json")
    fidelity["protocol"] |= {"reference": f"{content}/test", "floor": f"{content}/train"}
    for space in fidelity["spaces"].values():
        space["above_floor"] = above_floor()
        space["all"]["coverage"] = estimate(0.86, 0.05, 0.93, 0.03, "higher", 60)
        space["seeds"] = {"all": {"kid": {"values": [0.18, 0.19, 0.17], "mean": 0.18, "sd": 0.01}}, "classes": {}}
    fidelity["appearance"] = appearance()
    return {**fidelity, "model_hash": model_hash}


def figure(value: float, half: float, **more: Any) -> dict[str, Any]:
    seeds = [value - half / 4, value, value + half / 4]
    return {"kind": "estimate", "value": value, "low": value - half, "high": value + half, "per_seed": seeds, **more}


def arm(name: str, title: str, change: float | None, verdict: str, half: float = 0.012) -> dict[str, Any]:
    names = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ece")
    told: dict[str, Any] = {"name": name, "title": title, "images": dict.fromkeys(CLASSES, 40), "fits": []}
    told["scores"] = {score: figure(0.84 + (change or 0), 0.04) for score in names}
    told["classes"] = {label: {"auc": figure(0.8, 0.06)} for label in CLASSES[1:]}
    if change is not None:
        told["change"] = {score: figure(change, half, p=0.2, smallest_detectable=0.02) for score in names}
        told["verdict"] = {"verdict": verdict, "why": f"made up: {verdict}"}
        for place, label in enumerate(CLASSES[1:]):
            own = {"auc": figure(change + 0.01 * place, 2.5 * half, p=0.4, smallest_detectable=0.06)}
            told["classes"][label] |= {"change": own, "verdict": {"verdict": "underpowered", "why": "few patients"}}
    return told


def utility(content: str, model_hash: str) -> dict[str, Any]:
    sides = {side: {"images": 40, "groups": 20, "classes": {}} for side in ("train", "validation", "test", "synthetic")}
    protocol = {
        "hash": "0d1f3a5b7c9d2e4f",
        "settings": UtilitySettings().protocol(),
        "classifier": {"network": "monai.networks.nets.ResNet", "gflop_forward": 0.2},
        "train": f"{content}/train",
    }
    return {
        "schema": 1,
        "design": "one split",
        "protocol": protocol,
        "classes": list(CLASSES),
        "class_of_interest": None,
        "counts": sides,
        "seeds": [0, 1, 2],
        "withheld_classes": {CLASSES[0]: "6 test images; a class needs at least 10"},
        "minority": [CLASSES[3]],
        "arms": [
            arm("real", "real", None, ""),
            arm("real+augmentation", "real, classical augmentation", 0.031, "helps"),
            arm("real+weights", "real, rare classes weighted", 0.004, "no effect within the margin"),
            arm("synthetic", "synthetic only", -0.094, "harms", 0.03),
            arm("real+synthetic@0.5", "real + 0.5 × synthetic", 0.006, "no effect within the margin"),
            arm("real+synthetic@1", "real + 1 × synthetic", 0.011, "no effect within the margin"),
            {
                "name": "real+synthetic@2",
                "title": "real + 2 × synthetic",
                "kind": "withheld",
                "reason": "too few images",
            },
        ],
        "synthetic": "generated for the study",
        "model_hash": model_hash,
    }


def anatomy(model_hash: str) -> dict[str, Any]:
    share = np.linspace(0, 1, 41)
    curves = {
        "diameter_mm": {"synthetic": (5 + 18 * share**2).tolist(), "test": (4 + 24 * share**2.4).tolist()},
        "mean_hu": {"synthetic": (-560 + 610 * share).tolist(), "test": (-640 + 720 * share).tolist()},
    }
    return {
        "title": "nodules, measured by one segmenter on real and synthetic cubes",
        "protocol": "77aa06c94b2ce9f0",
        "segmenter": {"name": "threshold and distance"},
        "segmenter_error": {"kind": "segmenter error", "cubes": 31, "dice": 0.83, "diameter_error_mm": 0.9},
        "found": {which: {"images": 120, "nodules": 109} for which in ("synthetic", "test", "train")},
        "all": {
            "diameter_mm": estimate(0.14, 0.06, 0.07, 0.04, "lower", 60),
            "mean_hu": estimate(0.22, 0.07, 0.08, 0.04, "lower", 60),
            "sphericity": {"kind": "withheld", "reason": "21 nodules; this measure needs at least 30 on each side"},
        },
        "classes": {},
        "quantiles": {"all": curves, "classes": {}},
        "textures": {
            "all": {
                "synthetic": {"solid": 0.81, "part_solid": 0.08, "ground_glass": 0.11},
                "test": {"solid": 0.74, "part_solid": 0.12, "ground_glass": 0.14},
            },
            "classes": {},
        },
        "model_hash": model_hash,
    }


def subgroups(model_hash: str) -> dict[str, Any]:
    few = {"kind": "withheld", "reason": "4 patients or groups; a subgroup needs at least 10"}

    def both(coverage: float) -> dict[str, Any]:
        return {
            name: estimate(coverage - i / 10, 0.08, 0.92, 0.04, "higher", 30)
            for i, name in enumerate(("coverage", "recall"))
        }

    columns = {
        "sex": {"F": both(0.84), "M": both(0.79)},
        "age": {"up to 51": both(0.85), "above 51 to 64": both(0.8), "above 64": {"coverage": few, "recall": few}},
    }
    title = "random convolutional features (fixed seed, no training)"
    return {
        "title": title,
        "protocol": "5c1d",
        "neighbours": 5,
        "matched": 60,
        "columns": columns,
        "model_hash": model_hash,
    }


def detector(model_hash: str) -> dict[str, Any]:
    auc = estimate(0.93, 0.03, 0.51, 0.07, "lower", 60, caveat="0.5: this classifier cannot tell them apart.")
    return {"schema": 1, "auc": auc, "false_alarms": 0.05, "model_hash": model_hash}


def write_pairs(run: Run, dataset: Dataset, count: int = 6) -> None:
    """Pairs of the audit; the privacy result must speak of as many synthetic images as the run saved."""
    rows = dataset.rows("train")
    pairs = [
        {
            "synthetic": i,
            "train_row": int(rows[5 * i]),
            "similarity": 0.97 - i / 20,
            "feature_distance": 0.4 + i / 5 if i < 5 else None,
            "alignment": {"axes": [1, 0] if i == 1 else [0, 1], "flips": [i == 2, False], "shift": [-i, 0]},
            "copy": i == 0,
        }
        for i in range(count)
    ]
    write_json(run.private / "pairs.json", {"schema": 1, "protocol": "f497a68cdba63be3", "pairs": pairs})


def make_studied_run(folder: Path, *, may_release: bool | None = True, **options: Any) -> tuple[Run, Dataset]:
    """A run with every study made, whose numbers pass the gate."""
    run, dataset = make_run(folder, **options)
    model_hash, content = seal(run, may_release), dataset.content_hash
    write_json(run.evaluation / "fidelity.json", complete_fidelity(run, content, model_hash))
    write_json(run.evaluation / "privacy.json", privacy(content, model_hash))
    write_json(run.evaluation / "utility.json", utility(content, model_hash))
    write_json(run.evaluation / "anatomy.json", anatomy(model_hash))
    write_json(run.evaluation / "subgroups.json", subgroups(model_hash))
    write_json(run.evaluation / "detector.json", detector(model_hash))
    return run, dataset
