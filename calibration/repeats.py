"""Repeats of coefficients: how pairs of the same one scatter, whatever the coefficient is and however the light drifts.

A pair's difference is taken as a share of the total light at its time, ρ = (y+ - y-)/T, which bleaching and slow drift
leave as it is. It has the variance u = v/T², v = a(T + 2B) + 2b + q(m+² + m-²) with m± = (T ± z)/2 + B, and
m+² + m-² = ((T + 2B)² + z²)/2. Within a coefficient of M pairs Σ(ρ - ρ̄)²/u, ρ̄ the mean weighted by 1/u, is a
chi-square of M - 1 degrees.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.scatter import Scatter


class RepeatSums:
    """Sums over the pairs of every coefficient: eight numbers for each of N, and nothing that grows with time.

    share: Σρ/u ÷ Σ1/u and precision: Σ1/u, float64 [N], are what is left to others.
    """

    def __init__(self, n_coefficients: int) -> None:
        self._count = np.zeros(n_coefficients)
        self.precision = np.zeros(n_coefficients)
        self._shares = np.zeros(n_coefficients)
        self._squares = np.zeros(n_coefficients)
        self._terms = np.zeros((3, n_coefficients))
        self._excess = np.zeros(n_coefficients)

    def add(
        self,
        index: NDArray[np.integer],
        difference: NDArray[np.float64],
        total: NDArray[np.float64],
        variance: NDArray[np.float64],
        terms: NDArray[np.float64],
        excess: NDArray[np.float64],
    ) -> None:
        """Add pairs, all arrays [K]: coefficient, y+ - y-, total light T at the pair's time, variance v without its z²,
        its derivatives by a, b, q [3, K], excess kurtosis. A coefficient may come several times.
        """
        precision, share = total**2 / variance, difference / total
        np.add.at(self._count, index, 1)
        np.add.at(self.precision, index, precision)
        np.add.at(self._shares, index, share * precision)
        np.add.at(self._squares, index, share**2 * precision)
        for sums, term in zip(self._terms, terms / variance, strict=True):
            np.add.at(sums, index, term)
        np.add.at(self._excess, index, excess)

    @property
    def share(self) -> NDArray[np.float64]:
        """z/T of every coefficient, float64 [N]; NaN where it has no pair."""
        share = np.full(len(self.precision), np.nan)
        np.divide(self._shares, self.precision, out=share, where=self.precision > 0)
        return share

    @property
    def n_repeated(self) -> int:
        """Coefficients with several pairs."""
        return int(np.count_nonzero(self._count > 1))

    def scatter(self) -> Scatter:
        """The scatter within coefficients, all of them together."""
        several = self._count > 1
        count, precision, shares = self._count[several], self.precision[several], self._shares[several]
        terms = self._terms[:, several]
        # The z² of source noise: ρ̄² is ρ² and the variance 1/Σ(1/u) of the mean.
        terms[2] += (shares**2 / precision - 1) / 2
        left = (count - 1) / count
        return Scatter(
            square=float(np.maximum(self._squares[several] - shares**2 / precision, 0).sum()),
            degrees=float((count - 1).sum()),
            design=np.asarray((left * terms).sum(axis=1)),
            fluctuation=float((2 * (count - 1) + self._excess[several] * left**2).sum()),
        )
