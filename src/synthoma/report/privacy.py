"""The privacy audit: copies with their bound, and attacks that never stand without their control. No real pixel but
in `audit_pairs`, which is for the private page."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from synthoma.report import words
from synthoma.report.charts import Strip, interval_strip
from synthoma.report.facts import Facts, shown_pixels, shown_window
from synthoma.report.images import MOST_PAIRS, Captioned, Pair, tile
from synthoma.run import read_json

ATTACKS = {
    "features": "Nearest synthetic image, in features",
    "pixels": "Nearest synthetic image, in pixels",
    "discriminator": "Score of the discriminator",
}
NEVER_SHIPPED = "The discriminator never leaves the run; this is what would leak if one shipped it."


@dataclass(frozen=True)
class ControlledRow:
    """A figure beside the same figure where there is nothing to find. `reason` is filled where it is withheld."""

    label: str
    direction: str
    reason: str | None = None
    value: str = ""
    interval: str = ""
    control: str = ""
    control_interval: str = ""
    excess: str = ""
    rate: str = ""
    strip: Markup | None = None
    note: str = ""


@dataclass(frozen=True)
class PrivacyView:
    """found: whether there are copies; copies: (term, words); closeness and attacks: tables; protocol: hash."""

    found: bool
    sentence: str
    copies: list[tuple[str, str]]
    closeness: list[ControlledRow]
    attacks: list[ControlledRow]
    warnings: list[str]
    protocol: str


def privacy_view(result: Mapping[str, Any] | None) -> PrivacyView | None:
    """None where no audit was made."""
    if result is None:
        return None
    copies = result["copies"]
    return PrivacyView(
        bool(copies["found"]),
        _sentence(copies, result["counts"]),
        _copies(copies),
        [
            _closeness("Authenticity", "authenticity", result["authenticity"]),
            _closeness("C_T", "c_t", result["c_t"]),
        ],
        [_attack(name, one) for name, one in result["membership"].items()],
        [words.without_people(words.sentence(line)) for line in result.get("warnings", [])],
        str(result["protocol"]["hash"]),
    )


def _sentence(copies: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    rate, n = copies["rate"], words.plural(copies["n"], "synthetic image")
    among = f"{words.plural(counts['train'], 'training image')} of {words.plural(counts['groups_train'], 'patient or group', 'patients or groups')}"
    if copies["found"]:
        return (
            f"{words.plural(copies['found'], 'confirmed copy', 'confirmed copies')} among {n}, searched against {among}: "
            f"{words.share(rate['value'])} (95 % interval {words.share(rate['low'])} to {words.share(rate['high'])})."
        )
    return f"No copy was found among {n}, searched against {among}. With that many looked at, at most {_at_most(rate['upper_95'])} are copies."


def _at_most(share: float) -> str:
    """A limit as per cent with two digits, rounded up: rounded down it would promise too much."""
    digits = 1 - math.floor(math.log10(100 * share)) if share > 0 else 0
    percent = math.ceil(round(100 * share * 10**digits, 6)) / 10**digits
    return f"{words.number(percent, 2)}\u202f%"


def _copies(copies: Mapping[str, Any]) -> list[tuple[str, str]]:
    control, thresholds, alike = copies["control"], copies["thresholds"], copies["similarity"]
    made, held = alike["synthetic"], alike["held_out"]
    recall = ", ".join(f"{kind} {words.share(share)}" for kind, share in copies["recall"].items())
    rows = [
        (
            "Control",
            f"{words.count(control['found'])} of {words.count(control['n'])} held-out real images would be called copies",
        ),
        ("Copies made on purpose that are found", recall),
        ("Similarity from which a pair is a copy", words.fixed(thresholds["similarity"], 3)),
        *_lead(thresholds),
        (
            "Largest similarity to a training image",
            f"{words.fixed(made['largest'], 3)}; held-out real images {words.fixed(held['largest'], 3)}",
        ),
        (
            "Median similarity to the nearest one",
            f"{words.fixed(made['median'], 3)}; held-out real images {words.fixed(held['median'], 3)}",
        ),
    ]
    if copies.get("without_structure"):
        rows.append(("Images of one brightness", words.count(copies["without_structure"])))
    return rows


def _lead(thresholds: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Audits of the first version have none."""
    if "lead" not in thresholds:
        return []
    told = f"{words.fixed(thresholds['lead'], 3)} (0: another patient's image is as near; 1: none is near)"
    return [("Or its lead over the images of other patients", told)]


def _closeness(label: str, name: str, result: Mapping[str, Any]) -> ControlledRow:
    reason = _withheld(result)
    if reason:
        return ControlledRow(label, "higher", reason)
    control = result["control"]
    ends = [result["low"], result["high"], control["low"], control["high"]]
    axis = (0.0, 1.0) if name == "authenticity" else (min(0.0, *ends), max(0.0, *ends) or 1.0)
    notes = {
        "authenticity": "share of synthetic images that are no nearer to a training image than that one is to those of other patients",
        "c_t": "below 0: nearer to the training images than held-out real ones are",
    }
    return _controlled(label, str(result["direction"]), result, control, "value", axis, note=notes[name])


def _attack(name: str, result: Mapping[str, Any]) -> ControlledRow:
    label = ATTACKS.get(name, words.spoken(name))
    note = NEVER_SHIPPED if name == "discriminator" else ""
    reason = _withheld(result)
    if reason:
        return ControlledRow(label, "lower", reason, note=note)
    excess, rate = result["excess"], result["true_positive_rate_at_1_percent"]
    told = (
        f"withheld: {rate['reason']}"
        if rate.get("kind") == "withheld"
        else f"{words.share(rate['value'])} ({words.share(rate['low'])} to {words.share(rate['high'])}); control {words.share(rate['control'])}"
    )
    return _controlled(
        label,
        "lower",
        result,
        result["control"],
        "auc",
        (0.3, 1.0),
        excess=f"{_signed(excess['value'])} ({_signed(excess['low'])} to {_signed(excess['high'])})",
        rate=told,
        note=note,
    )


def _withheld(result: Mapping[str, Any]) -> str | None:
    """Why there is no number to show; None where there is one, with its control."""
    if result["kind"] == "withheld":
        return str(result["reason"])
    return None if result.get("control") else "its control is missing, and without it the number says nothing"


def _controlled(
    label: str,
    direction: str,
    arm: Mapping[str, Any],
    control: Mapping[str, Any],
    key: str,
    axis: tuple[float, float],
    **more: str,
) -> ControlledRow:
    def told(one: Mapping[str, Any]) -> tuple[str, str]:
        return words.fixed(one[key], 2), f"{words.fixed(one['low'], 2)} – {words.fixed(one['high'], 2)}"

    value, interval = told(arm)
    control_value, control_interval = told(control)
    title = f"{label}: {value}, interval {interval}; control {control_value}, interval {control_interval}"
    ends = [(one["low"], one[key], one["high"]) for one in (arm, control)]
    strip = interval_strip(Strip(ends[0], ends[1], axis, None, title))
    return ControlledRow(label, direction, None, value, interval, control_value, control_interval, strip=strip, **more)


def _signed(value: float) -> str:
    text = words.fixed(value, 3)
    return text if text.startswith(words.MINUS) else f"+{text}"


def audit_pairs(facts: Facts, privacy: Mapping[str, Any] | None) -> list[Pair]:
    """Confirmed copies, then the most similar other pairs, synthetic beside real. Private.

    None are shown where the audit, its pairs and the saved synthetic images do not belong together.
    """
    file = facts.run.private / "pairs.json"
    made, dataset = facts.synthetic, facts.dataset
    if privacy is None or made is None or dataset is None or not file.is_file():
        return []
    known = read_json(file)
    if known.get("protocol") != privacy["protocol"]["hash"] or privacy["counts"]["synthetic"] != len(made.images):
        return []
    pairs = [pair for pair in known["pairs"] if pair["copy"]]
    pairs += [pair for pair in known["pairs"] if not pair["copy"]][: max(0, MOST_PAIRS - len(pairs))]
    result = []
    for pair in pairs:
        number, row = int(pair["synthetic"]), int(pair["train_row"])
        if not (0 <= number < len(made.images) and 0 <= row < len(dataset)):
            continue
        real = shown_pixels(dataset.images[[row]], shown_window(dataset))[0]
        distance = pair["feature_distance"]
        told = f"similarity {words.fixed(pair['similarity'], 3)}"
        told += f", {words.fixed(distance, 2)} in features" if distance is not None else ""
        result.append(
            Pair(
                Captioned(tile(made.images[number], "synthetic image"), "Synthetic", "copy" if pair["copy"] else ""),
                Captioned(tile(real, "real image"), "Training image", _moved(pair["alignment"])),
                told,
            )
        )
    return result


def _moved(alignment: Mapping[str, Any]) -> str:
    """How the training image was moved to lie on the synthetic one."""
    parts = []
    if list(alignment["axes"]) != sorted(alignment["axes"]):
        parts.append("turned")
    if any(alignment["flips"]):
        parts.append("flipped")
    if any(alignment["shift"]):
        parts.append("moved by " + ", ".join(f"{n:+d}".replace("-", words.MINUS) for n in alignment["shift"]) + " px")
    return f"compared {', '.join(parts)}" if parts else "compared as it is"
