"""The gate's verdict, as it stands at the head of a page."""

from dataclasses import dataclass
from datetime import UTC, datetime

from synthoma.report import words
from synthoma.report.evidence import Evidence
from synthoma.report.facts import Facts

# In the order in which a reader should see them: what stands against a release first.
MARKS = {"failed": "✗", "not demonstrated": "?", "passed": "✓"}


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
    grave_first = list(MARKS)
    rules = [
        RuleLine(
            str(rule["title"]),
            str(rule["verdict"]),
            MARKS[rule["verdict"]],
            str(rule["verdict"]).replace(" ", "-"),
            words.without_people(str(rule["why"])),
        )
        for rule in sorted(gate["rules"], key=lambda rule: grave_first.index(rule["verdict"]))
    ]
    notes = [
        f"The margin {words.spoken(key)} is {_value(gate['margins'][key])} in this recipe, {_value(standard)} as shipped."
        for key, standard in gate.get("changed_margins", {}).items()
    ]
    counts = {verdict: sum(rule.verdict == verdict for rule in rules) for verdict in MARKS}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    sentence = f"{words.plural(len(rules), 'rule')}: {told}."
    if counts["not demonstrated"]:
        sentence += " What the data cannot show counts as no."
    override = gate.get("override")
    if override:
        reason = words.without_people(str(override["reason"]))
        notes.insert(0, f"Released against the gate ({_moment(override['time'])}): {reason}")
        return GateView("Released against the gate", "against", sentence, rules, notes)
    if gate["verdict"] == "release":
        sentence = f"{words.plural(len(rules), 'rule')}, all passed. Synthetic images remain research material."
        return GateView("Release", "yes", sentence, rules, notes)
    return GateView("No release", "no", sentence, rules, notes)


@dataclass(frozen=True)
class ToDo:
    """A study that the gate asks for and that was not made of this model, with the command that makes it."""

    what: str
    command: str


def missing_studies(facts: Facts, evidence: Evidence) -> list[ToDo]:
    """What a release still takes, in the order in which to do it; nothing before there is a model."""
    if facts.model is None:
        return []
    steps = [
        (
            facts.fidelity is not None and facts.fidelity.get("model_hash") == facts.model.get("model_hash"),
            "Fidelity: how close the images are to real ones, and what they miss",
            "synthoma evaluate RUN",
        ),
        (
            evidence.privacy is not None,
            "Privacy: copies of training images, and attacks that ask who was among them",
            "synthoma audit RUN",
        ),
        (
            evidence.utility is not None,
            "Utility: a classifier with and without these images, tested on real patients",
            "synthoma utility RUN",
        ),
        (
            evidence.gate is not None and not evidence.gate_stale,
            "The gate: release or not, by rules that are fixed in the recipe",
            "synthoma gate RUN",
        ),
    ]
    return [ToDo(what, command) for made, what, command in steps if not made]


def _moment(time: object) -> str:
    """`2026-11-21 23:06 UTC` of an ISO time."""
    return f"{datetime.fromisoformat(str(time)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else f"{value:g}"
