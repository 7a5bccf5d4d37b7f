"""Readers of raw data: each lists Records without reading pixels, and reads the pixels of one when asked for."""

from synthoma.sources.registry import open_source
from synthoma.sources.source import Source
from synthoma.sources.terms import DataTerms, data_terms, keep_terms

__all__ = ["DataTerms", "Source", "data_terms", "keep_terms", "open_source"]
