"""Glands and nests: round things with an edge, of which a pixel or a nucleus asks how deep inside it lies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthoma.phantoms.slides.fields import Field, Mask, Noise, Sites, Window, sites

_OUTSIDE = -1e3


@dataclass(frozen=True)
class Build:
    """How glands (or nests) of one class stand and look; lengths in pixels of 0.5 µm.

    spacing of their centres; radius from `smallest` to `largest`; squash: least ratio of the two axes; wobble: how far
    the edge departs from an ellipse, as a share of the radius, over `wave` pixels.
    """

    name: str
    spacing: float
    smallest: float
    largest: float
    squash: float
    wobble: float
    wave: float


BENIGN_GLANDS = Build("benign", 262.0, 74.0, 114.0, 0.72, 0.05, 60.0)
ADENOCARCINOMA_GLANDS = Build("adenocarcinoma", 205.0, 66.0, 118.0, 0.55, 0.20, 42.0)
SQUAMOUS_NESTS = Build("squamous", 330.0, 130.0, 185.0, 0.6, 0.16, 70.0)


@dataclass(frozen=True)
class Glands:
    """The glands that may reach into a window. radii [n, 2]; turn [n] in radians; values [n, 4]: further chances."""

    build: Build
    x: Field
    y: Field
    radii: Field
    turn: Field
    values: Field
    wobble: Noise

    def only(self, chosen: Mask) -> "Glands":
        return Glands(
            self.build,
            self.x[chosen],
            self.y[chosen],
            self.radii[chosen],
            self.turn[chosen],
            self.values[chosen],
            self.wobble,
        )

    def __len__(self) -> int:
        return len(self.x)


def glands(seed: int, purpose: str, window: Window, build: Build) -> Glands:
    """All glands of a lattice that may reach into `window`."""
    reach = round(build.largest * (1.0 + 2.5 * build.wobble))
    found: Sites = sites(seed, f"{purpose}/{build.name}", window.grown(reach), build.spacing, 7)
    major = build.smallest + (build.largest - build.smallest) * found.values[:, 0]
    radii = np.stack((major, major * (build.squash + (1.0 - build.squash) * found.values[:, 1])), axis=1)
    wobble = Noise(seed, f"{purpose}/{build.name}/wobble", window, build.wave, reach=3 * reach)
    return Glands(build, found.x, found.y, radii, found.values[:, 2] * np.float32(np.pi), found.values[:, 3:], wobble)


def depth(window: Window, found: Glands) -> tuple[Field, NDArray[np.int32]]:
    """Depth in pixels below the nearest edge, negative outside, and the number of the gland: both [height, width]."""
    deepest = np.full(window.shape, _OUTSIDE, dtype=np.float32)
    owner = np.full(window.shape, -1, dtype=np.int32)
    if not len(found):
        return deepest, owner
    wobble = found.wobble.map() * np.float32(found.build.wobble)
    for number in range(len(found)):
        major, minor = found.radii[number].tolist()
        reach = major * (1.0 + 3.0 * found.build.wobble)
        left, right = _span(found.x[number] - reach, found.x[number] + reach, window.x, window.width)
        top, bottom = _span(found.y[number] - reach, found.y[number] + reach, window.y, window.height)
        if left >= right or top >= bottom:
            continue
        part = (slice(top, bottom), slice(left, right))
        dx, dy = window.xs[left:right] - found.x[number], window.ys[top:bottom] - found.y[number]
        cosine, sine = np.cos(found.turn[number]), np.sin(found.turn[number])
        u = (cosine * dx / major)[None, :] + (sine * dy / major)[:, None]
        v = (-sine * dx / minor)[None, :] + (cosine * dy / minor)[:, None]
        below = (1.0 - np.sqrt(u * u + v * v) - wobble[part]) * np.float32(minor)
        better = below > deepest[part]
        np.copyto(deepest[part], below, where=better)
        np.copyto(owner[part], np.int32(number), where=better)
    return deepest, owner


def ring(found: Glands, spacing: float, below: float, values: Field) -> tuple[Field, Field, Field, NDArray[np.int64]]:
    """Places on lines `below` pixels under the edge of each gland, about `spacing` apart: x, y, the angle of the radius
    there, and the number of the gland, each [n].

    values [glands, 1]: where each ring begins. The edge is where `depth` puts it: the ellipse moved by the wobble.
    """
    count = np.maximum(8, np.round(2.0 * np.pi * found.radii.mean(axis=1) / spacing)).astype(np.int64)
    number = np.repeat(np.arange(len(found)), count)
    step = np.arange(len(number)) - np.repeat(np.cumsum(count) - count, count)
    around = (2.0 * np.pi * (step + values[number, 0]) / count[number]).astype(np.float32)
    major, minor = found.radii[number, 0], found.radii[number, 1]
    share = np.ones_like(around)
    cosine, sine = np.cos(found.turn[number]), np.sin(found.turn[number])
    for _ in range(3):  # the wobble is asked for where the edge turns out to lie
        u, v = share * major * np.cos(around), share * minor * np.sin(around)
        x, y = found.x[number] + cosine * u - sine * v, found.y[number] + sine * u + cosine * v
        share = 1.0 - found.build.wobble * found.wobble.at(x, y) - below / minor
    return x, y, np.arctan2(y - found.y[number], x - found.x[number]), number


def _span(low: float, high: float, start: int, length: int) -> tuple[int, int]:
    return max(0, int(np.floor(low)) - start), min(length, int(np.ceil(high)) - start)
