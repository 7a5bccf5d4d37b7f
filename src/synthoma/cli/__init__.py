"""The command line: it parses, calls and shows; no logic of its own."""

from synthoma.cli.app import main

__all__ = ["main"]
