"""What this is and what came out, in plain words and without a verdict."""

from dataclasses import dataclass
from typing import Any

from synthoma.report import words
from synthoma.report.facts import Facts
from synthoma.report.metrics import decimals as metric_decimals
from synthoma.report.metrics import metric_label

FAMILIES = {
    "mlp": "fully connected GAN",
    "cgan": "conditional GAN",
    "dcgan": "DCGAN",
    "wgan": "Wasserstein GAN with clipped weights",
    "wgan-gp": "Wasserstein GAN with gradient penalty",
    "pggan": "progressively grown GAN",
    "style": "style-based GAN",
    "r3": "relativistic GAN (R3)",
}


@dataclass(frozen=True)
class Figure:
    """A number that stands at the head of the page, with what it is and what it must be read with."""

    value: str
    what: str
    note: str = ""


def sentences(facts: Facts) -> list[str]:
    """A few sentences, each true of the run as it is now."""
    return [line for line in (_made(facts), _trained(facts), _measured(facts)) if line]


def figures(facts: Facts) -> list[Figure]:
    """Up to four numbers for the head of the page."""
    result = []
    if facts.size is not None and facts.channels is not None:
        note = words.plural(len(facts.classes), "class", "classes") if facts.classes else "no classes"
        result.append(Figure(" × ".join(map(str, facts.size)), "voxels" if len(facts.size) == 3 else "pixels", note))
    counts = _counts(facts)
    if counts.get("train"):
        groups = facts.dataset.info["groups"].get("train") if facts.dataset is not None else None
        note = f"of {words.plural(groups, 'patient or group', 'patients or groups')}" if groups else ""
        if not groups_known(facts):
            note = "patients unknown"
        result.append(Figure(words.count(counts["train"]), "real training images", note))
    if facts.training is not None:
        note = f"in {words.duration(facts.training['seconds'])} on {facts.training.get('device', 'an unknown device')}"
        result.append(Figure(words.count(facts.training["images_seen"]), "real images seen in training", note))
    first = _first_kid(facts)
    if first:
        space, kid = first
        decimals = metric_decimals("kid", kid)
        interval = f"95 % {words.fixed(kid['low'], decimals)} to {words.fixed(kid['high'], decimals)}"
        floor = words.fixed(kid["floor"]["value"], decimals)
        result.append(
            Figure(words.fixed(kid["value"], decimals), f"KID ({space})", f"{interval}; real vs real {floor}")
        )
    return result


def _made(facts: Facts) -> str:
    family = str((facts.recipe.get("model") or {}).get("family", "GAN"))
    family = FAMILIES.get(family, family)
    if facts.size is None or facts.channels is None:
        return f"This run has not made a model yet; its recipe asks for a {family}."
    pictures = words.size_words(facts.size, facts.channels)
    of = f" of {len(facts.classes)} classes" if facts.classes else ", without classes"
    if facts.model is None:
        return f"A {family} is to make images ({pictures}){of}. There is no released model yet."
    return f"A {family} makes images ({pictures}){of}."


def groups_known(facts: Facts) -> bool:
    """Whether the source named patients or groups; where not, each image counts as its own."""
    return facts.dataset is None or facts.dataset.info["cohort"].get("groups_known", True)


def _trained(facts: Facts) -> str:
    training, counts = facts.training, _counts(facts)
    if training is None:
        return "It has not been trained."
    state = "was trained" if training.get("finished") else "is still in training (not finished): so far it was trained"
    on = f" on {words.plural(counts['train'], 'real image')}" if counts.get("train") else ""
    aside = ""
    if counts.get("test"):
        others = " of other patients or groups" if groups_known(facts) else ""
        aside = f" {words.plural(counts['test'], 'real image')}{others} were kept aside for the measurements."
    seen = f"saw {words.count(training['images_seen'])} images in {words.duration(training['seconds'])}"
    return f"It {state}{on} and {seen}.{aside}"


def _measured(facts: Facts) -> str:
    if facts.fidelity is None:
        return "It has not been measured: nothing is known about how real its images look or what they miss."
    first = _first_kid(facts)
    if first is None:
        return "Its measurements are withheld; the reasons stand under Metrics."
    space, kid = first
    decimals = metric_decimals("kid", kid)

    def span(low: float, high: float) -> str:
        return f"{words.fixed(low, decimals)} to {words.fixed(high, decimals)}"

    floor = kid["floor"]
    meet = kid["low"] <= floor["high"] and floor["low"] <= kid["high"]
    text = (
        f"Against them its {metric_label('kid', space)} ({space}) is {words.fixed(kid['value'], decimals)} "
        f"(95 % interval {span(kid['low'], kid['high'])}), where other real images reach "
        f"{words.fixed(floor['value'], decimals)} ({span(floor['low'], floor['high'])}); "
        f"the two intervals {'overlap' if meet else 'do not overlap'}."
    )
    if kid.get("yardstick"):
        value = kid["yardstick"]["value"]
        text += f" For scale: {kid['yardstick']['what']} have {words.number(value)}"
        text += ", within the interval of the floor." if floor["low"] <= value <= floor["high"] else "."
    return text


def _counts(facts: Facts) -> dict[str, int]:
    counts = (
        facts.dataset.info["counts"]
        if facts.dataset is not None
        else (facts.model or {}).get("dataset", {}).get("counts", {})
    )
    return {split: sum(of.values()) for split, of in counts.items()}


def _first_kid(facts: Facts) -> tuple[str, dict[str, Any]] | None:
    """KID over all images in the first space that has it."""
    for name, space in (facts.fidelity or {}).get("spaces", {}).items():
        kid = space["all"].get("kid", {})
        if kid.get("kind") == "estimate":
            return name, kid
    return None
