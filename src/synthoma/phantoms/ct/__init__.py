"""CT volumes of the chest drawn from nothing: DICOM, NIfTI or MetaImage, with radiologists' marks and the truth (extra: ct).

They show no person. Size, place and texture of each nodule are known exactly, which is what tests of reading, resampling
and measuring need.
"""

from synthoma.phantoms.ct.chest import ChestPhantom, draw_chest
from synthoma.phantoms.ct.nodules import TEXTURES, PhantomNodule, Texture, malignancy_of
from synthoma.phantoms.ct.readers import Reading, read_phantom
from synthoma.phantoms.ct.writer import KINDS, MARKS, CtPhantomReport, grid_of_slices, write_ct_phantoms

__all__ = [
    "KINDS",
    "MARKS",
    "TEXTURES",
    "ChestPhantom",
    "CtPhantomReport",
    "PhantomNodule",
    "Reading",
    "Texture",
    "draw_chest",
    "grid_of_slices",
    "malignancy_of",
    "read_phantom",
    "write_ct_phantoms",
]
