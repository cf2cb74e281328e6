"""Estimates of the coefficients from the sums over their pairs. Entry 0 is the total light T; NaN where M = 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.noise import NoiseModel
from models.statistics import CoefficientStatistics


@dataclass(frozen=True)
class Estimate:
    """Coefficients float64 [N] (NaN where untaken), their variances (inf there), and the total T they refer to."""

    coefficients: NDArray[np.float64]
    variance: NDArray[np.float64]
    total: float


def total_from_pairs(statistics: CoefficientStatistics, dark: float = 0.0) -> float:
    """T: the mean of the dark-corrected pair sums y+ + y- - 2·dark over all pairs.

    dark: mean reading of a dark picture under light. NaN where no pair was taken.
    """
    pairs = int(statistics.count.sum(dtype=np.int64))
    return float(statistics.sum_total.sum() / pairs) - 2 * dark if pairs else float("nan")


def difference(statistics: CoefficientStatistics, total: float) -> NDArray[np.float64]:
    """The mean of y+ - y-, float64 [N]; unbiased, variance (a(T + 2B) + 2b)/M."""
    estimate = statistics.mean
    estimate[0] = total
    return estimate


def pair_ratio(statistics: CoefficientStatistics, total: float, dark: float = 0.0) -> NDArray[np.float64]:
    """The ratio of sums T̂·Σ(y+ - y-)/Σ(y+ + y- - 2·dark), float64 [N] (DESIGN §5.7).

    What both exposures of a pair have in common, bleaching or lamp drift, cancels. total: T̂ at a reference time.
    """
    return light_ratio(statistics, statistics.sum_total - 2 * dark * statistics.count, total)


def light_ratio(
    statistics: CoefficientStatistics, light_sums: NDArray[np.float64], total: float
) -> NDArray[np.float64]:
    """T̂·Σ(y+ - y-)/L, float64 [N]; light_sums: L float64 [N], per coefficient the total light summed over its pairs.

    With L = Σ(y+ + y- - 2·dark) it is the pair ratio; with L from smoothed pair sums its bias is gone. NaN where M = 0
    and where L = 0: without light there is no ratio.
    """
    estimate = np.full(len(statistics.count), np.nan)
    lit = (statistics.count > 0) & (light_sums != 0)
    np.divide(total * statistics.sum_difference, light_sums, out=estimate, where=lit)
    estimate[0] = total
    return estimate


def pair_ratio_variance(
    coefficient: NDArray[np.float64], total: float | NDArray[np.float64], noise: NoiseModel, background: float = 0.0
) -> NDArray[np.float64]:
    """Variance of the pair ratio per pair, aT(1 - ρ²) + (2aB + 2b)(1 + ρ²), ρ = z/T, float64 [N] (DESIGN §5.7).

    coefficient: z [N]; total: T, one value or [N]; background: B. It is the variance of (y+ - y-) - ρ·(y+ + y-).
    """
    rho_squared = (np.asarray(coefficient, dtype=np.float64) / total) ** 2
    dark = 2 * noise.gain * background + 2 * noise.variance
    return np.asarray(noise.gain * total * (1 - rho_squared) + dark * (1 + rho_squared))


def pair_ratio_bias(count: NDArray[np.integer], total: float, noise: NoiseModel) -> NDArray[np.float64]:
    """Relative bias of the pair ratio, about 2b/(M·T²) (DESIGN §5.7), float64 [N]; inf where M = 0."""
    bias = np.full(len(count), np.inf)
    np.divide(2 * noise.variance / total**2, count, out=bias, where=np.asarray(count) > 0)
    return bias
