"""The chest of an invented person: signed distances in mm of its parts, and their Hounsfield units.

Sizes are those of an adult (lungs about 25 cm wide and 20 cm high); a field of view that is too narrow gets a smaller
person. HU of tissues: textbook values for 120 kV, e.g. Kalender, Computed Tomography (2011), chapter 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthoma.phantoms.ct.frame import Box, Field, Frame, Places, blended, ellipsoid, paint_tube, smooth_union

AIR, FAT, MUSCLE, BLOOD, LIVER, LUNG = -1000.0, -95.0, 52.0, 42.0, 58.0, -868.0
_MEDIASTINAL_FAT, _SKIN, _CORTEX, _MARROW, _DISC, _CARTILAGE, _CORD = -80.0, 15.0, 560.0, 190.0, 85.0, 130.0, 25.0
_ARCH, _STERNUM, _TABLE_SKIN, _TABLE_CORE = 330.0, 390.0, -150.0, -960.0
# mm that a person of natural size needs from side to side and from front to back.
_NEEDED = (344.0, 262.0)


@dataclass(frozen=True)
class Anatomy:
    """One person. scale: 1 for natural size. Lengths below are mm at natural size, places (x, y, z) as in `Frame`.

    thorax: half axes of the space within the ribs; heart: its centre; domes: height of the diaphragm right and left;
    fat: thickness under the skin; wave: amplitude and phases of the deviations from symmetry.
    """

    scale: float
    thorax: tuple[float, float, float]
    heart: tuple[float, float, float]
    domes: tuple[float, float]
    fat: float
    wave: tuple[float, float, float, float]
    lung_hu: float
    gradient: float

    def lung_distance(self, places: Places) -> Field:
        """Nearly the signed distance in mm to the surface of the lungs, negative inside; any shapes that broadcast."""
        x, y, z = self._natural(places)
        return self._lungs(
            self._cavity(x, y, z), self._mediastinum(x, y, z, self._heart(x, y, z)), self._domes(x, y, z)
        )

    def paint(self, frame: Frame) -> tuple[Field, Field]:
        """HU of everything but vessels, airways and nodules, float32 [z, y, x]; and the distance to the lungs in mm."""
        x, y, z = self._natural(frame.places)
        width = frame.edge_width / self.scale
        hu = self._paint_wall(x, y, width)
        cavity, heart, domes = self._cavity(x, y, z), self._heart(x, y, z), self._domes(x, y, z)
        lungs = self._lungs(cavity, self._mediastinum(x, y, z, heart), domes)
        hu = blended(hu, _MEDIASTINAL_FAT, cavity + 3, width)
        hu = np.array(np.broadcast_to(hu, frame.size))
        for dome in domes:
            below = self._box(frame, (-400, -400, -400), (400, 400, -45))
            if below is not None:
                hu[below] = blended(hu[below], LIVER, np.maximum(dome[below] + 1, cavity[below]), width)
        around = self._box(frame, (-60, -95, -115), (110, 30, 20))
        if around is not None:
            hu[around] = blended(hu[around], BLOOD, heart[around], width)
        self._paint_great_vessels(hu, frame)
        hu = blended(hu, self._parenchyma(x, y, z), lungs, frame.edge_width)
        self._paint_spine(hu, frame, width)
        self._paint_ribs(hu, frame)
        return hu, lungs

    def _box(self, frame: Frame, low: tuple[float, float, float], high: tuple[float, float, float]) -> Box | None:
        return frame.box_spanning(np.array(low) * self.scale, np.array(high) * self.scale)

    def _lungs(self, cavity: Field, mediastinum: Field, domes: list[Field]) -> Field:
        lungs = np.maximum(cavity, -mediastinum)
        for dome in domes:
            np.maximum(lungs, -dome, out=lungs)
        lungs *= np.float32(self.scale)
        return lungs

    def hila(self) -> NDArray[np.float64]:
        """Where vessels and bronchi enter the right and the left lung: [2, 3] mm."""
        return np.array([(-36.0, 12.0, 2.0), (38.0, 14.0, 8.0)]) * self.scale

    def trachea(self) -> NDArray[np.float64]:
        """Middle line of the trachea from above to its fork: [n, 3] mm."""
        return np.array([(1.0, -2.0, 175.0), (1.0, 4.0, 90.0), (-1.0, 14.0, 32.0)]) * self.scale

    def _natural(self, places: Places) -> Places:
        """Places in a person of natural size, with the deviations from symmetry."""
        x, y, z = (axis / np.float32(self.scale) for axis in places)
        amplitude, one, two, _ = self.wave
        return _float32(x + amplitude * np.sin(y / 37 + one)), _float32(y + amplitude * np.sin(x / 41 + two)), z

    def _cavity(self, x: Field, y: Field, z: Field) -> Field:
        """The space within the ribs: a cylinder with a round top."""
        return ellipsoid(x, y, np.maximum(z + 25, 0.0), self.thorax)

    def _mediastinum(self, x: Field, y: Field, z: Field, heart: Field) -> Field:
        below = _float32(1 / (1 + np.exp((z - 62) / 12)))
        middle = ellipsoid(x - 2, y - 2, None, (22 + 11 * below, 34 + 8 * below))
        spine = ellipsoid(x, y - 66, None, (26.0, 27.0))
        both = smooth_union(smooth_union(_float32(np.abs(x - 3) - 2.2), spine, 10.0), middle, 14.0)
        return smooth_union(both, heart, 12.0)

    def _heart(self, x: Field, y: Field, z: Field) -> Field:
        a, b, c = self.heart
        # The tip points to the left, the front and down.
        u, v = 0.88 * (x - a) - 0.47 * (y - b), 0.47 * (x - a) + 0.88 * (y - b)
        return ellipsoid(u, v, _float32(z - c + 0.25 * u), (62.0, 43.0, 47.0))

    def _domes(self, x: Field, y: Field, z: Field) -> list[Field]:
        right, left = self.domes
        return [
            ellipsoid(x + 64, y - 4, np.maximum(z - right + 86, 0.0), (80.0, 96.0, 86.0)),
            ellipsoid(x - 64, y - 4, np.maximum(z - left + 86, 0.0), (78.0, 96.0, 86.0)),
        ]

    def _muscles(self, x: Field, y: Field) -> Field:
        """The chest wall, thicker at the back beside the spine and in front."""
        rx, ry, _ = self.thorax
        wall = ellipsoid(x, y - 3, None, (rx + 13.0, ry + 9.0))
        side = np.abs(x)
        back = ellipsoid(side - 28, y - ry - 4, None, (24.0, 15.0))
        front = ellipsoid(side - 62, y + ry - 2, None, (50.0, 15.0))
        return smooth_union(smooth_union(wall, back, 6.0), front, 6.0)

    def _parenchyma(self, x: Field, y: Field, z: Field) -> Field:
        """HU of the lungs: denser towards the back, where they lie lower, and never quite even."""
        _, one, two, three = self.wave
        uneven = 9 * np.sin(x / 23 + one) * np.sin(y / 19 + two) + 8 * np.sin(z / 17 + three) * np.sin(
            (x + y) / 31 + one
        )
        hu: Field = self.lung_hu + self.gradient * (y / 80) + uneven
        return hu.astype(np.float32, copy=False)

    def _paint_wall(self, x: Field, y: Field, width: float) -> Field:
        """HU of the table and of skin, fat and muscles, which are the same on all slices."""
        rx, ry, _ = self.thorax
        top = ry + 23 + self.fat
        arc = y - top + (x / 130) ** 2 * 14
        table = np.maximum(np.abs(arc - 9) - 9, np.abs(x) - 205)
        body = ellipsoid(x, y - 5, None, (rx + 20 + self.fat, ry + 16 + self.fat))
        hu = np.full((1, 1, 1), AIR, dtype=np.float32)
        for value, distance in (
            (_TABLE_SKIN, table),
            (_TABLE_CORE, table + 2),
            (_SKIN, body),
            (FAT, body + 2),
            (MUSCLE, np.maximum(self._muscles(x, y), body + 5)),
        ):
            hu = blended(hu, value, distance, width)
        return hu

    def _paint_spine(self, hu: Field, frame: Frame, width: float) -> None:
        """Vertebrae with discs between them, their arches and processes, the cord, and the breastbone. In place."""
        box = self._box(frame, (-26, -105, -400), (26, 125, 400))
        if box is None:
            return
        x, y, z = self._natural(frame.in_box(box))
        vertebra = ellipsoid(x, y - 59, None, (19.0, 15.5))
        disc = np.clip((np.abs(np.mod(z + 300, 24.0) - 12.0) - 9.0) / 1.5, 0.0, 1.0)
        arch = ellipsoid(x, y - 86, None, (15.0, 14.0))
        process = np.maximum(np.abs(x) - 3.0, np.abs(y - 100) - 10.0) + disc * 2
        sternum = np.maximum(ellipsoid(x, y + self.thorax[1] + 5, None, (17.0, 5.5)), -(z + 75))
        part = hu[box]
        for value, distance in (
            (_CORTEX + disc * (_DISC - _CORTEX), vertebra),
            (_MARROW + disc * (_DISC - _MARROW), vertebra + 2.5),
            (_ARCH, np.minimum(arch, process)),
            (_CORD, ellipsoid(x, y - 84, None, (9.5, 8.5))),
            (_STERNUM, sternum),
            (_MARROW, sternum + 2),
        ):
            part = blended(part, value, distance, width)
        hu[box] = part

    def _paint_ribs(self, hu: Field, frame: Frame) -> None:
        """Eleven pairs, each from the spine around the side, sinking to the front, where it becomes cartilage; and collar bones."""
        angles = np.radians(np.linspace(16, 158, 15))
        rx, ry, rz = self.thorax
        bone, marrow, cartilage = (np.zeros(frame.size, dtype=np.float32) for _ in range(3))
        for number in range(11):
            z = 112 - 24.5 * number - 62 * (angles / np.pi) ** 1.2
            shrunk = np.sqrt(np.clip(1 - (np.clip(z + 25, 0, None) / (rz + 7)) ** 2, 0.16, 1))
            for side in (-1, 1):
                points = np.column_stack(
                    [side * (rx + 7) * shrunk * np.sin(angles), (ry + 6) * shrunk * np.cos(angles), z]
                )
                points = points * self.scale
                for place in range(len(angles) - 1):
                    ends = points[place : place + 2]
                    if angles[place] > 2.35:
                        paint_tube(cartilage, frame, ends, (5.0 * self.scale,) * 2)
                        continue
                    paint_tube(bone, frame, ends, (5.4 * self.scale,) * 2)
                    paint_tube(marrow, frame, ends, (3.4 * self.scale,) * 2)
        for side in (-1, 1):
            collar = (
                np.array([(side * 14, -0.95 * ry, 92), (side * 60, -0.8 * ry, 104), (side * 118, -8, 122)]) * self.scale
            )
            for place in range(2):
                paint_tube(bone, frame, collar[place : place + 2], (6.0 * self.scale,) * 2)
                paint_tube(marrow, frame, collar[place : place + 2], (4.0 * self.scale,) * 2)
        for cover, value in ((cartilage, _CARTILAGE), (bone, _CORTEX), (marrow, _MARROW)):
            hu += cover * (value - hu)

    def _paint_great_vessels(self, hu: Field, frame: Frame) -> None:
        arch = [(-6, -22, -20), (-14, -20, 25), (-6, -10, 48), (10, 12, 56), (20, 36, 46), (19, 42, 20), (17, 42, -180)]
        trunk = [(14, -28, -15), (12, -18, 18), (-4, -4, 20), (-30, 6, 8)]
        left = [(12, -18, 18), (32, 8, 14)]
        veins = [(-22, -12, 130), (-22, -14, 40), (-24, -12, -20)]
        arteries = [(8, 2, 56), (18, 0, 140)]
        gullet = [(4, 30, 180), (5, 36, -180)]
        cover = np.zeros(frame.size, dtype=np.float32)
        for line, radius in ((arch, 12.5), (trunk, 11.0), (left, 10.0), (veins, 8.5), (arteries, 5.0), (gullet, 6.5)):
            points = np.array(line, dtype=np.float64) * self.scale
            for place in range(len(points) - 1):
                paint_tube(cover, frame, points[place : place + 2], (radius * self.scale,) * 2)
        hu += cover * (BLOOD - hu)


def _float32(field: NDArray[np.floating]) -> Field:
    return np.asarray(field, dtype=np.float32)


def draw_anatomy(random: np.random.Generator, frame: Frame) -> Anatomy:
    """A person that fits into the field of view from side to side and from front to back; not in height."""
    build = random.uniform(0.95, 1.04)
    x, y, _ = frame.extent
    scale = min(1.0, x / _NEEDED[0], y / _NEEDED[1]) * build / 1.04
    right = -66 + random.normal(0, 6)
    phases = random.uniform(0, 2 * np.pi, 3).tolist()
    return Anatomy(
        scale=float(scale),
        thorax=(124 + random.normal(0, 3), 82 + random.normal(0, 3), 134 + random.normal(0, 4)),
        heart=(20 + random.normal(0, 3), -30 + random.normal(0, 3), -46 + random.normal(0, 5)),
        domes=(right, right - random.uniform(6, 16)),
        fat=float(random.uniform(5, 14)),
        wave=(random.uniform(0.8, 2.2), *phases),
        lung_hu=LUNG + random.normal(0, 14),
        gradient=float(random.uniform(30, 65)),
    )
