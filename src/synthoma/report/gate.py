"""The gate's verdict, as it stands at the head of a page."""

from dataclasses import dataclass
from datetime import UTC, datetime

from synthoma.report import words
from synthoma.report.evidence import Evidence

MARKS = {"passed": "✓", "failed": "✗", "not demonstrated": "?"}


@dataclass(frozen=True)
class RuleLine:
    """A rule: mark and style for the eye, verdict in words for all."""

    title: str
    verdict: str
    mark: str
    style: str
    why: str


@dataclass(frozen=True)
class GateView:
    """style: "yes", "no" or "against" (released against the gate)."""

    headline: str
    style: str
    sentence: str
    rules: list[RuleLine]
    notes: list[str]


def gate_view(evidence: Evidence) -> GateView | None:
    """None where the gate was not asked. A verdict on earlier results is not shown, only that it is outdated."""
    gate = evidence.gate
    if gate is None:
        return None
    if evidence.gate_stale:
        return GateView(
            "No valid verdict",
            "no",
            "The gate was asked about another model, or before the results that are there now; ask again: synthoma gate.",
            [],
            [],
        )
    rules = [
        RuleLine(
            str(rule["title"]),
            str(rule["verdict"]),
            MARKS[rule["verdict"]],
            str(rule["verdict"]).replace(" ", "-"),
            words.without_people(str(rule["why"])),
        )
        for rule in gate["rules"]
    ]
    notes = [
        f"The margin {words.spoken(key)} is {_value(gate['margins'][key])} in this recipe, {_value(standard)} as shipped."
        for key, standard in gate.get("changed_margins", {}).items()
    ]
    counts = {verdict: sum(rule.verdict == verdict for rule in rules) for verdict in MARKS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    sentence = f"{words.plural(len(rules), 'rule')}: {told}. What is not demonstrated is no release."
    override = gate.get("override")
    if override:
        reason = words.without_people(str(override["reason"]))
        notes.insert(0, f"Released against the gate ({_moment(override['time'])}): {reason}")
        return GateView("Released against the gate", "against", sentence, rules, notes)
    if gate["verdict"] == "release":
        sentence = f"{words.plural(len(rules), 'rule')}, all passed. Synthetic images remain research material."
        return GateView("Release", "yes", sentence, rules, notes)
    return GateView("No release", "no", sentence, rules, notes)


def _moment(time: object) -> str:
    """`2026-11-21 23:06 UTC` of an ISO time."""
    return f"{datetime.fromisoformat(str(time)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:g}"
