"""How far synthetic images are from real ones of patients that the generator never saw: fidelity.json."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.draws import Draws
from synthoma.errors import EvaluationError
from synthoma.evaluation.appearance import Appearance, appearance_json
from synthoma.evaluation.checks import check_sets, class_names, image_digests, warnings_of, withheld_reason
from synthoma.evaluation.folders import holds_synthetic_images, image_set_from_path
from synthoma.evaluation.imagesets import ImageSet, image_set_from_dataset, pixel_hash
from synthoma.evaluation.protocol import make_protocol
from synthoma.evaluation.slicewise import METRICS as SLICE_METRICS
from synthoma.evaluation.slicewise import PLANES, middle_slices
from synthoma.evaluation.spaces import Space
from synthoma.metrics.estimation import METRICS
from synthoma.metrics.resampling import draw_rows, number_groups
from synthoma.networks.features import Extractor, build_extractor, load_extractor
from synthoma.recipe import EvaluationSection
from synthoma.transforms.degrade import gaussian_blur

SCHEMA = 1
BLUR_AT_64 = 1.5  # px: standard deviation of the yardstick's blur in images of 64 px, scaled with the shortest side
_BATCH = 64

Progress = Callable[[int, int], None]


def evaluate_fidelity(
    synthetic: ImageSet,
    test: ImageSet,
    train: ImageSet,
    section: EvaluationSection,
    *,
    cache: Path | None = None,
    weights: Sequence[Path] = (),
    replicas: Sequence[ImageSet] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All fidelity metrics in each feature space and of appearance, over all images and by class, as JSON-able values.

    `test` and `train` share no group. `replicas` are further sets of the same generator under other seeds; their values
    stand beside those of `synthetic`. Volumes are measured on three planes too. Features are kept in `cache`.
    `progress(done, total)` counts steps. Raises `EvaluationError` where the sets do not fit together.
    """
    for made in (synthetic, *replicas):
        check_sets(made, test, train)
    reason = withheld_reason(test, train)
    extractors = _extractors(train, section, weights) if reason is None else _nameless(train, section)
    in_slices = _slice_spaces(train, section, weights) if reason is None else {}
    sigma = BLUR_AT_64 * min(test.shape[1:]) / 64
    what = f"real training images after a Gaussian blur of {sigma:.3g} px, against the same test images"
    protocol = make_protocol(synthetic, test, train, section, extractors, what)
    names = class_names(synthetic, test)
    parts = ["", *names]
    counter = _Counter(progress, (len(extractors) + len(in_slices) + (reason is None)) * (len(parts) + 1))
    sets = {"synthetic": synthetic, "test": test, "train": train}
    if reason is None:
        sets["blurred"] = _blurred(train.take(_degraded_rows(test, train, section.seed)), sigma)
    spaces = {}
    for name, extractor in extractors.items():
        space = Space(extractor, protocol, section, what, tuple(METRICS))
        if reason is None:
            space.take(sets, replicas, cache)
        spaces[name] = space.to_json(counter.over(parts), reason)
    for (plane, name), extractor in in_slices.items():
        space = Space(extractor, protocol, section, what, SLICE_METRICS, plane)
        cut = [middle_slices(made, plane) for made in replicas]
        space.take({which: middle_slices(images, plane) for which, images in sets.items()}, cut, cache)
        spaces[f"{name}_{plane}"] = space.to_json(counter.over(parts), None)
    result = {
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
        "warnings": warnings_of(synthetic, test, names, reason),
    }
    if reason is None:
        appearance = Appearance(sets, protocol, section, what)
        measured = {part: appearance.estimates(part or None) for part in counter.over(parts)}
        result["appearance"] = appearance_json(appearance, measured, replicas)
    return result


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
    """Two halves of whole groups, about equal in images; which group goes where follows from pixels, not from names.

    Groups that hold the same image stay together, as one group: it would be in both halves otherwise.
    """
    images = _merged(images)
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


def _merged(images: ImageSet) -> ImageSet:
    """The set with groups that share an image made one."""
    digests = image_digests(images)
    leader: dict[str, str] = {}

    def root(name: str) -> str:
        while leader.get(name, name) != name:
            name = leader[name]
        return name

    owner: dict[bytes, str] = {}
    for digest, group in zip(digests, images.groups.tolist(), strict=True):
        first, second = root(owner.setdefault(digest, group)), root(group)
        leader[max(first, second)] = min(first, second)
    groups = np.array([root(group) for group in images.groups.tolist()], dtype=np.str_)
    return dataclasses.replace(images, groups=groups)


def _extractors(train: ImageSet, section: EvaluationSection, weights: Sequence[Path]) -> dict[str, Extractor]:
    """The spaces of the recipe by name, then those of the weights files, which take no volumes (see `_slice_spaces`)."""
    channels, dim = train.shape[0], len(train.shape) - 1
    reference = train.images if len(train) >= 3 else None
    result: dict[str, Extractor] = {}
    for name in section.spaces:
        if reference is not None or name != "pca":
            result[name] = build_extractor(
                name, channels, dim, reference=reference, value_range=train.range, reference_key=train.content
            )
    for extractor in _pretrained(weights) if dim == 2 else []:
        result[extractor.name] = extractor
    return result


def _slice_spaces(
    train: ImageSet, section: EvaluationSection, weights: Sequence[Path]
) -> dict[tuple[str, str], Extractor]:
    """(plane, space) -> extractor for the middle slices of volumes: random features, and those of the weights files."""
    if len(train.shape) != 4 or len(train) < 3:
        return {}
    result: dict[tuple[str, str], Extractor] = {}
    pretrained = _pretrained(weights)
    for plane in PLANES:
        slices = middle_slices(train, plane)
        if "randconv" in section.spaces and min(slices.shape[1:]) >= 4:
            result[plane, "randconv"] = build_extractor(
                "randconv",
                slices.shape[0],
                2,
                reference=slices.images,
                value_range=slices.range,
                reference_key=slices.content,
            )
        result |= {(plane, extractor.name): extractor for extractor in pretrained}
    return result


def _pretrained(weights: Sequence[Path]) -> list[Extractor]:
    """The spaces of the weights files, each once."""
    result: dict[str, Extractor] = {}
    for path in weights:
        extractor = load_extractor(path)
        if extractor.name in result:
            raise EvaluationError(f"{path} is a second file with weights of {extractor.title}; give one.")
        result[extractor.name] = extractor
    return list(result.values())


def _nameless(train: ImageSet, section: EvaluationSection) -> dict[str, Extractor]:
    """The random features alone, not fitted to anything: what stands for the spaces when nothing can be measured."""
    channels, dim = train.shape[0], len(train.shape) - 1
    return {name: build_extractor(name, channels, dim) for name in section.spaces if name != "pca"}


class _Counter:
    """Counts parts that are done, for whoever watches."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def over(self, parts: Sequence[str]) -> Iterator[str]:
        """The parts of one space, each counted when its turn comes, and the space when all are done."""
        for part in parts:
            self._count()
            yield part
        self._count()

    def _count(self) -> None:
        self.done += 1
        if self.progress:
            self.progress(self.done, self.total)


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
