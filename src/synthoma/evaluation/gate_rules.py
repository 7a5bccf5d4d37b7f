"""The rules of the gate: pure functions of what the studies wrote. Each passes, fails, or was not demonstrated.

Release is a claim of non-inferiority: the interval, not the value, has to lie on the good side of a margin that was set
beforehand (Piaggio et al. 2012, "Reporting of noninferiority and equivalence randomized trials", JAMA 308). So a rule can
only be harder to pass with less data: a number that is missing, withheld or not a number passes nothing, and neither
does an interval that reaches farther than the margin from its value. Without the latter a small study would pass by
chance, when its value happens to fall far on the good side.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from synthoma.evaluation.origins import FOLDED, FOLDER, GENERATED
from synthoma.gate_settings import GateSection

Verdict = Literal["passed", "failed", "not demonstrated"]
_TOO_WIDE = ", but it reaches farther from its value than the margin is wide: too few data to say so."
Result = Mapping[str, Any]
# Attacks on what is released. The discriminator is not, so what it gives away is told in the report and not judged here.
ATTACKS = ("features", "pixels")
PLANTED = ("exact", "flipped", "shifted")


@dataclass(frozen=True)
class Ruling:
    """One rule's verdict. numbers: what it was reached by; why: a sentence with these numbers."""

    rule: str
    title: str
    verdict: Verdict
    why: str
    numbers: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "title": self.title,
            "verdict": self.verdict,
            "why": self.why,
            "numbers": dict(self.numbers),
        }


def judge_all(
    privacy: Result | None,
    fidelity: Result | None,
    utility: Result | None,
    data: Result,
    margins: GateSection,
    classes: bool = True,
) -> list[Ruling]:
    """All rulings. The results are those of privacy.json, fidelity.json and utility.json, None where there is none;
    data: `dataset` of model.json; classes: whether the model has any."""
    return [
        judge_copies(privacy, margins),
        *(judge_attack(privacy, name, margins) for name in ATTACKS),
        *(judge_kid(fidelity, space, margins) for space in margins.spaces),
        *(judge_coverage(fidelity, space, margins) for space in margins.spaces),
        judge_utility(utility, margins, classes),
        judge_licence(data),
    ]


def within(value: float, low: float, high: float, margin: float) -> Verdict:
    """Whether a loss (0 or less: none) is shown to be below `margin` by its interval.

    Failed: the whole interval is at or above the margin. Passed: the whole interval is below it, and reaches no farther
    than the margin from the value, or lies below 0 altogether. Anything between is not demonstrated.
    """
    if low >= margin:
        return "failed"
    if high < margin and (high - value <= margin or high < 0):
        return "passed"
    return "not demonstrated"


def judge_copies(privacy: Result | None, margins: GateSection) -> Ruling:
    """No confirmed copy, among enough images, by a search that finds copies made on purpose."""
    title = "No synthetic image is a copy of a training image"
    found = _part(privacy, "copies")
    if found is None:
        return _missing("copies", title, "the search for copies", "synthoma audit")
    count, n, upper = _number(found, "found"), _number(found, "n"), _number(_part(found, "rate"), "upper_95")
    recall = {kind: _number(_part(found, "recall"), kind) for kind in PLANTED}
    numbers = {"found": count, "n": n, "upper_95": upper, "margin": margins.copy_rate, "recall": recall}
    if count is not None and count > 0:
        control = _part(found, "control") or {}
        why = (
            f"{_count(count, 'confirmed copy', 'confirmed copies')} among {_shown(n)} images; of {_shown(control.get('n'))} "
            f"held-out real images {_shown(control.get('found'))} would be called copies."
        )
        return Ruling("copies", title, "failed", why, numbers)
    if count is None or n is None or n < 1 or upper is None:
        return _unusable("copies", title, "The search for copies left no number to judge by.", numbers)
    weak = [kind for kind, share in recall.items() if share is None or share < margins.copy_recall]
    if weak:
        seen = ", ".join(f"{kind} {_share(recall[kind])}" for kind in weak)
        why = f"None was found, but the search does not see copies made on purpose well enough ({seen})."
        return Ruling("copies", title, "not demonstrated", why, numbers)
    if upper >= margins.copy_rate:
        why = (
            f"None was found among {_shown(n)} images, which leaves room for {_share(upper)} of copies, not less than "
            f"{_share(margins.copy_rate)}."
        )
        return Ruling("copies", title, "not demonstrated", why, numbers)
    why = f"None was found among {_shown(n)} images; at most {_share(upper)} are copies (limit {_share(margins.copy_rate)})."
    return Ruling("copies", title, "passed", why, numbers)


def judge_attack(privacy: Result | None, name: str, margins: GateSection) -> Ruling:
    """The upper limit of an attack's AUC less its control's is below the margin."""
    rule, title = f"attack_{name}", f"An attack by nearest {name} does not tell who was in the training set"
    result = _part(_part(privacy, "membership"), name)
    if result is None:
        return _missing(rule, title, "this attack", "synthoma audit")
    if result.get("kind") == "withheld":
        return _withheld(rule, title, result)
    interval = _interval(_part(result, "excess"))
    control = _interval(_part(result, "control"), "auc")
    if interval is None or control is None:
        return _unusable(rule, title, "The attack has no usable number, or none of its control.", {})
    return _ruled(rule, title, interval, margins.attack, "AUC less control", {"control": list(control)})


def judge_kid(fidelity: Result | None, space: str, margins: GateSection) -> Ruling:
    """The upper limit of KID less floor is below a share of the yardstick.

    The yardstick is the KID of blurred real images; where the floor's own interval holds it, blur cannot be told from
    none in this space, and nothing can be judged by it.
    """
    rule, title = f"kid_{space}", f"Images are as close to real ones as the margin asks ({space})"
    found = _part(_part(fidelity, "spaces"), space)
    result = _part(_part(_part(found, "above_floor"), "all"), "kid_above_floor")
    if result is None:
        return _missing(rule, title, f"the difference of KID and floor in the space {space}", "synthoma evaluate")
    if result.get("kind") == "withheld":
        return _withheld(rule, title, result)
    interval, yardstick = _interval(result), _number(_part(result, "yardstick"), "value")
    kid_floor = _interval(_part(_part(_part(found, "all"), "kid"), "floor"))
    if interval is None or kid_floor is None or yardstick is None:
        return _unusable(rule, title, "KID, its floor or its yardstick has no usable number.", {})
    if yardstick <= max(kid_floor[2], 0.0):
        why = "Blurred real images lie within the floor's interval: in this space there is no scale to judge KID by."
        return _unusable(rule, title, why, {"yardstick": yardstick, "floor": list(kid_floor)})
    margin = margins.kid * yardstick
    more = {"yardstick": yardstick, "share": margins.kid}
    ruling = _ruled(rule, title, interval, margin, "KID less floor", more)
    scale = f" The limit is {_share(margins.kid)} of the KID of blurred real images ({_figure(yardstick)})."
    return Ruling(rule, title, ruling.verdict, ruling.why + scale, ruling.numbers)


def judge_coverage(fidelity: Result | None, space: str, margins: GateSection) -> Ruling:
    """The lower limit of coverage less its floor is above minus a share of the floor.

    The interval is that of the difference, whose replicates share their test patients. The limits of the two by
    themselves, held against each other, would ask for more than 95 % of certainty.
    """
    rule, title = f"coverage_{space}", f"Real test images have synthetic ones close by ({space})"
    result = _part(_part(_part(_part(fidelity, "spaces"), space), "all"), "coverage")
    if result is None:
        return _missing(rule, title, f"coverage in the space {space}", "synthoma evaluate")
    if result.get("kind") == "withheld":
        return _withheld(rule, title, result)
    interval, floor, less = _interval(result), _interval(_part(result, "floor")), _interval(_part(result, "less_floor"))
    if interval is None or floor is None or less is None or floor[0] <= 0:
        return _unusable(rule, title, "Coverage or its difference from the floor has no usable number.", {})
    margin = (1 - margins.coverage) * floor[0]
    verdict = within(-less[0], -less[2], -less[1], margin)
    why = (
        f"Coverage is {_figure(interval[0])} ({_figure(interval[1])} to {_figure(interval[2])}), that of real images "
        f"{_figure(floor[0])}. The difference is {_signed(less[0])} ({_signed(less[1])} to {_signed(less[2])}); "
        f"{_side(verdict, 'above', less[1] > -margin)} {_signed(-margin)}."
    )
    if verdict == "not demonstrated" and less[1] > -margin:
        why = f"{why[:-1]}{_TOO_WIDE}"
    numbers = {"value": interval[0], "low": interval[1], "high": interval[2], "floor": list(floor)}
    return Ruling(rule, title, verdict, why, numbers | {"less_floor": list(less), "margin": margin})


def judge_utility(utility: Result | None, margins: GateSection, classes: bool = True) -> Ruling:
    """The lower limit of what adding synthetic images changes of the AUC is above minus the margin.

    One arm counts, named in the recipe: the best of several would pass more easily the more are tried. A study by folds
    counts too, and the ruling says so: its generators are not this one, but were trained by the same recipe on less.
    """
    rule, title = "utility", "Adding the images to real ones does no harm to a classifier"
    if not classes and (utility is None or utility.get("synthetic") != FOLDER):
        why = (
            "The model has no classes, so no classifier can be trained on its images; a conditional model (model.conditions: "
            "[class]) can be judged."
        )
        return _unusable(rule, title, why, {})
    if utility is None:
        return _missing(rule, title, "the utility study", "synthoma utility")
    name = f"real+synthetic@{margins.utility_ratio:g}"
    arm = next((one for one in utility.get("arms", ()) if one.get("name") == name), None)
    if arm is None:
        reason = str(utility.get("withheld") or f"the study has no arm {name}")
        return _unusable(rule, title, f"{reason[:1].upper()}{reason[1:].rstrip('.')}.", {})
    if utility.get("synthetic") not in (GENERATED, FOLDED):
        why = "The study was made with a folder of images, and nothing shows that this model made them."
        return _unusable(rule, title, why, {})
    result = arm if arm.get("kind") == "withheld" else _part(_part(arm, "change"), "auc")
    if result is None or result.get("kind") == "withheld":
        return _withheld(rule, title, result or {})
    interval, seeds = _interval(result), result.get("per_seed")
    if interval is None:
        return _unusable(rule, title, "The change of AUC has no usable number.", {})
    if not isinstance(seeds, Sequence) or len(seeds) < 2:
        why = "The classifiers were fitted with one seed: what chance in training does is not known."
        return _unusable(rule, title, why, {})
    value, low, high = interval
    verdict = within(-value, -high, -low, margins.utility)
    why = (
        f"Change of AUC {_signed(value)} ({_signed(low)} to {_signed(high)}) in the arm {name}; "
        f"{_side(verdict, 'above', low > -margins.utility)} {_signed(-margins.utility)}."
    )
    if verdict == "not demonstrated" and low > -margins.utility:
        why = f"{why[:-1]}{_TOO_WIDE}"
    if utility["synthetic"] == FOLDED:
        why += f" Measured with {len(utility.get('generators', ()))} generators that the same recipe trained anew in folds, not with this one."
    return Ruling(
        rule, title, verdict, why, {"value": value, "low": low, "high": high, "margin": margins.utility, "arm": name}
    )


def judge_licence(data: Result) -> Ruling:
    """The terms of the training images allow that derived synthetic ones are released."""
    title = "The terms of the data allow a release"
    allowed = data.get("may_release")
    numbers = {"may_release": allowed, "licence": data.get("licence")}
    if allowed is True:
        return Ruling("licence", title, "passed", "They allow the release of synthetic images.", numbers)
    if allowed is False:
        return Ruling("licence", title, "failed", "They do not allow the release of synthetic images.", numbers)
    why = (
        "Nothing says whether they do; set data.may_release in the recipe or in synthoma-data.yaml, and train on that."
    )
    return _unusable("licence", title, why, numbers)


def _ruled(
    rule: str,
    title: str,
    interval: tuple[float, float, float],
    margin: float,
    what: str,
    more: Mapping[str, Any],
) -> Ruling:
    value, low, high = interval
    verdict = within(value, low, high, margin)
    side = _side(verdict, inside=high < margin)
    why = f"{what} is {_figure(value)} ({_figure(low)} to {_figure(high)}); {side} {_figure(margin)}."
    if verdict == "not demonstrated" and high < margin:
        why = f"{why[:-1]}{_TOO_WIDE}"
    return Ruling(rule, title, verdict, why, {"value": value, "low": low, "high": high, "margin": margin, **more})


def _side(verdict: Verdict, good: str = "below", inside: bool = False) -> str:
    """How the interval lies to the limit whose number follows; good: the side that passes; inside: whether all of it is there."""
    if inside:
        return f"the whole interval is {good} the limit of"
    other = {"below": "above", "above": "below"}[good]
    return {
        "passed": f"the whole interval is {good} the limit of",
        "failed": f"the whole interval is {other} the limit of",
        "not demonstrated": "the interval does not settle the limit of",
    }[verdict]


def _missing(rule: str, title: str, what: str, command: str) -> Ruling:
    return _unusable(rule, title, f"There is no result of {what}; {command} RUN makes it.", {})


def _withheld(rule: str, title: str, result: Result) -> Ruling:
    reason = str(result.get("reason") or "no reason given").rstrip(".")
    return _unusable(rule, title, f"Withheld: {reason}.", {})


def _unusable(rule: str, title: str, why: str, numbers: Mapping[str, Any]) -> Ruling:
    return Ruling(rule, title, "not demonstrated", why, numbers)


def _part(value: object, key: str) -> Result | None:
    """The mapping under a key; None where there is none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _number(value: object, key: str) -> float | None:
    """The finite number under a key; None where there is none."""
    found = value.get(key) if isinstance(value, Mapping) else None
    usable = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    return found if usable else None


def _interval(result: Result | None, key: str = "value") -> tuple[float, float, float] | None:
    """(value, low, high) in order; None where one is missing or they are out of order."""
    value, low, high = (_number(result, name) for name in (key, "low", "high"))
    if value is None or low is None or high is None or not low <= value <= high:
        return None
    return value, low, high


def _figure(value: float) -> str:
    return f"{value:.3f}".replace("-0.000", "0.000").replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.3g}\u202f%"


def _shown(value: object) -> str:
    return "unknown" if value is None else f"{value}"


def _count(value: float, one: str, many: str) -> str:
    return f"{value:g} {one if value == 1 else many}"
