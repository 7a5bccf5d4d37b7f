"""A run folder, and the few file operations that everything which must survive a kill is built from."""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from synthoma.errors import SynthomaError, TrainingError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill, sees either the old content or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise SynthomaError(f"cannot write {path}: {error.strerror or error}.") from error


def write_json(path: Path, value: object) -> None:
    """`write_atomically` of `value` as indented JSON."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in `path`; a `SynthomaError` names the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SynthomaError(f"{path} does not exist.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SynthomaError(f"{path} is damaged ({error}).") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def aside_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` to write into; it takes the place of `target` when the block ends without an error.

    An old `target` is removed only after the new folder is whole. Left-overs of a kill are removed on the next call.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        for path in [*aside.rglob("*"), aside]:
            _fsync(path)
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.rename(target, old)
        os.rename(aside, target)
        _fsync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Runs that this process holds, and the thread that does: a stage inside a workflow asks for the lock again.
_HELD: dict[Path, int] = {}


class Run:
    """Paths of a run folder, its lock and its statistics. Holds no state but the path."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    recipe_file = property(lambda self: self.path / "recipe.yaml")
    environment_file = property(lambda self: self.path / "environment.json")
    stats_file = property(lambda self: self.path / "stats.jsonl")
    samples = property(lambda self: self.path / "samples")
    checkpoints = property(lambda self: self.path / "checkpoints")
    model = property(lambda self: self.path / "model")
    evaluation = property(lambda self: self.path / "evaluation")
    private = property(lambda self: self.path / "private")
    own_dataset = property(lambda self: self.path / "dataset")
    training_file = property(lambda self: self.path / "training.json")
    stages_file = property(lambda self: self.path / "stages.json")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this thread, which may ask again. A kill releases it; anybody else gets a `TrainingError`."""
        place = self.path.resolve()
        if _HELD.get(place) == threading.get_ident():
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TrainingError(
                    f"{self.path} is in use by another synthoma process; wait for it or stop it."
                ) from error
            _HELD[place] = threading.get_ident()
            try:
                yield
            finally:
                del _HELD[place]

    def stats(self) -> list[dict[str, Any]]:
        """Rows of stats.jsonl; a last line that a kill cut short is left out."""
        if not self.stats_file.exists():
            return []
        rows = []
        for line in self.stats_file.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def append_stats(self, row: dict[str, Any]) -> None:
        with self.stats_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def cut_stats(self, images_seen: int) -> None:
        """Drop what was written after the checkpoint that is resumed from."""
        rows = [row for row in self.stats() if row["images_seen"] <= images_seen]
        write_atomically(self.stats_file, "".join(json.dumps(row) + "\n" for row in rows))


def environment() -> dict[str, Any]:
    """Versions and processor that results depend on. No host, user or path names."""
    import torch

    packages = {}
    for name in ("torch", "numpy", "scipy", "pillow", "safetensors", "pyarrow", "pydantic"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages[name] = metadata.version(name)
    return {
        "synthoma": metadata.version("synthoma"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda,
        "packages": packages,
        "byteorder": sys.byteorder,
    }


def processor_name() -> str:
    """Model name of the CPU, from Linux's /proc/cpuinfo where there is one."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
