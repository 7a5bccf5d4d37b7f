"""CT volumes: DICOM series, NIfTI, MetaImage and NRRD, read with their geometry and written with it (extra: ct)."""

from synthoma.formats.volumes.geometry import Geometry, in_lps_order
from synthoma.formats.volumes.shapes import LeftOut, Listing, OnGap, SliceFile, Volume, VolumeFile, VolumeUnit

__all__ = ["Geometry", "LeftOut", "Listing", "OnGap", "SliceFile", "Volume", "VolumeFile", "VolumeUnit", "in_lps_order"]
