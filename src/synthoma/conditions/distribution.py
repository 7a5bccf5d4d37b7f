"""A smoothed joint distribution of attributes: what is drawn from it is plausible, and no patient's row.

Each attribute has a quantile function given by a few knots, and a Gaussian copula holds them together. A knot is the
quantile estimate of Harrell and Davis ("A new distribution-free quantile estimator", Biometrika 1982): a weighted mean of
all order statistics, so it lies within the range of the data and is nobody's value. The outermost knots stand at 2 and 98 %,
or further inside where so few values are known that the tail would be one patient's.

The correlations are those of normal scores, over rows in which both values are known, shrunk towards independence.
Whole-numbered attributes (ratings of 1 to 5) are drawn as continuous values between their whole numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtr, ndtri
from scipy.stats import rankdata

TRIM = 0.02
KNOTS = 33
# Below this many known rows a class takes the marginal, or the correlation, of all classes together.
FEWEST_ROWS = 20
# A correlation of n rows counts n / (n + SHRINKAGE).
SHRINKAGE = 10
# A value that is asked for counts as lying at most this far out in the copula, so that it does not drag others along.
_OUTERMOST = 1e-3
_SMALLEST_EIGENVALUE = 1e-3

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Marginal:
    """Quantile function of one attribute: `knots` at equally spaced levels from `trim` to 1 - `trim`, ascending."""

    trim: float
    knots: tuple[float, ...]

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> "Marginal":
        """From the known values [n], n >= 1."""
        count = len(values)
        # At 2 / (n + 1) about four order statistics share the weight.
        trim = min(max(TRIM, 2 / (count + 1)), 0.5)
        return cls(trim, tuple(harrell_davis(values, _levels(trim)).tolist()))

    def value(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """Attribute values of standard normal scores [n]; the tails are cut off, not piled up."""
        level = self.trim + (1 - 2 * self.trim) * ndtr(score)
        return np.interp(level, _levels(self.trim), self.knots)

    def score(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard normal scores of attribute values [n]; beyond the knots, those of the outermost."""
        if self.trim >= 0.5 or self.knots[0] == self.knots[-1]:
            return np.zeros_like(value)
        level = np.interp(value, self.knots, _levels(self.trim))
        inside = np.clip((level - self.trim) / (1 - 2 * self.trim), _OUTERMOST, 1 - _OUTERMOST)
        return np.asarray(ndtri(inside), dtype=np.float64)


@dataclass(frozen=True)
class Copula:
    """Joint distribution of the attributes of one class, or of all."""

    marginals: tuple[Marginal, ...]
    correlation: Matrix

    @classmethod
    def fit(cls, values: NDArray[np.float64], pooled: "Copula | None" = None) -> "Copula":
        """From rows [n, k] with NaN for missing; what too few rows know is taken from `pooled` (None: never)."""
        known = np.isfinite(values)
        marginals = tuple(
            Marginal.fit(values[known[:, j], j])
            if pooled is None or known[:, j].sum() >= FEWEST_ROWS
            else pooled.marginals[j]
            for j in range(values.shape[1])
        )
        return cls(marginals, _correlation(values, known, pooled))

    def draw(self, normals: NDArray[np.float64], fixed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values [n, k] from standard normal numbers [n, k], given those that are `fixed` [n, k] (NaN: to be drawn).

        Row i depends on row i of the arguments only, to the last bit.
        """
        result = fixed.copy()
        given = np.isfinite(fixed)
        scores = np.stack([m.score(np.nan_to_num(fixed[:, j])) for j, m in enumerate(self.marginals)], axis=1)
        for pattern in np.unique(given, axis=0):
            rows = np.flatnonzero((given == pattern).all(axis=1))
            free, held = np.flatnonzero(~pattern), np.flatnonzero(pattern)
            means, factor = self._conditional(free, held)
            for a, j in enumerate(free):
                # Sums in a fixed order: a matrix product may round by the number of rows.
                score = sum((means[a, b] * scores[rows, h] for b, h in enumerate(held)), np.zeros(len(rows)))
                score = sum((factor[a, b] * normals[rows, f] for b, f in enumerate(free[: a + 1])), score)
                result[rows, j] = self.marginals[j].value(score)
        return result

    def _conditional(
        self, free: NDArray[np.intp], held: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the free scores given the held ones: regression weights, and Cholesky factor of the covariance."""
        whole = np.array(self.correlation, dtype=np.float64)
        across = whole[np.ix_(free, held)]
        weights = np.asarray(
            np.linalg.solve(whole[np.ix_(held, held)], across.T).T if len(held) else across, dtype=np.float64
        )
        covariance = whole[np.ix_(free, free)] - weights @ across.T
        return weights, np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        return {
            "marginals": [{"trim": m.trim, "knots": list(m.knots)} for m in self.marginals],
            "correlation": [list(row) for row in self.correlation],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Copula":
        return cls(
            tuple(Marginal(float(m["trim"]), _floats(m["knots"])) for m in content["marginals"]),
            tuple(_floats(row) for row in content["correlation"]),
        )


def harrell_davis(values: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of `values` [n] at `levels` [k]: sum over i of x_(i) (I_{i/n}(a, b) - I_{(i-1)/n}(a, b)) with the regularised
    incomplete beta function, a = (n + 1) p and b = (n + 1)(1 - p).
    """
    count = len(values)
    edges = np.arange(count + 1) / count
    a, b = (count + 1) * levels[:, None], (count + 1) * (1 - levels[:, None])
    weights = np.diff(betainc(a, b, edges), axis=1)
    quantiles = (weights * np.sort(values)).sum(axis=1)
    # Ascending but for rounding, where most values are one and the same.
    result: NDArray[np.float64] = np.maximum.accumulate(quantiles)
    return result


def _levels(trim: float) -> NDArray[np.float64]:
    return np.linspace(trim, 1 - trim, KNOTS)


def _correlation(values: NDArray[np.float64], known: NDArray[np.bool_], pooled: Copula | None) -> Matrix:
    """Shrunk correlations of normal scores, made positive definite."""
    count = values.shape[1]
    matrix = np.eye(count)
    for i in range(count):
        for j in range(i):
            both = known[:, i] & known[:, j]
            if pooled is not None and both.sum() < FEWEST_ROWS:
                matrix[i, j] = pooled.correlation[i][j]
            else:
                matrix[i, j] = _pair(values[both, i], values[both, j])
            matrix[j, i] = matrix[i, j]
    size, axes = np.linalg.eigh(matrix)
    matrix = (axes * np.maximum(size, _SMALLEST_EIGENVALUE)) @ axes.T
    scale = np.sqrt(np.diag(matrix))
    matrix = matrix / np.outer(scale, scale)
    return tuple(tuple(row) for row in matrix.tolist())


def _pair(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Correlation of the normal scores of two attributes, shrunk; 0 where one of them does not vary."""
    count = len(first)
    if count < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    scores = [ndtri((rankdata(own) - 0.5) / count) for own in (first, second)]
    return float(np.corrcoef(scores[0], scores[1])[0, 1]) * count / (count + SHRINKAGE)


def _floats(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
