"""Sufficient statistics of the pairs of every coefficient: what estimators need, and nothing that grows with time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CoefficientStatistics:
    """Sums over the pairs of every coefficient, arrays [N] that ``add`` changes in place.

    count: M int32; sum_difference: Σ(y+ - y-); sum_square_difference: Σ(y+ - y-)²; sum_total: Σ(y+ + y-), float64.
    """

    count: NDArray[np.int32]
    sum_difference: NDArray[np.float64]
    sum_square_difference: NDArray[np.float64]
    sum_total: NDArray[np.float64]

    @classmethod
    def empty(cls, n_coefficients: int) -> Self:
        """No pair yet."""
        return cls(np.zeros(n_coefficients, dtype=np.int32), *(np.zeros(n_coefficients) for _ in range(3)))

    def add(self, indices: NDArray[np.integer], plus: NDArray[np.float64], minus: NDArray[np.float64]) -> None:
        """Add pairs: patterns [K], readings under H+ and H- float64 [K]. A pattern may come several times."""
        difference = plus - minus
        np.add.at(self.count, indices, 1)
        np.add.at(self.sum_difference, indices, difference)
        np.add.at(self.sum_square_difference, indices, difference**2)
        np.add.at(self.sum_total, indices, plus + minus)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean difference over the pairs that were taken, ΣMy/ΣM (DESIGN §5.3), float64 [N]; NaN where M = 0."""
        mean = np.full(len(self.count), np.nan)
        np.divide(self.sum_difference, self.count, out=mean, where=self.count > 0)
        return mean

    @property
    def variance(self) -> NDArray[np.float64]:
        """Sample variance of one pair's difference (M - 1 in the denominator), float64 [N]; NaN where M < 2."""
        variance = np.full(len(self.count), np.nan)
        several = self.count > 1
        count, sums, squares = self.count[several], self.sum_difference[several], self.sum_square_difference[several]
        variance[several] = np.maximum(squares - sums**2 / count, 0) / (count - 1)
        return variance

    def copy(self) -> CoefficientStatistics:
        """A copy that later pairs do not change."""
        return CoefficientStatistics(
            self.count.copy(), self.sum_difference.copy(), self.sum_square_difference.copy(), self.sum_total.copy()
        )
