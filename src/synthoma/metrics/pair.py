"""Two sets of feature vectors whose products are computed once, so that a metric on a subset costs next to nothing.

KID, Fréchet distance and PRDC are all functions of inner products. For a hundred half-samples the products of the
whole sets are computed once and rows are picked from them; KID on whole groups even reduces to sums over groups. What
belongs to the reference alone is kept with it, for all sets that are compared with it.
"""

from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_matrix, as_pair
from synthoma.metrics.fd_infinity import extrapolated, halves_of
from synthoma.metrics.frechet import Moments, fd, fd_from_moments, nuclear_norm
from synthoma.metrics.kid import polynomial_kernel_
from synthoma.metrics.nearest import distances_from_products
from synthoma.metrics.prdc import NEIGHBOURS, Prdc, prdc_from_radii, squared_radii

# From so many rows on products are single precision: what rounding does to a mean over a million pairs is far below any
# interval, and it halves time and memory.
SINGLE_FROM = 1000


class Choice:
    """Some rows of a set, with what is known of them alone, computed when it is asked for and kept."""

    def __init__(self, side: "Side", rows: Tensor | None = None, is_half: bool = False) -> None:
        self.side, self.all, self.is_half = side, rows is None, is_half
        self.rows = torch.arange(len(side.vectors)) if rows is None else rows
        self._radii: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def vectors(self) -> Tensor:
        """Centred [n, d]."""
        return self.side.vectors if self.all else self.side.vectors[self.rows]

    @cached_property
    def halves(self) -> tuple["Choice", "Choice"]:
        """The rows cut into two at random, as FD-infinity needs them."""
        first, second = halves_of(len(self.rows), self.side.number)
        return Choice(self.side, self.rows[first], True), Choice(self.side, self.rows[second], True)

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance, put together from those of the halves, which FD-infinity needs too."""
        if self.is_half:
            return Moments(self.side.vectors.shape[1]).add(self.vectors)
        return Moments.of(*(half.moments for half in self.halves))

    def within(self, matrix: Tensor) -> Tensor:
        """The part of a matrix [all, all] between these rows."""
        return matrix if self.all else matrix[self.rows[:, None], self.rows[None, :]]

    def radii(self, k: int) -> Tensor:
        """Squared distance of each row to its k-th nearest other."""
        if k not in self._radii:
            self._radii[k] = squared_radii(self.within(self.side.distances), k)
        return self._radii[k]


class Side:
    """One set of vectors, centred [n, d] float64; groups [n] from 0. `number` tells the two sets of a pair apart.

    single: whether products, and what is made of them, are float32.
    """

    def __init__(self, vectors: Tensor, groups: Tensor, number: int, single: bool) -> None:
        self.vectors, self.groups, self.number, self.single = vectors, groups, number, single

    @cached_property
    def all(self) -> Choice:
        """All rows."""
        return Choice(self)

    @cached_property
    def factors(self) -> Tensor:
        """The vectors as products take them."""
        return self.vectors.float() if self.single else self.vectors

    @cached_property
    def products(self) -> Tensor:
        """Inner products [n, n]."""
        return self.factors @ self.factors.T

    @cached_property
    def lengths(self) -> Tensor:
        """Squared lengths [n]: the diagonal of the products, to the last digit, so that a row is at distance 0 of itself."""
        return self.products.diagonal()

    @cached_property
    def distances(self) -> Tensor:
        """Squared distances [n, n]."""
        return distances_from_products(self.lengths, self.products, self.lengths)

    @cached_property
    def sizes(self) -> Tensor:
        """Images of each group, float64."""
        return torch.bincount(self.groups).double()

    def group_sums(self, centre: Tensor) -> Tensor:
        """Sums of the kernel over pairs of groups [g, g]; `centre` is what was taken off the vectors."""
        return _group_sums(self.products, self, self, centre)


class Reference(Side):
    """The set y [m, d] that others are compared with; `groups` numbers the patients or groups from 0."""

    def __init__(self, y: Matrix, groups: Tensor | None = None) -> None:
        self.y = as_matrix(y, "y")
        # Distances and covariances do not change by a shift, and short vectors lose fewer digits; the kernel does
        # change, and gets the shift back term by term.
        self.centre = self.y.mean(dim=0)
        groups = torch.arange(len(self.y)) if groups is None else groups
        super().__init__(self.y - self.centre, groups, 1, len(self.y) >= SINGLE_FROM)

    @cached_property
    def own_group_sums(self) -> Tensor:
        """Sums of the kernel over pairs of groups of this set."""
        return self.group_sums(self.centre)


Rows: TypeAlias = Tensor | Choice | None


class Pair:
    """x [n, d] against y [m, d]; memory grows with (n + m)^2, so the caller bounds n and m.

    `groups_x` [n] and `groups_y` [m] number the patients or groups from 0; None: each row is its own group. y may be a
    `Reference`, which then serves several pairs.
    """

    def __init__(
        self,
        x: Matrix,
        y: Matrix | Reference,
        groups_x: Tensor | None = None,
        groups_y: Tensor | None = None,
    ) -> None:
        self.right = y if isinstance(y, Reference) else Reference(y, groups_y)
        self.x, self.y = as_pair(x, self.right.y, least=2)
        groups_x = torch.arange(len(self.x)) if groups_x is None else groups_x
        self.left = Side(self.x - self.right.centre, groups_x, 0, self.right.single)

    @cached_property
    def _between(self) -> Tensor:
        """Centred inner products x y' [n, m]."""
        return self.left.factors @ self.right.factors.T

    @cached_property
    def _distances_between(self) -> Tensor:
        return distances_from_products(self.left.lengths, self._between, self.right.lengths)

    @property
    def distances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Squared distances [n, n], [n, m], [m, m]."""
        return self.left.distances, self._distances_between, self.right.distances

    @cached_property
    def _group_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of the kernel over pairs of groups: [gx, gx], [gx, gy], [gy, gy]."""
        centre = self.right.centre
        return (
            self.left.group_sums(centre),
            _group_sums(self._between, self.left, self.right, centre),
            self.right.own_group_sums,
        )

    def kid(self, chosen_x: Tensor | None = None, chosen_y: Tensor | None = None) -> Tensor:
        """Unbiased KID of whole groups, one value for each choice: float64 [choices].

        `chosen_x` [choices, gx] and `chosen_y` [choices, gy] are Boolean; None takes all groups. Pairs within one
        group are left out: images of a patient resemble each other, and would bias the statistic upwards by as much
        as the number of patients is small. Where each image is its own group this is the usual KID.
        """
        x, y = _Chosen(chosen_x, self.left.sizes), _Chosen(chosen_y, self.right.sizes)
        xx, xy, yy = self._group_sums
        between = x.total(xy, y) / (x.counts * y.counts)
        return _within(xx, x) + _within(yy, y) - 2 * between

    def fd(self, rows_x: Rows = None, rows_y: Rows = None) -> float:
        """Fréchet distance of the chosen rows."""
        return self._fd(_chosen(self.left, rows_x), _chosen(self.right, rows_y))

    def fd_infinity(self, rows_x: Rows = None, rows_y: Rows = None, whole: float | None = None) -> float:
        """Fréchet distance of the chosen rows at an endless number of them (metrics/fd_infinity.py); `whole`: their FD."""
        x, y = _chosen(self.left, rows_x), _chosen(self.right, rows_y)
        parts = [self._fd(a, b) for a, b in zip(x.halves, y.halves, strict=True)]
        return extrapolated(self._fd(x, y) if whole is None else whole, parts)

    def _fd(self, x: Choice, y: Choice) -> float:
        n, m = len(x), len(y)
        if min(n, m) > self.x.shape[1]:
            return fd_from_moments(x.moments, y.moments)
        if self.right.single:  # singular values take all digits
            return fd(x.vectors, y.vectors)
        products = self._between[x.rows[:, None], y.rows[None, :]]
        length_x, length_y = (side.within(side.side.products).mean() for side in (x, y))  # |mean|^2
        difference = length_x + length_y - 2 * products.mean()
        trace_x = (self.left.lengths[x.rows].sum() - n * length_x) / (n - 1)
        trace_y = (self.right.lengths[y.rows].sum() - m * length_y) / (m - 1)
        centred = products - products.mean(dim=0) - products.mean(dim=1, keepdim=True) + products.mean()
        root = nuclear_norm(centred) / ((n - 1) * (m - 1)) ** 0.5
        return max(float(difference + trace_x + trace_y - 2 * root), 0.0)

    def prdc(self, rows_x: Rows = None, rows_y: Rows = None, k: int = NEIGHBOURS) -> Prdc:
        """Precision, recall, density, coverage of the chosen rows, x synthetic and y real."""
        x, y = _chosen(self.left, rows_x), _chosen(self.right, rows_y)
        between = self._distances_between
        if not (x.all and y.all):
            between = between[x.rows[:, None], y.rows[None, :]]
        if min(between.shape) <= k:
            raise EvaluationError(f"{len(x)} and {len(y)} images are too few for neighbours k={k}.")
        return prdc_from_radii(x.radii(k), between, y.radii(k), k)


def _chosen(side: Side, rows: Rows) -> Choice:
    if rows is None:
        return side.all
    return rows if isinstance(rows, Choice) else Choice(side, rows)


def _group_sums(products: Tensor, left: Side, right: Side, centre: Tensor) -> Tensor:
    """Sums of the kernel of vectors that `centre` was taken off, over pairs of groups, from their inner products."""
    dtype = products.dtype
    shift_left, shift_right = (left.vectors @ centre).to(dtype), (right.vectors @ centre + centre @ centre).to(dtype)
    shifted = products + shift_left[:, None]
    shifted += shift_right[None, :]
    return _sum_groups(polynomial_kernel_(shifted, len(centre)), left.groups, right.groups)


def _sum_groups(kernel: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sum a matrix over blocks of equal group numbers."""
    for axis, groups in ((0, rows), (1, columns)):
        count = int(groups.max()) + 1
        if count < len(groups):
            shape = (count, kernel.shape[1]) if axis == 0 else (kernel.shape[0], count)
            kernel = torch.zeros(shape, dtype=kernel.dtype).index_add_(axis, groups, kernel)
        elif not bool((groups.diff() > 0).all()):  # singletons: only the order of groups can differ from that of rows
            kernel = kernel.index_select(axis, groups.argsort())
    return kernel


class _Chosen:
    """Choices of groups: weights [choices, g] of zero and one, all ones for None; sizes [g]: images of each group."""

    def __init__(self, chosen: Tensor | None, sizes: Tensor) -> None:
        self.all, self.sizes = chosen is None, sizes
        self.weights = torch.ones(1, len(sizes)).double() if chosen is None else chosen.double()
        self.counts = self.weights @ sizes

    def total(self, sums: Tensor, other: "_Chosen") -> Tensor:
        """Sum of [g, h] over the chosen groups of both sides, float64 [choices]."""
        if self.all:
            over_rows = sums.sum(dim=0, dtype=torch.float64)[None]
        else:  # of single numbers only a thousand are added up in single precision
            over_rows = (self.weights.to(sums.dtype) @ sums).double()
        return (over_rows * other.weights).sum(dim=1)


def _within(sums: Tensor, chosen: _Chosen) -> Tensor:
    """Mean kernel over pairs from different groups, for each choice."""
    pairs = chosen.counts**2 - chosen.weights @ (chosen.sizes * chosen.sizes)
    if bool((pairs <= 0).any()):
        raise EvaluationError("KID needs images of at least two groups on each side.")
    return (chosen.total(sums, chosen) - chosen.weights @ sums.diagonal().double()) / pairs
