"""How far an image's random error really is from its forecast: two halves of the same measurement, held together.

The M pairs of a coefficient are dealt into halves of m1 and m2, which give z1 and z2. With the variance V of one pair

    var(z1 - z2) = V·(1/m1 + 1/m2) = V·M/(m1·m2),

so that d² = (z1 - z2)²·m1·m2/M² has the expectation V/M = v: it measures the variance of the whole estimate z, whatever
the coefficient's value is, and without any model of the noise. In the Wiener image each coefficient weighs
w = λ/(λ + v), and |H| = 1 spreads it evenly over the pixels, so that

    measured = (1/N²)·Σ w² d²,    forecast = (1/N²)·Σ w² v

are the random error per pixel as it was and as the noise model says. Each d²/v is a χ² of one degree of freedom (exact
for normal noise; that of K photo-electrons alone has an excess kurtosis of 1/K). Their weighted sum is taken for a χ²
of the same mean and variance (Welch and Satterthwaite), whose degrees of freedom are (Σ w² v)²/Σ (w² v)².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class HalvesCompared:
    """What two halves say of the random error per pixel of the coefficients that have pairs in both.

    n_split: how many these are; degrees: effective degrees of freedom; measured_mse, forecast_mse: units².
    """

    n_split: int
    degrees: float
    measured_mse: float
    forecast_mse: float

    @property
    def ratio(self) -> float:
        """Measured over forecast; NaN where nothing could be split."""
        return self.measured_mse / self.forecast_mse if self.forecast_mse > 0 else float("nan")

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Where the true ratio lies with this confidence; NaN where nothing could be split."""
        if not self.degrees > 0:
            return float("nan"), float("nan")
        from scipy.special import chdtri

        tail = (1 - confidence) / 2
        low, high = (self.ratio * self.degrees / float(chdtri(self.degrees, each)) for each in (tail, 1 - tail))
        return low, high


def compare_halves(
    estimates: tuple[NDArray[np.float64], NDArray[np.float64]],
    counts: tuple[NDArray[np.integer], NDArray[np.integer]],
    variance: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> HalvesCompared:
    """Hold two halves together.

    estimates: z1 and z2 float64 [N], anything where a half has no pair; counts: m1 and m2 int [N]; variance: v of the
    whole, as forecast, float64 [N], inf where untaken; weight: w of the whole float64 [N], 0 where untaken.
    """
    first, second = (np.asarray(count, dtype=np.float64) for count in counts)
    split = (first > 0) & (second > 0) & np.isfinite(variance)
    m1, m2, v = first[split], second[split], variance[split]
    weight_squared = weight[split] ** 2
    d_squared = (estimates[0][split] - estimates[1][split]) ** 2 * m1 * m2 / (m1 + m2) ** 2
    forecast = weight_squared * v
    squares = float(forecast @ forecast)
    n_squared = len(variance) ** 2
    return HalvesCompared(
        n_split=int(np.count_nonzero(split)),
        degrees=float(forecast.sum()) ** 2 / squares if squares > 0 else 0.0,
        measured_mse=float(weight_squared @ d_squared) / n_squared,
        forecast_mse=float(forecast.sum()) / n_squared,
    )
