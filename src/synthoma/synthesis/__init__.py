"""Use of a released generator: images on disk with their provenance."""

from synthoma.synthesis.export import export_dataset
from synthoma.synthesis.write_images import Written, write_images

__all__ = ["Written", "export_dataset", "write_images"]
