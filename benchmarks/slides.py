"""Whole slides: tiles a second against the bare OpenSlide loop and TIAToolbox, workers, stain normalisation, memory.

    python benchmarks/slides.py [--parts tiles stain tiatoolbox workers memory]

tiles       ours, with writing and with all quality scores, against `read_region` and nothing else, on the same tiles, at
            the slide's own resolution, at that of a level, and at one between
tiatoolbox  ours, with writing, by one process and by two, against TIAToolbox's SlidingWindowPatchExtractor on the same
            tiles, which has one
stain       our transform, fitted once a slide, against torchstain's Macenko normaliser, which fits each tile
workers     `cut_slides` of eight slides with two workers against one
memory      peak of `cut_slides` with two workers on slides of one and of ten gigabytes of pixels

Slides are phantoms. Contestants are processes of one thread that take turns (turns.py); a step is a pass over all tiles
with a freshly opened slide. The peers live in `.venv-peers/`, which is made on first use. Each part that is run replaces
itself in the result file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results import FOLDER, HERE, header, write_result
from slides_whole import memory, two_workers, write_slides
from synthoma.formats.slides import open_slide
from synthoma.preparation.slides.cut import find_tissue, read_places
from synthoma.preparation.slides.places import grid, judge
from synthoma.preparation.slides.tissue import tissue_fraction
from synthoma.slide_settings import SlidesSection
from turns import Contestant, play, ratios

TILE = 256
# The slide's own resolution, that of its second level, and one that no level has.
RESOLUTIONS = (0.5, 1.0, 0.7)
STORED = (0.5, 1.0)
WANTED = {"written": 0.85, "scored": 0.5, "tiatoolbox": 2.0, "stain": 20.0}
STAINED = 128
# TIAToolbox declares what all of its parts need (with torchvision, transformers and jupyterlab); these are what its patch
# extractor imports, within the versions that it allows. torch, which only torchstain uses here, is that of this environment.
TIATOOLBOX = "tiatoolbox==2.1.3"
PEERS = (
    "torchstain==1.4.1",
    "numpy<2.4.4",
    "scipy<1.17.1",
    "pandas<3.0.3",
    "scikit-image<0.26.1",
    "opencv-python-headless<5",
    "openslide-python<1.4.6",
    "openslide-bin<4.0.1.2",
    "imagecodecs<2026.3.6",
    "tifffile<2026.3.3",
    "zarr<3.2.0",
    "dask<2026.7.1",
    "matplotlib<3.11.1",
    "shapely<=2.1.2",
    "SimpleITK<2.5.5",
    "joblib<1.5.3",
    "tqdm<4.69.0",
    "pyyaml<6.0.3",
    "requests<2.34.2",
    "defusedxml<=0.7.1",
    "universal-pathlib",
    "psutil",
    "filelock",
    "fsspec",
    "typing-extensions",
)


def peer_environment(wanted: Path | None) -> Path:
    """The Python of an environment with torchstain and TIAToolbox; `.venv-peers/` is made where none is given."""
    if wanted is not None:
        return wanted
    folder = HERE.parent / ".venv-peers"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"Making {folder.name}/ with torchstain and TIAToolbox (about 1.5 GB)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *PEERS, f"torch=={version('torch')}"], check=True)
        subprocess.run([*install, "--no-deps", TIATOOLBOX], check=True)
        (folder / "complete").touch()
    return python


def places_of(path: Path, mpp: float, work: Path) -> tuple[Path, Path, NDArray[np.float64]]:
    """Tiles of tissue of a slide: files with their boxes and with a mask of a pixel a place; and the boxes."""
    section = SlidesSection(mpp=mpp, tile=TILE)
    with open_slide(path) as slide:
        boxes = grid(slide.size, slide.require_mpp(), section, TILE)
        tissue, _, thumbnail_mpp = find_tissue(slide, section)
        places = judge(
            boxes, tissue_fraction(tissue.mask, thumbnail_mpp, boxes, slide.require_mpp()), None, None, section
        )
    wanted = np.zeros(len(boxes), np.bool_)
    wanted[places.wanted] = True
    # The peer scales its mask to the whole slide, so that a row and a column stand for what no tile fits into.
    side = boxes[0, 2] - boxes[0, 0]
    rows, columns = (len(np.unique(boxes[:, axis])) for axis in (1, 0))
    height, width = (int(np.ceil(length / side - 1e-6)) for length in (slide.size[1], slide.size[0]))
    mask = np.zeros((height, width), np.bool_)
    mask[:rows, :columns] = wanted.reshape(rows, columns)
    files = work / f"places-{mpp:g}.npy", work / f"mask-{mpp:g}.npy"
    np.save(files[0], boxes[wanted])
    np.save(files[1], mask)
    return *files, boxes[wanted]


def hold(lines: Mapping[str, Sequence[str]], tiles: int, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Contestants from their start to their summaries."""
    contestants: list[Contestant] = []
    # As many threads as a slide's process has cores; read when a worker starts.
    before, os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS"), "1"
    try:
        for name, command in lines.items():
            contestants.append(Contestant(name, command, tiles))
            assert contestants[-1].description["tiles"] == tiles
        play(contestants, options.rounds, options.most_rounds, options.seconds, options.patience)
        return {contestant.name: contestant.summary() for contestant in contestants}
    finally:
        for contestant in contestants:
            contestant.end()
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def compare(summaries: Mapping[str, Any], pairs: Mapping[str, tuple[str, Sequence[str], float]]) -> dict[str, Any]:
    """Name -> ours, theirs, wanted and the ratio of tiles a second against the fastest of theirs."""
    return {
        name: {"ours": own, "theirs": list(theirs), "wanted": wanted, "ratio": ratios(summaries, own, theirs)}
        for name, (own, theirs, wanted) in pairs.items()
    }


class Parts:
    """The parts of the benchmark; each returns what goes into the result file."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work

    def slide(self) -> Path:
        folder = self.work / f"slides-{self.options.side}"
        write_slides(folder, 1, self.options.side)
        return folder / "slide_000.tif"

    def _ours(self, style: str, mpp: float, places: Path) -> list[str]:
        what = ["--style", style, "--slide", str(self.slide()), "--places", str(places), "--mpp", str(mpp)]
        return [sys.executable, str(HERE / "slides_ours.py"), *what, "--tile", str(TILE), "--work", str(self.work)]

    def _peer(self, style: str, *arguments: str) -> list[str]:
        python = peer_environment(self.options.peer_python)
        return [str(python), str(HERE / "slides_peer.py"), "--style", style, *arguments]

    def tiles(self) -> dict[str, Any]:
        found: dict[str, Any] = {"tile": TILE, "side": self.options.side}
        for mpp in RESOLUTIONS:
            file, _, boxes = places_of(self.slide(), mpp, self.work)
            # At the resolution of a level there is nothing to resize.
            peers = ("bare",) if mpp in STORED else ("bare", "resized")
            lines = {style: self._ours(style, mpp, file) for style in (*peers, "written", "scored")}
            summaries = hold(lines, len(boxes), self.options)
            pairs = {
                f"{style} against {peer}": (style, (peer,), WANTED[style])
                for style in ("written", "scored")
                for peer in peers
            }
            comparisons = compare(summaries, pairs)
            found[f"{mpp:g} mpp"] = {"tiles": len(boxes), "comparisons": comparisons, "contestants": summaries}
        return found

    def tiatoolbox(self) -> dict[str, Any]:
        """Named .tif, TIAToolbox reads a slide through tifffile and zarr; named .svs, through OpenSlide."""
        found: dict[str, Any] = {"tile": TILE, "side": self.options.side}
        named = {"tiatoolbox .tif": self.slide(), "tiatoolbox .svs": self.slide().with_suffix(".svs")}
        if not named["tiatoolbox .svs"].exists():
            named["tiatoolbox .svs"].symlink_to(self.slide().name)
        for mpp in RESOLUTIONS:
            file, mask, boxes = places_of(self.slide(), mpp, self.work)
            rest = ["--mask", str(mask), "--mpp", str(mpp), "--tile", str(TILE)]
            lines = {style: self._ours(style, mpp, file) for style in ("written", "shared")}
            lines |= {name: self._peer("tiatoolbox", "--slide", str(path), *rest) for name, path in named.items()}
            summaries = hold(lines, len(boxes), self.options)
            pairs = {
                f"{style} against {name}": (style, (name,), WANTED["tiatoolbox"])
                for style in ("written", "shared")
                for name in named
            }
            comparisons = compare(summaries, pairs)
            found[f"{mpp:g} mpp"] = {"tiles": len(boxes), "comparisons": comparisons, "contestants": summaries}
        return found

    def stain(self) -> dict[str, Any]:
        """Tiles that are tissue all over: torchstain fails on others."""
        _, _, boxes = places_of(self.slide(), 0.5, self.work)
        with open_slide(self.slide()) as slide:
            pixels = read_places(slide, boxes, range(len(boxes)), 0.5, TILE)
        full = np.argsort(pixels.reshape(len(pixels), -1).mean(axis=1), kind="stable")[:STAINED]
        np.save(self.work / "tiles.npy", pixels[full])
        data = ["--tiles", str(self.work / "tiles.npy")]
        lines = {"ours": [sys.executable, str(HERE / "slides_ours.py"), "--style", "stain", *data]}
        peers = ("torchstain-torch", "torchstain-torch-alone", "torchstain-numpy-alone")
        lines |= {name: self._peer(name, *data) for name in peers}
        summaries = hold(lines, len(full), self.options)
        pairs = {"as torchstain comes": peers[:1], "without pictures of the single stains": peers[1:]}
        comparisons = compare(summaries, {name: ("ours", theirs, WANTED["stain"]) for name, theirs in pairs.items()})
        return {"tile": TILE, "tiles": len(full), "comparisons": comparisons, "contestants": summaries}

    def workers(self) -> dict[str, Any]:
        options = self.options
        rounds = options.rounds, options.most_rounds
        return two_workers(self.work, options.slides, options.slide_side, *rounds, options.patience)

    def memory(self) -> dict[str, Any]:
        return memory(self.work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("tiles", "stain", "tiatoolbox", "workers", "memory")
    parser.add_argument("--parts", nargs="+", choices=names, default=list(names))
    parser.add_argument("--side", type=int, default=8192, help="pixels of the slide that tiles are taken of")
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--slide-side", type=int, default=4096, help="pixels of each slide of the part `workers`")
    parser.add_argument("--rounds", type=int, default=5, help="undisturbed turns wanted of each contestant")
    parser.add_argument("--most-rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn")
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds to wait for a quiet machine before a turn"
    )
    parser.add_argument("--peer-python", type=Path, help="a Python that has the peers; default: .venv-peers/")
    parser.add_argument("--work", type=Path, help="where slides are kept for another time; left out: thrown away")
    parser.add_argument("--out", type=Path, default=FOLDER / "slides.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "slides", "parts": {}}
    if options.out.exists():
        result = json.loads(options.out.read_text())
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        parts = Parts(options, work)
        for name in options.parts:
            part: Callable[[], dict[str, Any]] = getattr(parts, name)
            said = header(f"slides, {name}")
            result["parts"][name] = {**said, **part()}
            write_result(options.out, result)


if __name__ == "__main__":
    main()
