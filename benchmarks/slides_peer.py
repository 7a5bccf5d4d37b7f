"""A worker (see worker.py) with other people's tools, in an environment of their own: it imports nothing of ours.

tiatoolbox          TIAToolbox's SlidingWindowPatchExtractor over the same tiles, as it comes
torchstain-torch    torchstain's Macenko normaliser, fit and transform of each tile, which is how it works
torchstain-numpy    the same with its numpy code
"""

import argparse
import contextlib
import importlib.util
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from passes import timed_passes
from worker import serve

STYLES = ("tiatoolbox", "torchstain-torch", "torchstain-torch-alone", "torchstain-numpy-alone")
Pass = Callable[[float], list[float]]


def tiatoolbox(path: Path, mask: Any, mpp: float, tile: int, expected: int) -> tuple[Pass, dict[str, Any]]:
    """Patches where `mask`, a pixel a place of the grid, is true."""
    tools = types.ModuleType("tiatoolbox.tools")
    tools.__path__ = [str(Path(importlib.util.find_spec("tiatoolbox").origin).parent / "tools")]
    # The package of all tools imports torchvision, umap and more for some of them; this one is loaded by itself.
    sys.modules["tiatoolbox.tools"] = tools
    with contextlib.redirect_stdout(sys.stderr):
        from tiatoolbox.tools.patchextraction import SlidingWindowPatchExtractor

    def extractor() -> Any:
        return SlidingWindowPatchExtractor(
            input_img=path, patch_size=tile, resolution=mpp, units="mpp", input_mask=mask, within_bound=True
        )

    made = extractor()
    if len(made) != expected:
        raise SystemExit(f"TIAToolbox would extract {len(made)} patches, not the same {expected}")

    def loop(patches: Any) -> None:
        for patch in patches:
            assert patch.shape == (tile, tile, 3)

    told = {"reader": type(made.wsi).__name__, "version": version("tiatoolbox")}
    return lambda seconds: timed_passes(extractor, loop, seconds), told


def torchstain(tiles: Any, backend: str, stains: bool) -> tuple[Pass, dict[str, Any]]:
    """Every tile normalised to the same reference, tensors made beforehand; stains: with pictures of the single stains."""
    import torch
    from torchstain.base.normalizers import MacenkoNormalizer

    normalizer = MacenkoNormalizer(backend=backend)
    images = [torch.from_numpy(tile).permute(2, 0, 1) for tile in tiles] if backend == "torch" else list(tiles)

    def loop(batch: Any) -> None:
        for image in batch:
            normalizer.normalize(I=image, stains=stains)

    return lambda seconds: timed_passes(lambda: images, loop, seconds), {"version": version("torchstain")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", choices=STYLES, required=True)
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--mask", type=Path, help="an .npy of bool [rows, columns], true where a tile is wanted")
    parser.add_argument("--tiles", type=Path, help="an .npy of tiles uint8 [n, h, w, 3]")
    parser.add_argument("--mpp", type=float, default=0.5)
    parser.add_argument("--tile", type=int, default=256)
    options = parser.parse_args()
    if options.style == "tiatoolbox":
        mask = np.load(options.mask, allow_pickle=False)
        count = int(mask.sum())
        passes, told = tiatoolbox(options.slide, mask, options.mpp, options.tile, count)
    else:
        tiles = np.load(options.tiles, allow_pickle=False)
        count = len(tiles)
        passes, told = torchstain(tiles, options.style.split("-")[1], stains=not options.style.endswith("-alone"))
    serve({"style": options.style, "tiles": count, **told}, lambda seconds: {"seconds": passes(seconds)})


if __name__ == "__main__":
    main()
