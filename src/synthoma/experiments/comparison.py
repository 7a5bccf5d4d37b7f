"""Runs side by side: read, and refused unless they were trained on the same data and measured under one protocol."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthoma.errors import EvaluationError
from synthoma.report import training
from synthoma.report.facts import Facts, read_facts
from synthoma.run import Run

SCHEMA = 1
# What the fields of a protocol are called in an error.
PROTOCOL_WORDS = {
    "n": "numbers of images",
    "reference": "test images",
    "floor": "training images of the floor",
    "spaces": "feature spaces",
    "size": "size of the images",
    "value_range": "range of the values",
}


@dataclass(frozen=True)
class Entry:
    """A run that was trained and measured. `name` tells it from the others: its folder, with parents where needed."""

    name: str
    facts: Facts
    training: Mapping[str, Any]
    model: Mapping[str, Any]
    fidelity: Mapping[str, Any]

    @property
    def family(self) -> str:
        return str(self.model["family"])

    @property
    def updates(self) -> tuple[int, int]:
        """Updates of the generator and of the discriminator."""
        steps = int((self.facts.recipe.get("training") or {}).get("critic_steps", 1))
        iterations = int(self.training["iteration"])
        return iterations, iterations * steps

    @property
    def images_per_second(self) -> float | None:
        """Mean over the whole run, with everything that was done in it."""
        seconds = float(self.training["seconds"])
        return float(self.training["images_seen"]) / seconds if seconds > 0 else None

    @property
    def released_at(self) -> int:
        """Images seen by the released weights."""
        return int(self.model.get("images_seen", self.training["images_seen"]))

    @property
    def grid(self) -> Path | None:
        """The grid of samples that was drawn nearest to the released weights."""
        if not self.facts.grids:
            return None
        return min(self.facts.grids, key=lambda file: (abs(int(file.stem) - self.released_at), -int(file.stem)))

    @property
    def machine(self) -> str:
        """What the seconds depend on."""
        noted = self.facts.environment or {}
        device = str(self.training.get("device", "unknown"))
        processor = noted.get("gpu") if device.startswith("cuda") else noted.get("processor")
        parts = [device, processor, str(self.training.get("precision", "")) or None]
        threads = self.training.get("threads")
        if threads and not device.startswith("cuda"):
            parts.append(f"{threads} thread{'s' if threads > 1 else ''}")
        return ", ".join(str(part) for part in parts if part)

    def results(self, space: str) -> Mapping[str, Any]:
        """Metric -> result over all images, in a feature space."""
        found: Mapping[str, Any] = self.fidelity["spaces"][space]["all"]
        return found

    def to_json(self) -> dict[str, Any]:
        """What comparison.json holds of a run; no path."""
        generator, discriminator = self.updates
        return {
            "name": self.name,
            "title": self.facts.title,
            "family": self.family,
            "model_hash": self.model["model_hash"],
            "recipe_hash": self.model.get("recipe_hash"),
            "parameters": dict(self.training.get("parameters", {})),
            "finished": bool(self.training.get("finished")),
            "images_seen": self.training["images_seen"],
            "updates": {"generator": generator, "discriminator": discriminator},
            "seconds": self.training["seconds"],
            "images_per_second": self.images_per_second,
            "machine": self.machine,
            "best": self.training.get("best"),
            "released": {"images_seen": self.released_at, "what": training.released(self.facts)},
            "spaces": {name: dict(self.results(name)) for name in self.fidelity["spaces"]},
        }


@dataclass(frozen=True)
class Comparison:
    """Runs whose numbers may stand side by side. data: hashes of the dataset; protocol: of the evaluation."""

    entries: tuple[Entry, ...]
    data: Mapping[str, str]
    protocol: str

    @property
    def spaces(self) -> list[str]:
        """Feature spaces, the same in all runs because the protocol names them."""
        return list(self.entries[0].fidelity["spaces"])

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "protocol": self.protocol,
            "data": dict(self.data),
            "runs": [entry.to_json() for entry in self.entries],
        }


def compare_runs(paths: Sequence[Path]) -> Comparison:
    """Read run folders for a comparison.

    Raises `EvaluationError` for fewer than two, for the same run twice, for a run that is not trained or not evaluated,
    and for runs whose data or protocols differ: it says in what. `SynthomaError` for a folder that is no run.
    """
    if len(paths) < 2:
        raise EvaluationError("a comparison takes at least two runs: synthoma compare RUN RUN...")
    folders = [path.resolve() for path in paths]
    twice = next((path for path, times in Counter(folders).items() if times > 1), None)
    if twice is not None:
        raise EvaluationError(f"{twice} is given twice; a run is compared with others, not with itself.")
    names = _names(folders)
    entries = tuple(_entry(path, names[folder]) for path, folder in zip(paths, folders, strict=True))
    data = _same_data(entries)
    return Comparison(entries, data, _same_protocol(entries))


def _entry(path: Path, name: str) -> Entry:
    if not path.is_dir():
        raise EvaluationError(f"{path} is no folder; a comparison takes the folders of runs.")
    facts = read_facts(Run(path), None, images=False)
    if facts.training is None or facts.model is None:
        raise EvaluationError(f"{path} has no model yet; train it first: synthoma train {path} --resume")
    if facts.fidelity is None:
        raise EvaluationError(f"{path} has not been evaluated yet; measure it first: synthoma evaluate {path}")
    measured = facts.fidelity.get("model_hash", facts.model["model_hash"])
    if measured != facts.model["model_hash"]:
        raise EvaluationError(
            f"the evaluation in {path} is of an earlier model ({measured}, now {facts.model['model_hash']}); measure it again: "
            f"synthoma evaluate {path}"
        )
    return Entry(name, facts, facts.training, facts.model, facts.fidelity)


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """The shortest ends of the paths, of one length, that tell all of them apart."""
    longest = max(len(folder.parts) for folder in folders)
    for parts in range(1, longest):
        names = {folder: "/".join(folder.parts[-parts:]) for folder in folders}
        if len(set(names.values())) == len(folders):
            return names
    return {folder: str(folder) for folder in folders}


def _same_data(entries: Sequence[Entry]) -> dict[str, str]:
    """Hashes of the data, if they are the same in all runs."""
    kinds = {"content": "its images and labels", "cohort": "its split into train, validation and test"}
    found = [{key: str((entry.model.get("dataset") or {}).get(key)) for key in kinds} for entry in entries]
    for entry, own in zip(entries[1:], found[1:], strict=True):
        different = [f"{kinds[key]} ({found[0][key]} and {own[key]})" for key in kinds if own[key] != found[0][key]]
        if different:
            raise EvaluationError(
                f"{entries[0].name} and {entry.name} were not trained on the same dataset: it differs in "
                f"{' and in '.join(different)}. Numbers on different data are not put side by side; prepare once, and train "
                "each run with --dataset on that."
            )
    return found[0]


def _same_protocol(entries: Sequence[Entry]) -> str:
    """The protocol hash, if it is the same in all runs."""
    first = entries[0].fidelity["protocol"]
    for entry in entries[1:]:
        own = entry.fidelity["protocol"]
        if own["hash"] != first["hash"]:
            different = "; ".join(_differences(first, own)) or "fields that are not written down"
            raise EvaluationError(
                f"{entries[0].name} and {entry.name} were measured under different protocols ({first['hash']} and {own['hash']}): "
                f"{different}. Such numbers are not put side by side; evaluate the runs again with the same settings of "
                "`evaluation` and the same --weights."
            )
    return str(first["hash"])


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What differs between two protocols, a phrase a field."""
    found = []
    for key in dict.fromkeys((*first, *second)):
        a, b = first.get(key), second.get(key)
        if key == "hash" or a == b:
            continue
        name = PROTOCOL_WORDS.get(key, key.replace("_", " "))
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            inner = [part for part in dict.fromkeys((*a, *b)) if a.get(part) != b.get(part)]
            found.append(
                f"{name} ({', '.join(f'{part}: {_short(a.get(part))} and {_short(b.get(part))}' for part in inner)})"
            )
        else:
            found.append(f"{name} ({_short(a)} and {_short(b)})")
    return found


def _short(value: object) -> str:
    """A value of a protocol in a few words: a feature space by the hash of its network."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return str(value.get("extractor", "another one"))
    return str(value)
