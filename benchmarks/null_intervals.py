"""One repetition of the null study of intervals: KID, FD, difference from the floor, permutation p, membership attacks.

At equality the posing images come from the population that training and test images come from; at the shift they come from
the same patients' images after a blur, that of the yardstick, and far off after one of twice as many pixels. Sets are drawn
by patients, whose images differ in number.

The truth of KID is a mean over all pairs of the population. FD depends on the numbers of images, and its truth is its
expected value at these numbers: a mean over many further draws of all sets. The AUC of an attack is that of the population's
images, training ones against held-out ones, for the posing images that were drawn: 0.5 at equality, whichever these are; at
the shifts the held-out images are the blurred ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from null_populations import SHIFT, YARDSTICK, Population
from synthoma.metrics.estimate import Estimate
from synthoma.metrics.estimation import Degraded, Plan, Sample, estimate_all, point_values
from synthoma.metrics.membership import AttackResult, auc, membership_attack
from synthoma.metrics.nearest import nearest
from synthoma.metrics.permutation import PERMUTATIONS, PermutationTest, kid_above_floor, permutation_test

SIZES = {"train": 300, "test": 150, "posing": 250}  # images, of whole patients
ARMS = {"equality": 0.0, "shift": SHIFT, "far": 2 * SHIFT}  # px of blur
FD_DRAWS = 400  # for the truth of FD: its standard error is then a twentieth of the spread of one value
_TRUTH_SEED = 1_000_000
METRICS = ("kid", "fd", "kid_above_floor")


def truth(population: Population) -> dict[str, Any]:
    """True values of each arm: KID of the population, and FD at the numbers of images, with its standard error."""
    result: dict[str, Any] = {}
    for arm, sigma in ARMS.items():
        kid = population.true_kid(sigma) if sigma else 0.0
        values = []
        for number in range(FD_DRAWS):
            sets = _draw(population, np.random.default_rng([_TRUTH_SEED + number, 0]), sigma)
            values.append(point_values(("fd",), sets["posing"], sets["test"], sets["train"], Plan(seed=number))["fd"])
        result[arm] = {
            "kid": kid,
            "kid_above_floor": kid,
            "fd": float(np.mean(values)),
            "fd_standard_error": float(np.std(values, ddof=1) / FD_DRAWS**0.5),
        }
    return result


def repeat(population: Population, repetition: int) -> dict[str, Any]:
    """All arms, each with sets of their own."""
    return {
        arm: _one(population, np.random.default_rng([repetition, number]), sigma, repetition)
        for number, (arm, sigma) in enumerate(ARMS.items(), 1)
    }


def _draw(population: Population, random: np.random.Generator, sigma: float) -> dict[str, Sample]:
    result = {}
    for name, images in SIZES.items():
        rows, groups = population.draw_patients(random, images)
        result[name] = population.sample(rows, groups, sigma if name == "posing" else 0.0)
    return result


def _one(population: Population, random: np.random.Generator, sigma: float, seed: int) -> dict[str, Any]:
    sets, plan = _draw(population, random, sigma), Plan(seed=seed)
    rows, groups = population.draw_patients(random, SIZES["test"])
    degraded = Degraded(population.sample(rows, groups, YARDSTICK), "blurred")
    found = estimate_all(("kid", "fd"), sets["posing"], sets["test"], sets["train"], plan, degraded)
    found["kid_above_floor"] = kid_above_floor(sets["posing"], sets["test"], sets["train"], plan, found["kid"])
    result: dict[str, Any] = {"patients": {name: sample.group_count for name, sample in sets.items()}}
    for name, estimate in found.items():
        if not isinstance(estimate, Estimate) or estimate.yardstick is None:
            raise SystemExit(f"{name} was withheld: {estimate}")
        floor = estimate.floor
        result[name] = {
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "floor": [floor.value, floor.low, floor.high],
            "yardstick": estimate.yardstick.value,
        }
    single = population.sample(random.integers(len(population.images), size=SIZES["posing"]), None, sigma)
    result["permutation"] = {
        "by_patients": _permuted(sets["posing"], sets, seed, random),
        "by_images": _permuted(single, sets, seed, random),
    }
    return result | {"attack": _attack(population, random, sigma, seed)}


def _permuted(posing: Sample, sets: Mapping[str, Sample], seed: int, random: np.random.Generator) -> dict[str, float]:
    """p, and p spread over the thousandth below it: a p that is uniform takes a thousand values only."""
    found = permutation_test(posing, sets["train"], sets["test"], seed=seed)
    if not isinstance(found, PermutationTest):
        raise SystemExit(found.reason)
    return {"p": found.p, "spread": found.p - float(random.uniform()) / (PERMUTATIONS + 1)}


def _attack(population: Population, random: np.random.Generator, sigma: float, seed: int) -> dict[str, Any]:
    """The attack by distance to the nearest posing image; truth: the same over all images of the population."""
    made = population.features()[population.draw_patients(random, SIZES["posing"])[0]]
    of_members = -nearest(population.features(), made)[0][:, 0].numpy()
    of_others = -nearest(population.features(sigma), made)[0][:, 0].numpy() if sigma else of_members
    members, groups_members = population.draw_patients(random, SIZES["train"])
    others, groups_others = population.draw_patients(random, SIZES["test"])
    found = membership_attack(of_members[members], groups_members, of_others[others], groups_others, seed)
    if not isinstance(found, AttackResult):
        raise SystemExit(found.reason)
    control = found.control
    return {
        "truth": auc(of_members, of_others),
        "value": found.attack.auc,
        "low": found.attack.low,
        "high": found.attack.high,
        "excess": list(found.excess),
        "control": [control.auc, control.low, control.high],
    }


def summarise(rows: Sequence[Mapping[str, Any]], true: Mapping[str, Any]) -> dict[str, Any]:
    """For each arm: coverage, widths and what the interval leaves out; the distribution of p; the attack."""
    return {
        "repetitions": len(rows),
        "images": SIZES,
        "median_patients": {
            side: float(np.median([row["equality"]["patients"][side] for row in rows])) for side in SIZES
        },
        "blur_px": ARMS,
        "arms": {arm: _summary([row[arm] for row in rows], true[arm], true["equality"]) for arm in ARMS},
    }


def _summary(rows: Sequence[Mapping[str, Any]], true: Mapping[str, float], null: Mapping[str, float]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in METRICS:
        found = [row[name] for row in rows]
        yardstick = float(np.median([one["yardstick"] for one in found])) - null[name]
        result[name] = cover(found, true[name], null[name]) | {
            "yardstick_above_null": yardstick,
            "median_width_over_yardstick": _median_width(found) / yardstick,
            "floor_covered": sum(one["floor"][1] <= null[name] <= one["floor"][2] for one in found),
        }
    for kind in ("by_patients", "by_images"):
        p = np.array([row["permutation"][kind]["spread"] for row in rows])
        result[f"permutation_{kind}"] = {
            "uniform_ks_p": float(stats.kstest(p, "uniform").pvalue),
            "below_0.05": int((p < 0.05).sum()),
            "median": float(np.median(p)),
        }
    attacks = [row["attack"] for row in rows]
    result["attack_auc"] = cover(attacks, [one["truth"] for one in attacks], 0.5) | {
        "control_covers_half": sum(one["control"][1] <= 0.5 <= one["control"][2] for one in attacks),
        "excess_covered": sum(one["excess"][1] <= one["truth"] - 0.5 <= one["excess"][2] for one in attacks),
        "median_excess_upper": float(np.median([one["excess"][2] for one in attacks])),
    }
    return result


def cover(found: Sequence[Mapping[str, float]], truth: Any, null: float) -> dict[str, Any]:
    """In how many the interval covers the truth (one number, or one of each), how wide it is, and how often it is above the null.

    ideal: the width that an interval of the same coverage would have if the spread of the values were known.
    """
    values, low, high = (np.array([one[key] for one in found]) for key in ("value", "low", "high"))
    truths = np.broadcast_to(np.asarray(truth, dtype=np.float64), values.shape)
    ideal = 2 * stats.norm.ppf(0.975) * (values - truths).std(ddof=1)
    return {
        "covered": int(((low <= truths) & (truths <= high)).sum()),
        "of": len(found),
        "truth": float(truths.mean()),
        "mean_value": float(values.mean()),
        "standard_error_of_mean": float((values - truths).std(ddof=1) / len(found) ** 0.5),
        "median_width": _median_width(found),
        "median_width_over_ideal": _median_width(found) / float(ideal),
        "above_null": int((low > null).sum()),
        "truth_below": int((truths < low).sum()),
        "truth_above": int((truths > high).sum()),
    }


def _median_width(found: Sequence[Mapping[str, float]]) -> float:
    return float(np.median([one["high"] - one["low"] for one in found]))
