"""How far synthetic images are from real ones of patients that the generator never saw: fidelity.json."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.draws import Draws
from synthoma.errors import EvaluationError
from synthoma.evaluation.features import cached_features
from synthoma.evaluation.folders import holds_synthetic_images, image_set_from_path
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset, pixel_hash
from synthoma.evaluation.protocol import Protocol, make_protocol
from synthoma.metrics.estimate import Estimate, Withheld
from synthoma.metrics.estimation import METRICS, Degraded, Plan, Sample, estimate_all
from synthoma.metrics.resampling import draw_rows, number_groups
from synthoma.networks.features import Extractor, Measured, build_extractor, load_extractor
from synthoma.recipe import EvaluationSection
from synthoma.transforms.degrade import gaussian_blur

SCHEMA = 1
BLUR_AT_64 = 1.5  # px: standard deviation of the yardstick's blur in images of 64 px, scaled with the shortest side
FEW_GROUPS = 10
_BATCH = 64

Progress = Callable[[int, int], None]
Result = Estimate | Withheld


def evaluate_fidelity(
    synthetic: ImageSet,
    test: ImageSet,
    train: ImageSet,
    section: EvaluationSection,
    *,
    cache: Path | None = None,
    weights: Sequence[Path] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All fidelity metrics in each feature space, over all images and by class, as JSON-able values.

    `test` and `train` share no group. Features are kept in `cache`. `progress(done, total)` counts steps.
    Raises `EvaluationError` where the sets do not fit together.
    """
    _check(synthetic, test, train)
    extractors = _extractors(train, section, weights)
    rows = _degraded_rows(test, train, section.seed)
    sigma = BLUR_AT_64 * min(test.shape[1:]) / 64
    what = f"real training images after a Gaussian blur of {sigma:.3g} px, against the same test images"
    protocol = make_protocol(synthetic, test, train, section, extractors, what)
    reason = _no_reference(test, train)
    names = _class_names(synthetic, test)
    blurred = _blurred(train.take(rows), sigma) if reason is None else None
    done, total = 0, len(extractors) * (len(names) + 2)
    spaces = {}
    for name, extractor in extractors.items():
        space = _Space(extractor, protocol, section, what)
        if blurred is not None:
            space.take(synthetic, test, train, blurred, cache)
        results: dict[str, dict[str, Result]] = {}
        for part in ("", *names):
            done += 1
            if progress:
                progress(done, total)
            results[part] = {m: Withheld(reason) for m in METRICS} if reason else space.estimates(part or None)
        done += 1
        if progress:
            progress(done, total)
        spaces[name] = _space_json(extractor, results)
    return {
        "schema": SCHEMA,
        "protocol": protocol.to_json(),
        "reference": "test",
        "counts": {
            "synthetic": len(synthetic),
            "test": len(test),
            "train": len(train),
            "groups_test": len(np.unique(test.groups)),
            "groups_train": len(np.unique(train.groups)),
        },
        "spaces": spaces,
        "warnings": _warnings(synthetic, test, names, reason),
    }


def evaluate_folders(
    real: Path | str,
    synthetic: Path | str,
    section: EvaluationSection,
    *,
    weights: Sequence[Path] = (),
    groups: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`evaluate_fidelity` of two folders. A real dataset brings its frozen split; any other tree of real images is cut
    into two halves by group (`groups`, else its groups.csv, else each image by itself), for reference and floor."""
    real = Path(real)
    if holds_synthetic_images(real):
        raise EvaluationError(f"{real} holds images that synthoma generated; synthetic images are never a reference.")
    made = image_set_from_path(Path(synthetic))
    is_dataset, note = (real / "dataset.json").is_file(), None
    if is_dataset:
        dataset = Dataset.open(real)
        test, train = image_set_from_dataset(dataset, "test"), image_set_from_dataset(dataset, "train")
    else:
        everything = image_set_from_path(real, groups)
        test, train = split_in_halves(everything, section.seed)
        if len(np.unique(everything.groups)) == len(everything):
            note = (
                "No patients or groups are known for the real images: each counts as its own. Where several are of one "
                "patient the intervals are too narrow; a groups.csv (file, class, group) beside the images says so."
            )
    result = evaluate_fidelity(made, test, train, section, cache=cache, weights=weights, progress=progress)
    if not is_dataset:
        result["reference"] = "half of the real images"
    if note:
        result["warnings"].append(note)
    return result


def split_in_halves(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Two halves of whole groups, about equal in images; which group goes where follows from pixels, not from names."""
    numbers = number_groups(images.groups).numpy()
    firsts: dict[int, str] = {}
    for number, image in zip(numbers, images.images, strict=True):
        digest = pixel_hash(image[None])
        firsts[int(number)] = min(firsts.get(int(number), digest), digest)
    by_content = sorted(firsts, key=lambda number: firsts[number])
    shuffled = Draws(seed, "halves").uniform(0, torch.arange(len(by_content))).argsort(stable=True).tolist()
    sizes = np.bincount(numbers)
    counts, side = [0, 0], np.zeros(len(sizes), dtype=np.int64)
    for place in shuffled:
        number = by_content[place]
        side[number] = int(counts[1] < counts[0])
        counts[side[number]] += int(sizes[number])
    first, second = (np.flatnonzero(side[numbers] == half).astype(np.int64) for half in (0, 1))
    return images.take(first), images.take(second)


class _Space:
    """One feature space: the features of all sets, and the estimates of each class from them."""

    def __init__(self, extractor: Extractor, protocol: Protocol, section: EvaluationSection, what: str) -> None:
        self.extractor, self.what = extractor, what
        self.plan = Plan(section.subsamples, section.floors, section.seed, protocol.in_space(extractor))
        self.sets: dict[str, tuple[ImageSet, Measured]] = {}

    def take(self, synthetic: ImageSet, test: ImageSet, train: ImageSet, blurred: ImageSet, cache: Path | None) -> None:
        """Features of all sets; values mean the same in all of them, what they mean in the test set."""
        for name, images in (("synthetic", synthetic), ("test", test), ("train", train), ("blurred", blurred)):
            self.sets[name] = images, cached_features(images, self.extractor, cache, test.range)

    def estimates(self, part: str | None) -> dict[str, Result]:
        """All metrics over all images, or those of one class."""
        samples = {name: self._sample(name, part) for name in self.sets}
        degraded = Degraded(samples["blurred"], self.what)
        return estimate_all(
            tuple(METRICS), samples["synthetic"], samples["test"], samples["train"], self.plan, degraded
        )

    def _sample(self, name: str, part: str | None) -> Sample:
        images, measured = self.sets[name]
        rows = np.arange(len(images), dtype=np.int64) if part is None else images.rows_of(part)
        probabilities = None if measured.probabilities is None else measured.probabilities[rows]
        groups = None if name == "synthetic" else images.groups[rows].tolist()
        return Sample.of(measured.features[rows], groups, probabilities)


def _check(synthetic: ImageSet, test: ImageSet, train: ImageSet) -> None:
    """Refuse sets that cannot be compared, and a test set that shares patients with the training set."""
    for other in (synthetic, train):
        if other.shape != test.shape:
            raise EvaluationError(
                f"the images differ in shape: {_shape(other)} and {_shape(test)}. Metrics compare images of one "
                "size and number of channels; prepare the real images at the synthetic images' size (synthoma prepare), and "
                "give the dataset."
            )
    if len(synthetic) and synthetic.images.dtype != test.images.dtype:
        raise EvaluationError(
            f"the synthetic images are {synthetic.images.dtype}, the real ones {test.images.dtype}: their values "
            "do not mean the same. Export both in one encoding."
        )
    if np.intersect1d(test.groups, train.groups).size:
        raise EvaluationError(
            "some patients or groups are in both the training and the test images; prepare the data again."
        )
    if len(synthetic) == 0:
        raise EvaluationError("there are no synthetic images to measure.")


def _shape(images: ImageSet) -> str:
    channels, *size = images.shape
    return f"{' x '.join(str(n) for n in size)} with {channels} channel{'s' if channels > 1 else ''}"


def _extractors(train: ImageSet, section: EvaluationSection, weights: Sequence[Path]) -> dict[str, Extractor]:
    """The spaces of the recipe by name, then those of the weights files."""
    channels, dim = train.shape[0], len(train.shape) - 1
    reference = train.images if len(train) >= 3 else None
    result: dict[str, Extractor] = {}
    for name in section.spaces:
        if reference is not None or name != "pca":
            result[name] = build_extractor(
                name, channels, dim, reference=reference, value_range=train.range, reference_key=train.content
            )
    for path in weights:
        extractor = load_extractor(path)
        if extractor.name in result:
            raise EvaluationError(f"{path} is a second file with weights of {extractor.title}; give one.")
        result[extractor.name] = extractor
    return result


def _no_reference(test: ImageSet, train: ImageSet) -> str | None:
    """Why there is nothing independent to compare with, or None."""
    if len(test) and len(train):
        return None
    return (
        "there is no independent test set: the data have too few patients or groups for any to be kept apart from training "
        "(a class is split from three on)"
    )


def _class_names(synthetic: ImageSet, test: ImageSet) -> list[str]:
    """Classes to report by themselves: those of the real images, where both sides have labels."""
    labelled = bool((synthetic.labels >= 0).any()) and bool((test.labels >= 0).any())
    return list(test.classes) if labelled and len(test.classes) > 1 else []


def _degraded_rows(test: ImageSet, train: ImageSet, seed: int) -> NDArray[np.int64]:
    """Training images for the yardstick: of each class as many as the test set has, by whole groups."""
    parts = [np.zeros(0, dtype=np.int64)]
    kinds = [(test.rows_of(name), train.rows_of(name)) for name in test.classes]
    kinds.append((np.flatnonzero(test.labels < 0), np.flatnonzero(train.labels < 0)))
    for step, (in_test, in_train) in enumerate(kinds):
        if len(in_test) and len(in_train):
            chosen = draw_rows(number_groups(train.groups[in_train]), len(in_test), seed, "degraded", step)
            parts.append(in_train[chosen.numpy()].astype(np.int64))
    return np.sort(np.concatenate(parts))


def _blurred(images: ImageSet, sigma: float) -> ImageSet:
    """The set after the declared blur, in the same encoding."""
    result = np.empty(images.images.shape, dtype=images.images.dtype)
    whole = np.issubdtype(result.dtype, np.integer)
    for start in range(0, len(images), _BATCH):
        block = torch.from_numpy(np.asarray(images.images[start : start + _BATCH], dtype=np.float32))
        values = gaussian_blur(block, sigma).numpy()
        result[start : start + _BATCH] = np.rint(values) if whole else values
    content = f"{images.content}/blur/{sigma:.6g}"
    return ImageSet(result, images.labels, images.classes, images.groups, content, images.value_range, images.rows)


def _space_json(extractor: Extractor, results: Mapping[str, Mapping[str, Result]]) -> dict[str, Any]:
    def plain(part: Mapping[str, Result]) -> dict[str, Any]:
        return {metric: value.to_json() for metric, value in part.items()}

    return {
        "title": extractor.title,
        "dimension": extractor.dimension,
        "licence": extractor.licence,
        "preprocessing": extractor.preprocessing,
        # "FID" is the name of this distance with one network only; a number under that name will be compared.
        "fd_name": "FID" if extractor.is_fid_inception else f"FD ({extractor.name})",
        "all": plain(results[""]),
        "classes": {name: plain(part) for name, part in results.items() if name},
    }


def _warnings(synthetic: ImageSet, test: ImageSet, names: Sequence[str], reason: str | None) -> list[str]:
    """What a reader must know before reading the numbers."""
    if reason:
        return [reason[0].upper() + reason[1:] + "."]
    warnings = []
    groups = len(np.unique(test.groups))
    if groups < FEW_GROUPS:
        warnings.append(
            f"The test images come from {groups} patients or groups only: the intervals are wide for that reason."
        )
    if not names and len(test.classes) > 1:
        warnings.append("The synthetic images have no labels: there are no numbers by class.")
    missing = [name for name in names if len(synthetic.rows_of(name)) == 0]
    if missing:
        warnings.append(f"No synthetic image of {', '.join(missing)}.")
    return warnings
