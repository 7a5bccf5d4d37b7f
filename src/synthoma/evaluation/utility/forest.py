"""Rows of the forest plot: what each arm changes against real images alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ForestRow:
    """A line of the plot. difference, low, high: change of the AUC, None where it is withheld; verdict: a word of
    `statistics.Verdict`, or "withheld"; why: in words; part: class name, or None for the overall AUC."""

    arm: str
    title: str
    part: str | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: str
    why: str


def forest_rows(result: Mapping[str, Any], part: str | None = None) -> list[ForestRow]:
    """The rows of utility.json (`result`) in the order of its arms, the real one left out; none where there is no study.

    part: a class, for its own one-vs-rest AUC; None for the overall one.
    """
    rows = []
    for arm in result.get("arms", []):
        if arm.get("kind") == "withheld":
            rows.append(ForestRow(arm["name"], arm["title"], part, None, None, None, "withheld", arm["reason"]))
            continue
        told = arm if part is None else arm["classes"].get(part, {})
        if "change" not in told:
            continue
        change, verdict = told["change"]["auc"], told["verdict"]
        numbers = (change.get("value"), change.get("low"), change.get("high"))
        rows.append(ForestRow(arm["name"], arm["title"], part, *numbers, verdict["verdict"], verdict["why"]))
    return rows
