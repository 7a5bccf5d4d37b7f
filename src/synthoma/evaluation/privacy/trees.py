"""The audit of anybody's folders: training, held-out and synthetic images."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from synthoma.errors import EvaluationError
from synthoma.evaluation.folders import GROUPS, holds_synthetic_images, image_set_from_path
from synthoma.evaluation.imagesets import ImageSet
from synthoma.evaluation.privacy.audit import PAIRS, PRIVACY, Audit, audit_images, shared_images
from synthoma.evaluation.privacy.copies import CopyPair, Progress
from synthoma.metrics.correlation import positions, unit
from synthoma.pictures import grid, write_png
from synthoma.run import write_json
from synthoma.transforms.symmetries import Symmetry, apply

PICTURE, COLUMNS = "pairs.png", 8


def audit_folders(
    train: Path, holdout: Path, synthetic: Path, *, out: Path | None = None, progress: Progress | None = None
) -> Audit:
    """`audit_images` of three folders (class folders, flat ones, or prepared datasets) with images of one size.

    A groups.csv beside the images says which are of one patient; without, each is a patient of its own. `out` gets
    privacy.json, which shows nobody, and in private/ the most similar pairs: pairs.json (numbers of images in alphabetical
    order from 0, no names) and pairs.png. Raises `EvaluationError` where a folder is given twice, held-out images are
    training images, or `out` lies in a folder of images.
    """
    _check_out(out, (train, holdout, synthetic))
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
    audit = audit_images(real, held, made, progress=progress)
    if out is not None:
        write_json(out / "private" / PAIRS, audit.pairs_json())
        shown = audit.copies.pairs[: len(audit.pairs_json()["pairs"])]
        write_png(picture_of_pairs(shown, made, real), out / "private" / PICTURE)
        write_json(out / PRIVACY, audit.to_json())
    return audit


def picture_of_pairs(pairs: Sequence[CopyPair], synthetic: ImageSet, train: ImageSet) -> Image.Image:
    """Synthetic images above the training images that they resemble most, these turned to lie on them; copies first.

    Shows real pixels: for a private folder only. `train` is the set that was searched.
    """
    place = {int(row): number for number, row in enumerate(train.rows)} if train.rows is not None else None
    group = positions(synthetic.shape[1:])
    rows, labels = [], []
    for start in range(0, len(pairs), COLUMNS):
        some = pairs[start : start + COLUMNS]
        elements = torch.tensor([group.index(Symmetry(pair.axes, pair.flips)) for pair in some])
        originals = train.images[[pair.train_row if place is None else place[pair.train_row] for pair in some]]
        turned = apply(unit(originals, train.range), elements, group)
        rows += [unit(synthetic.images[[pair.synthetic for pair in some]], train.range), turned]
        labels += [f"synthetic ({sum(pair.copy for pair in some)} copies)", "training"]
    white = torch.ones(COLUMNS, *train.shape)
    filled = torch.cat([torch.cat((row, white[len(row) :])) for row in rows])
    pixels: NDArray[np.uint8] = (filled * 255).round().byte().numpy()
    return grid(pixels, COLUMNS, row_labels=labels)


def _check_out(out: Path | None, folders: Sequence[Path]) -> None:
    """Pictures of pairs within a folder of images would be read as images of it the next time."""
    for folder in folders if out is not None else ():
        if out is not None and out.resolve().is_relative_to(folder.resolve()):
            raise EvaluationError(f"--out {out} lies in {folder}, which holds images; give a folder of its own.")


def _read(root: Path, side: str) -> ImageSet:
    """A folder's images; without a list of groups the same file name in two folders does not make one patient."""
    images = image_set_from_path(root)
    if (root / GROUPS).is_file() or (root / "dataset.json").is_file():
        return images
    return dataclasses.replace(images, groups=np.array([f"{side}/{group}" for group in images.groups]))
