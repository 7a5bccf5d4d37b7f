"""Continuous checks: is a run worse than a baseline that was measured under the same protocol?

A metric got worse where the interval of the difference lies beyond a margin as a whole. The two runs were measured on
the same test images, but their files hold no pairs of replicates, so the intervals are put together as if they were
independent: what the runs share would only make it narrower, so that worse is said less often than it could be.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from synthoma.errors import EvaluationError
from synthoma.experiments.comparison import Comparison, Entry

SHARE_OF_YARDSTICK = 0.1  # margin of metrics with a yardstick: of the way from the floor to it
SHARES = ("precision", "recall", "coverage")
MARGIN_OF_SHARES = 0.05

Change = Literal["worse", "not worse", "not shown"]


@dataclass(frozen=True)
class Check:
    """One metric of one run against the baseline. worsening, low, high: how much worse it is (below 0: better), None
    where a number is withheld; margin: the worsening that is let pass."""

    run: str
    space: str
    metric: str
    change: Change
    worsening: float | None
    low: float | None
    high: float | None
    margin: float | None
    why: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def check_against(comparison: Comparison, baseline: Entry) -> list[Check]:
    """Every metric that the baseline has, of every other run of the comparison, over all images.

    A number that the baseline has and a run withholds is "not shown": fewer data are no way past a check. A comparison
    holds runs of one protocol only (`compare_runs`); `EvaluationError` where the baseline has no number at all.
    """
    checks = []
    for space in comparison.spaces:
        for metric, before in baseline.results(space).items():
            if before["kind"] != "estimate":
                continue
            for entry in comparison.entries:
                if entry is not baseline:
                    now = entry.results(space).get(metric, {"kind": "withheld", "reason": "it was not measured"})
                    checks.append(_check(entry.name, space, metric, now, before))
    if not checks:
        raise EvaluationError(
            f"all metrics of the baseline {baseline.name} are withheld: nothing can be checked against it."
        )
    return checks


def got_worse(checks: list[Check]) -> bool:
    """Whether a check says worse, or was not shown."""
    return any(check.change != "not worse" for check in checks)


def _check(run: str, space: str, metric: str, now: Mapping[str, Any], before: Mapping[str, Any]) -> Check:
    if now["kind"] != "estimate":
        why = f"the baseline has this number, here it is withheld: {now['reason']}"
        return Check(run, space, metric, "not shown", None, None, None, None, why)
    if now["protocol"] != before["protocol"]:
        raise EvaluationError(
            f"{run}: {metric} in {space} has protocol {now['protocol']}, in the baseline {before['protocol']}. Numbers of "
            "different protocols are not compared; evaluate both again in the same way."
        )
    sign = 1.0 if before["direction"] == "lower" else -1.0
    worsening = sign * (now["value"] - before["value"])
    sides = ("low", "high") if sign > 0 else ("high", "low")
    # How far each may be from its value: the run towards better and the baseline towards worse, and the reverse.
    better = math.hypot(now[sides[0]] - now["value"], before[sides[1]] - before["value"])
    worse = math.hypot(now[sides[1]] - now["value"], before[sides[0]] - before["value"])
    low, high, margin = worsening - better, worsening + worse, _margin(metric, before)
    change: Change = "worse" if low > margin else "not worse"
    why = (
        "the whole interval of the difference is beyond the margin"
        if change == "worse"
        else "no worsening beyond the margin is shown"
    )
    return Check(run, space, metric, change, worsening, low, high, margin, why)


def _margin(metric: str, before: Mapping[str, Any]) -> float:
    """What is let pass: a share of the way from floor to yardstick, 0.05 of a share, else nothing beyond chance."""
    if metric in SHARES:
        return MARGIN_OF_SHARES
    yardstick = before.get("yardstick")
    if not yardstick:
        return 0.0
    sign = 1.0 if before["direction"] == "lower" else -1.0
    return max(0.0, SHARE_OF_YARDSTICK * sign * (float(yardstick["value"]) - float(before["floor"]["value"])))
