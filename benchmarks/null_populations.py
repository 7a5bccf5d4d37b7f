"""Populations whose truth is known: finite sets of patients, from whom a repetition of the null study draws.

A population is all images of a real collection, or of many phantom patients. Patients are drawn from it with replacement,
each time with all their images: then the distribution that is drawn from is known to the last image, and the truth of
KID and AUC is a plain mean over all pairs of its images, without any error of its own.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy import stats

from synthoma.dataset import Dataset
from synthoma.evaluation.fidelity import BLUR_AT_64
from synthoma.evaluation.imagesets import ImageSet, image_set_from_rows, pixel_hash
from synthoma.metrics.estimation import Sample
from synthoma.metrics.kid import polynomial_kernel
from synthoma.networks.features import build_extractor
from synthoma.phantoms import PHANTOMS as KINDS
from synthoma.phantoms import draw
from synthoma.recipe import validate_recipe
from synthoma.transforms.degrade import gaussian_blur
from synthoma.workflow import prepare_dataset

SIZE = 32  # px
# skin9 knows no patients. These pictures were called copies of each other in the null study, and are two photographs of one lesion (looked at: the same
# hairs, marks and outlines), so neither may pose while the other is trained on.
SAME_LESION = (
    ("ISIC_0031429", "ISIC_0032247"),
    ("ISIC_0028123", "ISIC_0025312"),
    ("ISIC_0029248", "ISIC_0030442"),
    ("ISIC_0029638", "ISIC_0025577"),
)
REAL: dict[str, dict[str, Any]] = {  # how the images are fitted into the square, as the shipped recipes do
    "lung_histology": {"fit": "crop"},
    "pap_smear": {"fit": "pad", "fill": "edge"},
    "skin9": {"fit": "crop"},
}
PHANTOMS = "phantoms"
PHANTOM_KIND, PHANTOM_PATIENTS, PHANTOM_SEED = "pap-smear", 1000, 0
MEAN_IMAGES = 3.0  # of a phantom patient, geometrically distributed
YARDSTICK = BLUR_AT_64 * SIZE / 64  # px: the blur of the project's yardstick at this size
SHIFT = YARDSTICK  # px: the known shift is that blur, too
_BLOCK = 1024

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Population:
    """Images with their patients, and the same images after each blur (pixels of sigma -> images)."""

    name: str
    images: ImageSet

    @functools.cached_property
    def patients(self) -> list[Rows]:
        """Rows of each patient."""
        numbers = np.unique(self.images.groups, return_inverse=True)[1]
        return [np.flatnonzero(numbers == number).astype(np.int64) for number in range(int(numbers.max()) + 1)]

    @functools.cached_property
    def space(self) -> Any:
        """Random features decorrelated by the whole population: one space, whichever images are drawn."""
        every = self.images.images
        return build_extractor("randconv", self.images.shape[0], 2, reference=every, value_range=self.images.range)

    @functools.lru_cache(maxsize=4)  # noqa: B019 (it lives as long as the process)
    def blurred(self, sigma: float) -> ImageSet:
        """All images after a Gaussian blur of `sigma` px; 0: as they are."""
        if sigma == 0:
            return self.images
        values = torch.from_numpy(np.asarray(self.images.images, dtype=np.float32))
        pixels = np.rint(gaussian_blur(values, sigma).numpy()).astype(np.uint8)
        return replace(self.images, images=pixels, content=f"{self.images.content}/blur/{sigma:g}")

    @functools.lru_cache(maxsize=4)  # noqa: B019
    def features(self, sigma: float = 0.0) -> torch.Tensor:
        """Features [n, d] of all images after a blur, float64."""
        images = self.blurred(sigma)
        return torch.from_numpy(self.space.features(images.images, images.range)).double()

    def draw_patients(self, random: np.random.Generator, images: int) -> tuple[Rows, Rows]:
        """Rows and patient numbers of patients drawn with replacement until there are so many images; the last is cut."""
        rows, groups, count = [], [], 0
        while count < images:
            patient = self.patients[int(random.integers(len(self.patients)))]
            rows.append(patient)
            groups.append(np.full(len(patient), len(groups), dtype=np.int64))
            count += len(patient)
        return np.concatenate(rows)[:images], np.concatenate(groups)[:images]

    def sample(self, rows: Rows, groups: Rows | None, sigma: float = 0.0) -> Sample:
        """A sample of drawn rows; without `groups` each is its own."""
        return Sample.of(self.features(sigma)[torch.from_numpy(rows)], None if groups is None else groups)

    def true_kid(self, sigma: float) -> float:
        """KID between the blurred population and the population: means of the kernel over all pairs, with repetition."""
        x, y = self.features(sigma), self.features()
        return _mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y)

    def facts(self) -> dict[str, Any]:
        """What is said of it in the result file."""
        sizes = [len(rows) for rows in self.patients]
        return {
            "images": len(self.images),
            "patients": len(sizes),
            "images_of_a_patient": {"least": min(sizes), "median": float(np.median(sizes)), "most": max(sizes)},
            "size": list(self.images.shape),
            "space": f"randconv decorrelated by the whole population, {self.space.dimension} features",
        }


def open_population(name: str, data: Path | None, work: Path) -> Population:
    """The population `name`, made once in the scratch folder `work`."""
    if name == PHANTOMS:
        return Population(name, _phantoms(work))
    folder = work / f"dataset-{name}-{SIZE}"
    if not (folder / "dataset.json").exists():
        if data is None:
            raise SystemExit("--data or $SYNTHOMA_DATA names the folder with the real images.")
        prepare_dataset(_recipe(name), data / name, folder, _Silent(), workers=1)
    dataset = Dataset.open(folder)
    images = image_set_from_rows(dataset, np.arange(len(dataset), dtype=np.int64), dataset.content_hash)
    return Population(name, join_lesions(images, folder) if name == "skin9" else images)


def join_lesions(images: ImageSet, folder: Path) -> ImageSet:
    """The set with `SAME_LESION` as one patient each; `folder`: the dataset, whose private links tell rows by file."""
    keys = pq.read_table(folder / "records.parquet").column("key").to_pylist()
    links = pq.read_table(folder / "private" / "links.parquet")
    files = dict(zip(links.column("key").to_pylist(), links.column("file").to_pylist(), strict=True))
    rows = {Path(files[key]).stem: row for row, key in enumerate(keys)}
    groups = images.groups.copy()
    for first, second in SAME_LESION:
        groups[groups == groups[rows[second]]] = groups[rows[first]]
    return replace(images, groups=groups)


def split_patients(population: Population, random: np.random.Generator, sizes: Sequence[int]) -> list[ImageSet]:
    """Disjoint sets of whole patients in random order, each with at least so many images (the last: what is left of that)."""
    order = random.permutation(len(population.patients))
    result, place = [], 0
    for size in sizes:
        rows: list[Rows] = []
        while place < len(order) and sum(map(len, rows)) < size:
            rows.append(population.patients[order[place]])
            place += 1
        if not rows:
            raise SystemExit(f"{population.name} has too few images for sets of {', '.join(map(str, sizes))}.")
        result.append(population.images.take(np.sort(np.concatenate(rows))))
    return result


def _mean_kernel(x: torch.Tensor, y: torch.Tensor) -> float:
    total = sum(float(polynomial_kernel(block @ y.T, x.shape[1]).sum()) for block in x.split(_BLOCK))
    return total / (len(x) * len(y))


def _recipe(name: str) -> Any:
    preparation = {"size": SIZE, "colour": "rgb", **REAL[name]}
    return validate_recipe({"name": f"null-{name}", "preparation": preparation, "model": {"family": "dcgan"}}, name)


def _phantoms(work: Path) -> ImageSet:
    """Pictures of invented patients of one to many pictures each, drawn once."""
    phantom = KINDS[PHANTOM_KIND]
    random = np.random.default_rng(PHANTOM_SEED)
    sizes = random.geometric(1 / MEAN_IMAGES, PHANTOM_PATIENTS)
    of_patients = random.choice(len(phantom.classes), PHANTOM_PATIENTS, p=np.asarray(phantom.shares))
    patients, labels = np.repeat(np.arange(PHANTOM_PATIENTS), sizes), np.repeat(of_patients, sizes)
    file = work / f"{PHANTOMS}-{PHANTOM_KIND}-{PHANTOM_PATIENTS}-{SIZE}.npy"
    if not file.exists():
        pictures = [
            draw(PHANTOM_KIND, phantom.classes[label], PHANTOM_SEED, index, SIZE, int(patient)).transpose(2, 0, 1)
            for index, (label, patient) in enumerate(zip(labels, patients, strict=True))
        ]
        aside = file.with_suffix(".part.npy")
        np.save(aside, np.stack(pictures))
        aside.replace(file)
    images = np.load(file, allow_pickle=False)
    names = np.array([f"P{patient}" for patient in patients])
    return ImageSet(images, labels.astype(np.int64), list(phantom.classes), names, pixel_hash(images))


class _Silent:
    """Shows nothing of the preparation."""

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def row(self, row: dict[str, Any], total_images: int) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...


def clopper_pearson(hits: int, n: int) -> tuple[float, float]:
    """Two-sided 95 % limits of a share (Clopper and Pearson 1934)."""
    low = float(stats.beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high
