"""What all tests share."""

import importlib
import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

# Tests run side by side; threads that fight for two cores make small linear algebra a hundred times slower.
torch.set_num_threads(1)

# The process that workers are forked from keeps what it imported when it was started. One command needs one kind of work, a
# process of tests all of them: without this each of hundreds of workers would import torch by itself.
forkserver.set_forkserver_preload(
    ["synthoma.preparation.reading", "synthoma.preparation.slides.cut", "synthoma.preparation.ct.cut"]
)
forkserver.ensure_running()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real images: $SYNTHOMA_DATA, else ../shared/data beside the repository; skips where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("SYNTHOMA_DATA", default))
    if not root.is_dir():
        pytest.skip(f"no real images: {root} does not exist; SYNTHOMA_DATA names their folder")
    return root


def draw_picture(seed: int, size: tuple[int, int] = (40, 48), tint: int = 0) -> NDArray[np.uint8]:
    """A smooth random picture [y, x, 3]: pictures of different seeds look different, `tint` picks the strong colour."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 200, (7, 7, 3), dtype=np.uint8))
    drawn = np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.int64)
    drawn[..., tint % 3] += 55
    return np.clip(drawn, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def picture() -> Callable[..., NDArray[np.uint8]]:
    """`picture(seed, size=(y, x), tint=0)` draws a picture [y, x, 3]."""
    return draw_picture


@pytest.fixture
def image_tree(tmp_path: Path) -> Callable[..., Path]:
    """`image_tree({"a": 10, "b": 12}, name="data")` writes a class-folder tree of PNGs and returns its root."""

    def make(classes: dict[str, int], name: str = "data", size: tuple[int, int] = (40, 48)) -> Path:
        root = tmp_path / name
        root.mkdir(parents=True, exist_ok=True)
        for number, (label, count) in enumerate(sorted(classes.items())):
            (root / label).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.fromarray(draw_picture(1000 * number + i, size, number)).save(root / label / f"{i}.png")
        return root

    return make


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """`script("modes")` imports benchmarks/modes.py as a fresh module, as Python does when it is run."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load
