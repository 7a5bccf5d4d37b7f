"""Two sets of feature vectors whose products are computed once, so that a metric on a subset costs next to nothing.

KID, Fréchet distance and PRDC are all functions of inner products. For a hundred half-samples the products of the
whole sets are computed once and rows are picked from them; KID on whole groups even reduces to sums over groups.
"""

from functools import cached_property

import torch
from torch import Tensor

from synthoma.errors import EvaluationError
from synthoma.metrics.arrays import Matrix, as_pair
from synthoma.metrics.frechet import fd, nuclear_norm
from synthoma.metrics.kid import polynomial_kernel
from synthoma.metrics.nearest import distances_from_products
from synthoma.metrics.prdc import NEIGHBOURS, Prdc, prdc_from_distances


class Pair:
    """x [n, d] against y [m, d]; memory grows with (n + m)^2, so the caller bounds n and m.

    `groups_x` [n] and `groups_y` [m] number the patients or groups from 0; None: each row is its own group.
    """

    def __init__(self, x: Matrix, y: Matrix, groups_x: Tensor | None = None, groups_y: Tensor | None = None) -> None:
        self.x, self.y = as_pair(x, y, least=2)
        self.groups_x = torch.arange(len(self.x)) if groups_x is None else groups_x
        self.groups_y = torch.arange(len(self.y)) if groups_y is None else groups_y
        # Distances and covariances do not change by a shift, and short vectors lose fewer digits; the kernel does
        # change, and gets the shift back term by term.
        self.centre = (self.x.mean(dim=0) + self.y.mean(dim=0)) / 2
        self._x, self._y = self.x - self.centre, self.y - self.centre

    @cached_property
    def _products(self) -> tuple[Tensor, Tensor, Tensor]:
        """Centred inner products x x' [n, n], x y' [n, m], y y' [m, m]."""
        return self._x @ self._x.T, self._x @ self._y.T, self._y @ self._y.T

    @cached_property
    def distances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Squared distances [n, n], [n, m], [m, m]."""
        xx, xy, yy = self._products
        lengths_x, lengths_y = xx.diagonal(), yy.diagonal()
        return (
            distances_from_products(lengths_x, xx, lengths_x),
            distances_from_products(lengths_x, xy, lengths_y),
            distances_from_products(lengths_y, yy, lengths_y),
        )

    @cached_property
    def _group_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of the kernel over pairs of groups: [gx, gx], [gx, gy], [gy, gy]."""
        shift_x, shift_y = self._x @ self.centre, self._y @ self.centre
        constant = self.centre @ self.centre
        xx, xy, yy = self._products
        dimension = self.x.shape[1]
        kernels = (
            polynomial_kernel(xx + shift_x[:, None] + shift_x[None, :] + constant, dimension),
            polynomial_kernel(xy + shift_x[:, None] + shift_y[None, :] + constant, dimension),
            polynomial_kernel(yy + shift_y[:, None] + shift_y[None, :] + constant, dimension),
        )
        return (
            _sum_groups(kernels[0], self.groups_x, self.groups_x),
            _sum_groups(kernels[1], self.groups_x, self.groups_y),
            _sum_groups(kernels[2], self.groups_y, self.groups_y),
        )

    def kid(self, chosen_x: Tensor | None = None, chosen_y: Tensor | None = None) -> Tensor:
        """Unbiased KID of whole groups, one value for each choice: float64 [choices].

        `chosen_x` [choices, gx] and `chosen_y` [choices, gy] are Boolean; None takes all groups. Pairs within one
        group are left out: images of a patient resemble each other, and would bias the statistic upwards by as much
        as the number of patients is small. Where each image is its own group this is the usual KID.
        """
        sizes_x, sizes_y = _sizes(self.groups_x), _sizes(self.groups_y)
        weights_x = torch.ones(1, len(sizes_x)) if chosen_x is None else chosen_x
        weights_y = torch.ones(1, len(sizes_y)) if chosen_y is None else chosen_y
        weights_x, weights_y = weights_x.double(), weights_y.double()
        xx, xy, yy = self._group_sums
        counts_x, counts_y = weights_x @ sizes_x, weights_y @ sizes_y
        between = ((weights_x @ xy) * weights_y).sum(dim=1) / (counts_x * counts_y)
        return _within(xx, weights_x, sizes_x) + _within(yy, weights_y, sizes_y) - 2 * between

    def fd(self, rows_x: Tensor | None = None, rows_y: Tensor | None = None) -> float:
        """Fréchet distance of the chosen rows."""
        if rows_x is None:
            rows_x = torch.arange(len(self.x))
        if rows_y is None:
            rows_y = torch.arange(len(self.y))
        if min(len(rows_x), len(rows_y)) > self.x.shape[1]:
            return fd(self._x[rows_x], self._y[rows_y])
        xx, xy, yy = self._products
        products = xy[rows_x][:, rows_y]
        n, m = products.shape
        length_x, length_y = xx[rows_x][:, rows_x].mean(), yy[rows_y][:, rows_y].mean()  # |mean|^2
        difference = length_x + length_y - 2 * products.mean()
        trace_x = (xx.diagonal()[rows_x].sum() - n * length_x) / (n - 1)
        trace_y = (yy.diagonal()[rows_y].sum() - m * length_y) / (m - 1)
        centred = products - products.mean(dim=0) - products.mean(dim=1, keepdim=True) + products.mean()
        root = nuclear_norm(centred) / ((n - 1) * (m - 1)) ** 0.5
        return max(float(difference + trace_x + trace_y - 2 * root), 0.0)

    def prdc(self, rows_x: Tensor | None = None, rows_y: Tensor | None = None, k: int = NEIGHBOURS) -> Prdc:
        """Precision, recall, density, coverage of the chosen rows, x synthetic and y real."""
        xx, xy, yy = self.distances
        if rows_x is not None:
            xx, xy = xx[rows_x][:, rows_x], xy[rows_x]
        if rows_y is not None:
            yy, xy = yy[rows_y][:, rows_y], xy[:, rows_y]
        return prdc_from_distances(xx, xy, yy, k)


def _sum_groups(kernel: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sum a matrix over blocks of equal group numbers."""
    for axis, groups in ((0, rows), (1, columns)):
        count = int(groups.max()) + 1
        if count < len(groups):
            shape = (count, kernel.shape[1]) if axis == 0 else (kernel.shape[0], count)
            kernel = torch.zeros(shape, dtype=kernel.dtype).index_add_(axis, groups, kernel)
        else:  # singletons: only the order of groups can differ from that of rows
            kernel = kernel.index_select(axis, groups.argsort())
    return kernel


def _sizes(groups: Tensor) -> Tensor:
    return torch.bincount(groups).double()


def _within(sums: Tensor, weights: Tensor, sizes: Tensor) -> Tensor:
    """Mean kernel over pairs from different groups, for each row of weights."""
    pairs = (weights @ sizes) ** 2 - weights @ (sizes * sizes)
    if bool((pairs <= 0).any()):
        raise EvaluationError("KID needs images of at least two groups on each side.")
    total = ((weights @ sums) * weights).sum(dim=1)
    return (total - weights @ sums.diagonal()) / pairs
