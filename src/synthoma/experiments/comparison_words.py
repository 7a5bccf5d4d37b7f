"""What a comparison says in words and tables, on a terminal and on a page alike."""

from collections.abc import Mapping
from typing import Any

from synthoma.experiments.comparison import Comparison, Entry
from synthoma.report import provenance, training, words
from synthoma.report.metrics import decimals, metric_label, yardstick_words

# Sections and keys of a recipe that say what a run is called, not what it does.
_NAMES = ("name", "title", "description")


def cost_table(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """(term, one cell a run): what each run is and what it cost."""
    rows: list[tuple[str, list[str]]] = []
    entries = comparison.entries

    def row(term: str, cells: list[str]) -> None:
        rows.append((term, cells))

    row("Family", [entry.family for entry in entries])
    row("Parameters, generator", [_parameters(entry, "generator") for entry in entries])
    row("Parameters, discriminator", [_parameters(entry, "discriminator") for entry in entries])
    row("Real images seen", [words.count(entry.training["images_seen"]) for entry in entries])
    row("Updates, generator", [words.count(entry.updates[0]) for entry in entries])
    row("Updates, discriminator", [words.count(entry.updates[1]) for entry in entries])
    row("Time", [words.duration(entry.training["seconds"]) for entry in entries])
    row("Mean speed", [_speed(entry) for entry in entries])
    row("Machine", [entry.machine for entry in entries])
    row("Released weights", [training.released(entry.facts) for entry in entries])
    return rows


def metric_cells(comparison: Comparison, space: str) -> list[tuple[str, list[str]]]:
    """(metric, one cell a run) of a feature space as plain text: value with interval, then floor and yardstick."""
    rows: list[tuple[str, list[str]]] = []
    for metric in comparison.entries[0].results(space):
        results = [entry.results(space)[metric] for entry in comparison.entries]
        if all(result["kind"] != "estimate" for result in results):
            continue
        first = next(result for result in results if result["kind"] == "estimate")
        label = f"{metric_label(metric, space)} {'↓' if first['direction'] == 'lower' else '↑'}"
        rows.append((label, [_estimate(metric, result) for result in results]))
    return rows


def kid_of(comparison: Comparison, entry: Entry) -> tuple[str, Mapping[str, Any]] | None:
    """Space and estimate of the KID in the first space in which all runs have one."""
    for space in comparison.spaces:
        found = [other.results(space).get("kid", {}) for other in comparison.entries]
        if all(result.get("kind") == "estimate" for result in found):
            return space, entry.results(space)["kid"]
    return None


def kid_line(comparison: Comparison, entry: Entry) -> str:
    """`KID 0.182 (0.151 to 0.213)`, or that it is withheld."""
    known = kid_of(comparison, entry)
    return f"KID {_interval('kid', known[1])}" if known else "KID withheld"


def kid_scale(entry: Entry, space: str) -> str | None:
    """How far a run's KID is from the floor on the scale of the yardstick; None where there is none."""
    result = entry.results(space).get("kid", {})
    return yardstick_words(result) if result.get("kind") == "estimate" else None


def sentences(comparison: Comparison) -> list[str]:
    """Which run has the lowest KID, and what its interval allows to say. No verdict."""
    entries = comparison.entries
    first = [
        f"{len(entries)} runs, trained on the same data with the same split and measured under one protocol: their numbers may "
        "stand side by side."
    ]
    known = [(entry, kid_of(comparison, entry)) for entry in entries]
    found = [(entry, kid) for entry, kid in known if kid is not None]
    if len(found) < len(entries):
        return [*first, "The KID is withheld in at least one run; the reasons stand in its report."]
    best, (space, lowest) = min(found, key=lambda pair: float(pair[1][1]["value"]))
    near = [e.name for e, (_, kid) in found if e is not best and kid["low"] <= lowest["high"]]
    apart = [e.name for e, (_, kid) in found if e is not best and kid["low"] > lowest["high"]]
    lines = [f"The lowest KID ({space}) is that of {best.name}: {_estimate('kid', lowest)}."]
    if near:
        lines.append(
            f"The {_interval_of(near)} of {_listed(near)} {_verb(near, 'overlaps', 'overlap')} with its interval."
        )
    if apart:
        lines.append(f"The {_interval_of(apart)} of {_listed(apart)} {_verb(apart, 'lies', 'lie')} above its interval.")
    lines.append(
        "Each run is one draw of its seed: another seed of the same recipe may give another order. All runs meet the same test "
        "images, whose chance they share."
    )
    return [*first, " ".join(lines)]


def notes(comparison: Comparison) -> list[str]:
    """What must be kept in mind when the runs are looked at side by side."""
    entries = comparison.entries
    found = [
        f"{e.name} is not finished: its training goes on, or was stopped."
        for e in entries
        if not e.training.get("finished")
    ]
    found += [
        f"{e.name} was ended before its length: {e.training['ended']}" for e in entries if e.training.get("ended")
    ]
    if len({entry.machine for entry in entries}) > 1:
        found.append("The runs were made on different machines or in different precision: their times do not compare.")
    seen = [int(entry.training["images_seen"]) for entry in entries]
    if max(seen) > 1.05 * min(seen):
        found.append("The runs saw different numbers of images: part of any difference is the budget.")
    if len({entry.model.get("latent") for entry in entries}) > 1:
        found.append("The lengths of the latents differ: the grids of samples do not show the same latents.")
    return [words.without_people(line) for line in found]


def what_differs(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """(key, one cell a run) of the recipes, where they differ; files of the owner's machine are not named."""
    flat = []
    for entry in comparison.entries:
        sections = provenance.settings(entry.facts.recipe, public=True)
        flat.append(
            {f"{section}.{key}": value for section, lines in sections for key, value in lines if key not in _NAMES}
        )
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = [(key.removeprefix("recipe."), [each.get(key, "(not in this recipe)") for each in flat]) for key in keys]
    return [(key, cells) for key, cells in rows if len(set(cells)) > 1]


def _parameters(entry: Entry, network: str) -> str:
    known = entry.training.get("parameters", {}).get(network)
    return words.count(known) if known is not None else "unknown"


def _speed(entry: Entry) -> str:
    speed = entry.images_per_second
    return f"{words.number(speed)} images/s" if speed is not None else "not measured"


def _interval(metric: str, result: Mapping[str, Any]) -> str:
    places = decimals(metric, result)
    value, low, high = (words.fixed(result[key], places) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _estimate(metric: str, result: Mapping[str, Any]) -> str:
    """A value never without its interval and its floor."""
    if result["kind"] != "estimate":
        return f"withheld: {result['reason']}"
    floor = result["floor"]
    places = decimals(metric, result)
    text = f"{_interval(metric, result)}, floor {words.fixed(floor['value'], places)}"
    scale = yardstick_words(result)
    return f"{text}; {scale}" if scale else text


def _interval_of(names: list[str]) -> str:
    return "interval" if len(names) == 1 else "intervals"


def _verb(names: list[str], one: str, many: str) -> str:
    return one if len(names) == 1 else many


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
