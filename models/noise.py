"""The Poisson-Gaussian noise model of one exposure, y = a·Poisson(light/a) + N(0, b), and its sufficient statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.hadamard import transform
from models.statistics import CoefficientStatistics


@dataclass(frozen=True)
class NoiseModel:
    """gain: a, detector units per photo-electron; variance: b, signal-independent variance of one exposure, units²."""

    gain: float
    variance: float

    def __post_init__(self) -> None:
        if not (self.gain > 0 and self.variance >= 0):
            raise NoiseModelError(f"found a = {self.gain:g}, b = {self.variance:g}; expected a > 0 and b ≥ 0")

    def pair_variance(self, total: float, background: float = 0.0) -> float:
        """Variance of y+ - y- of one pair, a(T + 2B) + 2b in units²; both exposures' variances add (DESIGN §5.1)."""
        return self.gain * (total + 2 * background) + 2 * self.variance


def draw_statistics(
    image: NDArray[np.float64], repeats: NDArray[np.integer], noise: NoiseModel | None, rng: np.random.Generator
) -> CoefficientStatistics:
    """Sums over M_i pairs of every coefficient of an image, each drawn once per coefficient and sign (DESIGN §5.2).

    Σy± ~ a·Poisson(M·H±x/a) + N(0, M·b). image: light x float64 [n, n] ≥ 0; repeats: M [N]; noise: None for exact sums.
    The sum of squared differences is drawn from its Gaussian limit: (Σd)²/M + v·χ²(M - 1). Raises NegativeLightError.
    """
    if not np.min(image) >= 0:
        raise NegativeLightError(f"found light of {np.min(image):g} in the image; expected 0 or more, and no NaN")
    coefficients = transform(np.asarray(image, dtype=np.float64).ravel())
    total = coefficients[0]
    count = np.asarray(repeats).astype(np.float64)
    plus = count * (total + coefficients) / 2
    minus = count * (total - coefficients) / 2
    scatter = np.zeros(len(count))
    if noise is not None:
        plus, minus = (_noisy_sum(sums, count, noise, rng) for sums in (plus, minus))
        degrees = np.maximum(count - 1, 0)
        scatter = np.where(degrees > 0, noise.pair_variance(total) * rng.chisquare(np.maximum(degrees, 1)), 0.0)
    difference = plus - minus
    square = np.divide(difference**2, count, out=np.zeros(len(count)), where=count > 0) + scatter
    return CoefficientStatistics(
        count=np.asarray(repeats).astype(np.int32),
        sum_difference=difference,
        sum_square_difference=square,
        sum_total=plus + minus,
    )


class NoiseModelError(ValueError):
    """Noise parameters that no detector has."""


class NegativeLightError(ValueError):
    """An image that no sample can shine."""


def _noisy_sum(
    light: NDArray[np.float64], count: NDArray[np.float64], noise: NoiseModel, rng: np.random.Generator
) -> NDArray[np.float64]:
    # Rounding in the transform can leave a light of zero slightly negative.
    electrons = rng.poisson(np.maximum(light, 0) / noise.gain)
    return noise.gain * electrons + np.sqrt(count * noise.variance) * rng.standard_normal(len(light))
