"""Cervical cells from Pap smears: one cell in the middle of each picture, in the seven classes of the Herlev set.

As in that set the field of view follows the cell, so that a flat superficial cell of 55 micrometres and a small carcinoma
cell fill the picture alike, and the second is blurred more. Around it lie neighbours that the border cuts, mucus, debris
and leucocytes.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from synthoma.phantoms.cells import CELLS, Cell, Smear, Stain, draw_cell
from synthoma.phantoms.shapes import Array, grid, inside, noise, paint_spots, spread_points

CLASSES = tuple(CELLS)
# About those of the Herlev set (917 cells).
SHARES = (0.08, 0.08, 0.11, 0.20, 0.16, 0.21, 0.16)

# Optical density in red, green and blue of the dyes after Papanicolaou at full strength, chosen by eye after real smears.
_HAEMATOXYLIN = np.array((0.98, 1.05, 0.58))
_EOSIN = np.array((0.16, 0.86, 0.42))
_LIGHT_GREEN = np.array((0.74, 0.42, 0.42))
# What the slide looks like where nothing lies on it, by lamp and film: grey, rose, lilac, blue, bright.
_GLASS = np.array(((0.74, 0.73, 0.71), (0.80, 0.68, 0.76), (0.73, 0.64, 0.76), (0.66, 0.67, 0.82), (0.94, 0.93, 0.97)))
_GLASS_SHARES = (0.36, 0.22, 0.12, 0.18, 0.12)
# A pixel of the Herlev camera, in micrometres.
_PIXEL = 0.2


@dataclass(frozen=True)
class _Person:
    """What the smears of one patient share: the look of the empty slide, stain, dirt, mucus, focus and camera noise.

    focus: standard deviation of the blur in micrometres. grain: that of the noise.
    """

    glass: Array
    stain: Stain
    dirt: float
    mucus: float
    focus: float
    grain: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Person":
        return cls(
            glass=_GLASS[int(rng.choice(len(_GLASS), p=_GLASS_SHARES))] * (1.0 + rng.normal(0.0, 0.02, 3)),
            stain=Stain(
                nuclear=rng.uniform(0.82, 1.15),
                plasma=rng.uniform(0.75, 1.25),
                redness=rng.uniform(0.0, 0.8),
                eosinophilia=rng.uniform(-0.2, 0.2),
            ),
            dirt=float(rng.gamma(1.5, 1.0)),
            mucus=float(rng.beta(1.3, 3.0)),
            focus=rng.uniform(0.22, 0.42),
            grain=rng.uniform(0.008, 0.02),
        )


def draw_pap_smear(label: str, person: np.random.Generator, rng: np.random.Generator, size: int) -> Array:
    """A cell of class `label`: [size, size, 3], about [0, 1]; `person` draws what the patient's pictures share."""
    who, kind = _Person.draw(person), CELLS[label]
    diameter, ratio = rng.uniform(*kind.nucleus), rng.uniform(*kind.ratio)
    cell = diameter / np.sqrt(ratio)
    view = cell * (rng.uniform(1.15, 1.5) if kind.shape == "column" else rng.uniform(1.0, 1.2))
    smear = Smear(size, 2.0 / view)
    _mucus(smear, who, rng)
    lie = rng.uniform(0.0, 2.0 * np.pi)
    _neighbours(smear, kind, who, rng, 0.5 * cell * smear.micron, lie)
    centre = (rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08))
    draw_cell(smear, kind, who.stain, rng, centre, lie, diameter, ratio)
    _specks(smear, who, rng)
    _leucocytes(smear, who, rng)
    return _microscope(smear, who, rng)


def _neighbours(smear: Smear, kind: Cell, who: _Person, rng: np.random.Generator, radius: float, lie: float) -> None:
    """Cells of the same kind that the border cuts; columnar cells stand side by side like a fence."""
    if rng.random() >= kind.crowd:
        return
    for number in range(int(rng.integers(1, 4 if kind.shape == "column" else 3))):
        diameter, ratio = rng.uniform(*kind.nucleus), rng.uniform(*kind.ratio)
        if kind.shape == "column":
            side = (1.0 if number % 2 else -1.0) * (1.0 + number // 2)
            step, slip = 1.45 * radius * side, radius * rng.uniform(-0.35, 0.35)
            turn = lie + rng.normal(0.0, 0.12)
            centre = (step * np.cos(lie) + slip * np.sin(lie), -step * np.sin(lie) + slip * np.cos(lie))
        else:
            turn = rng.uniform(0.0, 2.0 * np.pi)
            away = max(1.0, 1.75 * radius) + rng.uniform(0.05, 0.35)
            centre = (away * np.sin(turn), away * np.cos(turn))
        draw_cell(smear, kind, who.stain, rng, (float(centre[0]), float(centre[1])), turn, diameter, ratio)


def _mucus(smear: Smear, who: _Person, rng: np.random.Generator) -> None:
    """A thin film over the slide, and strands of mucus in it."""
    size = smear.size
    film = 0.05 * who.mucus * (1.0 + 0.6 * noise(rng, size, 4, 3))
    strands = np.exp(-((noise(rng, size, 4, 2) / 0.16) ** 2)) * inside(-noise(rng, size, 3), 0.3)
    specks = 0.03 * noise(rng, size, smear.lattice(0.8), 2, 0.8)
    amount = (film + 0.28 * who.mucus * strands + specks * (0.4 + who.mucus)).clip(0.0)
    smear.green += 0.6 * amount
    smear.eosin += 0.5 * amount
    smear.haematoxylin += 0.2 * amount


def _specks(smear: Smear, who: _Person, rng: np.random.Generator) -> None:
    """Dirt and bacteria, some alone, most in a nest, away from the middle."""
    count = int(rng.poisson(0.22 * who.dirt * 2.0 / smear.micron))
    nest = rng.uniform(-1.0, 1.0, 2)
    loose = rng.random(count) < 0.45
    places = np.where(loose[:, None], rng.uniform(-1.0, 1.0, (count, 2)), nest + rng.normal(0.0, 0.22, (count, 2)))
    radii = smear.micron * rng.uniform(0.15, 0.5, count)
    far = np.hypot(*places.T) > 0.35
    ragged = inside(-noise(rng, smear.size, smear.lattice(0.7)), 0.5)
    smear.haematoxylin += 0.9 * ragged * paint_spots(smear.size, places[far], radii[far])


def _leucocytes(smear: Smear, who: _Person, rng: np.random.Generator) -> None:
    """White blood cells: two to four small dark lobes in a faint round body, towards the border."""
    y, x = grid(smear.size)
    for _ in range(int(rng.poisson(min(0.01 * who.dirt / smear.micron, 3.0)))):
        turn, reach = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.75, 1.15)
        centre = np.array((reach * np.sin(turn), reach * np.cos(turn)))
        smear.green += 0.12 * inside(np.hypot(y - centre[0], x - centre[1]) / (4.5 * smear.micron) - 1.0, 0.15)
        lobes = centre + spread_points(rng, int(rng.integers(2, 5)), 2.2 * smear.micron)
        nuclei = paint_spots(smear.size, lobes, smear.micron * rng.uniform(1.2, 2.0, len(lobes)))
        chromatin = 0.95 + 0.15 * noise(rng, smear.size, smear.lattice(1.0))
        blurred = gaussian_filter(nuclei, 0.1 * smear.micron * smear.size)
        smear.haematoxylin += who.stain.nuclear * chromatin * blurred


def _microscope(smear: Smear, who: _Person, rng: np.random.Generator) -> Array:
    """Light through the dyes (Beer and Lambert), blur of optics and focus, uneven lamp, noise of the camera."""
    size = smear.size
    density = (
        smear.haematoxylin[..., None] * _HAEMATOXYLIN
        + smear.eosin[..., None] * _EOSIN
        + smear.green[..., None] * _LIGHT_GREEN
    )
    pixels = smear.micron * size / 2.0
    blur = who.focus * rng.uniform(0.85, 1.3) * pixels
    light = gaussian_filter(np.exp(-density), (blur, blur, 0.0))
    y, x = grid(size)
    tilt = rng.uniform(0.0, 2.0 * np.pi)
    lamp = 1.0 + 0.04 * (np.sin(tilt) * y + np.cos(tilt) * x)
    # Where the picture is finer than the camera's pixels, their noise is smeared with them.
    smeared = 0.35 * _PIXEL * pixels
    grain = gaussian_filter(rng.standard_normal((size, size, 3)), (smeared, smeared, 0.0))
    grain *= who.grain / float(grain.std())
    return np.asarray(who.glass * light * lamp[..., None] + grain)
