"""What is done about the findings of the health watch: say it, end the run, or go back and go on more slowly."""

import math
from collections.abc import Mapping

from synthoma.errors import TrainingError
from synthoma.training import checkpoint, samples
from synthoma.training.health import Finding
from synthoma.training.session import Session

SLOWER = 0.5


def act(session: Session) -> bool:
    """Deal with the findings since the last call; True where the run went back to an earlier checkpoint."""
    findings, session.findings = session.findings, []
    settings, counters = session.recipe.training.health, session.state.counters
    for finding in findings:
        grave = finding.severity == "grave"
        action = settings.action if grave else "warn"
        if finding.sign == "no_progress":
            action = "stop"
        if action == "rollback" and _go_back(session, finding):
            return True
        if action in ("stop", "rollback"):
            counters.ended = f"{finding.sign}: {finding.message}"
        tell(session, finding, "ended" if counters.ended else "none")
    return False


def tell(session: Session, finding: Finding, action: str) -> None:
    """Write a finding into the log and show it."""
    row = {
        "kind": "health",
        "images_seen": session.state.counters.images_seen,
        "sign": finding.sign,
        "severity": finding.severity,
        "message": finding.message,
        "advice": finding.advice,
        "action": action,
    }
    session.log(row, math.ceil(session.recipe.training.kimg * 1000))
    session.observer.warn(f"{finding.message} {finding.advice}")


def reconsider(session: Session) -> None:
    """A run that its health ended stays ended when it is resumed, unless its recipe no longer asks for that."""
    counters, settings = session.state.counters, session.recipe.training.health
    if counters.ended is None:
        return
    sign = counters.ended.partition(":")[0]
    if sign == "no_progress":
        stays = settings.patience is not None and session.health.since_best >= settings.patience
    else:
        stays = settings.action != "warn"
    if not stays:
        counters.ended = None
        session.health.forget(sign)
        session.observer.say(f"The run was ended ({sign}) and goes on, as training.health wants now.")


def not_a_number(session: Session, subject: str, values: Mapping[str, float] | None = None) -> None:
    """`subject` (with these values) is no number: go back where the recipe says so, else raise `TrainingError`."""
    named = "".join(
        f"{', ' if place else ': '}{name} = {value}" for place, (name, value) in enumerate((values or {}).items())
    )
    counters = session.state.counters
    finding = Finding(
        "divergence",
        f"{subject} is no number any more at {counters.images_seen / 1000:g} kimg (iteration {counters.iteration}{named}).",
        "Lower training.learning_rate (half of it is a good try), or use training.precision=fp32, in a new --out.",
        "grave",
    )
    if session.recipe.training.health.action == "rollback" and _go_back(session, finding):
        return
    saved = checkpoint.checkpoint_folders(session.run.checkpoints)
    kept = (
        f"The last good checkpoint is {saved[-1].name} ({int(saved[-1].name) / 1000:g} kimg)"
        if saved
        else "There is no checkpoint yet"
    )
    raise TrainingError(f"{finding.message} {kept}. {finding.advice}")


def _go_back(session: Session, finding: Finding) -> bool:
    """Load the best checkpoint (or the one before the last) at a lower rate; False where that is not possible any more."""
    counters, settings, world = session.state.counters, session.recipe.training.health, session.world
    rollbacks, lowered, seen = counters.rollbacks + 1, counters.lowered * SLOWER, counters.images_seen
    folders = [path for path in checkpoint.checkpoint_folders(session.run.checkpoints) if int(path.name) < seen]
    if rollbacks > settings.rollbacks or not folders:
        return False
    best = counters.best["images_seen"] if counters.best else None
    chosen = next((path for path in folders if int(path.name) == best), folders[max(len(folders) - 2, 0)])
    world.wait()
    checkpoint.load_checkpoint(chosen, session.state)
    # Nobody may still be reading what the first process writes anew below.
    world.wait()
    counters = session.state.counters
    counters.rollbacks = rollbacks
    session.state.lower_rates(lowered)
    session.restart_watches()
    if world.first:
        checkpoint.remove_later(session.run.checkpoints, counters.images_seen)
        samples.remove_later(session.run.samples, counters.images_seen)
        session.run.cut_stats(counters.images_seen)
        checkpoint.save_checkpoint(session.run.checkpoints, session.state)
    world.wait()
    tell(session, finding, f"went back from {seen / 1000:g} kimg; rates now {lowered:g} of the recipe's")
    return True
