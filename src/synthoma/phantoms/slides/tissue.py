"""Tissue as concentrations of the two dyes: stroma, fat, glands and their tumours, and the nuclei in them.

Schematic on purpose: architecture (round glands with one row of nuclei; crowded crooked glands with large dark nuclei;
solid pink nests with keratin pearls) is what tells the classes apart, as in a textbook's drawing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthoma.phantoms.slides import nuclei
from synthoma.phantoms.slides.fields import Field, Mask, Noise, Sites, Window, cells, grain, sites
from synthoma.phantoms.slides.glands import (
    ADENOCARCINOMA_GLANDS,
    BENIGN_GLANDS,
    SQUAMOUS_NESTS,
    Glands,
    depth,
    glands,
    ring,
)
from synthoma.phantoms.slides.scene import BENIGN, TUMOURS, Scene

Numbers = NDArray[np.floating[Any]]

# What is drawn beyond a window, so that nuclei from outside reach in and the optics have neighbours.
MARGIN = nuclei.REACH + 4
_TEXTURE_PERIOD = 640  # pixels after which the finest texture repeats
_FAT_ABOVE = 1.1  # of the zone field: about an eighth of the benign tissue
_GLANDS_BELOW = 0.7  # about three quarters of it


@dataclass
class Canvas:
    """The work on one window: eosin, haematoxylin outside nuclei, and that in them (chromatin), each [height, width];
    changed in place.

    zone: the field that says where benign tissue has glands, stroma or fat. open_stroma: 1 where neither fat nor
    epithelium is.
    """

    scene: Scene
    window: Window
    tissue: Mask
    tumour: Mask
    eosin: Field
    haematoxylin: Field
    chromatin: Field
    open_stroma: Mask

    def noise(self, what: str, spacing: float) -> Field:
        return Noise(self.scene.seed, self.scene.purpose(what), self.window, spacing).map()

    def sites(self, what: str, spacing: float, values: int, jitter: float = 0.8) -> Sites:
        """Sites within the window only."""
        found = sites(self.scene.seed, self.scene.purpose(what), self.window, spacing, values, jitter)
        column, row = found.x - self.window.x, found.y - self.window.y
        height, width = self.window.shape
        return found.only((column >= 0) & (row >= 0) & (column < width) & (row < height))

    def look(self, field: np.ndarray, x: Field, y: Field) -> np.ndarray:
        """Values of a map at points; points outside of the window take the nearest pixel."""
        height, width = self.window.shape
        row = np.clip(np.floor(y).astype(np.int64) - self.window.y, 0, height - 1)
        column = np.clip(np.floor(x).astype(np.int64) - self.window.x, 0, width - 1)
        return np.asarray(field[row, column])

    def stamp(self, kind: nuclei.Kind, x: Field, y: Field, angle: Field, chance: Field, dark: Field) -> None:
        """Nuclei at (x, y) along `angle`; `chance` in [0, 1) picks the variant."""
        which = nuclei.facing(angle, chance, kind)
        shapes = nuclei.prototypes(self.scene.seed, kind)
        nuclei.stamp(self.chromatin, self.window, x, y, shapes, which, dark)


def concentrations(scene: Scene, window: Window) -> tuple[Field, Field] | None:
    """Haematoxylin and eosin of a window, float32 [height, width] each; None where there is no tissue."""
    wide = window.grown(MARGIN)
    tissue = scene.tissue(wide)
    if not tissue.any():
        return None
    tumours = {name: scene.annotated(wide, name) & tissue for name in TUMOURS}
    tumour = np.logical_or.reduce(list(tumours.values()))
    blank = np.zeros(wide.shape, dtype=np.float32)
    canvas = Canvas(scene, wide, tissue, tumour, blank, blank.copy(), blank.copy(), tissue.copy())
    along = _stroma(canvas)
    if (tissue & ~tumour).any():
        zone = Noise(scene.seed, scene.purpose("zone"), wide, 420.0, reach=400)
        _fat(canvas, zone.map())
        _benign_glands(canvas, zone)
    if tumours["adenocarcinoma"].any():
        _adenocarcinoma(canvas, tumours["adenocarcinoma"])
    if tumours["squamous"].any():
        _squamous(canvas, tumours["squamous"])
    _stroma_cells(canvas, along)
    return _finish(canvas)


def _stroma(canvas: Canvas) -> Field:
    """Collagen in wavy bundles with clefts between; looser within tumours. Returns the phase field of the fibres."""
    window = canvas.window
    turn = canvas.scene.number * 0.9 + 0.4
    warp, fine = canvas.noise("warp", 210.0), canvas.noise("fine", 24.0)
    place = (np.cos(turn) * window.xs)[None, :] + (np.sin(turn) * window.ys)[:, None]
    along = (place + 95.0 * warp + 16.0 * canvas.noise("bend", 58.0)).astype(np.float32)
    bundles = np.sin(along * np.float32(2.0 * np.pi / 23.0) + 0.7 * fine)
    threads = np.sin(along * np.float32(2.0 * np.pi / 7.3) + 2.2 * fine)
    patches = canvas.noise("patches", 130.0)
    eosin = 0.46 * (1.0 + 0.20 * bundles + 0.11 * threads + 0.13 * fine + 0.12 * patches)
    cleft = np.clip((bundles + 0.55 * canvas.noise("clefts", 34.0) + 0.25 * patches - 1.55) * 4.0, 0.0, 1.0)
    eosin *= 1.0 - 0.9 * cleft
    loose = canvas.tumour
    canvas.eosin += np.where(loose, 0.72 * eosin, eosin)
    canvas.haematoxylin += np.where(loose, 0.09 + 0.03 * fine, 0.03)
    return along


def _fat(canvas: Canvas, zone: Field) -> None:
    """Fat: empty vacuoles with thin walls. Pathologists outline benign glands, not fat, and so there is none in outlines."""
    fat = (zone > _FAT_ABOVE) & canvas.tissue & ~canvas.tumour & ~canvas.scene.annotated(canvas.window, BENIGN)
    if not fat.any():
        return
    border = cells(canvas.scene.seed, "slide/fat", 10, rounded=7.0).border.map(canvas.window)
    wall = np.exp(-np.square(border / 3.2))
    np.copyto(canvas.eosin, 0.015 + 0.55 * wall, where=fat)
    np.copyto(canvas.haematoxylin, 0.06 * wall, where=fat)
    canvas.open_stroma &= ~fat


def _benign_glands(canvas: Canvas, zone: Noise) -> None:
    """Round glands of one row of small, even nuclei around an open lumen."""
    found = glands(canvas.scene.seed, canvas.scene.purpose("glands"), canvas.window, BENIGN_GLANDS)
    there = (zone.at(found.x, found.y) < _GLANDS_BELOW) & (found.values[:, 0] < 0.9)
    found = found.only(there & ~_touches_tumour(canvas, found))
    below, _ = depth(canvas.window, found)
    epithelium = (below > 0.0) & canvas.tissue
    thick = 27.0
    lumen = np.clip((below - thick) * 0.5, 0.0, 1.0)
    apical = np.clip((below - 11.0) / (thick - 11.0), 0.0, 1.0)
    mucin = canvas.noise("mucin", 9.0)
    secretion = np.clip(0.03 + 0.05 * canvas.noise("secretion", 30.0), 0.0, 0.2)
    eosin = (0.44 - 0.22 * apical + 0.03 * mucin) * (1.0 - lumen) + secretion * lumen
    _cover(canvas, epithelium, eosin, (0.20 - 0.10 * apical) * (1.0 - lumen))
    # A thin halo and basement membrane set the gland off from the stroma.
    halo = np.exp(-np.square((below + 3.0) / 2.0)) * canvas.tissue
    canvas.eosin *= 1.0 - 0.5 * halo
    if len(found):
        x, y, angle, number = ring(found, 13.5, 9.0, found.values[:, 1:2])
        chance = _hashed(x, y)
        # Where two glands run into each other, the inner parts of both rings are left out.
        inside = canvas.look(canvas.tissue, x, y) & (canvas.look(below, x, y) < 15.0)
        dark = 0.85 + 0.25 * found.values[number, 2]
        canvas.stamp(nuclei.EPITHELIAL, x[inside], y[inside], angle[inside], chance[inside], dark[inside])


def _adenocarcinoma(canvas: Canvas, region: Mask) -> None:
    """Crowded crooked glands, several rows of large dark uneven nuclei, lumina that run into each other."""
    found = glands(canvas.scene.seed, canvas.scene.purpose("glands"), canvas.window, ADENOCARCINOMA_GLANDS)
    below, owner = depth(canvas.window, found)
    below = np.where(region, below, -1.0)
    epithelium = below > 0.0
    mesh = canvas.noise("lumina", 26.0)
    solid = found.values[:, 0] > 0.75 if len(found) else np.zeros(1, dtype=bool)
    thick = np.where(solid[owner] & (owner >= 0), 60.0, 33.0).astype(np.float32)
    lumen = np.clip((below - thick + 13.0 * mesh) * 0.35, 0.0, 1.0)
    fine = canvas.noise("cytoplasm", 7.0)
    eosin = (0.42 + 0.05 * fine) * (1.0 - lumen) + 0.05 * lumen * (1.0 + mesh).clip(0.0)
    _cover(canvas, epithelium, eosin, (0.30 + 0.05 * fine) * (1.0 - 0.95 * lumen))
    halo = np.exp(-np.square((below + 2.0) / 2.0)) * region
    canvas.eosin *= 1.0 - 0.6 * halo
    points = canvas.sites("adenocarcinoma", 18.5, 4, jitter=0.6)
    where = canvas.look(below, points.x, points.y)
    free = canvas.look(lumen, points.x, points.y)
    points = points.only((where > 5.0) & (free < 0.02) & (points.values[:, 0] < 0.93))
    dark = 0.7 + 0.5 * points.values[:, 1]
    turn = points.values[:, 2] * np.float32(np.pi)
    canvas.stamp(nuclei.ADENOCARCINOMA, points.x, points.y, turn, points.values[:, 3], dark)


def _squamous(canvas: Canvas, region: Mask) -> None:
    """Solid pink nests of polygonal cells, darker at their rim, with whorls of keratin in the middle of some."""
    seed = canvas.scene.seed
    found = glands(seed, canvas.scene.purpose("nests"), canvas.window, SQUAMOUS_NESTS)
    below, _ = depth(canvas.window, found)
    below = np.where(region, below, -1.0)
    nest = below > 0.0
    pattern = cells(seed, "slide/squamous", 30)
    bridge = np.exp(-np.square(pattern.border.map(canvas.window) / 1.5))
    rim = np.clip(1.0 - below / 34.0, 0.0, 1.0)
    fine = canvas.noise("cytoplasm", 8.0)
    eosin = (0.72 - 0.24 * rim + 0.05 * fine) * (1.0 - 0.45 * bridge)
    _cover(canvas, nest, eosin, 0.10 + 0.22 * rim)
    halo = np.exp(-np.square((below + 3.0) / 2.5)) * region
    canvas.eosin *= 1.0 - 0.65 * halo
    pearl = _pearls(canvas, found, nest)
    centres = pattern.sites(canvas.window)
    x, y = centres[:, 0], centres[:, 1]
    depth_there = canvas.look(below, x, y)
    inner = (depth_there > 16.0) & (canvas.look(pearl, x, y) < 0.05)
    x, y = x[inner], y[inner]
    chance = _hashed(x, y)
    turn = _hashed(y, x) * np.float32(np.pi)
    canvas.stamp(nuclei.SQUAMOUS, x, y, turn, chance, 0.8 + 0.4 * _hashed(x + 7.0, y))
    rows = canvas.sites("basal", 14.0, 3, jitter=0.6)
    at = canvas.look(below, rows.x, rows.y)
    rows = rows.only((at > 3.0) & (at < 17.0))
    canvas.stamp(
        nuclei.BASAL,
        rows.x,
        rows.y,
        rows.values[:, 0] * np.float32(np.pi),
        rows.values[:, 1],
        1.0 + 0.2 * rows.values[:, 2],
    )


def _pearls(canvas: Canvas, found: Glands, nest: Mask) -> Field:
    """Keratin pearls: whorls of flat pink layers, in three nests of five. Returns how much of each pixel is pearl."""
    cover = np.zeros(canvas.window.shape, dtype=np.float32)
    window = canvas.window
    wave = canvas.noise("whorls", 26.0)
    for number in np.flatnonzero(found.values[:, 0] < 0.6):
        radius = float(found.radii[number, 1] * (0.30 + 0.16 * found.values[number, 1]))
        x, y = float(found.x[number]), float(found.y[number])
        if not window.meets((x - 2 * radius, y - 2 * radius, x + 2 * radius, y + 2 * radius)):
            continue
        away = np.hypot((window.xs - x)[None, :], 1.25 * (window.ys - y)[:, None]) + 4.0 * wave
        pearl = np.clip((radius - away) / 3.0, 0.0, 1.0) * nest
        layers = np.sin(away * np.float32(2.0 * np.pi / 8.5))
        eosin = 1.15 + 0.28 * layers + 0.1 * wave
        canvas.eosin += pearl * (eosin - canvas.eosin)
        canvas.haematoxylin += pearl * (0.02 - canvas.haematoxylin)
        np.maximum(cover, pearl, out=cover)
        # Flat nuclei between the outer layers.
        angle = np.arange(0.0, 2.0 * np.pi, 0.5, dtype=np.float32) + found.values[number, 2]
        reach = np.float32(radius + 7.0)
        px, py = x + reach * np.cos(angle), y + reach * np.sin(angle) / np.float32(1.25)
        keep = canvas.look(nest, px, py)
        canvas.stamp(
            nuclei.FLAT,
            px[keep],
            py[keep],
            angle[keep] + np.float32(np.pi / 2),
            _hashed(px, py)[keep],
            np.full(keep.sum(), 1.1, np.float32),
        )
    return cover


def _stroma_cells(canvas: Canvas, along: Field) -> None:
    """Fibroblasts along the fibres, and lymphocytes, sprinkled and in crowds, more of them around tumours."""
    window = canvas.window
    points = canvas.sites("fibroblasts", 38.0, 3)
    points = points.only(canvas.look(canvas.open_stroma, points.x, points.y) & (points.values[:, 0] < 0.6))
    step = np.float32(3.0)
    x, y = (
        np.clip(each, low + 4, high - 4)
        for each, low, high in (
            (points.x, window.x, window.x + window.width),
            (points.y, window.y, window.y + window.height),
        )
    )
    slope_x = canvas.look(along, x + step, y) - canvas.look(along, x - step, y)
    slope_y = canvas.look(along, x, y + step) - canvas.look(along, x, y - step)
    angle = np.arctan2(slope_y, slope_x) + np.float32(np.pi / 2)
    canvas.stamp(nuclei.FIBROBLAST, points.x, points.y, angle, points.values[:, 1], 0.8 + 0.3 * points.values[:, 2])
    points = canvas.sites("lymphocytes", 17.0, 3)
    open_here = canvas.look(canvas.open_stroma, points.x, points.y)
    crowd = canvas.look(canvas.noise("crowds", 150.0), points.x, points.y)
    tumour = canvas.look(canvas.tumour, points.x, points.y)
    share = 0.015 + 0.02 * tumour + np.clip(0.45 * (crowd - 1.55 + 0.7 * tumour), 0.0, 0.75)
    points = points.only(open_here & (points.values[:, 0] < share))
    turn = points.values[:, 1] * np.float32(np.pi)
    canvas.stamp(nuclei.LYMPHOCYTE, points.x, points.y, turn, points.values[:, 1], 1.15 + 0.3 * points.values[:, 2])


def _finish(canvas: Canvas) -> tuple[Field, Field]:
    """Nuclei over the rest, a fine texture, nothing outside of the tissue, the blur of the optics, and the margin cut off."""
    covered = np.minimum(canvas.chromatin, 1.0)
    haematoxylin = canvas.haematoxylin * (1.0 - 0.6 * covered) + 1.05 * canvas.chromatin
    eosin = canvas.eosin * (1.0 - 0.45 * covered)
    texture = canvas.tissue * (1.0 + 0.14 * grain(canvas.scene.seed, _TEXTURE_PERIOD).map(canvas.window))
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return _optics(haematoxylin * texture)[inner], _optics(eosin * texture)[inner]


def _optics(field: Numbers) -> Field:
    """The microscope's own blur: a binomial kernel of three pixels in both directions."""
    soft = field.copy()
    soft[1:-1] += 0.5 * (field[:-2] + field[2:])
    result = soft.copy()
    result[:, 1:-1] += 0.5 * (soft[:, :-2] + soft[:, 2:])
    return result * np.float32(0.25)


def _cover(canvas: Canvas, where: Mask, eosin: Numbers, haematoxylin: Numbers) -> None:
    """Epithelium in place of stroma."""
    np.copyto(canvas.eosin, eosin, where=where)
    np.copyto(canvas.haematoxylin, haematoxylin, where=where)
    canvas.open_stroma &= ~where


def _touches_tumour(canvas: Canvas, found: Glands) -> Mask:
    """Glands of which some part would lie in a tumour region: they are not drawn, so that none is cut in half."""
    touches = np.zeros(len(found), dtype=bool)
    for number in range(len(found)):
        reach = int(found.radii[number, 0]) + 12
        box = Window(int(found.x[number]) - reach, int(found.y[number]) - reach, 2 * reach, 2 * reach)
        touches[number] = any(
            box.meets(region.outline.box) and canvas.scene.annotated(box, region.name)[::8, ::8].any()
            for region in canvas.scene.regions
            if region.name in TUMOURS
        )
    return touches


def _hashed(x: Field, y: Field) -> Field:
    """A number in [0, 1) that belongs to a place: enough to pick one of a few variants."""
    mixed = np.sin(x.astype(np.float64) * 12.9898 + y.astype(np.float64) * 78.233) * 43758.5453
    return np.asarray((mixed - np.floor(mixed)).astype(np.float32)) * np.float32(0.999999)
