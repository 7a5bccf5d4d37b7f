"""Endless fields over the plane of a slide: any window of them can be drawn alone, and neighbours fit.

Coordinates are level-0 pixels, x right and y down; the centre of pixel (0, 0) lies at (0.5, 0.5). Random numbers belong
to cells of a lattice, by Philox counter (`draws.py`), so a field has no beginning and no state.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from synthoma.draws import Draws

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Lattice cells may have negative numbers; counters may not.
_CELL_ZERO = 1 << 30


@dataclass(frozen=True)
class Window:
    """A rectangle of level-0 pixels; (x, y) is its top-left corner."""

    x: int
    y: int
    width: int
    height: int

    @cached_property
    def xs(self) -> Field:
        """x of the pixel centres [width]."""
        return (np.arange(self.x, self.x + self.width) + 0.5).astype(np.float32)

    @cached_property
    def ys(self) -> Field:
        """y of the pixel centres [height]."""
        return (np.arange(self.y, self.y + self.height) + 0.5).astype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def grown(self, margin: int) -> "Window":
        """The same window with `margin` pixels more on each side."""
        return Window(self.x - margin, self.y - margin, self.width + 2 * margin, self.height + 2 * margin)

    def meets(self, box: tuple[float, float, float, float]) -> bool:
        """Whether the window and a box (x0, y0, x1, y1) have any point in common."""
        x0, y0, x1, y1 = box
        return x0 < self.x + self.width and x1 > self.x and y0 < self.y + self.height and y1 > self.y


@lru_cache(maxsize=1024)
def _draws(seed: int, purpose: str) -> Draws:
    return Draws(seed, purpose)


def cell_uniforms(seed: int, purpose: str, rows: NDArray[np.int64], columns: NDArray[np.int64], count: int) -> Field:
    """`count` numbers in [0, 1) for each lattice cell (row, column): float32 [*rows.shape, count]."""
    index = ((rows + _CELL_ZERO) << 32) | (columns + _CELL_ZERO)
    values = _draws(seed, purpose).uniform(0, torch.from_numpy(index.ravel()), (count,)).numpy()
    return np.asarray(values.reshape(*index.shape, count))


@dataclass(frozen=True)
class Sites:
    """Jittered points, one for each lattice cell that a window meets: x, y [n], and `values` [n, k] in [0, 1) of each."""

    x: Field
    y: Field
    values: Field

    def only(self, chosen: Mask) -> "Sites":
        return Sites(self.x[chosen], self.y[chosen], self.values[chosen])

    def __len__(self) -> int:
        return len(self.x)


def sites(seed: int, purpose: str, window: Window, spacing: float, values: int, jitter: float = 0.8) -> Sites:
    """Jittered lattice points in the cells that `window` meets; odd rows are shifted by half a cell."""
    rows = np.arange(np.floor(window.y / spacing), np.floor((window.y + window.height) / spacing) + 1)
    columns = np.arange(np.floor(window.x / spacing) - 1, np.floor((window.x + window.width) / spacing) + 1)
    row, column = (each.ravel().astype(np.int64) for each in np.meshgrid(rows, columns, indexing="ij"))
    drawn = cell_uniforms(seed, purpose, row, column, values + 2)
    x = (column + 0.5 * (row % 2) + 0.5 + jitter * (drawn[:, 0] - 0.5)) * spacing
    y = (row + 0.5 + jitter * (drawn[:, 1] - 0.5)) * spacing
    return Sites(x.astype(np.float32), y.astype(np.float32), drawn[:, 2:])


# Mean over a cell of the squared cubic B-spline weights, so that fields have a variance of about 1.
_SPLINE_DEVIATION = 0.479365


def _spline(distance: Field) -> Field:
    """Cubic B-spline of a distance in lattice units, 0 beyond 2."""
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    return np.where(distance < 1.0, near, far)


class Noise:
    """A smooth random field with mean 0 and variance 1 around `window`: cubic B-spline of control points.

    spacing: distance of the control points in pixels. The control points are drawn once, for the window grown by `reach`.
    """

    def __init__(self, seed: int, purpose: str, window: Window, spacing: float, reach: int = 0) -> None:
        self._spacing = spacing
        self._window = window
        wide = window.grown(reach)
        self._rows = np.arange(int(wide.y // spacing) - 1, int((wide.y + wide.height) // spacing) + 3)
        self._columns = np.arange(int(wide.x // spacing) - 1, int((wide.x + wide.width) // spacing) + 3)
        row, column = np.meshgrid(self._rows, self._columns, indexing="ij")
        uniform = cell_uniforms(seed, purpose, row, column, 4)
        # The sum of four uniforms is near enough to a normal, and much cheaper; its variance is 4 / 12.
        self._points: Field = ((uniform.sum(axis=-1) - 2.0) * np.float32(np.sqrt(3.0) / _SPLINE_DEVIATION)).astype(
            np.float32
        )

    def map(self) -> Field:
        """The field at the pixel centres of the window: [height, width]."""
        down = self._weights(self._window.ys, self._rows)
        across = self._weights(self._window.xs, self._columns)
        return np.asarray(down @ self._points @ across.T)

    def at(self, x: Field, y: Field) -> Field:
        """The field at points within `reach` of the window: [n]."""
        row, weight_y = self._taps(y, self._rows)
        column, weight_x = self._taps(x, self._columns)
        values = self._points[row[:, :, None], column[:, None, :]]
        return np.einsum("nij,ni,nj->n", values, weight_y, weight_x)

    def _weights(self, places: Field, numbers: NDArray[np.int64]) -> Field:
        distance = np.abs(places[:, None] / np.float32(self._spacing) - numbers.astype(np.float32))
        return _spline(distance.astype(np.float32))

    def _taps(self, places: Field, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], Field]:
        place = places / np.float32(self._spacing)
        first = np.floor(place).astype(np.int64) - 1
        index = first[:, None] + np.arange(4)
        weights = _spline(np.abs(place[:, None] - index.astype(np.float32)))
        return np.clip(index - numbers[0], 0, len(numbers) - 1), weights.astype(np.float32)


@dataclass(frozen=True)
class Pattern:
    """A field that repeats itself: `field` [period, period]. Drawn once, looked up by every window."""

    field: Field

    def map(self, window: Window) -> Field:
        """The pattern in a window: [height, width]."""
        period = len(self.field)
        rows, columns = (
            np.arange(window.y, window.y + window.height) % period,
            np.arange(window.x, window.x + window.width),
        )
        return self.field[rows[:, None], columns % period]


@lru_cache(maxsize=8)
def grain(seed: int, period: int = 512) -> Pattern:
    """White noise of variance 1 that repeats after `period` pixels."""
    row, column = np.meshgrid(np.arange(period), np.arange(period), indexing="ij")
    uniform = cell_uniforms(seed, "slide/grain", row, column, 4)
    return Pattern(((uniform.sum(axis=-1) - 2.0) * np.float32(np.sqrt(3.0))).astype(np.float32))


@dataclass(frozen=True)
class Cells:
    """A repeating pattern of polygonal cells: distance to the border in pixels, and the cells' centres [n, 2] (x, y)."""

    border: Pattern
    centres: NDArray[np.float32]
    period: int

    def sites(self, window: Window) -> NDArray[np.float32]:
        """Centres of the cells within a window: [n, 2] (x, y)."""
        first_x, last_x = window.x // self.period, (window.x + window.width) // self.period
        first_y, last_y = window.y // self.period, (window.y + window.height) // self.period
        shifts = [(x, y) for y in range(first_y, last_y + 1) for x in range(first_x, last_x + 1)]
        points = np.concatenate([self.centres + np.array(shift, np.float32) * self.period for shift in shifts])
        x, y = points[:, 0] - window.x, points[:, 1] - window.y
        return points[(x >= 0) & (x < window.width) & (y >= 0) & (y < window.height)]


@lru_cache(maxsize=8)
def cells(
    seed: int, purpose: str, count: int, period: int = 1024, step: int = 2, jitter: float = 0.75, rounded: float = 0.0
) -> Cells:
    """`count` x `count` polygonal cells (an even number) in a square of `period` pixels that repeats (Worley, SIGGRAPH 1996).

    step: computed at every so many pixels and then repeated; borders of cells are smooth at that scale. rounded: corners
    are rounded over about so many pixels.
    """
    row, column = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    drawn = cell_uniforms(seed, purpose, row, column, 2)
    size = period / count
    offset_x = 0.5 + jitter * (drawn[..., 0] - 0.5) + 0.5 * (row % 2)
    offset_y = 0.5 + jitter * (drawn[..., 1] - 0.5)
    place = (np.arange(0, period, step) + step / 2) / size
    cell = place.astype(np.int64)
    first = np.full((len(place), len(place)), np.inf)
    second = first.copy()
    for down in (-1, 0, 1):
        for across in (-2, -1, 0, 1):
            at = np.ix_((cell + down) % count, (cell + across) % count)
            dy = (cell + down - place)[:, None] + offset_y[at]
            dx = (cell + across - place)[None, :] + offset_x[at]
            distance = dy * dy + dx * dx
            np.minimum(second, np.maximum(first, distance), out=second)
            np.minimum(first, distance, out=first)
    border = ((np.sqrt(second) - np.sqrt(first)) * (size / 2)).astype(np.float32)
    if rounded:
        border = gaussian_filter(border, rounded / step, mode="wrap")
    centres = np.stack(((column + offset_x) % count * size, (row + offset_y) * size), axis=-1).reshape(-1, 2)
    return Cells(Pattern(border.repeat(step, axis=0).repeat(step, axis=1)), centres.astype(np.float32), period)
