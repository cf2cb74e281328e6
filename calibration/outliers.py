"""Single readings that no light explains: cosmic rays, glitches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DEVIATIONS = 6.0
"""Standard deviations at which a reading is one: 2·10⁻⁹ of normal noise lies beyond, so a clean run loses nothing."""


def is_outlier(
    residual: NDArray[np.float64], deviation: NDArray[np.float64], skewness: NDArray[np.float64] | float = 0.0
) -> NDArray[np.bool_]:
    """Which residuals [n] are outlying, by the standard deviation that each should have [n], and its skewness.

    Photons have a longer tail above than below: to second order (Cornish and Fisher 1938) the quantile that is z for
    normal noise is z + (z² - 1)/6·skewness, and the upper limit moves by that.
    """
    above = DEVIATIONS + (DEVIATIONS**2 - 1) / 6 * np.maximum(skewness, 0.0)
    outlying: NDArray[np.bool_] = (residual > above * deviation) | (residual < -DEVIATIONS * deviation)
    return outlying


def robust_deviation(residual: NDArray[np.float64]) -> float:
    """Standard deviation of residuals [n] from their 15.87th and 84.13th percentiles, which outliers do not move."""
    low, high = np.quantile(residual, [0.158655, 0.841345])
    return float(high - low) / 2


def upper_deviation(residual: NDArray[np.float64]) -> float:
    """The same of normal residuals [n] whose lower side may be cut off, from their 84.13th and 97.72nd percentiles."""
    low, high = np.quantile(residual, [0.841345, 0.977250])
    return float(high - low)
