"""Volume, surface, diameters and roughness of a binary mask [z, y, x], with voxels of any spacing.

Lengths come in the unit of the spacing: mm, or voxels where `spacing` is None.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.spatial import ConvexHull, SphericalVoronoi
from scipy.spatial.distance import pdist

from synthoma.measure.checks import Spacing, box_around, checked_mask, checked_spacing

# The smoothing against which roughness is told, in radii of the sphere of the same volume.
_ROUGHNESS_SIGMA = 0.25
# One of each pair of opposite neighbours of a voxel.
_DIRECTIONS = tuple((z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) > (0, 0, 0))


def volume_of(mask: ArrayLike, spacing: Spacing | None = None) -> float:
    """Number of voxels times the volume of one."""
    return float(np.count_nonzero(checked_mask(mask))) * math.prod(checked_spacing(spacing))


def equivalent_diameter(volume: float) -> float:
    """Diameter of the sphere of that volume."""
    return (6.0 * volume / math.pi) ** (1 / 3)


def surface_area(mask: ArrayLike, spacing: Spacing | None = None) -> float:
    """Area of the surface by the Crofton formula over 13 directions; 0 for an empty mask.

    The mean number of crossings of a line with the surface, weighted by the part of the sphere that is nearest to each
    direction (Lehmann and Legland, "Efficient N-dimensional surface estimation using Crofton formula and run-length
    encoding", Insight Journal 2012). Measured for balls and ellipsoids 1:2, turned and shifted at random: within 3 % from
    a radius of 4 voxels on; for voxels of 2.5 x 0.7 x 0.7 mm within 4.5 % from a radius of 4 mm on. Flat faces along
    the axes of the grid come out too small: a cube of 12 voxels by 12 %.
    """
    inside = checked_mask(mask)
    lengths = checked_spacing(spacing)
    if not inside.any():
        return 0.0
    padded = np.pad(inside[box_around(inside)], 1)
    crossings = 0.0
    for direction, weight in zip(_DIRECTIONS, _direction_weights(lengths), strict=True):
        here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(direction, padded.shape, strict=True))
        there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(direction, padded.shape, strict=True))
        count = np.count_nonzero(padded[here] != padded[there])
        # Lines in this direction are so far apart that one stands for voxel volume / step of area.
        crossings += weight * count / math.hypot(*(d * n for d, n in zip(direction, lengths, strict=True)))
    return float(2.0 * crossings * math.prod(lengths))


@lru_cache(maxsize=64)
def _direction_weights(lengths: tuple[float, float, float]) -> tuple[float, ...]:
    """The part of the sphere that is nearest to each direction or its opposite; they add up to 1."""
    half = np.array(_DIRECTIONS, dtype=np.float64) * np.array(lengths)
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    parts = SphericalVoronoi(np.concatenate([half, -half])).calculate_areas() / (4 * math.pi)
    return tuple((parts[: len(half)] + parts[len(half) :]).tolist())


def sphericity_of(volume: float, area: float) -> float:
    """pi^(1/3) (6 V)^(2/3) / A: 1 for a ball, less for all else (Wadell, J. Geol. 43 (1935) 250-280)."""
    return math.pi ** (1 / 3) * (6.0 * volume) ** (2 / 3) / area if area > 0 else 0.0


def longest_in_plane(mask: ArrayLike, spacing: Spacing | None = None) -> float:
    """The longest diameter in any one axial slice, as RECIST 1.1 measures targets; 0 for an empty mask.

    Between midpoints of the pixels' outer edges: centres would make it a pixel too short, corners too long.
    """
    inside = checked_mask(mask)
    _, dy, dx = checked_spacing(spacing)
    longest = 0.0
    for plane in inside:
        places = np.argwhere(plane & ~ndimage.binary_erosion(plane))
        if not len(places):
            continue
        edges = np.concatenate([places + step for step in ((0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))])
        points = edges * np.array((dy, dx))
        longest = max(longest, float(pdist(points[ConvexHull(points).vertices]).max()))
    return longest


def roughness_of(mask: ArrayLike, spacing: Spacing | None = None) -> float:
    """1 - A(smooth) / A: the part of the surface that vanishes when the mask is smoothed; 0 for a ball, at most 1.

    Smoothed by a Gaussian whose sd is a quarter of the radius of the sphere of the same volume, and cut at the level that
    keeps the volume; so it has no unit and does not depend on size. Spicules, lobes and ragged margins raise it.
    """
    inside = checked_mask(mask)
    lengths = checked_spacing(spacing)
    area = surface_area(inside, lengths)
    if area == 0.0:
        return 0.0
    count = int(np.count_nonzero(inside))
    sigma = _ROUGHNESS_SIGMA * equivalent_diameter(count * math.prod(lengths)) / 2
    sigmas = [sigma / length for length in lengths]
    borders = [math.ceil(3 * part) + 1 for part in sigmas]
    padded = np.pad(inside[box_around(inside)].astype(np.float32), [(border, border) for border in borders])
    smooth = ndimage.gaussian_filter(padded, sigmas, mode="constant")
    level = np.partition(smooth.ravel(), smooth.size - count)[smooth.size - count]
    return float(max(0.0, 1.0 - surface_area(smooth >= level, lengths) / area))
