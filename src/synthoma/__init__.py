"""Synthoma: from a clinic's own cancer images to synthetic ones, with the evidence that they may be used.

What a script uses most can be taken from here (`synthoma.augment_nodule`); it is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthoma.transforms.nodules import augment_nodule

__version__ = "0.1.0"
__all__ = ["__version__", "augment_nodule"]

# The command line starts without torch: a name is imported when it is used.
_HOMES = {"augment_nodule": "synthoma.transforms.nodules"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
