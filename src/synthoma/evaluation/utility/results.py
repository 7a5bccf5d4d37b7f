"""From probabilities to figures, differences and verdicts, as they stand in utility.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.evaluation.utility.arms import REAL, Arm
from synthoma.evaluation.utility.scores import OF_CLASS, OVERALL, Judged, scores
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.statistics import Figure, bootstrap_weights, difference, figure, holm, judge
from synthoma.metrics.estimate import Withheld

Floats = NDArray[np.float64]
# A class with fewer training images than this share of an equal one counts as a minority.
_MINORITY = 0.5


@dataclass(frozen=True)
class Outcomes:
    """What the classifiers of all arms said of the test images.

    groups [n]: patients; arms: name -> (probabilities [seeds, n, k], thresholds [seeds, k] or [seeds, n, k]);
    training: real training images of each class [k].
    """

    test: Judged
    groups: NDArray[np.str_]
    arms: Mapping[str, tuple[Floats, Floats]]
    training: NDArray[np.int64]


def summarise(
    arms: Sequence[Arm], outcomes: Outcomes, fits: Mapping[str, Any], settings: UtilitySettings
) -> dict[str, Any]:
    """ "arms" with figures, differences and verdicts, and "minority": the classes that have few training images."""
    weights = bootstrap_weights(outcomes.groups, settings.bootstraps, settings.seed)
    ones = np.ones((1, weights.shape[1]))
    values, resampled = {}, {}
    for name, (probabilities, thresholds) in outcomes.arms.items():
        values[name] = scores(outcomes.test, probabilities, thresholds, ones)
        resampled[name] = scores(outcomes.test, probabilities, thresholds, weights)
    reported = []
    changes: dict[str, Figure | Withheld] = {}
    for arm in arms:
        if isinstance(arm.pool, Withheld):
            reported.append({"name": arm.name, "title": arm.title, **arm.pool.to_json()})
            continue
        told = _Told(outcomes, settings)
        told.add_figures(values[arm.name], resampled[arm.name])
        if arm.name != REAL:
            changes[arm.name] = told.add_changes(
                (values[arm.name], resampled[arm.name]), (values[REAL], resampled[REAL])
            )
        images = np.bincount(arm.pool.labels, minlength=len(outcomes.test.classes)).tolist()
        reported.append(
            {
                "name": arm.name,
                "title": arm.title,
                "images": dict(zip(outcomes.test.classes, images, strict=True)),
                **told.result,
                "fits": fits[arm.name],
            }
        )
    adjusted = holm(
        {name: change.p for name, change in changes.items() if isinstance(change, Figure) and change.p is not None}
    )
    for entry in reported:
        if entry["name"] in adjusted:
            entry["change"]["auc"]["p_holm"] = float(f"{adjusted[entry['name']]:.6g}")
    equal = outcomes.training.sum() / len(outcomes.training)
    minority = [name for name, n in zip(outcomes.test.classes, outcomes.training, strict=True) if n < _MINORITY * equal]
    return {"minority": minority, "arms": reported}


class _Told:
    """The JSON of one arm."""

    def __init__(self, outcomes: Outcomes, settings: UtilitySettings) -> None:
        self.settings, self.test = settings, outcomes.test
        self.groups = len(np.unique(outcomes.groups))
        self.groups_of = {
            outcomes.test.classes[number]: len(np.unique(outcomes.groups[outcomes.test.labels == number]))
            for number in outcomes.test.judged
        }
        self.result: dict[str, Any] = {}

    def add_figures(self, values: Mapping[str, Floats], resampled: Mapping[str, Floats]) -> None:
        """Every score with its interval, overall and by class."""

        def told(key: str, groups: int) -> dict[str, Any]:
            bounds = (0.0, 2.0) if key == "brier" else (0.0, 1.0)
            return figure(values[key][0], resampled[key], groups, bounds).to_json()

        self.result["scores"] = {key: told(key, self.groups) for key in OVERALL}
        self.result["classes"] = {
            name: {score: told(f"{score}/{name}", groups) for score in OF_CLASS}
            for name, groups in self.groups_of.items()
        }

    def add_changes(
        self,
        arm: tuple[Mapping[str, Floats], Mapping[str, Floats]],
        real: tuple[Mapping[str, Floats], Mapping[str, Floats]],
    ) -> Figure | Withheld:
        """Every score minus that of the real arm, verdicts on the AUC; returns the change of the overall AUC."""

        def change(key: str, groups: int) -> Figure | Withheld:
            return difference((arm[0][key][0], arm[1][key]), (real[0][key][0], real[1][key]), groups)

        overall = {key: change(key, self.groups) for key in OVERALL}
        self.result["change"] = {key: value.to_json() for key, value in overall.items()}
        self.result["verdict"] = self._verdict(overall["auc"])
        for name, groups in self.groups_of.items():
            of_class = {score: change(f"{score}/{name}", groups) for score in OF_CLASS}
            entry = self.result["classes"][name]
            entry["change"] = {score: value.to_json() for score, value in of_class.items()}
            entry["verdict"] = self._verdict(of_class["auc"])
        return overall["auc"]

    def _verdict(self, value: Figure | Withheld) -> dict[str, str]:
        word, why = judge(value, self.settings.margin, self.settings.detectable)
        return {"verdict": word, "why": why}
