"""Are images of a model mixed into a folder? The detector that was shipped with the model looks at each of them.

Images of another size are brought to the model's as its training images were: the detector sees fine structure, which
depends on how an image was resized. What cannot be read, or cannot be made to fit, is counted and left out.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.errors import EvaluationError, SynthomaError
from synthoma.evaluation.detector import Detector
from synthoma.evaluation.folders import image_files, read_image_file
from synthoma.preparation.reading import to_grey, to_rgb
from synthoma.preparation.resize import misfit, resize
from synthoma.run import read_json

LEVEL = 0.01
FOLDER = "detector"  # below RUN/evaluation, and below the model that it is shipped with
_BLOCK = 128

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scan:
    """What the detector says of a folder.

    files: place of each scored image relative to the folder (rows of a dataset); scores: log odds [n]; flagged: bool [n];
    resized: how many were brought to the model's size; left_out: files that could not be scored, and why the first of them;
    verdict: `Detector.judge`.
    """

    files: list[str]
    scores: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    resized: int
    left_out: int
    why_left_out: str
    verdict: Mapping[str, Any]
    level: float
    model_hash: str
    recall: float
    noticeable: float | None

    @property
    def found(self) -> bool:
        """Whether real images alone would give so many flags too rarely."""
        return bool(self.verdict["p"] < self.level)

    def to_json(self) -> dict[str, Any]:
        """Everything but the names of files.

        recall: share of the model's own images that are flagged; noticeable: the least share of them in such a folder that
        would have been found half of the time, None where even a folder of nothing else would not.
        """
        return {
            "model_hash": self.model_hash,
            "contaminated": self.found,
            "level": self.level,
            **self.verdict,
            "recall": self.recall,
            "noticeable": self.noticeable,
            "resized": self.resized,
            "left_out": self.left_out,
        }


def load_shipped(path: Path) -> Detector:
    """The detector of a model folder, or of the model of a run.

    Raises `EvaluationError` where there is no model or no detector (with the reason), or it is of another model.
    """
    model = path if (path / "model.json").is_file() else path / "model"
    if not (model / "model.json").is_file():
        raise EvaluationError(f"{path} is no model and no run with one: model.json is missing.")
    if not (model / FOLDER).is_dir():
        raise EvaluationError(f"{model} was shipped without a detector. {_why_none(path)}")
    detector = Detector.load(model / FOLDER)
    known = read_json(model / "model.json").get("model_hash")
    if detector.model_hash != known:
        raise EvaluationError(
            f"the detector in {model / FOLDER} knows images of model {detector.model_hash or '(unknown)'}, and this is {known}; "
            "evaluate the run again: synthoma evaluate RUN"
        )
    return detector


def _why_none(path: Path) -> str:
    study = path / "evaluation" / "detector.json"
    auc = read_json(study).get("auc", {}) if study.is_file() else {}
    if auc.get("kind") == "withheld":
        return f"None could be trained: {auc['reason']}."
    return "One is trained when a run is evaluated: synthoma evaluate RUN"


def describe_preparation(dataset: Dataset) -> dict[str, Any]:
    """How images reached the size of a dataset, as far as it can be done again with a picture file."""
    told = dataset.info.get("preparation", {})
    return {
        "dtype": dataset.images.dtype.name,
        "fit": told.get("fit", "crop"),
        "resample": bool(told.get("resampled", True)),
        "fill": told.get("fill") or "black",
        "denoised": bool(told.get("denoised")),
    }


def scan_folder(detector: Detector, folder: Path, level: float = LEVEL, progress: Progress | None = None) -> Scan:
    """Score every image of a folder (pictures, volumes, or a prepared dataset), in blocks, and judge how many are flagged.

    level: p below which the folder counts as contaminated. Raises `EvaluationError` where nothing can be scored: no
    readable image, or images that the detector does not take (volumes of another size, another depth).
    """
    if not 0 < level < 1:
        raise EvaluationError(f"the level is a probability between 0 and 1, not {level}.")
    files: list[str] = []
    scores: list[NDArray[np.float64]] = []
    reasons: list[str] = []
    resized = 0
    for block in _blocks(detector, folder, progress):
        reasons += block.reasons
        resized += block.resized
        files += block.files
        if block.images:
            scores.append(detector.score(np.stack(block.images)))
    if not scores:
        raise EvaluationError(f"none of {len(reasons)} images in {folder} can be scored. The first: {reasons[0]}")
    every = np.concatenate(scores)
    return Scan(
        files=files,
        scores=every,
        flagged=every > detector.threshold,
        resized=resized,
        left_out=len(reasons),
        why_left_out=reasons[0] if reasons else "",
        verdict=detector.judge(every),
        level=level,
        model_hash=detector.model_hash,
        recall=detector.recall,
        noticeable=noticeable_share(detector, len(every), level),
    )


def noticeable_share(detector: Detector, n: int, level: float) -> float | None:
    """The least share of this model's images among `n` whose expected flags are enough for `level`; None for no share."""
    counts = np.arange(n + 1)
    chances = np.array([detector.chance(int(count), n) for count in counts])
    enough = counts[chances < level]
    if not len(enough) or detector.recall <= detector.false_alarms:
        return None
    share = (enough[0] / n - detector.false_alarms) / (detector.recall - detector.false_alarms)
    return float(max(share, 1 / n)) if share <= 1 else None


@dataclass
class _Block:
    """Some images [c, *spatial] of a folder, ready to be scored, with their places; reasons: of those that are not."""

    files: list[str] = field(default_factory=list)
    images: list[NDArray[np.generic]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    resized: int = 0


def _blocks(detector: Detector, folder: Path, progress: Progress | None) -> Iterator[_Block]:
    """Image by image; places in a dataset are its rows, in a folder the files' relative paths."""
    places: Sequence[tuple[str, Callable[[], NDArray[np.generic]]]]
    if (folder / "dataset.json").is_file():
        images = Dataset.open(folder).images
        places = [(f"row {row}", partial(images.__getitem__, row)) for row in range(len(images))]
    else:
        files = image_files(folder)
        places = [(path.relative_to(folder).as_posix(), partial(read_image_file, path)) for path in files]
    for start in range(0, len(places), _BLOCK):
        block = _Block()
        for place, read in places[start : start + _BLOCK]:
            try:
                image = np.asarray(read())
                fitted = _fitted(image, detector, place)
            except SynthomaError as error:
                block.reasons.append(str(error))
                continue
            block.resized += fitted.shape[1:] != image.shape[1:]
            block.files.append(place)
            block.images.append(fitted)
        if progress:
            progress(min(start + _BLOCK, len(places)), len(places))
        yield block


def _fitted(image: NDArray[np.generic], detector: Detector, place: str) -> NDArray[np.generic]:
    """An image [c, *spatial] in the detector's channels and size. Raises `EvaluationError` where that cannot be done."""
    known = detector.preparation or {}
    channels, *spatial = detector.size
    own, size = tuple(image.shape[1:]), tuple(spatial)
    sizes = f"{' x '.join(map(str, own))}, the model's images are {' x '.join(map(str, size))}"
    if image.dtype.name != known.get("dtype", "uint8"):
        raise EvaluationError(
            f"{place} is of {image.dtype}, and the model makes {known.get('dtype', 'uint8')}: values would not mean the same. "
            "Scan images of the kind that it was trained on."
        )
    last = np.moveaxis(image, 0, -1)
    if last.shape[-1] != channels and {last.shape[-1], channels} == {1, 3}:
        last = to_grey(last) if channels == 1 else to_rgb(last)
    if last.shape[-1] != channels or len(own) != len(size):
        raise EvaluationError(f"{place} is {sizes}, with {image.shape[0]} channel(s) for {channels}.")
    if own != size:
        if image.dtype != np.uint8 or len(size) != 2 or not known or known["denoised"]:
            raise EvaluationError(
                f"{place} is {sizes}; how they were prepared cannot be repeated here. Prepare the folder with the model's recipe "
                "(synthoma prepare), and scan the dataset."
            )
        if not known["resample"] and (reason := misfit(own, size, known["fit"])):
            raise EvaluationError(f"{place} is {sizes}: {reason}.")
        last = resize(last, size, known["fit"], known["resample"], known["fill"])
    return np.moveaxis(last, -1, 0)
