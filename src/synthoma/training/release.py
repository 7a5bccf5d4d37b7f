"""From a finished training to the released model: which weights, and what is told about them."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

import synthoma
from synthoma.dataset import Dataset
from synthoma.model import Model
from synthoma.training import checkpoint
from synthoma.training.averaging import with_measured_statistics
from synthoma.training.session import Session


def release(session: Session) -> dict[str, Any]:
    """Write RUN/model from the best checkpoint by validation KID, or from the last average where none could be chosen.

    Returns what was released and why; the card is a short one until the report has been written.
    """
    best = session.state.counters.best
    average = session.state.average
    chosen: dict[str, Any] = {
        "images_seen": session.state.counters.images_seen,
        "why": "last average (too few validation images to choose)"
        if not session.validator.chooses
        else "last average (the run ended before a validation)",
    }
    if best:
        chosen = {"images_seen": best["images_seen"], "why": best["why"]}
    elif before := _before_the_end(session):
        chosen = {"images_seen": before, "why": "average of a checkpoint before training went wrong"}
    if chosen["images_seen"] != session.state.counters.images_seen:
        folder = session.run.checkpoints / f"{chosen['images_seen']:09d}"
        checkpoint.check_whole(folder)
        average.load_state_dict(load_file(folder / "average.safetensors"))
    moment = session.schedules.at(max(chosen["images_seen"] - 1, 0))
    growth = None if moment.level is None else {"level": moment.level, "fade": moment.fade}
    network = with_measured_statistics(average, session.codes, session.device)
    info = model_info(session, chosen["images_seen"], growth)
    Model.save(Path(session.run.model), network, info, short_card(info))
    return chosen


def _before_the_end(session: Session) -> int | None:
    """Images seen at the checkpoint before the last, of a run that ended because something went wrong; else None."""
    ended = session.state.counters.ended
    if ended is None or ended.startswith("no_progress"):
        return None
    earlier = [int(path.name) for path in checkpoint.checkpoint_folders(session.run.checkpoints)]
    earlier = [images_seen for images_seen in earlier if images_seen < session.state.counters.images_seen]
    # The newest of them may have been written when it had already begun to go wrong.
    return earlier[max(len(earlier) - 2, 0)] if earlier else None


def model_info(session: Session, images_seen: int, growth: dict[str, Any] | None) -> dict[str, Any]:
    """What model.json says: architecture, conditions, encoding, and where it comes from.

    growth: level and fade of a growing generator when its weights were taken, else None.
    """
    dataset, recipe = session.dataset, session.recipe
    counts = dataset.info["counts"]["train"]
    return {
        "name": recipe.name,
        "title": recipe.title,
        "family": recipe.model.family,
        "networks": recipe.model.model_dump(mode="json"),
        "conditions": session.conditions.to_json(),
        "growth": growth,
        "classes": session.classes,
        "class_counts": counts if session.classes else {},
        "channels": dataset.channels,
        "size": list(dataset.size),
        "latent": recipe.model.latent,
        "encoding": {**dataset.info["encoding"], **_spacing(dataset)},
        "images_seen": images_seen,
        "recipe_hash": recipe.part_hash(),
        "dataset": {
            "content": dataset.content_hash,
            "cohort": dataset.cohort_hash,
            "counts": dataset.info["counts"],
            **dataset.info["data"],
        },
        "synthoma": synthoma.__version__,
    }


def _spacing(dataset: Dataset) -> dict[str, Any]:
    """The spacing of the training images, where all have the same (to a thousandth): synthetic ones have it too."""
    every = dataset.column("spacing")
    known = [every[row] for row in dataset.rows("train")]
    rounded = {None if spacing is None else tuple(round(length, 3) for length in spacing) for spacing in known}
    return {"spacing": list(known[0])} if len(rounded) == 1 and known[0] is not None else {}


def short_card(info: dict[str, Any]) -> str:
    """The model card as far as training alone can write it."""
    classes = f"Classes: {', '.join(info['classes'])}.\n\n" if info["classes"] else ""
    return (
        f"# {info['title'] or info['name']}\n\nA generator of synthetic images ({'x'.join(map(str, info['size']))}, "
        f"{info['channels']} channel(s)), trained with synthoma {info['synthoma']}.\n\n{classes}"
        "**Synthetic images, not for diagnosis.** Not evaluated yet: `synthoma evaluate` measures it, `synthoma report` "
        "completes this card.\n"
    )
