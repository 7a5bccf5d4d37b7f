"""The results of the studies beside fidelity, as a report reads them: those of the run's present model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthoma.report.facts import Facts
from synthoma.run import file_sha256, read_json

# File in evaluation/ -> what it is called, and the command that makes it.
STUDIES = {
    "privacy": ("The privacy audit", "synthoma audit"),
    "utility": ("The utility study", "synthoma utility"),
    "anatomy": ("The comparison of anatomy", "synthoma evaluate"),
    "subgroups": ("The coverage of subgroups", "synthoma evaluate"),
    "detector": ("The detector", "synthoma evaluate"),
}
_JUDGED = ("privacy", "fidelity", "utility")  # what the gate rests on


@dataclass(frozen=True)
class Evidence:
    """Content of the files in evaluation/; None where a study was not made, or was made of an earlier model.

    gate: gate.json, None where there is none; gate_stale: it was reached with another model or other results than
    there are now. outdated: a sentence for each result that is left out.
    """

    privacy: Mapping[str, Any] | None
    utility: Mapping[str, Any] | None
    anatomy: Mapping[str, Any] | None
    subgroups: Mapping[str, Any] | None
    detector: Mapping[str, Any] | None
    gate: Mapping[str, Any] | None
    gate_stale: bool
    outdated: list[str]


def read_evidence(facts: Facts) -> Evidence:
    """Read what there is; `SynthomaError` names a damaged file."""
    model_hash = (facts.model or {}).get("model_hash")
    found: dict[str, Mapping[str, Any] | None] = {}
    outdated = []
    for name, (what, command) in STUDIES.items():
        file = facts.run.evaluation / f"{name}.json"
        result = dict(read_json(file)) if file.is_file() else None
        if result is not None and result.get("model_hash", model_hash) != model_hash:
            outdated.append(f"{what} is of an earlier model and is left out; `{command}` makes it anew.")
            result = None
        found[name] = result
    file = facts.run.evaluation / "gate.json"
    gate = dict(read_json(file)) if file.is_file() else None
    return Evidence(**found, gate=gate, gate_stale=gate is not None and _stale(facts, gate), outdated=outdated)


def _stale(facts: Facts, gate: Mapping[str, Any]) -> bool:
    if gate.get("model_hash") != (facts.model or {}).get("model_hash"):
        return True
    files = {name: facts.run.evaluation / f"{name}.json" for name in _JUDGED}
    now = {name: file_sha256(file) for name, file in files.items() if file.is_file()}
    return now != {name: one["sha256"] for name, one in gate["evidence"].items()}
