"""What lies on a phantom slide: sections of tissue, annotated regions, artefacts, and the colours of its stain."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthoma.phantoms.registry import stream
from synthoma.phantoms.slides.fields import Mask, Window
from synthoma.phantoms.slides.outlines import Outline, Region, band, blob

MPP = 0.5  # microns per pixel of level 0
BENIGN, TUMOURS = "benign", ("adenocarcinoma", "squamous")
CLASSES = (BENIGN, *TUMOURS)
PENS = ("pen_blue", "pen_green", "pen_black", "pen_red")
ARTEFACTS = (*PENS, "blur", "fold", "bubble", "dark")

# Radius of the section that artefacts are drawn to scale for, and the largest one, in pixels.
_USUAL_RADIUS, _LARGEST_RADIUS = 1640.0, 3000.0
# Unit vectors in optical density of haematoxylin and eosin, as red, green, blue (Macenko et al., ISBI 2009, reference
# that came with their code).
_HAEMATOXYLIN = (0.5626, 0.7201, 0.4062)
_EOSIN = (0.2159, 0.8012, 0.5581)


@dataclass(frozen=True)
class Stain:
    """Optical density per unit of concentration: haematoxylin and eosin [3] (red, green, blue); glass [3]: the light."""

    haematoxylin: NDArray[np.float32]
    eosin: NDArray[np.float32]
    glass: NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """One slide. size: (width, height) in level-0 pixels.

    regions: what a pathologist outlined, named by class, with holes. exclusions: outlines that take away from all
    regions (a negative region). artefacts: named as in `ARTEFACTS`. A pixel of tissue is of the tumour class whose
    region holds its centre, else benign, whether outlined or not.
    """

    seed: int
    number: int
    patient: int
    size: tuple[int, int]
    stain: Stain
    sections: tuple[Outline, ...]
    regions: tuple[Region, ...]
    exclusions: tuple[Outline, ...] = field(default=())
    artefacts: tuple[Region, ...] = field(default=())

    @property
    def name(self) -> str:
        """The slide's name: that of its file without the ending."""
        return f"slide_{self.number:03d}"

    def purpose(self, what: str) -> str:
        """The random stream of something on this slide."""
        return f"slide/{self.number}/{what}"

    def tissue(self, window: Window) -> Mask:
        """Where there is tissue: [height, width]."""
        inside = np.zeros(window.shape, dtype=bool)
        for section in self.sections:
            if window.meets(section.box):
                inside |= section.fill(window)
        return inside

    def annotated(self, window: Window, name: str) -> Mask:
        """Where the annotation says `name`: its regions without holes and exclusions, on tissue or not."""
        inside = np.zeros(window.shape, dtype=bool)
        for region in self.regions:
            if region.name == name and window.meets(region.outline.box):
                inside |= region.fill(window)
        for exclusion in self.exclusions:
            if inside.any() and window.meets(exclusion.box):
                inside &= ~exclusion.fill(window)
        return inside

    def artefact(self, window: Window, name: str) -> Mask:
        """Where the artefact `name` was planted: [height, width]."""
        inside = np.zeros(window.shape, dtype=bool)
        for region in self.artefacts:
            if region.name == name and window.meets(region.outline.box):
                inside |= region.fill(window)
        return inside

    def is_blank(self, window: Window) -> bool:
        """Whether a window certainly shows nothing but glass."""
        things = (*self.sections, *(region.outline for region in self.artefacts))
        return not any(window.meets(thing.box) for thing in things)


def make_scene(seed: int, number: int, patient: int, size: tuple[int, int], artefacts: bool = True) -> Scene:
    """Slide `number` of `patient`: a pure function of its arguments; without `artefacts` all else is the same.

    Patients with even numbers have an adenocarcinoma, the others a squamous carcinoma. Slides with even numbers have a
    hole in each tumour region, every third one from the second on has a negative region.
    """
    rng = stream(seed, "slides", number, "scene")
    sections, regions, exclusions = [], [], []
    planted: list[Region] = []
    tumour = TUMOURS[patient % len(TUMOURS)]
    for section_number, (centre, radius) in enumerate(_places(rng, size)):
        section = blob(rng, centre, radius, irregularity=0.06, corners=360)
        sections.append(section)
        toward = rng.uniform(0.0, 2.0 * np.pi)
        holes = (_near(rng, centre, radius, toward + 0.5, 0.44, 0.13),) if number % 2 == 0 else ()
        regions.append(Region(tumour, _near(rng, centre, radius, toward, 0.3, 0.5), holes))
        regions.append(Region(BENIGN, _near(rng, centre, radius, toward + np.pi, 0.58, 0.26)))
        if number % 3 == 1:
            exclusions.append(_near(rng, centre, radius, toward - 1.0, 0.62, 0.14))
        if artefacts:
            mishaps = stream(seed, "slides", number, "artefacts", section_number)
            planted += _artefacts(mishaps, centre, radius, number + section_number)
    if len(sections) == 1:
        sections.append(_fragment(rng, size))
    stain = _stain(stream(seed, "slides", "patient", patient), stream(seed, "slides", number, "stain"))
    return Scene(seed, number, patient, size, stain, tuple(sections), tuple(regions), tuple(exclusions), tuple(planted))


def _places(rng: np.random.Generator, size: tuple[int, int]) -> list[tuple[tuple[float, float], float]]:
    """Centre and radius of each section: one on a small slide, up to four on a large one, in a row or a square."""
    width, height = size
    count = int(np.clip(width * height // 5200**2, 1, 4))
    columns, rows = (2, 2) if count == 4 else (count, 1) if width >= height else (1, count)
    slot = width / columns, height / rows
    radius = min(0.4 * min(slot), _LARGEST_RADIUS)
    places = []
    for index in range(columns * rows):
        centre = (np.array((index % columns, index // columns)) + 0.5 + rng.uniform(-0.02, 0.02, 2)) * slot
        places.append(((float(centre[0]), float(centre[1])), radius * rng.uniform(0.92, 1.0)))
    return places


def _near(
    rng: np.random.Generator, centre: tuple[float, float], radius: float, angle: float, away: float, share: float
) -> Outline:
    """A region of a section, `away` from its centre and `share` large, both as parts of its radius."""
    x, y = centre[0] + away * radius * np.cos(angle), centre[1] + away * radius * np.sin(angle)
    return blob(rng, (x, y), share * radius, irregularity=0.05, stretch=rng.uniform(0.85, 1.18))


def _fragment(rng: np.random.Generator, size: tuple[int, int]) -> Outline:
    """A loose piece of tissue in a corner."""
    corner = rng.integers(0, 2, 2) * 0.8 + 0.1
    return blob(rng, (corner[0] * size[0], corner[1] * size[1]), 0.065 * min(size), irregularity=0.15)


def _artefacts(rng: np.random.Generator, centre: tuple[float, float], radius: float, number: int) -> list[Region]:
    """Two pens across the rim of a section; blur, a fold, a bubble and dark spots on it, clear of each other."""
    scale = float(np.clip(radius / _USUAL_RADIUS, 0.15, 1.5))
    found: list[Region] = []
    taken: list[tuple[float, float, float]] = []

    def free_place(reach: float, nearest: float, farthest: float) -> tuple[float, float] | None:
        """A place between two distances from the section's centre (in its radii), clear of the others by `reach`."""
        for _ in range(200):
            angle, distance = rng.uniform(0.0, 2.0 * np.pi), radius * rng.uniform(nearest, farthest)
            x, y = float(centre[0] + distance * np.cos(angle)), float(centre[1] + distance * np.sin(angle))
            if all(np.hypot(x - other[0], y - other[1]) > reach + other[2] for other in taken):
                taken.append((x, y, reach))
                return x, y
        return None

    for pen in (number, number + 1):
        at, turn = free_place(600.0 * scale, 0.72, 0.92), rng.uniform(0.0, np.pi)
        if at is not None:
            stroke = band(rng, at, turn, 950.0 * scale, rng.uniform(190.0, 260.0) * scale)
            found.append(Region(PENS[pen % len(PENS)], stroke))
    at, turn = free_place(500.0 * scale, 0.0, 0.6), rng.uniform(0.0, np.pi)
    if at is not None:
        found.append(Region("fold", band(rng, at, turn, 840.0 * scale, 150.0 * scale)))
    at = free_place(460.0 * scale, 0.0, 0.85)
    if at is not None:
        found.append(Region("blur", blob(rng, at, 420.0 * scale)))
    at = free_place(280.0 * scale, 0.1, 0.75)
    if at is not None:
        found.append(Region("bubble", blob(rng, at, 260.0 * scale, irregularity=0.01)))
    for spot in rng.uniform(80.0, 130.0, 3) * scale:
        at = free_place(1.4 * spot, 0.0, 0.8)
        if at is not None:
            found.append(Region("dark", blob(rng, at, float(spot), irregularity=0.11)))
    return found


def _stain(person: np.random.Generator, slide: np.random.Generator) -> Stain:
    """Colours of a patient's stain (batch and laboratory), a little different on each slide."""

    def dye(direction: tuple[float, float, float], strength: float) -> NDArray[np.float32]:
        vector = np.asarray(direction) + person.normal(0.0, 0.045, 3) + slide.normal(0.0, 0.008, 3)
        vector = np.maximum(vector, 0.02)
        return np.asarray(strength * vector / np.linalg.norm(vector), dtype=np.float32)

    haematoxylin = dye(_HAEMATOXYLIN, person.uniform(0.85, 1.25) * slide.uniform(0.96, 1.04))
    eosin = dye(_EOSIN, person.uniform(0.8, 1.25) * slide.uniform(0.96, 1.04))
    glass = np.array((243.0, 243.0, 244.0)) + person.uniform(-3.0, 1.5, 3)
    return Stain(haematoxylin, eosin, np.round(glass).astype(np.float32))
