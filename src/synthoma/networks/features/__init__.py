"""Feature spaces in which image sets are compared: weight-free ones, and nets whose weights the user has on disk."""

from synthoma.networks.features.extractor import Extractor, Measured
from synthoma.networks.features.registry import build_extractor, load_extractor, weights_file

__all__ = ["Extractor", "Measured", "build_extractor", "load_extractor", "weights_file"]
