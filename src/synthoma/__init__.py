"""Synthoma: from a clinic's own cancer images to synthetic ones, with the evidence that they may be used."""

__version__ = "0.1.0"
