"""Several readers' outlines to nodules: which belong together, the consensus of their masks, and their ratings.

The clustering is that of pylidc (`Scan.cluster_annotations`, metric 'min', Hancock and Magnan, J. Med. Imaging 3 (2016)
044504): outlines are joined whose points come nearer than a tolerance, the slice thickness to begin with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from synthoma.formats.marks.contours import CroppedMask, contour_mask, place_in_union
from synthoma.formats.marks.shapes import CHARACTERISTICS, Contour, LidcNodule

MAX_READERS = 4
_FACTOR = 0.9
_MIN_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class NoduleCluster:
    """The outlines that are one nodule. unresolved: it has too many, and no tolerance parts them; look at it."""

    nodules: tuple[LidcNodule, ...]
    unresolved: bool = False

    @property
    def readers(self) -> int:
        return len({nodule.reader for nodule in self.nodules})


@dataclass(frozen=True, slots=True, eq=False)
class Consensus:
    """mask: voxels that at least a part `level` of the readers included.

    center: its centre of mass as index (z, y, x) of the volume, and center_z in mm; None where the mask is empty.
    """

    mask: CroppedMask
    center: tuple[float, float, float] | None
    center_z: float | None
    readers: int
    level: float


@dataclass(frozen=True, slots=True)
class RatingSummary:
    """One characteristic. readers: how many rated it; sd: standard deviation of these ratings (ddof 0), 0 for one reader."""

    median: float
    readers: int
    sd: float


def cluster_nodules(
    nodules: Sequence[LidcNodule],
    pixel_spacing: tuple[float, float],
    slice_spacing: float,
    tolerance: float | None = None,
) -> tuple[NoduleCluster, ...]:
    """Outlines of several readers as nodules, in the order of their z.

    pixel_spacing: mm (y, x); slice_spacing: mm, and the tolerance where that is not given (pylidc's is the slice
    thickness). A cluster with more than four outlines, or two of one reader, is parted by reducing its tolerance by 0.9
    until all parts are right. Unlike in pylidc the others keep their tolerance, and one that cannot be parted above
    0.1 mm stays whole, as `unresolved`.
    """
    tolerance = slice_spacing if tolerance is None else tolerance
    if not (min(*pixel_spacing, slice_spacing) > 0 and tolerance >= 0):
        raise ValueError("spacings are mm above 0, and the tolerance is not below 0")
    distances = _distances(nodules, pixel_spacing, tolerance)
    clusters = []
    for members in _components(distances, np.arange(len(nodules)), tolerance):
        parts = [members]
        if not _plausible(nodules, members):
            parts = _parted(nodules, members, distances, tolerance) or parts
        for part in parts:
            chosen = tuple(nodules[i] for i in part)
            clusters.append(NoduleCluster(chosen, not _plausible(nodules, part)))
    return tuple(sorted(clusters, key=lambda cluster: _middle(cluster.nodules)))


def consensus(cluster: NoduleCluster, z_positions: ArrayLike, level: float = 0.5) -> Consensus:
    """The mask that at least `level` (0 < level <= 1) of the cluster's readers agree on, in the box of all their outlines.

    z_positions: [n] mm, the slices of the volume. Two outlines of one reader count as one that is their union.
    Raises `MarksError` for a contour that is on none of the slices.
    """
    if not 0 < level <= 1:
        raise ValueError("the level of a consensus is above 0 and at most 1")
    of_reader: dict[int, list[CroppedMask]] = {}
    for nodule in cluster.nodules:
        of_reader.setdefault(nodule.reader, []).append(contour_mask(nodule.contours, z_positions))
    placed, start = place_in_union([mask for masks in of_reader.values() for mask in masks])
    votes = np.zeros(placed[0].shape, dtype=np.int64)
    each = iter(placed)
    for masks in of_reader.values():
        votes += np.logical_or.reduce([next(each) for _ in masks])
    # The margin is for levels that are no binary fraction, such as 1/3 and 0.6.
    mask = votes >= level * len(of_reader) - 1e-9
    center, center_z = None, None
    if mask.any():
        z, y, x = (np.argwhere(mask).mean(axis=0) + start).tolist()
        grid = np.asarray(z_positions, dtype=np.float64)
        center, center_z = (z, y, x), float(np.interp(z, np.arange(len(grid)), grid))
    return Consensus(CroppedMask(mask, start), center, center_z, len(of_reader), level)


def summarise_ratings(cluster: NoduleCluster) -> dict[str, RatingSummary]:
    """Median, number of readers and spread of each characteristic that anybody rated.

    A reader with two outlines in the cluster counts once, with the median of his ratings.
    """
    summaries = {}
    for name in CHARACTERISTICS:
        of_reader: dict[int, list[int]] = {}
        for nodule in cluster.nodules:
            if name in nodule.ratings:
                of_reader.setdefault(nodule.reader, []).append(nodule.ratings[name])
        if of_reader:
            ratings = [float(np.median(given)) for given in of_reader.values()]
            summaries[name] = RatingSummary(float(np.median(ratings)), len(ratings), float(np.std(ratings)))
    return summaries


def suspicion_label(ratings: Mapping[str, RatingSummary]) -> str | None:
    """`rated_suspicious` for a median malignancy above 3, `rated_benign` below; None for 3, or where nobody rated it.

    It is the opinion of radiologists on an image, not pathology; hence the name.
    """
    malignancy = ratings.get("malignancy")
    if malignancy is None or malignancy.median == 3:
        return None
    return "rated_suspicious" if malignancy.median > 3 else "rated_benign"


def _plausible(nodules: Sequence[LidcNodule], members: NDArray[np.int64]) -> bool:
    readers = [nodules[i].reader for i in members]
    return len(readers) <= MAX_READERS and len(set(readers)) == len(readers)


def _parted(
    nodules: Sequence[LidcNodule], members: NDArray[np.int64], distances: NDArray[np.float64], tolerance: float
) -> list[NDArray[np.int64]] | None:
    """Parts that are all plausible, at the largest tolerance that makes them; None if there is none."""
    tolerance *= _FACTOR
    while tolerance >= _MIN_TOLERANCE:
        parts = _components(distances, members, tolerance)
        if all(_plausible(nodules, part) for part in parts):
            return parts
        tolerance *= _FACTOR
    return None


def _components(
    distances: NDArray[np.float64], members: NDArray[np.int64], tolerance: float
) -> list[NDArray[np.int64]]:
    """Connected components of the graph in which two members are joined that are within the tolerance."""
    count, component = connected_components(distances[np.ix_(members, members)] <= tolerance, directed=False)
    return [members[component == number] for number in range(count)]


def _distances(
    nodules: Sequence[LidcNodule], pixel_spacing: tuple[float, float], tolerance: float
) -> NDArray[np.float64]:
    """Smallest distances [n, n] in mm between points of two outlines; inf where their boxes are beyond the tolerance."""
    clouds = [_points_in_mm(nodule.contours, pixel_spacing) for nodule in nodules]
    distances = np.full((len(clouds), len(clouds)), np.inf)
    np.fill_diagonal(distances, 0.0)
    if not clouds:
        return distances
    low = np.array([cloud.min(axis=0) for cloud in clouds])
    high = np.array([cloud.max(axis=0) for cloud in clouds])
    gap = np.maximum(low[:, None] - high, low - high[:, None]).clip(min=0.0)
    near = np.sqrt((gap**2).sum(axis=-1)) <= tolerance + 1e-9
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        distances[i, j] = distances[j, i] = KDTree(clouds[i]).query(clouds[j])[0].min()
    return distances


def _points_in_mm(contours: Sequence[Contour], pixel_spacing: tuple[float, float]) -> NDArray[np.float64]:
    """All points (x, y, z) of the contours in mm, in the frame of the pixels."""
    scale = np.array([pixel_spacing[1], pixel_spacing[0]])
    return np.concatenate(
        [np.column_stack([contour.points * scale, np.full(len(contour.points), contour.z)]) for contour in contours]
    )


def _middle(nodules: Sequence[LidcNodule]) -> tuple[float, ...]:
    """Mean (z, y, x) of the outlines' own means, to sort by."""
    means = [_points_in_mm(nodule.contours, (1.0, 1.0)).mean(axis=0) for nodule in nodules]
    x, y, z = np.mean(means, axis=0).tolist()
    return z, y, x
