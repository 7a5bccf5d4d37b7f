"""Checkpoints that survive a kill at any moment and a flipped byte on disk.

A checkpoint is a folder: safetensors of the networks and optimizers, state.json, and manifest.json with the SHA-256
of each. It is written aside, fsynced and renamed; loading walks back to the newest whole one. No pickle.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from synthoma.errors import CheckpointError, SynthomaError
from synthoma.run import aside_folder, file_sha256, read_json, write_json
from synthoma.training.state import State

SCHEMA_VERSION = 2


def save_checkpoint(folder: Path, state: State) -> Path:
    """Write `folder/<images seen>`; on failure (disk full) what was there before stays as it was."""
    target = folder / f"{state.counters.images_seen:09d}"
    try:
        with aside_folder(target) as aside:
            files = {}
            for name, tensors in state.tensors().items():
                file = aside / f"{name}.safetensors"
                save_file(tensors, file)
                files[file.name] = file_sha256(file)
            write_json(aside / "state.json", {"schema": SCHEMA_VERSION, **dataclasses.asdict(state.counters)})
            files["state.json"] = file_sha256(aside / "state.json")
            write_json(aside / "manifest.json", {"schema": SCHEMA_VERSION, "files": files})
    except (OSError, SafetensorError, SynthomaError) as error:
        earlier = checkpoint_folders(folder)
        kept = f"The earlier checkpoint {earlier[-1].name} is whole" if earlier else "There is no earlier checkpoint"
        raise CheckpointError(
            f"cannot save the checkpoint {target}: {error}. {kept}; free some space and run the same command again."
        ) from error
    return target


def checkpoint_folders(folder: Path) -> list[Path]:
    """Checkpoints in ascending order of images seen; folders that are being written are no checkpoints."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def load_checkpoint(path: Path, state: State) -> None:
    """Check every file of one checkpoint against its manifest, then load it. Raises `CheckpointError`."""
    check_whole(path)
    saved = read_json(path / "state.json")
    if saved.pop("schema") != SCHEMA_VERSION:
        raise CheckpointError(f"{path} was written by another version of synthoma.")
    tensors = {name: load_file(path / f"{name}.safetensors") for name in state.tensors()}
    try:
        state.load(tensors, saved)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit the networks of this recipe: {error}") from error


def check_whole(path: Path) -> None:
    """Raise `CheckpointError` unless every file has the SHA-256 that the manifest names."""
    try:
        manifest = read_json(path / "manifest.json")
        for name, digest in manifest["files"].items():
            if not (path / name).is_file():
                raise CheckpointError(f"{path}: {name} is missing.")
            if file_sha256(path / name) != digest:
                raise CheckpointError(f"{path}: {name} is damaged (its SHA-256 differs from the manifest).")
    except CheckpointError:
        raise
    except (SynthomaError, KeyError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def load_newest(folder: Path, state: State, say: Callable[[str], None]) -> Path | None:
    """Load the newest whole checkpoint; each one that is rejected is said. None where there is none at all.

    Raises `CheckpointError` where there are checkpoints but none is whole.
    """
    found = checkpoint_folders(folder)
    for path in reversed(found):
        try:
            check_whole(path)
        except CheckpointError as error:
            say(f"Checkpoint {path.name} is rejected: {error} Trying an older one.")
            continue
        load_checkpoint(path, state)
        return path
    if found:
        raise CheckpointError(
            f"none of the {len(found)} checkpoints in {folder} is whole; remove the folder to start anew."
        )
    return None


def remove_old(folder: Path, keep: int, best: int | None) -> None:
    """Keep the latest `keep` checkpoints and the best one."""
    for path in checkpoint_folders(folder)[:-keep]:
        if best is None or int(path.name) != best:
            shutil.rmtree(path)


def remove_later(folder: Path, images_seen: int) -> None:
    """Remove what lies after the checkpoint that was resumed from: rejected ones would be tried again each time."""
    for path in checkpoint_folders(folder):
        if int(path.name) > images_seen:
            shutil.rmtree(path)
