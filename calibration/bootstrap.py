"""Bootstrap within light levels: what else the readings might have been, and the intervals that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.cut_off import cut_moments

CONFIDENCE = 0.95
IMPOSSIBLE = 3.29
"""Standard errors below 0 (5·10⁻⁴ of noise lies there) at which what cannot be negative speaks against the model."""


@dataclass(frozen=True)
class Interval:
    """Bounds low and high of 95 % confidence; one_sided: all of the 5 % is above high, low is a limit by nature.

    Of what cannot be negative, high is below 0 only where the estimate contradicts that (``above_zero``).
    """

    low: float
    high: float
    one_sided: bool = False


def resampled_moments(
    residuals: Sequence[NDArray[np.float64]],
    limits: Sequence[float | None],
    resamples: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and variances float64 [resamples, P] of P sets of residuals, drawn with replacement within each set.

    Residuals are to be scaled so that the mean of their squares is the set's variance (the square root of exposures
    over degrees of freedom), and so is the expectation of what comes back. limits: below which a set is cut off
    (calibration.cut_off), None where it is not; residuals that are cut off are not scaled.
    """
    means, variances = np.empty((2, resamples, len(residuals)))
    for index, (residual, limit) in enumerate(zip(residuals, limits, strict=True)):
        n = len(residual)
        drawn = residual[rng.integers(0, n, (resamples, n), dtype=np.int32)]
        if limit is None:
            means[:, index] = drawn.mean(axis=1)
            squares = np.einsum("rj,rj->r", drawn, drawn) / n
            variances[:, index] = (squares - means[:, index] ** 2) * (n / max(n - 1, 1))
        else:
            moments = cut_moments(drawn, limit)
            means[:, index], variances[:, index] = moments.mean, moments.variance
    return means, variances


@dataclass(frozen=True)
class Studentized:
    """An estimate with its standard error, and the same of resamples, drawn and drawn_error float64 [resamples].

    Quantiles of (drawn - estimate)/drawn_error make intervals (the bootstrap-t of Efron and Tibshirani 1993, ch. 12)
    that follow the skewness of an estimated variance, whose error grows with it; those of the estimates alone would
    not.
    """

    estimate: float
    error: float
    drawn: NDArray[np.float64]
    drawn_error: NDArray[np.float64]

    def bound(self, confidence: float) -> float:
        """What the truth is below with this confidence."""
        deviations = (self.drawn - self.estimate) / np.maximum(self.drawn_error, np.finfo(float).tiny)
        return self.estimate - float(np.quantile(deviations, 1 - confidence)) * self.error


def two_sided(quantity: Studentized) -> Interval:
    """Equal tails of 2.5 %."""
    return Interval(quantity.bound((1 - CONFIDENCE) / 2), quantity.bound((1 + CONFIDENCE) / 2))


def above_zero(quantity: Studentized, resolution: float = 0.0) -> Interval:
    """The interval of a quantity that cannot be negative, from estimates that can.

    Two-sided where that is above 0, and above what can be resolved at all; else from 0 to the bound of 95 %
    confidence, or to ``resolution`` or one standard error where that is more: an estimate that happened to come out
    negative does not know the quantity any better. Where it is negative beyond what noise does, the two-sided interval
    below 0 is kept, as the contradiction that it is.
    """
    interval = two_sided(quantity)
    if interval.low > 0 and interval.high > resolution:
        return interval
    spread = max(quantity.error, float(quantity.drawn.std()))
    if interval.high < 0 and quantity.estimate < -IMPOSSIBLE * spread:
        return interval
    return Interval(0.0, max(quantity.bound(CONFIDENCE), resolution, quantity.error), one_sided=True)
