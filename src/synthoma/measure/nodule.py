"""All that is measured of one nodule, and how well the segmenter does against masks that people drew."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from synthoma.measure.checks import (
    Spacing,
    Unit,
    box_around,
    checked_array,
    checked_mask,
    checked_spacing,
    checked_unit,
    checked_volume,
)
from synthoma.measure.segment import SEGMENTER, segment_nodule
from synthoma.measure.shape import (
    equivalent_diameter,
    longest_in_plane,
    roughness_of,
    sphericity_of,
    surface_area,
    volume_of,
)
from synthoma.measure.texture import Texture, density_of

_LENGTHS = {"diameter_mm": "diameter_voxels", "longest_axial_mm": "longest_axial_voxels", "volume_mm3": "volume_voxels"}


@dataclass(frozen=True)
class NoduleMeasures:
    """What is measured of a nodule. Lengths are mm, or voxels where `units` says so.

    diameter_mm: of the sphere of the same volume. longest_axial_mm: the longest diameter in one axial slice.
    sphericity: 1 for a ball. margin_roughness: 0 for a ball, see `shape.roughness_of`. mean_hu, the fractions and texture:
    see `texture.Density`; None where the unit is unknown.
    """

    diameter_mm: float
    longest_axial_mm: float
    volume_mm3: float
    sphericity: float
    margin_roughness: float
    mean_hu: float | None
    solid_fraction: float | None
    ground_glass_fraction: float | None
    texture: Texture | None
    units: Literal["mm", "voxels"]

    def to_attributes(self) -> dict[str, float | str | None]:
        """Name -> value, for records. Lengths in voxels are called so: `diameter_voxels`, `volume_voxels`, ..."""
        values: dict[str, float | str | None] = {
            "diameter_mm": self.diameter_mm,
            "longest_axial_mm": self.longest_axial_mm,
            "volume_mm3": self.volume_mm3,
            "sphericity": self.sphericity,
            "margin_roughness": self.margin_roughness,
            "mean_hu": self.mean_hu,
            "solid_fraction": self.solid_fraction,
            "ground_glass_fraction": self.ground_glass_fraction,
            "texture": self.texture,
        }
        if self.units == "mm":
            return values
        return {_LENGTHS.get(name, name): value for name, value in values.items()}


def measure_nodule(volume: ArrayLike, mask: ArrayLike, spacing: Spacing | None, unit: Unit) -> NoduleMeasures:
    """Measures of the nodule that `mask` [z, y, x] marks in `volume` [z, y, x]; spacing mm (z, y, x) or None.

    Raises `ValueError` for an empty mask, shapes that differ, NaN around the mask, and a spacing that is none.
    """
    array = checked_array(volume)
    inside = checked_mask(mask, array.shape)
    lengths = checked_spacing(spacing)
    checked_unit(unit)
    if not inside.any():
        raise ValueError("the mask is empty; there is nothing to measure")
    box = box_around(inside)
    inside, values = inside[box], checked_volume(array[box])
    space = volume_of(inside, lengths)
    density = density_of(values, inside, lengths) if unit == "hu" else None
    return NoduleMeasures(
        diameter_mm=equivalent_diameter(space),
        longest_axial_mm=longest_in_plane(inside, lengths),
        volume_mm3=space,
        sphericity=sphericity_of(space, surface_area(inside, lengths)),
        margin_roughness=roughness_of(inside, lengths),
        mean_hu=density.mean_hu if density else None,
        solid_fraction=density.solid_fraction if density else None,
        ground_glass_fraction=density.ground_glass_fraction if density else None,
        texture=density.texture if density else None,
        units="mm" if spacing is not None else "voxels",
    )


def dice(a: ArrayLike, b: ArrayLike) -> float:
    """Overlap of two masks of one shape, 2 |a and b| / (|a| + |b|); 1 where both are empty (Dice, Ecology 26 (1945))."""
    first = checked_mask(a)
    second = checked_mask(b, first.shape)
    both = int(np.count_nonzero(first & second))
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2 * both / total if total else 1.0


@dataclass(frozen=True)
class SegmenterError:
    """The segmenter against given masks. Errors are segmented minus given.

    dice_mean, dice_sd (ddof 1; 0 for one nodule), n: nodules. diameter_error: mean of the absolute errors of the
    equivalent diameter, diameter_bias: mean of the signed ones; mm, or voxels where `units` says so.
    volume_error, volume_bias: the same as parts of the given volume. empty: nodules without a segmentation; they count
    with Dice 0 and diameter 0. segmenter: its identity.
    """

    dice_mean: float
    dice_sd: float
    n: int
    diameter_error: float
    diameter_bias: float
    volume_error: float
    volume_bias: float
    empty: int
    units: Literal["mm", "voxels"]
    segmenter: str = SEGMENTER


def segmenter_error(
    cubes: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    spacings: Sequence[Spacing | None],
    unit: Unit,
    centers: Sequence[Sequence[float]] | None = None,
) -> SegmenterError:
    """How well `segment_nodule` finds the given masks (none empty) in cubes [z, y, x].

    spacings: of each cube; all known, or all None. centers: where the segmenter is told to look; the cubes' middles by
    default. Raises `ValueError` where the numbers of cubes, masks, spacings and centres differ or are 0.
    """
    counts = {len(cubes), len(masks), len(spacings), len(cubes if centers is None else centers)}
    if counts != {len(cubes)} or not len(cubes):
        raise ValueError("there are as many masks, spacings and centres as cubes, and at least one")
    known = {spacing is not None for spacing in spacings}
    if len(known) > 1:
        raise ValueError("the spacing is known of some cubes only; errors in mm and in voxels cannot be put together")
    rows = []
    for i, (cube, mask, spacing) in enumerate(zip(cubes, masks, spacings, strict=True)):
        given = checked_mask(mask)
        space = volume_of(given, spacing)
        if space == 0:
            raise ValueError(f"mask {i} is empty; there is nothing to compare with")
        found = segment_nodule(cube, spacing, unit, None if centers is None else centers[i])
        segmented = volume_of(found, spacing)
        difference = equivalent_diameter(segmented) - equivalent_diameter(space)
        rows.append((dice(found, given), difference, segmented / space - 1, segmented == 0))
    table = np.array(rows, dtype=np.float64)
    overlap, length, share, empty = table.T
    return SegmenterError(
        dice_mean=float(overlap.mean()),
        dice_sd=float(overlap.std(ddof=1)) if len(rows) > 1 else 0.0,
        n=len(rows),
        diameter_error=float(np.abs(length).mean()),
        diameter_bias=float(length.mean()),
        volume_error=float(np.abs(share).mean()),
        volume_bias=float(share.mean()),
        empty=int(empty.sum()),
        units="mm" if known == {True} else "voxels",
    )
