"""Deterministic, dimension-generic changes of images: every random draw is keyed by seed and sample index."""
