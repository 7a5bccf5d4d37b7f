"""How dense a nodule is: mean, solid and ground-glass parts, and the class that follows. Hounsfield units only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from synthoma.measure.checks import Spacing, box_around, checked_mask, checked_spacing, checked_volume

Texture = Literal["solid", "part_solid", "ground_glass"]

# Solid tissue is denser: this threshold told part-solid nodules from pure ground glass with a sensitivity of 90 % and a
# specificity of 88 % (Scholten et al., "Detection and quantification of the solid component in pulmonary subsolid
# nodules by semiautomatic segmentation", Eur. Radiol. 25 (2015) 488-496).
SOLID_HU = -300.0
# Between this and SOLID_HU lies ground glass; below is lung or air. Our choice, above the usual -850 of normal lung.
GROUND_GLASS_HU = -750.0
# With this part solid or more a nodule is solid; with less than the other it is ground glass. The lower one is the 6 %
# at which SOLID_HU agreed best with readers on 102 nodules ("Threshold segmentation of pulmonary subsolid nodules on CT
# images: detection and quantification of the solid component"); the upper one is our own.
SOLID_FROM = 0.8
PART_SOLID_FROM = 0.06
# The margin that is left out, since its voxels are part lung: mm (voxels without a spacing), but never more than half
# the depth of the nodule.
_PEEL = 1.5


@dataclass(frozen=True, slots=True)
class Density:
    """mean_hu: of the whole mask. solid_fraction, ground_glass_fraction: of the mask without its margin."""

    mean_hu: float
    solid_fraction: float
    ground_glass_fraction: float
    texture: Texture


def density_of(hu: ArrayLike, mask: ArrayLike, spacing: Spacing | None = None) -> Density:
    """What is measured of the HU [z, y, x] within a mask that is not empty. Raises `ValueError` for an empty one."""
    values = checked_volume(hu)
    inside = checked_mask(mask, values.shape)
    if not inside.any():
        raise ValueError("the mask is empty; there is nothing to measure")
    box = box_around(inside)
    values, inside = values[box], inside[box]
    core = values[without_margin(inside, spacing)]
    solid = float((core > SOLID_HU).mean())
    glass = float(((core > GROUND_GLASS_HU) & (core <= SOLID_HU)).mean())
    return Density(float(values[inside].mean(dtype=np.float64)), solid, glass, texture_class(solid))


def texture_class(solid_fraction: float) -> Texture:
    """The class of a nodule of which this part is solid."""
    if solid_fraction >= SOLID_FROM:
        return "solid"
    return "part_solid" if solid_fraction >= PART_SOLID_FROM else "ground_glass"


def without_margin(inside: NDArray[np.bool_], spacing: Spacing | None = None) -> NDArray[np.bool_]:
    """The mask without its outermost layer; never empty where the mask is not."""
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=checked_spacing(spacing))[1:-1, 1:-1, 1:-1]
    return np.asarray(depth > min(_PEEL, float(depth.max()) / 2))
