"""A detector: a small classifier that tells one model's images from real ones, trained in the run.

Its AUC is a number that users of a synthetic set should know, and it finds these images again where they were mixed into
real data. Logistic regression on the random features (networks/features/randconv.py), which see the fine structure
that generators leave behind; so it has no more than a few hundred numbers, and is saved without pickle.

It is trained on the training split and on one part of the synthetic images, and tested on the test split and on the
other part. Its control is the same done with real patients: one half of the training patients against the other, where
there is nothing to find; an AUC away from 0.5 there would come from the method.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy import optimize, stats
from torch import Tensor

from synthoma.errors import EvaluationError, SynthomaError
from synthoma.evaluation.checks import check_sets, withheld_reason
from synthoma.evaluation.folders import read_folder
from synthoma.evaluation.imagesets import ImageSet
from synthoma.metrics.estimate import Estimate, Floor, Withheld
from synthoma.metrics.resampling import CONFIDENCE, draw_rows, number_groups, permutation
from synthoma.networks.features.extractor import ValueRange
from synthoma.networks.features.randconv import RandConv
from synthoma.recipe import content_hash
from synthoma.run import read_json, write_json

SCHEMA = 1  # of evaluation/detector.json
FORMAT = 2  # of a saved detector
FILE, WEIGHTS = "detector.json", "detector.safetensors"
MOST_TRAINED = 4000  # images a side
LEAST_TRAINED = 50  # images a side
LEAST_TESTED = 30
LEAST_GROUPS = 4
PENALTY = 0.01  # ridge on standardised features, of the mean log loss
FALSE_ALARMS = 0.05  # share of real test images above the threshold
BOOTSTRAPS = 1000
CONTROLS = 5
_SPREAD_FLOOR = 1e-6


@dataclass(frozen=True)
class Detector:
    """Scores above `threshold` count as synthetic. size: (c, *spatial) of the images it takes; value_range: their meaning.

    false_alarms: share of real test images above it, and tested: how many independent images that share rests on; recall:
    share of the model's own fresh images above it. model_hash: whose images it knows; preparation: how the images that it
    was trained on were brought to their size (`describe_preparation`); both unknown until it is kept with a model.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: float
    threshold: float
    size: tuple[int, ...]
    value_range: ValueRange
    extractor: str
    false_alarms: float
    tested: float
    recall: float
    model_hash: str = ""
    preparation: Mapping[str, Any] | None = None

    def score(self, images: NDArray[np.generic]) -> NDArray[np.float64]:
        """Log odds that each image [n, c, *spatial] is one of the model's: float64 [n]."""
        if tuple(images.shape[1:]) != self.size:
            raise EvaluationError(
                f"the detector takes images of shape {self.size}, not {tuple(images.shape[1:])}; bring them to its size."
            )
        return self._log_odds(_features(images, self.value_range))

    def _log_odds(self, features: Tensor) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (((features - self.mean) / self.scale) @ self.weight + self.bias).numpy()
        return found

    def scan(self, folder: Path | str) -> dict[str, Any]:
        """`judge` of the images in a folder, which have the detector's size. File names are not kept: `flagged_numbers` counts
        files in sorted order, from 0."""
        scores = self.score(read_folder(Path(folder)).images)
        return {**self.judge(scores), "flagged_numbers": np.flatnonzero(scores > self.threshold).tolist()}

    def judge(self, scores: NDArray[np.float64]) -> dict[str, Any]:
        """How many of the scored images look like this model's, with the share that real images alone would give.

        {"images", "flagged", "share", "low", "high", "expected", "p"}: low and high are Clopper and Pearson's limits of the
        share; p is the chance of as many flags among real images only. The threshold is an order statistic of the test
        images, so the number of real images above it is beta-binomial (Wilks 1941): a share that was measured on few
        images may well be larger on others.
        """
        count, n = int((scores > self.threshold).sum()), len(scores)
        limits = stats.binomtest(count, n).proportion_ci(CONFIDENCE)
        return {
            "images": n,
            "flagged": count,
            "share": count / n,
            "low": float(limits.low),
            "high": float(limits.high),
            "expected": self.false_alarms,
            "p": self.chance(count, n),
        }

    def chance(self, count: int, n: int) -> float:
        """Probability that of `n` real images at least `count` lie above the threshold."""
        above = self.false_alarms * self.tested
        return float(stats.betabinom.sf(count - 1, n, above + 1, self.tested - above))

    def save(self, folder: Path | str) -> None:
        """Write detector.safetensors and detector.json (with the SHA-256 of the former, and its own hash) into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"mean": self.mean, "scale": self.scale, "weight": self.weight}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
        fields = {key: value for key, value in asdict(self).items() if key not in tensors}
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        content = json.loads(json.dumps({"format": FORMAT, **fields, "sha256": digest}))
        write_json(folder / FILE, {**content, "hash": content_hash(content)})

    @classmethod
    def load(cls, folder: Path | str) -> "Detector":
        """A saved detector; `EvaluationError` where a file is missing, damaged, or of another version."""
        folder = Path(folder)
        try:
            fields = read_json(folder / FILE)
            tensors = load_file(folder / WEIGHTS)
            digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        except (OSError, SynthomaError, SafetensorError) as error:
            raise EvaluationError(
                f"{folder} holds no readable detector ({FILE}, {WEIGHTS}); train it again."
            ) from error
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise EvaluationError(f"{folder / FILE} is of another version of synthoma; train the detector again.")
        if fields.get("sha256") != digest or set(tensors) != {"mean", "scale", "weight"}:
            raise EvaluationError(f"{folder / WEIGHTS} was changed after it was written; train the detector again.")
        content = {key: value for key, value in fields.items() if key != "hash"}
        if content_hash(content) != fields.get("hash"):
            raise EvaluationError(f"{folder / FILE} was changed after it was written; train the detector again.")
        size = tuple(fields["size"])
        if fields["extractor"] != _space(size).hash:
            raise EvaluationError(f"{folder} was trained in another version of the feature space; train it again.")
        low, high = fields["value_range"]
        return cls(
            **{name: tensor.double() for name, tensor in tensors.items()},
            bias=float(fields["bias"]),
            threshold=float(fields["threshold"]),
            size=size,
            value_range=(float(low), float(high)),
            extractor=str(fields["extractor"]),
            false_alarms=float(fields["false_alarms"]),
            tested=float(fields["tested"]),
            recall=float(fields["recall"]),
            model_hash=str(fields["model_hash"]),
            preparation=fields["preparation"],
        )


def train_detector(
    synthetic: ImageSet, test: ImageSet, train: ImageSet, seed: int = 0
) -> tuple[Detector | None, Estimate | Withheld]:
    """A detector of the model that made `synthetic`, and its AUC on images that it has not seen, with the control as floor.

    Half of the synthetic images train it, as many as there are training images at most. The AUC's interval is a bootstrap
    over patients and synthetic images. No detector, and the reason, where either side has fewer than 50 to train on.
    """
    check_sets(synthetic, test, train)
    reason = withheld_reason(test, train) or _too_few(synthetic, test, train)
    if reason:
        return None, Withheld(reason)
    value_range = test.range
    order = permutation(len(synthetic), seed, "detector", 0)
    half = len(synthetic) // 2
    seen, fresh = order[: min(half, MOST_TRAINED)], order[half:][:MOST_TRAINED]
    kept = draw_rows(number_groups(train.groups), min(len(train), MOST_TRAINED), seed, "detector/real", 0).numpy()
    made, real = _features(synthetic.images[seen.numpy()], value_range), _features(train.images[kept], value_range)
    new, held = _features(synthetic.images[fresh.numpy()], value_range), _features(test.images, value_range)
    groups = test.groups
    detector = _fit(made, real, held, groups, train.shape, value_range)
    scores = detector._log_odds(new)
    detector = replace(detector, recall=float((scores > detector.threshold).mean()))
    auc = _auc_interval(scores, detector._log_odds(held), None, groups, seed)
    control = _control(real, train.groups[kept], seed)
    extractor = _space(train.shape).hash
    protocol = content_hash(
        [SCHEMA, extractor, PENALTY, MOST_TRAINED, CONTROLS, test.content, train.content, len(synthetic), seed]
    )
    return detector, Estimate(
        metric="detector_auc",
        value=auc[0],
        low=auc[1],
        high=auc[2],
        n={"synthetic": len(fresh), "reference": len(test)},
        groups=len(np.unique(groups)),
        floor=Floor(*control, draws=CONTROLS),
        direction="lower",
        protocol=protocol,
        caveat=(
            "0.5: this classifier cannot tell the images from real ones; another one may. The floor is the same classifier "
            "between two halves of the real patients."
        ),
    )


def auc_of(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Probability that a positive scores above a negative one, ties count half (Mann and Whitney 1947)."""
    ranks = stats.rankdata(np.concatenate((positive, negative)))
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def _space(size: tuple[int, ...]) -> RandConv:
    """The random features without decorrelation: nothing but the filters, which are drawn by counter."""
    return RandConv(len(size) - 1, size[0])


def _features(images: NDArray[np.generic], value_range: ValueRange) -> Tensor:
    space = _space(tuple(int(n) for n in images.shape[1:]))
    return torch.from_numpy(space.features(images, value_range)).double()


def _fit(
    made: Tensor,
    real: Tensor,
    held: Tensor,
    groups: NDArray[np.str_],
    size: tuple[int, ...],
    value_range: ValueRange,
) -> Detector:
    """A detector with the threshold that `held`, real images of `groups`, give it; its recall is not known yet."""
    mean, scale, weight, bias = _logistic(made, real)
    scores = ((held - mean) / scale) @ weight + bias
    threshold = float(torch.quantile(scores, 1 - FALSE_ALARMS, interpolation="higher"))
    above = (scores > threshold).numpy()
    # With few test images none lies above their own quantile; one of n + 1 is what is known then.
    alarms = max(float(above.mean()), 1 / (len(held) + 1))
    tested = _independent(above, groups)
    return Detector(
        mean, scale, weight, bias, threshold, size, value_range, _space(size).hash, alarms, tested, float("nan")
    )


def _independent(above: NDArray[np.bool_], groups: NDArray[np.str_]) -> float:
    """How many independent images a share among images of groups is worth: n over Kish's design effect, n at most.

    The effect is the variance of the share over whole groups, over that of independent images. Where none is above it
    cannot be told, and groups count.
    """
    n, share = len(above), float(above.mean())
    numbers = number_groups(groups).numpy()
    if share == 0:
        return float(numbers.max() + 1)
    by_group = np.bincount(numbers, weights=above - share)
    return n / max(1.0, float((by_group**2).sum()) / (n * share * (1 - share)))


def _logistic(made: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Ridge logistic regression by L-BFGS, both sides weighted alike: mean, scale [d], weight [d], bias."""
    x = torch.cat((made, real))
    mean, scale = x.mean(dim=0), x.std(dim=0).clamp_min(_SPREAD_FLOOR)
    standard = ((x - mean) / scale).numpy()
    target = np.r_[np.ones(len(made)), -np.ones(len(real))]
    share = np.r_[np.full(len(made), 0.5 / len(made)), np.full(len(real), 0.5 / len(real))]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = parameters[:-1], parameters[-1]
        margin = target * (standard @ weight + bias)
        slope = -target * share / (1 + np.exp(np.clip(margin, -50, 50)))
        value = share @ np.logaddexp(0, -margin) + 0.5 * PENALTY * weight @ weight
        return float(value), np.r_[standard.T @ slope + PENALTY * weight, slope.sum()]

    found = optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return mean, scale, torch.from_numpy(found.x[:-1].copy()), float(found.x[-1])


def _control(real: Tensor, groups: NDArray[np.str_], seed: int) -> tuple[float, float, float]:
    """AUC between two halves of the real patients, trained on two quarters of them and tested on the other two.

    Value and limits are means over several ways to cut: these share their patients, so the interval is that of one.
    """
    numbers = number_groups(groups)
    count = int(numbers.max()) + 1
    found = []
    for cut in range(CONTROLS):
        quarter = permutation(count, seed, "detector/control", cut).argsort() % 4
        chosen = [quarter[numbers] == q for q in range(4)]
        mean, scale, weight, bias = _logistic(real[chosen[0]], real[chosen[1]])
        first, second = (((real[rows] - mean) / scale @ weight + bias).numpy() for rows in chosen[2:])
        patients = [groups[rows.numpy()] for rows in chosen[2:]]
        found.append(_auc_interval(first, second, patients[0], patients[1], seed + cut))
    value, low, high = np.mean(found, axis=0).tolist()
    return value, low, high


def _auc_interval(
    positive: NDArray[np.float64],
    negative: NDArray[np.float64],
    groups_positive: NDArray[np.str_] | None,
    groups_negative: NDArray[np.str_],
    seed: int,
) -> tuple[float, float, float]:
    """AUC with a 95 % interval from a bootstrap over groups on both sides; each image its own group for None.

    A mean over pairs of different sides holds no pair of an image with itself, so drawing with replacement does no harm
    here. Where all pairs agree the bootstrap sees no spread; then Clopper and Pearson's limit for the fewer groups.
    """
    value = auc_of(positive, negative)
    own = np.arange(len(positive)) if groups_positive is None else groups_positive
    sides = [number_groups(groups).numpy() for groups in (own, groups_negative)]
    counts = [int(side.max()) + 1 for side in sides]
    if value in (0.0, 1.0):
        least = 0.025 ** (1 / min(counts))
        return (value, least, 1.0) if value == 1.0 else (value, 0.0, 1 - least)
    random = np.random.default_rng(seed)
    levels = np.unique(np.concatenate((positive, negative)), return_inverse=True)[1]
    places = levels[: len(positive)], levels[len(positive) :]
    replicates = []
    for _ in range(BOOTSTRAPS):
        weights = [
            np.bincount(random.integers(0, n, n), minlength=n)[side] for n, side in zip(counts, sides, strict=True)
        ]
        held = np.bincount(places[1], weights=weights[1], minlength=int(levels.max()) + 1)
        below = held.cumsum() - held / 2  # ties count half
        replicates.append(weights[0] @ below[places[0]] / (weights[0].sum() * weights[1].sum()))
    low, high = np.quantile(replicates, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    return value, min(float(low), value), max(float(high), value)


def _too_few(synthetic: ImageSet, test: ImageSet, train: ImageSet) -> str | None:
    if len(synthetic) < 2 * LEAST_TRAINED:
        return f"{len(synthetic)} synthetic images; a detector needs at least {2 * LEAST_TRAINED}"
    if len(train) < 2 * LEAST_TRAINED:
        return f"{len(train)} training images; a detector and its control need at least {2 * LEAST_TRAINED}"
    if len(test) < LEAST_TESTED:
        return f"{len(test)} test images; a detector needs at least {LEAST_TESTED}"
    for name, images, least in (("test", test, LEAST_GROUPS), ("training", train, 4 * LEAST_GROUPS)):
        groups = len(np.unique(images.groups))
        if groups < least:
            return f"the {name} images come from {groups} patients or groups; a detector's interval needs {least}"
    return None


def detector_json(result: Estimate | Withheld) -> Mapping[str, Any]:
    """As it stands in evaluation/detector.json."""
    return {"schema": SCHEMA, "auc": result.to_json(), "false_alarms": FALSE_ALARMS}
