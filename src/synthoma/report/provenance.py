"""Settings, environment and hashes: what one needs to make the run again, or to check what it came from."""

from pathlib import PurePath
from typing import Any

from synthoma.fetching import WEIGHTS
from synthoma.report import words
from synthoma.report.facts import Facts

# Keys of a recipe that name files of the user's machine.
_FILE_KEYS = {("source", "groups"), ("evaluation", "weights"), ("training", "init_from")}


def settings(recipe: dict[str, Any], public: bool) -> list[tuple[str, list[tuple[str, str]]]]:
    """The recipe by section: (section, [(key, value)]). On a public page files of the user's are not named."""
    top = [(key, _value(value)) for key, value in recipe.items() if not isinstance(value, dict)]
    sections = [("recipe", top)]
    for section, values in recipe.items():
        if isinstance(values, dict):
            lines = []
            for key, value in values.items():
                hidden = public and (section, key) in _FILE_KEYS and value
                shown = _file_words(value) if hidden else _value(value)
                lines.append((key, words.without_people(shown) if public else shown))
            sections.append((section, lines))
    return sections


def environment(facts: Facts) -> list[tuple[str, str]]:
    """Versions and processor, as noted when the training began."""
    noted = facts.environment
    if noted is None:
        return []
    packages = noted.get("packages", {})
    lines = [(key, _value(value)) for key, value in noted.items() if key != "packages"]
    return [(words.spoken(key), value) for key, value in [*lines, *((name, str(v)) for name, v in packages.items())]]


def hashes(facts: Facts) -> list[tuple[str, str]]:
    """The chain from data to numbers, each link by its hash."""
    model, training, fidelity = facts.model or {}, facts.training or {}, facts.fidelity or {}
    data = model.get("dataset") or training.get("dataset") or {}
    links = [
        ("Data: pixels, labels and split", data.get("content")),
        ("Data: frozen split", data.get("cohort")),
        ("Recipe", model.get("recipe_hash")),
        ("Model", model.get("model_hash")),
        ("Generator weights, SHA-256", model.get("weights_sha256")),
        ("Model that was measured", fidelity.get("model_hash")),
        ("Evaluation protocol", (fidelity.get("protocol") or {}).get("hash")),
    ]
    return [(name, str(value)) for name, value in links if value]


def _value(value: object) -> str:
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value) or "—"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_value(item)}" for key, item in value.items()) or "—"
    return str(value)


def _file_words(value: object) -> str:
    """A file of the user's on a public page: its kind only, for a name can say whose it is."""
    files = value if isinstance(value, list) else [value]
    return ", ".join(
        str(file)
        if file in WEIGHTS
        else f"(a {PurePath(str(file)).suffix or 'file'} file)".replace("(a file file)", "(a file)")
        for file in files
    )
