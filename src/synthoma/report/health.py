"""What the health watch of a training found, as it is told on a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthoma.report import words
from synthoma.report.facts import Facts

MOST_FINDINGS = 12


@dataclass(frozen=True)
class Told:
    """A finding: what was seen and what one can do; `when` says at which number of images, and how often."""

    message: str
    advice: str
    when: str
    grave: bool


@dataclass(frozen=True)
class HealthView:
    """`findings`: the latest, in order; `left_out` earlier ones. `note` stands where there are none; both may be empty."""

    findings: list[Told]
    left_out: int
    ended: str
    note: str


def health_view(facts: Facts, public: bool) -> HealthView:
    """Findings with the same words are told once. On a public page without pseudonyms and paths."""
    together: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in facts.health:
        together.setdefault((str(row.get("message", "")), str(row.get("advice", ""))), []).append(row)
    told = [_told(message, advice, rows, public) for (message, advice), rows in together.items() if message]
    ended = str((facts.training or {}).get("ended") or "")
    # The sign before the colon is the watch's own name for it.
    reason = _clean(ended.partition(": ")[2] or ended, public)
    watched = "health" in (facts.recipe.get("training") or {}) and bool(facts.ticks)
    return HealthView(
        told[-MOST_FINDINGS:],
        max(0, len(told) - MOST_FINDINGS),
        f"The run was ended before its length. {reason}" if reason else "",
        "Nothing was found: no saturated discriminator, no collapse, no divergence." if watched and not told else "",
    )


def _told(message: str, advice: str, rows: list[Mapping[str, Any]], public: bool) -> Told:
    first, last = rows[0].get("images_seen"), rows[-1].get("images_seen")
    when = f"at {words.count(first)} images" if first is not None else ""
    if len(rows) > 1 and first is not None and last is not None:
        when = f"{len(rows)} times, from {words.count(first)} to {words.count(last)} images"
    actions = [str(row["action"]) for row in rows if row.get("action") not in (None, "", "none", "ended")]
    when = "; ".join(part for part in (when, *dict.fromkeys(actions)) if part)
    grave = any(row.get("severity") == "grave" for row in rows)
    return Told(_clean(message, public), _clean(advice, public), when, grave)


def _clean(text: str, public: bool) -> str:
    return words.without_people(text) if public else text
