"""The gate: may the model of a run be released? It reads what the studies left, rules, and writes the verdict down.

RUN/evaluation/gate.json   rulings, margins, what they rest on (hashes), and an override where there is one
RUN/model/release.json     the same verdict, where it travels with the model; only after a release
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import synthoma
from synthoma.errors import EvaluationError, ModelError
from synthoma.evaluation.gate_rules import Ruling, judge_all
from synthoma.gate_settings import GateSection
from synthoma.recipe import content_hash
from synthoma.run import Run, file_sha256, read_json, write_json

SCHEMA = 1
VERSION = 2  # raised when a rule changes
GATE, RELEASE = "gate.json", "release.json"
STUDIES = {"privacy": "synthoma audit", "fidelity": "synthoma evaluate", "utility": "synthoma utility"}
# What the protocol of a study says of the data, and the part of the dataset that it must be.
_SETS = {
    "privacy": {"train": "train", "holdout": "val+test"},
    "fidelity": {"floor": "train", "reference": "test"},
    "utility": {},  # images without a class leave its sets; the study itself refuses other data
}
LONGEST_REASON = 400


@dataclass(frozen=True)
class Evidence:
    """A study's file: its content, the SHA-256 of the file and the hash of its protocol."""

    result: Mapping[str, Any]
    sha256: str
    protocol: str


@dataclass(frozen=True)
class Override:
    """A release against the gate: why, and when (UTC). Who did it is not kept."""

    reason: str
    time: str


@dataclass(frozen=True)
class Decision:
    """What the gate says of one model. model: content of model.json; evidence: by study, those that there are."""

    rulings: tuple[Ruling, ...]
    margins: GateSection
    model: Mapping[str, Any]
    evidence: Mapping[str, Evidence]
    override: Override | None = None

    @property
    def verdict(self) -> Literal["release", "no release"]:
        """What the rules say, whatever an override says."""
        return "release" if all(one.verdict == "passed" for one in self.rulings) else "no release"

    @property
    def released(self) -> bool:
        return self.verdict == "release" or self.override is not None

    def to_json(self) -> dict[str, Any]:
        """As it stands in gate.json and release.json; holds no path and nobody's name."""
        data = self.model.get("dataset") or {}
        standard = GateSection().model_dump(mode="json")
        margins = self.margins.model_dump(mode="json")
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "synthoma": synthoma.__version__,
            "verdict": self.verdict,
            "released": self.released,
            "override": None if self.override is None else {"reason": self.override.reason, "time": self.override.time},
            "rules": [ruling.to_json() for ruling in self.rulings],
            "margins": margins,
            "changed_margins": {key: standard[key] for key in margins if margins[key] != standard[key]},
            "model_hash": self.model["model_hash"],
            "weights_sha256": self.model["weights_sha256"],
            "dataset": {"content": data.get("content"), "cohort": data.get("cohort")},
            "evidence": {name: {"sha256": one.sha256, "protocol": one.protocol} for name, one in self.evidence.items()},
        }


def decide(run: Run, margins: GateSection, override: str | None = None) -> Decision:
    """Rule on the model of a run and write the verdict; the caller holds the run's lock.

    override: a reason to release it all the same. It is written down, and changes no ruling.
    Raises `EvaluationError` for results of another model or other data, and for a reason that says nothing;
    `ModelError` where there is no model, or its files are not those that were sealed.
    """
    kept = None if override is None else Override(checked_reason(override), _now())
    model = sealed_model(run)
    evidence = {name: one for name in STUDIES if (one := read_evidence(run, name, model)) is not None}
    privacy, fidelity, utility = (evidence[name].result if name in evidence else None for name in STUDIES)
    rulings = judge_all(privacy, fidelity, utility, model.get("dataset") or {}, margins, bool(model.get("classes")))
    passed = all(one.verdict == "passed" for one in rulings)
    decision = Decision(tuple(rulings), margins, model, evidence, None if passed else kept)
    # An earlier release is withdrawn first: a kill between two writes must not leave it standing.
    release = run.model / RELEASE
    release.unlink(missing_ok=True)
    write_json(run.evaluation / GATE, decision.to_json())
    if decision.released:
        write_json(release, decision.to_json())
    return decision


def sealed_model(run: Run) -> dict[str, Any]:
    """model.json, if it and the weights are those that training sealed."""
    file, weights = run.model / "model.json", run.model / "generator.safetensors"
    if not file.is_file():
        raise ModelError(f"{run.path} has no model yet; train it first: synthoma train {run.path} --resume")
    model: dict[str, Any] = read_json(file)
    content = {key: value for key, value in model.items() if key != "model_hash"}
    if content_hash(content) != model.get("model_hash"):
        raise ModelError(
            f"{file} was changed after the model was sealed: its hash does not fit. Train or copy it again."
        )
    if not weights.is_file() or file_sha256(weights) != model.get("weights_sha256"):
        raise ModelError(f"{weights} is missing or damaged (its SHA-256 is not the one in model.json).")
    return model


def read_evidence(run: Run, name: str, model: Mapping[str, Any]) -> Evidence | None:
    """The result of a study of this very model and its data; None where the study was not made."""
    file = run.evaluation / f"{name}.json"
    if not file.is_file():
        return None
    result = read_json(file)
    again = f"make it again: {STUDIES[name]} {run.path}"
    if not isinstance(result, dict) or not isinstance(result.get("protocol"), dict):
        raise EvaluationError(f"{file} is no result of synthoma; {again}")
    if result.get("model_hash") != model["model_hash"]:
        raise EvaluationError(
            f"{file} is of another model ({result.get('model_hash', 'it does not say which')}, this is {model['model_hash']}); "
            f"{again}"
        )
    protocol, content = result["protocol"], (model.get("dataset") or {}).get("content")
    for key, split in _SETS[name].items():
        if protocol.get(key) != f"{content}/{split}":
            raise EvaluationError(
                f"{file} was measured on other data than the model was trained on ({key}: {protocol.get(key)}, expected "
                f"{content}/{split}); {again}"
            )
    return Evidence(result, file_sha256(file), str(protocol.get("hash")))


def checked_reason(text: str) -> str:
    """A reason on one line. Raises `EvaluationError` where it is empty or too long."""
    reason = " ".join(text.split())
    if len(reason) < 10 or len(reason) > LONGEST_REASON:
        raise EvaluationError(
            f"--override takes a reason of 10 to {LONGEST_REASON} characters, which goes into the model card; say what was "
            "weighed, without names."
        )
    return reason


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
