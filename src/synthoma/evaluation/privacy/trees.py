"""The audit of anybody's folders: training, held-out and synthetic images."""

import dataclasses
from pathlib import Path

import numpy as np

from synthoma.errors import EvaluationError
from synthoma.evaluation.folders import GROUPS, holds_synthetic_images, image_set_from_path
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.privacy.audit import Audit, audit_images, shared_images
from synthoma.evaluation.privacy.copies import Progress


def audit_folders(train: Path, holdout: Path, synthetic: Path, *, progress: Progress | None = None) -> Audit:
    """`audit_images` of three folders (class folders, flat ones, or prepared datasets) with images of one size.

    A groups.csv beside the images says which are of one patient; without, each is a patient of its own. Raises
    `EvaluationError` where a folder is given twice, or held-out images are training images.
    """
    given = {"--train": train, "--holdout": holdout, "--synthetic": synthetic}
    names = list(given)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            if given[name].resolve() == given[other].resolve():
                raise EvaluationError(
                    f"{name} and {other} are the same folder, {given[name]}; an audit compares three."
                )
    for name in names[:2]:
        if holds_synthetic_images(given[name]):
            raise EvaluationError(f"{given[name]} holds images that synthoma generated; {name} takes real ones.")
    real, held = _read(train, "train"), _read(holdout, "holdout")
    made = _read(synthetic, "synthetic")
    if real.shape == held.shape and real.images.dtype == held.images.dtype:
        shared = shared_images(real, held)
        if shared:
            raise EvaluationError(
                f"{len(shared)} images of {holdout} are in {train} too, pixel by pixel (in alphabetical order number "
                f"{shared[0][0] + 1} there and number {shared[0][1] + 1} here). Held-out images are those that training never "
                "saw; remove them from one folder."
            )
    return audit_images(real, held, made, progress=progress)


def _read(root: Path, side: str) -> ImageSet:
    """A folder's images; without a list of groups the same file name in two folders does not make one patient."""
    images = image_set_from_path(root)
    if (root / GROUPS).is_file() or (root / "dataset.json").is_file():
        return images
    return dataclasses.replace(images, groups=np.array([f"{side}/{group}" for group in images.groups]))
