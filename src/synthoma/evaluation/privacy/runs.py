"""The audit of a run: its own split, its saved synthetic images, its discriminator; and the files that it leaves."""

import zipfile
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.conditions import Conditions
from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError
from synthoma.evaluation.imagesets import (
    ImageSet,
    image_set_from_dataset,
    image_set_from_rows,
    image_set_of_generated,
    pixel_hash,
)
from synthoma.evaluation.privacy.attacks import Discriminator
from synthoma.evaluation.privacy.audit import PAIRS, PRIVACY, Audit, audit_images
from synthoma.evaluation.privacy.canaries import find_canaries
from synthoma.evaluation.privacy.copies import Progress
from synthoma.families.registry import ImageSpace, build_family
from synthoma.recipe import Recipe
from synthoma.run import Run, read_json, write_json
from synthoma.training.canaries import canary_rows
from synthoma.training.checkpoint import checkpoint_folders, load_newest
from synthoma.training.images import RealImages
from synthoma.training.schedules import Schedules
from synthoma.training.state import State
from synthoma.training.updates import networks_at

_BATCH = 64


def audit_run(
    run: Run,
    recipe: Recipe,
    dataset: Dataset,
    generate: Callable[[], ImageSet],
    *,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> Audit:
    """Audit the released model of a run against its own patients; the caller holds the run's lock.

    Held-out images are those of validation and test. The synthetic images are those that the run's evaluation saved, else
    `generate()` makes them. Leaves evaluation/privacy.json without any pair of images, and private/pairs.json with them.
    Raises `EvaluationError` where the run has no model, or no held-out images.
    """
    if not (run.model / "model.json").exists():
        raise EvaluationError(f"{run.path} has no model yet; train it first: synthoma train {run.path} --resume")
    train = image_set_from_dataset(dataset, "train")
    rows = np.sort(np.concatenate((dataset.rows("val"), dataset.rows("test"))))
    if not len(rows):
        raise EvaluationError(f"{run.path} has no validation or test images: an audit compares with patients held out.")
    holdout = image_set_from_rows(dataset, rows, f"{dataset.content_hash}/val+test")
    model_hash = str(read_json(run.model / "model.json")["model_hash"])
    synthetic = saved_synthetic(run, dataset, model_hash)
    if synthetic is None:
        say("Generating images for the audit.")
        synthetic = generate()
    audit = audit_images(
        train,
        holdout,
        synthetic,
        discriminator=load_discriminator(run, recipe, dataset, say),
        cache=run.private / "features",
        progress=progress,
        seed=recipe.evaluation.seed,
    )
    write_json(run.private / PAIRS, audit.pairs_json())
    canaries = canary_rows(dataset, recipe)
    found = {"canaries": find_canaries(audit, canaries).to_json()} if len(canaries) else {}
    write_json(run.evaluation / PRIVACY, {**audit.to_json(), **found, "model_hash": model_hash})
    return audit


def saved_synthetic(run: Run, dataset: Dataset, model_hash: str) -> ImageSet | None:
    """The images that the run's evaluation saved; None where there are none, or those of another model."""
    fidelity, saved = run.evaluation / "fidelity.json", run.evaluation / "synthetic.npz"
    if not fidelity.is_file() or not saved.is_file() or read_json(fidelity).get("model_hash") != model_hash:
        return None
    try:
        with np.load(saved, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EvaluationError(
            f"{saved} is damaged ({error}); evaluate the run again: synthoma evaluate {run.path}"
        ) from error
    return image_set_of_generated(images, labels.astype(np.int64), dataset, pixel_hash(images))


def load_discriminator(run: Run, recipe: Recipe, dataset: Dataset, say: Callable[[str], None]) -> Discriminator | None:
    """The discriminator of the newest checkpoint as an attack: what leaks if one shipped it. None without a checkpoint."""
    if not checkpoint_folders(run.checkpoints):
        return None
    device = torch.device("cpu")
    model = recipe.model
    conditions, _ = Conditions.fit(dataset, model.conditions, model.class_order, model.when_absent)
    splits = {split: RealImages(dataset, device, model, split) for split in ("train", "val", "test")}
    space = ImageSpace(dataset.size, splits["train"].channels, conditions.width)
    state = State(build_family(model, recipe.training, space, device))
    load_newest(run.checkpoints, state, say)
    schedules = Schedules(recipe, state.family.levels, dataset.size)
    moment = schedules.at(max(state.counters.images_seen - 1, 0))
    network = networks_at(state.family, moment.level, moment.fade)[1]
    state.family.discriminator.eval()

    @torch.no_grad()
    def scores(images: ImageSet) -> NDArray[np.float64]:
        if images.rows is None:
            raise EvaluationError("the discriminator scores images of the run's own dataset.")
        result = np.empty(len(images))
        for split, reals in splits.items():
            places = np.flatnonzero(dataset.splits[images.rows] == split)
            for start in range(0, len(places), _BATCH):
                part = places[start : start + _BATCH]
                rows = images.rows[part]
                codes = torch.as_tensor(conditions.encode_dataset(dataset, rows)) if conditions.width else None
                if codes is not None and moment.blend is not None:
                    codes = codes * moment.blend
                pixels = reals.read(torch.from_numpy(np.searchsorted(reals.rows, rows)))
                logits = network(pixels, codes)
                result[part] = (
                    logits.double().flatten(1).mean(dim=1).numpy() if logits.ndim > 1 else logits.double().numpy()
                )
        return result

    return scores
