"""What a utility study refuses, because its figures would be worth nothing, or worse, look good."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError
from synthoma.evaluation.folders import MANIFEST
from synthoma.evaluation.imagesets import ImageSet
from synthoma.metrics.estimate import Withheld

# How `synthesis.write_images` ends the names of its files.
_GENERATED = re.compile(r"_seed\d+_\d{6}(\.png|\.npy|\.nii\.gz)$")
CHECKS = (
    "no image of the test or validation set is a synthetic one (pixels compared; files that synthoma generate wrote)",
    "no patient or group of the training set is in the test or validation set",
    "the model was trained on this dataset and this split",
)


def refuse_shared_groups(train: ImageSet, validation: ImageSet, test: ImageSet) -> None:
    """Raise `EvaluationError` where a patient or group is on two sides of the split."""
    sides = (("training", train), ("validation", validation), ("test", test))
    for i, (first, one) in enumerate(sides):
        for second, other in sides[i + 1 :]:
            shared = np.intersect1d(one.groups, other.groups)
            if len(shared):
                raise EvaluationError(
                    f"{len(shared)} patients or groups are in both the {first} and the {second} set: a classifier would be "
                    "tested on people that it knows. Prepare the data again with a groups.csv."
                )


def refuse_synthetic_pixels(real: ImageSet, what: str, *synthetic: ImageSet) -> None:
    """Raise `EvaluationError` where an image of a real set has the very pixels of a synthetic one."""
    made = {_digest(image) for images in synthetic for image in images.images}
    found = sum(_digest(image) in made for image in real.images)
    if found:
        raise EvaluationError(
            f"{found} of {len(real)} images of the {what} set are among the synthetic ones. Synthetic images "
            "never enter a test or validation set, and real ones are no synthetic ones: give folders that do not share images."
        )


def refuse_generated_source(dataset: Dataset) -> None:
    """Raise `EvaluationError` where test or validation images were prepared from files that `synthoma generate` wrote.

    They are known by a manifest in the folder, and by the names of files (`CLASS_seed0_000012.png`), which the dataset's
    private links keep; pixels cannot tell, once they were resized.
    """
    if next(dataset.path.rglob(MANIFEST), None) is not None:
        raise EvaluationError(
            f"{dataset.path} holds images that synthoma generated ({MANIFEST} lies in it). A classifier is tested on real "
            "patients only; keep generated images in a folder of their own."
        )
    links = dataset.path / "private" / "links.parquet"
    if not links.is_file():
        return
    table = pq.read_table(links, columns=["key", "file"]).to_pydict()
    generated = {key for key, file in zip(table["key"], table["file"], strict=True) if _GENERATED.search(file or "")}
    splits = zip(dataset.column("key"), dataset.column("split"), strict=True)
    counts = Counter(split for key, split in splits if key in generated and split != "train")
    if counts.total():
        raise EvaluationError(
            f"{dataset.path}: {counts['test']} test and {counts['val']} validation images were prepared from files that synthoma "
            "generated. A classifier is tested on real patients only; prepare real images."
        )


def refuse_other_data(info: Mapping[str, Any], dataset: Dataset) -> None:
    """Raise `EvaluationError` unless model.json (`info`) names this dataset, and this split of it."""
    trained = info.get("dataset") or {}
    if trained.get("content") == dataset.content_hash and trained.get("cohort") == dataset.cohort_hash:
        return
    what = "another split of this dataset" if trained.get("content") == dataset.content_hash else "another dataset"
    raise EvaluationError(
        f"the model was trained on {what} than {dataset.path}: some of its training patients may be in the test set. "
        "Give the dataset that the run was trained on."
    )


def withhold_classes(test: ImageSet, train: ImageSet, least_images: int, least_groups: int) -> dict[str, Withheld]:
    """Classes whose figures are withheld, with the reason."""
    found = {}
    for number, name in enumerate(test.classes):
        rows = np.flatnonzero(test.labels == number)
        groups = len(np.unique(test.groups[rows]))
        if not (train.labels == number).any():
            found[name] = Withheld("no training image has this class")
        elif len(rows) < least_images or groups < least_groups:
            found[name] = Withheld(
                f"{len(rows)} test images of {groups} patients or groups; its figures need {least_images} of {least_groups}"
            )
    return found


def withhold_study(test: ImageSet, validation: ImageSet, judged: Sequence[int]) -> Withheld | None:
    """Why there is no study at all, or None. judged: classes with images enough."""
    if len(test) == 0 or len(validation) == 0:
        return Withheld("there is no independent test or validation set: the data have too few patients or groups")
    if len(np.unique(test.labels)) < 2:
        return Withheld("all test images are of one class: there is nothing to tell apart")
    if len(judged) < 2 and len(np.unique(test.labels)) == 2:
        return Withheld("one of the two classes has too few test images or patients")
    if not judged:
        return Withheld("no class has enough test images and patients")
    return None


def _digest(image: np.ndarray[Any, Any]) -> bytes:
    return hashlib.sha256(f"{image.dtype.str}{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).digest()
