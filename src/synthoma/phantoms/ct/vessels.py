"""Vessels and airways of the lungs as branching tubes.

A tree joins random places of a lung by a compromise of short wiring and short ways (Cuntz et al., PLoS Comput. Biol. 6
(2010) e1000877); radii follow Murray's law (Murray, PNAS 12 (1926) 207-214).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthoma.phantoms.ct.anatomy import Anatomy
from synthoma.phantoms.ct.frame import Field, Frame, paint_tube

_MURRAY = 2.7
# Twigs of a tree times the width of a voxel in mm.
_TWIGS = 840
_WAY = 0.42
_STEP_MM = 7.0
_LEAF_MM = 0.5
_BRONCHUS_FROM_MM = 1.6


@dataclass(frozen=True, eq=False)
class Tubes:
    """Straight tapering tubes. ends: [n, 2, 3] (x, y, z) in mm; radii: [n, 2] mm."""

    ends: NDArray[np.float64]
    radii: NDArray[np.float64]

    def clearance(self, place: NDArray[np.float64], least_radius: float = 0.0) -> float:
        """mm from a place to the nearest surface of a tube of at least that radius; inf without one."""
        distances = self.distances(place)[self.radii.max(axis=1) >= least_radius]
        return float(distances.min(initial=np.inf))

    def distances(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """mm from a place to the surface of each tube: [n]."""
        along = self.ends[:, 1] - self.ends[:, 0]
        away = place - self.ends[:, 0]
        share = np.clip((away * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-9), 0, 1)
        found: NDArray[np.float64] = np.linalg.norm(away - share[:, None] * along, axis=1)
        return found - self.radii.max(axis=1)

    def only(self, chosen: NDArray[np.bool_]) -> "Tubes":
        return Tubes(self.ends[chosen], self.radii[chosen])

    def paint(self, cover: Field, frame: Frame) -> None:
        """Raise `cover` to the share of each voxel that the tubes take. In place."""
        for ends, (first, last) in zip(self.ends, self.radii.tolist(), strict=True):
            paint_tube(cover, frame, ends, (first, last))


@dataclass(frozen=True, eq=False)
class Airways:
    """Tubes of the airways' outer walls, and of the air within."""

    walls: Tubes
    lumina: Tubes


def joined(parts: list[Tubes]) -> Tubes:
    """Several sets of tubes as one."""
    return Tubes(np.concatenate([part.ends for part in parts]), np.concatenate([part.radii for part in parts]))


def draw_vessels(random: np.random.Generator, anatomy: Anatomy, edge_width: float) -> tuple[Tubes, Airways]:
    """Arteries and veins of both lungs, and the airways beside the arteries.

    edge_width: mm that can be told apart; the finer, the more twigs each tree has, as on a true scan.
    """
    targets = int(np.clip(_TWIGS / edge_width, 150, 700))
    vessels, bronchi = [], [_trachea(anatomy)]
    for side, hilum in enumerate(anatomy.hila()):
        for kind in ("artery", "vein"):
            root = hilum + np.array([0.0, -7.0, -11.0] if kind == "vein" else [0.0, 0.0, 0.0]) * anatomy.scale
            points, parents = _grow(random, root, _places_in_lung(random, anatomy, side, targets), anatomy.scale)
            tree = _with_radii(points, parents, anatomy.scale)
            vessels.append(tree)
            if kind == "artery":
                bronchi.append(_beside(tree, anatomy.scale))
    air = joined(bronchi)
    walls = Tubes(air.ends, air.radii * 1.18 + 0.55 * anatomy.scale)
    return joined(vessels), Airways(walls, air)


def _places_in_lung(random: np.random.Generator, anatomy: Anatomy, side: int, count: int) -> NDArray[np.float64]:
    """[count, 3] places at least 2 mm within the right (0) or the left (1) lung."""
    low, high = np.array([2.0, -95.0, -160.0]), np.array([140.0, 95.0, 125.0])
    found = np.empty((0, 3))
    while len(found) < count:
        tried = random.uniform(low, high, (count * 4, 3)) * anatomy.scale
        tried[:, 0] *= -1 if side == 0 else 1
        x, y, z = tried.T.astype(np.float32)
        found = np.concatenate([found, tried[anatomy.lung_distance((x, y, z)) < -2.0]])
    return found[:count]


def _grow(
    random: np.random.Generator, root: NDArray[np.float64], targets: NDArray[np.float64], scale: float
) -> tuple[NDArray[np.float64], list[int]]:
    """Nodes [n, 3] of a tree that reaches all targets, and the parent of each; a parent comes before its children."""
    order = np.argsort(np.linalg.norm(targets - root, axis=1))
    # No way is longer than the chest.
    room = 1 + len(targets) * (1 + int(400 / _STEP_MM))
    nodes, ways, parents = np.empty((room, 3)), np.zeros(room), [-1]
    nodes[0] = root
    for target in targets[order]:
        count = len(parents)
        distance = np.sqrt(((nodes[:count] - target) ** 2).sum(axis=1))
        parent = int(np.argmin(distance + _WAY * ways[:count]))
        steps = max(1, round(float(distance[parent]) / (_STEP_MM * scale)))
        start, length = nodes[parent], float(distance[parent]) / steps
        places = start + (target - start) * (np.arange(1, steps + 1) / steps)[:, None]
        places[:-1] += random.normal(0, 0.13 * length, (steps - 1, 3))
        nodes[count : count + steps] = places
        ways[count : count + steps] = ways[parent] + length * np.arange(1, steps + 1)
        parents += [parent, *range(count, count + steps - 1)]
    return nodes[: len(parents)].copy(), parents


def _with_radii(points: NDArray[np.float64], parents: list[int], scale: float) -> Tubes:
    """Tubes between a node and its parent: r^2.7 is kept at each fork, and tubes taper from fork to fork."""
    has_child = np.zeros(len(parents), dtype=np.bool_)
    has_child[[parent for parent in parents if parent >= 0]] = True
    leaves = np.where(has_child, 0.0, 1.0)
    for node in range(len(parents) - 1, 0, -1):
        leaves[parents[node]] += leaves[node]
    radius = _LEAF_MM * leaves ** (1 / _MURRAY) * max(scale, 0.6)
    children = np.arange(1, len(parents))
    parent = np.array(parents[1:])
    # A thin twig keeps its own radius at a thick stem.
    start = np.minimum(radius[parent], radius[children] * 1.25)
    return Tubes(np.stack([points[parent], points[children]], axis=1), np.column_stack([start, radius[children]]))


def _beside(arteries: Tubes, scale: float) -> Tubes:
    """A bronchus beside each of the thicker arteries."""
    thick = arteries.only(arteries.radii.min(axis=1) >= _BRONCHUS_FROM_MM * scale)
    lumen = thick.radii * 0.8
    away = (thick.radii + lumen + 1.0 * scale)[:, :, None] * np.array([0.25, 0.75, 0.61])
    return Tubes(thick.ends + away, lumen)


def _trachea(anatomy: Anatomy) -> Tubes:
    """Trachea and the two main bronchi to the hila; radii of their lumen."""
    line = anatomy.trachea()
    hila = anatomy.hila() + np.array([0.0, 3.0, 2.0]) * anatomy.scale
    ends = [line[:2], line[1:], *(np.stack([line[-1], hilum]) for hilum in hila)]
    radii = np.array([(8.5, 8.5), (8.5, 8.5), (7.0, 5.5), (6.5, 5.0)]) * anatomy.scale
    return Tubes(np.stack(ends), radii)
