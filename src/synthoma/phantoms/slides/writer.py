"""Phantom slides as a folder like a clinic's: slides, annotations in three formats, groups, licence; and the truth."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from synthoma.errors import DataError
from synthoma.phantoms.slides.annotations import asap_xml, imagescope_xml, qupath_geojson
from synthoma.phantoms.slides.outlines import Region
from synthoma.phantoms.slides.picture import BLOCK, draw_block
from synthoma.phantoms.slides.pyramid import TILE, write_pyramid
from synthoma.phantoms.slides.scene import MPP, Scene, make_scene
from synthoma.phantoms.writer import CITATION, PARAMETERS_FILE, already_there, content_hash
from synthoma.run import aside_folder, write_json

# Raised whenever a drawing changes, so that an older folder is not taken for what would be written today.
SLIDE_PHANTOM_VERSION = 1
SMALLEST, LARGEST = 1024, 131_072
_MIN_PATIENTS = 3


@dataclass(frozen=True)
class SlidePhantomReport:
    """What lies in the folder.

    size: (width, height) of each slide in pixels of `mpp` microns. regions: outlined regions of each class. artefacts:
    planted ones of each kind. reused: whether all this was there before.
    """

    folder: Path
    slides: int
    size: tuple[int, int]
    mpp: float
    seed: int
    patients: int
    regions: dict[str, int]
    artefacts: dict[str, int]
    reused: bool

    @property
    def count(self) -> int:
        return self.slides

    def __str__(self) -> str:
        what = (
            f"{self.slides} phantom slides of {self.patients} invented patients, {self.size[0]}x{self.size[1]} pixels at "
            f"{self.mpp} µm, with {sum(self.regions.values())} outlined regions and {sum(self.artefacts.values())} artefacts"
        )
        if self.reused:
            return f"{self.folder} already holds {what} from seed {self.seed}; nothing was written."
        return f"Wrote {what} to {self.folder}."


def write_slide_phantoms(
    folder: Path | str,
    count: int = 4,
    patients: int | None = None,
    size: tuple[int, int] = (4096, 4096),
    seed: int = 0,
    artefacts: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> SlidePhantomReport:
    """Write `count` slides of `size` (width, height) pixels at 0.5 µm to `folder`, with all that belongs to them.

        slide_000.tif ...                      tiled pyramids (BigTIFF, JPEG), resolution in their tags
        annotations-asap/ annotations-imagescope/ annotations-geojson/     the same outlines, named as the slides
        truth/ truth-tissue/                   planted artefacts, and sections of tissue, as GeoJSON
        groups.csv  synthoma-data.yaml  phantom.json

    patients: invented patients that share the slides; about half as many as slides by default, at least three where
    the count allows. progress: called with (slides written, all) after each. The folder appears whole or not at all.
    Same arguments, same bytes; a folder that holds just that already is left as it is.

    Raises `DataError` for arguments that do not go together and for a folder that holds anything else.
    """
    folder = Path(folder)
    patients = _check(count, patients, size)
    parameters: dict[str, Any] = {
        "version": SLIDE_PHANTOM_VERSION,
        "kind": "slides",
        "count": count,
        "patients": patients,
        "size": list(size),
        "seed": seed,
        "artefacts": artefacts,
    }
    scenes = [make_scene(seed, number, number % patients, size, artefacts) for number in range(count)]
    reused = already_there(folder, parameters)
    if not reused:
        try:
            with aside_folder(folder.absolute()) as aside:
                for number, scene in enumerate(scenes, start=1):
                    write_slide(aside / f"{scene.name}.tif", scene)
                    _write_outlines(aside, scene)
                    if progress is not None:
                        progress(number, count)
                _write_tables(aside, scenes)
                write_json(aside / PARAMETERS_FILE, {**parameters, "content": content_hash(aside)})
        except OSError as error:
            raise DataError(f"cannot write phantoms to {folder}: {error.strerror or error}.") from error
    regions = Counter(region.name for scene in scenes for region in scene.regions)
    planted = Counter(region.name for scene in scenes for region in scene.artefacts)
    return SlidePhantomReport(folder, count, size, MPP, seed, patients, dict(regions), dict(planted), reused)


def write_slide(path: Path, scene: Scene) -> int:
    """Draw one slide into a pyramidal TIFF; returns the number of tiles that are not plain glass. Memory is flat."""
    drawn: tuple[tuple[int, int], NDArray[np.uint8] | None] | None = None

    def tile(row: int, column: int) -> NDArray[np.uint8] | None:
        # The pyramid asks for the tiles of a block one after the other, so that one block at hand is enough.
        nonlocal drawn
        per_block = BLOCK // TILE
        block = row // per_block, column // per_block
        if drawn is None or drawn[0] != block:
            drawn = block, draw_block(scene, *block)
        if drawn[1] is None:
            return None
        top, left = row % per_block * TILE, column % per_block * TILE
        return drawn[1][top : top + TILE, left : left + TILE]

    red, green, blue = (int(value) for value in scene.stain.glass)
    return write_pyramid(path, scene.size, MPP, (red, green, blue), tile, "Synthoma phantom")


def _check(count: int, patients: int | None, size: tuple[int, int]) -> int:
    """Number of patients; `DataError` for arguments that do not go together."""
    if count < 1:
        raise DataError(f"ask for at least one slide, not {count}.")
    if any(side % TILE or not SMALLEST <= side <= LARGEST for side in size):
        raise DataError(
            f"phantom slides have sides of {SMALLEST} to {LARGEST} pixels in multiples of {TILE}, not {size[0]}x{size[1]}."
        )
    if patients is None:
        return min(count, max(_MIN_PATIENTS, (count + 1) // 2))
    if not 1 <= patients <= count:
        raise DataError(f"{count} slides cannot be shared by {patients} patients; change either.")
    return patients


def _write_outlines(folder: Path, scene: Scene) -> None:
    """Annotations and truth of one slide."""
    texts = {
        f"annotations-asap/{scene.name}.xml": asap_xml(scene),
        f"annotations-imagescope/{scene.name}.xml": imagescope_xml(scene),
        f"annotations-geojson/{scene.name}.geojson": qupath_geojson(scene.regions, scene.exclusions),
        f"truth/{scene.name}.geojson": qupath_geojson(scene.artefacts),
        f"truth-tissue/{scene.name}.geojson": qupath_geojson(Region("tissue", each) for each in scene.sections),
    }
    for place, text in texts.items():
        path = folder / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _write_tables(folder: Path, scenes: Sequence[Scene]) -> None:
    """Who the slides belong to, and what may be done with them."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "group"))
    rows.writerows((f"{scene.name}.tif", f"patient-{scene.patient:05d}") for scene in scenes)
    (folder / "groups.csv").write_text(table.getvalue(), encoding="utf-8")
    terms = {"licence": "CC0-1.0", "citation": CITATION, "may_release": True}
    (folder / "synthoma-data.yaml").write_text(yaml.safe_dump(terms, sort_keys=False), encoding="utf-8")
