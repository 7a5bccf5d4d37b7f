"""Pixels to training images: from raw files to a Dataset folder."""

from synthoma.preparation.prepare import PreparationResult, prepare
from synthoma.preparation.selection import needs_labels

__all__ = ["PreparationResult", "needs_labels", "prepare"]
