"""What the training cost, on what, and what was released of it."""

from collections.abc import Mapping
from typing import Any

from synthoma.report import words
from synthoma.report.facts import Facts


def budget(facts: Facts) -> list[tuple[str, str]]:
    """What the run cost and on what: (term, words)."""
    training = facts.training
    if training is None:
        return []
    seen, seconds = training["images_seen"], training["seconds"]
    train = _train_images(facts)
    result = [
        ("State", _state(training)),
        (
            "Real images seen",
            words.count(seen) + (f" ({words.number(seen / train)} times the training set)" if train else ""),
        ),
        ("Updates of the generator", words.count(training["iteration"])),
        ("Time", words.duration(seconds)),
        ("Mean speed", f"{words.number(seen / seconds)} images/s" if seconds > 0 else "not measured"),
        ("Device", _device(training)),
        ("Precision", f"{training.get('precision', 'unknown')}: {training.get('precision_reason', 'no reason noted')}"),
    ]
    for part, n in training.get("parameters", {}).items():
        result.append((f"Parameters, {part}", words.count(n)))
    memory = [row["memory_mib"] for row in facts.ticks if row.get("memory_mib") is not None]
    if memory:
        result.append(("Peak memory", f"{words.count(max(memory))} MiB"))
    waits = [row["data_wait_share"] for row in facts.ticks if row.get("data_wait_share") is not None]
    if waits:
        result.append(("Waiting for data", f"{words.share(sum(waits) / len(waits))} of the time"))
    result.append(("Released weights", released(facts)))
    return result


def released(facts: Facts) -> str:
    """Which state of the generator is in model/, and why that one."""
    training = facts.training or {}
    chosen = training.get("released") or training.get("best")
    if facts.model is None:
        return "none yet"
    seen = facts.model.get("images_seen", (chosen or {}).get("images_seen"))
    why = (chosen or {}).get("why", "last average")
    at = f"the average at {words.count(seen)} images" if seen is not None else "the average"
    return f"{at}: {why}"


def _device(training: Mapping[str, Any]) -> str:
    processes = int(training.get("processes", 1))
    return str(training.get("device", "unknown")) + (f", {processes} processes" if processes > 1 else "")


def _state(training: Mapping[str, Any]) -> str:
    if training.get("ended"):
        return "ended before its length"
    return "finished" if training.get("finished") else "not finished"


def _train_images(facts: Facts) -> int:
    counts = (
        facts.dataset.info["counts"]
        if facts.dataset is not None
        else (facts.model or {}).get("dataset", {}).get("counts", {})
    )
    return sum(counts.get("train", {}).values())
