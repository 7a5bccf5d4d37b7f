"""Untrusted text in Markdown, and tables."""

import re
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(value: str) -> str:
    """Untrusted text as Markdown text on one line: no markup, no HTML, no table cell can begin in it."""
    line = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|#!])", r"\\\1", line)


def code(value: str) -> str:
    """Untrusted text between backticks."""
    return " ".join(value.split()).replace("`", "'").replace("|", "/")
