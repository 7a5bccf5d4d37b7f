"""The points of one outline, as XML spells them out one after the other."""

import math
from array import array

import numpy as np
from numpy.typing import NDArray

from synthoma.formats.annotations.areas import BadShape
from synthoma.formats.annotations.shapes import shown


def number(text: str | None) -> float | None:
    """A number as XML writes it, or None. Python's own underscores in numbers are none."""
    if text is None or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


class Outline:
    """Collects points, sixteen bytes each; the first one that is no pair of numbers spoils the outline."""

    def __init__(self) -> None:
        self._values = array("d")
        self._order = array("d")
        self._problem: str | None = None

    def add(self, x: str | None, y: str | None, order: str | None = None) -> None:
        """One point, with its place in the outline where the file numbers them."""
        across, down = number(x), number(y)
        if across is None or down is None:
            wrong = x if across is None else y
            self._problem = self._problem or f"the coordinate {shown(wrong)} of point {len(self) + 1} is no number"
            return
        self._values.append(across)
        self._values.append(down)
        place = number(order)
        self._order.append(math.nan if place is None else place)

    def __len__(self) -> int:
        return len(self._order)

    def points(self) -> NDArray[np.float64]:
        """All points [n, 2], by their order where every one has its place, else as they stand. Raises `BadShape`."""
        if self._problem is not None:
            raise BadShape(self._problem)
        points = np.array(self._values, dtype=np.float64).reshape(-1, 2)
        order = np.array(self._order, dtype=np.float64)
        return points[np.argsort(order, kind="stable")] if np.isfinite(order).all() else points
