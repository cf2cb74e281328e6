"""Whether readings stray further than noise does: glitches and cosmic rays too small to be told one by one.

Normal noise has no excess kurtosis, photons of gain a have a³·m/v² under read noise of any variance. Excursions x that
happen now and then add E[x⁴]/v² to it and E[x²] to the variance: where they are of three standard deviations or more,
at most a ninth of the excess is their share of the variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SURPRISING_DEVIATIONS = 4.0
"""Standard errors of the excess above which it is there (3·10⁻⁵ of noise lies beyond), its own skewness allowed for."""

_EXCURSION = 3.0
_MOST_EXPECTED = 0.1
_LEAST_READINGS = 10
_LEAST_VARIANCE = 1e-3


@dataclass(frozen=True)
class Tails:
    """excess: kurtosis above that of photons and read noise; error: its standard error, infinite where untested."""

    excess: float
    error: float

    @property
    def significant(self) -> bool:
        """Whether there is more than noise has.

        The sample kurtosis of n normal readings has the skewness 6·√(6/n), 3 times its standard error (Anscombe and
        Glynn 1983); the limit is moved by that as in calibration.outliers.
        """
        skewness = 3 * self.error
        limit = SURPRISING_DEVIATIONS + (SURPRISING_DEVIATIONS**2 - 1) / 6 * skewness
        return self.excess > limit * self.error

    @property
    def share(self) -> float:
        """Of the variance, at most, that excursions of three standard deviations or more make up."""
        return max(self.excess, 0.0) / _EXCURSION**2


def find_tails(
    residual: NDArray[np.float64],
    variance: NDArray[np.float64],
    picture: NDArray[np.intp],
    light: NDArray[np.float64],
    gain: float,
) -> Tails:
    """Excess kurtosis of residuals [n], averaged over readings.

    variance: [n], what the model gives each reading (light that fades changes it within a picture); picture: [n], their
    numbers; light: [G]. Pictures of so few photons that these alone have long tails do not take part.
    """
    n_pictures = len(light)
    n = np.bincount(picture, minlength=n_pictures).astype(np.float64)
    many = np.maximum(n, 1.0)
    scaled = residual / np.sqrt(variance)
    scaled = scaled - (np.bincount(picture, scaled, n_pictures) / many)[picture]
    second = np.bincount(picture, scaled**2, n_pictures) / many
    fourth = np.bincount(picture, scaled**4, n_pictures) / many
    modelled = np.maximum(np.bincount(picture, variance, n_pictures) / many, np.finfo(float).tiny ** 0.25)
    expected = max(gain, 0.0) ** 3 * np.maximum(light, 0.0) / modelled**2
    told = (n >= _LEAST_READINGS) & (second > _LEAST_VARIANCE) & (expected < _MOST_EXPECTED)
    if not told.any():
        return Tails(0.0, np.inf)
    # A normal sample's kurtosis is 3 - 6/(n + 1) on average.
    excess = fourth[told] / second[told] ** 2 - 3 + 6 / (n[told] + 1) - expected[told]
    weight = n[told] / n[told].sum()
    return Tails(float(np.sum(weight * excess)), float((24 / n[told].sum()) ** 0.5))
