"""One repetition of the null study of the utility study's AUC and its change, on drawn scores of patients.

A score is x = m y + p + s + e: the signal m of the arm for label y (of the patient), what is particular about a patient, p
(shared by both arms and all fits), what a fit makes of a patient, s, and noise e. Each fit has a signal of its own around
m, for chance in training. Images of different patients with different labels are then normal with a known difference, so
that the AUC is a normal integral. Both arms are alike at equality; at the shift the second has a stronger signal.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit

from null_intervals import cover
from synthoma.evaluation.utility.scores import Judged, scores
from synthoma.evaluation.utility.statistics import Figure, bootstrap_weights, difference, figure

PATIENTS, MEAN_IMAGES, SEEDS = 60, 3.0, 3
SIGNALS = {"equality": 1.4, "shift": 2.0}  # m of the second arm; the first has that of equality
OF_PATIENT, OF_FIT, OF_IMAGE, OF_SIGNAL = 0.7, 0.3, 0.7, 0.1  # standard deviations; the last: of m between fits
BOOTSTRAPS = 1000


def true_auc(signal: float) -> float:
    """Chance that an image of a patient with the label scores above one of a patient without: signal ~ N(m, OF_SIGNAL^2)."""
    variance = 2 * (OF_PATIENT**2 + OF_FIT**2 + OF_IMAGE**2) + OF_SIGNAL**2
    return float(stats.norm.cdf(signal / math.sqrt(variance)))


def repeat(population: None, repetition: int) -> dict[str, Any]:
    """Two arms, at equality and at the shift."""
    result = {}
    for number, (arm, signal) in enumerate(SIGNALS.items()):
        random = np.random.default_rng([repetition, 20 + number])
        result[arm] = _one(random, signal, repetition)
    return result


def _one(random: np.random.Generator, signal: float, seed: int) -> dict[str, Any]:
    sizes = random.geometric(1 / MEAN_IMAGES, PATIENTS)
    numbers = np.repeat(np.arange(PATIENTS), sizes)
    labels = (random.permutation(PATIENTS) < PATIENTS // 2).astype(np.int64)[numbers]
    particular = OF_PATIENT * random.standard_normal(PATIENTS)
    weights = bootstrap_weights(numbers.astype(np.str_), BOOTSTRAPS, seed)
    ones = np.ones((1, len(numbers)))
    test = Judged(labels, ("other", "cancer"), (0, 1), positive=1)
    arms = []
    for mean in (SIGNALS["equality"], signal):
        strengths = mean + OF_SIGNAL * random.standard_normal((SEEDS, 1))
        of_fit = OF_FIT * random.standard_normal((SEEDS, PATIENTS))[:, numbers]
        values = strengths * labels + particular[numbers] + of_fit
        values = values + OF_IMAGE * random.standard_normal(values.shape)
        probabilities = np.stack((1 - expit(values), expit(values)), axis=2)
        thresholds = np.full((SEEDS, 2), 0.5)
        plain, resampled = (scores(test, probabilities, thresholds, w)["auc"] for w in (ones, weights))
        arms.append((plain[0], resampled))
    told = {"auc": figure(*arms[1], PATIENTS), "change": difference(arms[1], arms[0], PATIENTS)}
    result = {}
    for name, found in told.items():
        if not isinstance(found, Figure):
            raise SystemExit(f"{name} was withheld: {found.reason}")
        result[name] = {"value": found.value, "low": found.low, "high": found.high, "p": found.p}
    return result


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Coverage and widths of the AUC and of its change in each arm; p of the change at equality."""
    arms: dict[str, Any] = {}
    null = true_auc(SIGNALS["equality"])
    for arm, signal in SIGNALS.items():
        truth = true_auc(signal)
        arms[arm] = {
            "utility_auc": cover([row[arm]["auc"] for row in rows], truth, null),
            "utility_change": cover([row[arm]["change"] for row in rows], truth - null, 0.0),
        }
    p = np.array([row["equality"]["change"]["p"] for row in rows])
    arms["equality"]["utility_change"] |= {
        "uniform_ks_p": float(stats.kstest(p, "uniform").pvalue),
        "p_below_0.05": int((p < 0.05).sum()),
    }
    return {"repetitions": len(rows), "patients": PATIENTS, "fits": SEEDS, "arms": arms}
