"""Whole slides to tiles. All but `detect` needs the extra [slides], and is imported where slides are at hand."""
