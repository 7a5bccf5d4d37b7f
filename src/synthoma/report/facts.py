"""The files of a run as a report reads them. What is not there is None; a damaged file is a `SynthomaError`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.dataset import Dataset
from synthoma.errors import SynthomaError
from synthoma.pictures import to_uint8
from synthoma.recipe import read_values
from synthoma.run import Run, read_json

# Values that are shown as black and white.
Window = tuple[float, float]
FEW = 64  # images whose range stands for that of all, where no window was declared


@dataclass(frozen=True)
class Synthetic:
    """The evaluated synthetic images [n, c, *spatial]: `values` as they were measured, `images` as they are drawn (uint8).

    labels: class indices [n] (-1: none).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    values: NDArray[np.generic]


@dataclass(frozen=True)
class Facts:
    """All that a page may show, still as the stages wrote it."""

    run: Run
    recipe: dict[str, Any]
    environment: dict[str, Any] | None
    training: dict[str, Any] | None
    ticks: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    health: list[dict[str, Any]]
    model: dict[str, Any] | None
    fidelity: dict[str, Any] | None
    synthetic: Synthetic | None
    grids: list[Path]
    progress: Path | None
    neighbours: dict[str, Any] | None
    dataset: Dataset | None
    window: Window | None

    @property
    def title(self) -> str:
        return str(self.recipe.get("title") or self.recipe.get("name") or "Synthoma run")

    @property
    def classes(self) -> list[str]:
        """Classes that the model can be asked for; before there is a model, those of the data."""
        if self.model is not None:
            return [str(name) for name in self.model["classes"]]
        return self.dataset.classes if self.dataset is not None else []

    @property
    def size(self) -> list[int] | None:
        """Spatial size of the images, from the model or the data."""
        if self.model is not None:
            return [int(n) for n in self.model["size"]]
        return list(self.dataset.size) if self.dataset is not None else None

    @property
    def channels(self) -> int | None:
        if self.model is not None:
            return int(self.model["channels"])
        return self.dataset.channels if self.dataset is not None else None

    @property
    def unit(self) -> str:
        """Unit of the stored values (`rgb8`, `grey8`, `grey16`, `hu`, `unknown`), from the data or the model."""
        if self.dataset is not None:
            return self.dataset.unit
        return str(((self.model or {}).get("encoding") or {}).get("unit", "unknown"))


def read_facts(run: Run, dataset: Dataset | None, *, images: bool = True) -> Facts:
    """Read what there is. Only the recipe must exist; `SynthomaError` names a file that is damaged.

    images: also the evaluated synthetic images, which may be large.
    """
    stats = run.stats()
    progress = run.samples / "progress.gif"
    model = _json(run.model / "model.json")
    window = _window(dataset, model)
    return Facts(
        run=run,
        recipe=_recipe(run.recipe_file),
        environment=_json(run.environment_file),
        training=_json(run.training_file),
        ticks=[row for row in stats if row.get("kind") == "tick"],
        validations=[row for row in stats if row.get("kind") == "validation"],
        health=[row for row in stats if row.get("kind") == "health"],
        model=model,
        fidelity=_json(run.evaluation / "fidelity.json"),
        synthetic=_synthetic(run.evaluation / "synthetic.npz", window) if images else None,
        grids=sorted(run.samples.glob("[0-9]*.png")),
        progress=progress if progress.is_file() else None,
        neighbours=_json(run.private / "neighbours.json"),
        dataset=dataset,
        window=window,
    )


def shown_pixels(images: NDArray[np.generic], window: Window | None) -> NDArray[np.uint8]:
    """Images as uint8: 8-bit ones as they are, others through `window`, or through their own range without one."""
    if images.dtype == np.uint8:
        return np.asarray(images)
    low, high = window or (float(np.min(images)), float(np.max(images)) + 1e-6)
    shown = np.empty(images.shape, dtype=np.uint8)
    for start in range(0, len(images), FEW):  # in parts: as float32, a thousand cubes of 64 voxels a side take a GiB
        shown[start : start + FEW] = to_uint8(np.asarray(images[start : start + FEW], dtype=np.float32), low, high)
    return shown


def shown_window(dataset: Dataset) -> Window | None:
    """The window that a dataset declares; without one the range of its first images. None for 8-bit pictures."""
    declared = dataset.info["encoding"].get("window")
    if declared:
        return float(declared[0]), float(declared[1])
    if dataset.images.dtype == np.uint8 or not len(dataset):
        return None
    few = dataset.images[:FEW]
    return float(np.min(few)), float(np.max(few)) + 1e-6


def _window(dataset: Dataset | None, model: dict[str, Any] | None) -> Window | None:
    """One window for real and synthetic images, so that they compare by eye."""
    if dataset is not None:
        return shown_window(dataset)
    declared = ((model or {}).get("encoding") or {}).get("window")
    return (float(declared[0]), float(declared[1])) if declared else None


def _json(path: Path) -> dict[str, Any] | None:
    return dict(read_json(path)) if path.exists() else None


def _recipe(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SynthomaError(
            f"{path.parent} is no run: recipe.yaml is missing. `synthoma train` or `synthoma run` makes one."
        )
    return read_values(path)


def _synthetic(path: Path, window: Window | None) -> Synthetic | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (ValueError, KeyError, OSError, EOFError) as error:
        raise SynthomaError(f"{path} is damaged ({error}); run `synthoma evaluate` again.") from error
    return Synthetic(shown_pixels(images, window), labels.astype(np.int64), images)
