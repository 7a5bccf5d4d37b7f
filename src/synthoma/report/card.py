"""The model card (Mitchell et al., "Model cards for model reporting", FAT* 2019) as Markdown, for model/README.md."""

import re
from collections.abc import Mapping
from typing import Any

from synthoma.cohort import SPLITS
from synthoma.errors import ModelError
from synthoma.report import card_evidence, metrics, provenance, training, words
from synthoma.report.evidence import Evidence, read_evidence
from synthoma.report.facts import Facts, read_facts
from synthoma.report.markdown import code as _code
from synthoma.report.markdown import table as _table
from synthoma.report.markdown import text as _text
from synthoma.run import Run


def model_card(run: Run) -> str:
    """What the model is, what it was trained on, how it was measured, and what it is not for.

    Made from the run's files; holds no pseudonym and no path. `ModelError` where the run has no model yet.
    """
    facts = read_facts(run, None)
    if facts.model is None:
        raise ModelError(f"{run.path} has no model yet, so there is nothing to write a card about; train it first.")
    model, evidence = facts.model, read_evidence(facts)
    gate = card_evidence.gate_section(evidence)
    parts = [
        f"# {_text(facts.title)}",
        "**Synthetic images, not for diagnosis.**",
        _what(facts, model),
        *([gate] if gate else []),
        "## Intended use\n\n" + _INTENDED,
        "## How to generate\n\n" + _how(model),
        "## Data\n\n" + _data(model),
        "## Training\n\n" + _training(facts),
        "## Evaluation\n\n" + _evaluation(facts),
        *card_evidence.study_sections(facts, evidence),
        "## Limits\n\n" + _limits(facts, evidence, model),
        "## Provenance\n\n"
        + _table(("What", "Hash"), [(name, f"`{value}`") for name, value in provenance.hashes(facts)]),
        f"Written by synthoma {_text(str(model.get('synthoma', '')))} from the files of the run.",
    ]
    return "\n\n".join(parts) + "\n"


_INTENDED = (
    "Research and teaching on synthetic medical images: augmenting training sets, testing software, sharing examples where "
    "real images cannot be shared. Whether the images serve such a purpose has to be shown for that purpose, on real images "
    "of patients that the model never saw.\n\n"
    "Not for diagnosis, not for decisions about a patient, not as a test set, and not as evidence of how a disease looks."
)


def _what(facts: Facts, model: Mapping[str, Any]) -> str:
    size = words.size_words(model["size"], int(model["channels"]))
    classes = f" of {len(model['classes'])} classes" if model["classes"] else ", without classes"
    lines = [
        f"A generator of synthetic images ({size}){classes}; family `{_code(str(model['family']))}`, latent length {model['latent']}."
    ]
    description = facts.recipe.get("description")
    if description:
        lines.append(_text(str(description)))
    lines.append("The discriminator is not part of it: it would tell more about who was in the training set.")
    return "\n\n".join(lines)


def _how(model: Mapping[str, Any]) -> str:
    label = str(model["classes"][0]) if model["classes"] else None
    option = f" --class {_shell(label)}" if label else ""
    argument = f", label={_shell(label, quote=chr(34))}" if label else ""
    names = f"\n\nClasses: {', '.join(f'`{_code(str(name))}`' for name in model['classes'])}." if label else ""
    return (
        f"```sh\nsynthoma generate MODEL{option} --count 100 --seed 7 --out images\n```\n\n"
        f'```python\nfrom synthoma.model import Model\n\nsamples = Model.load("MODEL").generate(100{argument}, seed=7)\n```\n\n'
        f"The same seed gives the same images, whatever the count.{names}"
    )


def _data(model: Mapping[str, Any]) -> str:
    data: Mapping[str, Any] = model.get("dataset", {})
    answers: dict[object, str] = {True: "allowed", False: "not allowed"}
    release = answers.get(data.get("may_release"), "unknown")
    terms = [
        ("Licence of the images", _text(str(data.get("licence") or "unknown"))),
        ("Citation", _text(str(data.get("citation") or "unknown"))),
        ("Release of synthetic images by those terms", release),
    ]
    lines = ["\n".join(f"- {name}: {value}" for name, value in terms)]
    counts = data.get("counts")
    if counts:
        names = dict.fromkeys(name for split in SPLITS for name in counts.get(split, {}))
        rows = [
            (
                _text(str(name)) if name and name != "None" else "all images",
                *(str(counts.get(s, {}).get(name, 0)) for s in SPLITS),
            )
            for name in names
        ]
        rows.append(("**all**", *(str(sum(counts.get(s, {}).values())) for s in SPLITS)))
        lines.append(_table(("Class", "Train", "Validation", "Test"), rows))
        lines.append(
            "Patients or groups, as far as they are known, were kept whole: none is in two of train, validation and test."
        )
    return "\n\n".join(lines)


def _training(facts: Facts) -> str:
    lines = training.budget(facts)
    return (
        "\n".join(f"- {name}: {_text(value)}" for name, value in lines)
        if lines
        else "The record of the training is not at hand."
    )


def _evaluation(facts: Facts) -> str:
    if facts.fidelity is None:
        return "Not measured yet. Until it is, nothing is known about how close its images are to real ones."
    counts = facts.fidelity["counts"]
    parts = [
        f"{words.plural(counts['synthetic'], 'synthetic image')} against {words.plural(counts['test'], 'real image')} of "
        f"{words.plural(counts['groups_test'], 'patient or group', 'patients or groups')} that training never saw. The floor is "
        "the same metric between real images of different groups; intervals are at 95 %. Values from different feature "
        "spaces do not compare."
    ]
    for space in metrics.space_views(facts.fidelity):
        parts.append(f"### Space: {_text(space.title)}\n\nProtocol `{_code(space.protocol)}`.")
        if space.rows:
            parts.append(_table(card_evidence.METRICS_HEAD, card_evidence.metric_rows(space.rows)))
        kid = next((row.cell.yardstick for row in space.rows if row.cell.yardstick), None)
        if kid and space.yardstick:
            parts.append(f"KID: {kid}. The yardstick is of {_text(space.yardstick)}.")
        parts += [f"{row.label}: {_text(row.cell.caveat)}" for row in space.rows if row.cell.caveat]
        parts += [f"Withheld: {_text(labels)} ({_text(reason)})." for labels, reason in space.withheld]
        if space.by_class and space.by_class.columns:
            parts.append(card_evidence.class_table(space.by_class, "By class"))
    return "\n\n".join(parts)


def _limits(facts: Facts, evidence: Evidence, model: Mapping[str, Any]) -> str:
    counts = model.get("dataset", {}).get("counts", {}).get("train", {})
    lines = [
        "It can show only what its training images showed, from the devices and the people they came from, and less of what was rare.",
        "The privacy audit speaks of the attacks that were tried and the images that were looked at, not of all there could be."
        if evidence.privacy is not None
        else "Fidelity says nothing about privacy: no study of copies or of membership is part of this card.",
        "Fine structures below a pixel of the training size do not exist in its images, and details may look right without being so.",
    ]
    if counts and len(counts) > 1:
        rare = min(counts, key=lambda name: counts[name])
        lines.append(
            f"The rarest class in training is {_text(words.spoken(str(rare)))} with {words.plural(counts[rare], 'image')}."
        )
    for warning in [*((facts.training or {}).get("warnings") or []), *((facts.fidelity or {}).get("warnings") or [])]:
        lines.append(_text(words.without_people(words.sentence(warning))))
    lines += [_text(line) for line in evidence.outdated]
    return "\n".join(f"- {line}" for line in lines)


def _shell(label: str, quote: str = "'") -> str:
    """A class name as one word of a command, or as a Python string (`quote` a double quote)."""
    if quote == '"':
        return '"' + label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
    return label if re.fullmatch(r"[\w.-]+", label) else "'" + label.replace("'", "'\\''").replace("\n", " ") + "'"
