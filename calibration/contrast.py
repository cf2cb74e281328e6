"""On/off contrast of the DMD: the light of all mirrors on over that of all mirrors off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.measured import Measured

# Two-sided 95 %, and one-sided.
_TWO_SIDED, _ONE_SIDED = 1.959964, 1.644854
# A detector that counts whole units cannot see less than their rounding.
_ROUNDING_VARIANCE = 1 / 12


def on_off_contrast(bright: NDArray[np.float64], dark: NDArray[np.float64], off: NDArray[np.float64]) -> Measured:
    """(mean of bright - off)/(mean of dark - off), readings float64 [·] of bright and dark pictures and with light off.

    By Fieller's theorem (1954). Where the dark pictures' light is not told from none, value and low are the lower bound
    and high is None. Light that no mirror decides on counts as light of mirrors that are off: the mirrors' own contrast
    is this or better.
    """
    on, leak = float(bright.mean() - off.mean()), float(dark.mean() - off.mean())
    bright_variance, dark_variance, off_variance = (_variance_of_mean(each) for each in (bright, dark, off))
    on_variance, leak_variance = bright_variance + off_variance, dark_variance + off_variance
    squared = _TWO_SIDED**2
    curvature = leak**2 - squared * leak_variance
    if leak <= 0 or curvature <= 0:
        least = (on - _ONE_SIDED * on_variance**0.5) / (max(leak, 0.0) + _ONE_SIDED * leak_variance**0.5)
        return Measured(least, least, None)
    middle = on * leak - squared * off_variance
    reach = np.sqrt(max(middle**2 - curvature * (on**2 - squared * on_variance), 0.0))
    return Measured(on / leak, float((middle - reach) / curvature), float((middle + reach) / curvature))


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    spread = float(values.var(ddof=1)) if len(values) > 1 else 0.0
    return max(spread, _ROUNDING_VARIANCE) / len(values)
