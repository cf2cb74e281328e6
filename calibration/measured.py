"""A number and its 95 % confidence interval, and the interval of a mean whose terms depend on each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

CONFIDENCE = 0.95
# Of a series' slowest waves so many measure its fluctuations: few, so that slow ones count; enough for a variance.
_WAVES = 8
_FEWEST_FOR_WAVES = 64


@dataclass(frozen=True)
class Measured:
    """A value and its 95 % interval; low or high is None where the interval has no such end."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def around(cls, value: float, error: float, degrees: float = np.inf) -> Measured:
        """Value ± t·standard error, t Student's of so many degrees of freedom."""
        reach = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error if np.isfinite(degrees) else 1.959964 * error
        return cls(float(value), float(value - reach), float(value + reach))

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval."""
        return (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0)

    def scaled(self, factor: float) -> Measured:
        """The interval of factor × the number; factor > 0."""
        low, high = (None if each is None else each * factor for each in (self.low, self.high))
        return Measured(self.value * factor, low, high)


def series_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Standard error of the mean of a series float64 [n] whose terms may depend on each other, and its degrees.

    The mean square of the projections √(2/n)·Σ x_i cos(πj(i + ½)/n), j = 1 … 8, is the variance at low frequencies, n
    times that of the mean (equal-weighted cosines, Lazarus, Lewis, Stock and Watson 2018), with 8 degrees of freedom. A
    short series is taken as independent.
    """
    n = len(values)
    if n < _FEWEST_FOR_WAVES:
        return float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else np.inf, float(max(n - 1, 1))
    place = np.pi * (np.arange(n) + 0.5) / n
    waves = np.array([np.cos(j * place) @ values for j in range(1, _WAVES + 1)]) * np.sqrt(2 / n)
    return float(np.sqrt((waves**2).mean() / n)), float(_WAVES)


def series_mean(values: NDArray[np.float64]) -> Measured:
    """Mean of a series float64 [n ≥ 1] and its interval, honest where terms depend on each other (series_error)."""
    return Measured.around(float(values.mean()), *series_error(values))
