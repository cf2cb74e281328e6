"""Prior means and variances of the coefficients: from images, or a power law in 2-D sequency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.hadamard import check_side, transform
from models.sequency import image_sequency

# λ_i/T² = amplitude·(1 + s_u² + s_v²)^-exponent, fitted to the geometric mean of (z_i/T)² over 734 open fluorescence
# crops (cells, nuclei, filaments, tissue, vessels; wide-field, confocal, structured illumination) at n = 128 and 256,
# times exp(1.27), by which the geometric mean of a squared Gaussian falls short of its variance. The exponent there is
# 1.22 and 1.27; it is set lower, because a mask that trusts the law too much loses more (water-filling against uniform
# on 17 other crops: up to 1.6 dB at 1.25, 0.7 dB at 1.15, while dim samples gain 0.7 to 1 dB with either).
TYPICAL_AMPLITUDE = 0.18
TYPICAL_EXPONENT = 1.15

TYPICAL_LAW_IMAGES = 10

_FEWEST_TO_FIT = 32


@dataclass(frozen=True)
class Prior:
    """mean: μ, variance: λ of every coefficient, float64 [N], in detector units and units²."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    def scaled(self, factor: float) -> Prior:
        """The prior of images that are ``factor`` times as bright."""
        return Prior(self.mean * factor, self.variance * factor**2)


class PriorError(ValueError):
    """Images or numbers that no prior can be made of."""


def prior_from_images(images: NDArray[np.float64]) -> Prior:
    """Mean and variance of the coefficients of images [K, n, n], K at least 2. Raises PriorError, SideError."""
    stack = np.asarray(images, dtype=np.float64)
    if stack.ndim != 3 or len(stack) < 2 or stack.shape[1] != stack.shape[2]:
        raise PriorError(f"found images {list(stack.shape)}; expected [K, n, n] with K at least 2")
    if not np.isfinite(stack).all():
        raise PriorError("found NaN or infinite values in the images; expected finite ones")
    coefficients = transform(stack.reshape(len(stack), -1))
    return Prior(coefficients.mean(axis=0), coefficients.var(axis=0, ddof=1))


def tempered(prior: Prior, n_images: int, typical: Prior) -> Prior:
    """A prior from few images, with the doubt that their number leaves; arguments at the same total light.

    The variance is pooled with the typical law's, which counts as TYPICAL_LAW_IMAGES images, and widened by 1 + 1/K,
    because the mean is known from K images only.
    """
    pooled = (n_images - 1) * prior.variance + TYPICAL_LAW_IMAGES * typical.variance
    return Prior(prior.mean, pooled / (n_images - 1 + TYPICAL_LAW_IMAGES) * (1 + 1 / n_images))


def prior_from_image(image: NDArray[np.float64]) -> Prior:
    """The best prior of one known image [n, n], μ = 0 and λ_i = z_i²: an oracle, for tests and forecasts."""
    coefficients = transform(np.asarray(image, dtype=np.float64).ravel())
    return Prior(np.zeros_like(coefficients), coefficients**2)


def power_law_prior(
    n: int, total: float, amplitude: float = TYPICAL_AMPLITUDE, exponent: float = TYPICAL_EXPONENT
) -> Prior:
    """μ = 0, λ_i = T²·amplitude·(1 + s_u² + s_v²)^-exponent in 2-D sequency, λ_0 = T². Raises SideError, PriorError."""
    check_side(n)
    if not (total > 0 and amplitude > 0 and np.isfinite([total, amplitude, exponent]).all()):
        raise PriorError(
            f"found T = {total:g}, amplitude {amplitude:g}, exponent {exponent:g}; expected T and amplitude above 0"
        )
    variance = total**2 * amplitude * np.exp(-exponent * _log_distance(n))
    variance[0] = total**2
    return Prior(np.zeros(n * n), variance)


def fit_power_law(coefficients: NDArray[np.float64], variance: NDArray[np.float64], n: int, total: float) -> Prior:
    """The power law under which measured coefficients are most likely, z_i ~ N(0, λ_i + v_i).

    coefficients: z float64 [N], NaN where untaken; variance: v float64 [N], inf where untaken; total: T. With fewer
    than 32 coefficients the typical law is returned. Coefficients are pooled into cells of about equal sequency and
    variance before the likelihood is maximized, so that a fit takes milliseconds. Raises SideError, PriorError.
    """
    from scipy.optimize import minimize

    taken = np.isfinite(variance) & np.isfinite(coefficients)
    taken[0] = False
    if np.count_nonzero(taken) < _FEWEST_TO_FIT or not total > 0:
        return power_law_prior(n, total)
    distance, power, noise, weight = _pooled(
        _log_distance(n)[taken], (coefficients[taken] / total) ** 2, variance[taken] / total**2
    )

    def negative_log_likelihood(parameters: NDArray[np.float64]) -> float:
        spread = np.exp(parameters[0] - parameters[1] * distance) + noise
        return float(weight @ (np.log(spread) + power / spread))

    start = np.array([np.log(TYPICAL_AMPLITUDE), TYPICAL_EXPONENT])
    bounds = [(np.log(1e-12), np.log(1e3)), (0.0, 4.0)]
    found = minimize(negative_log_likelihood, start, method="L-BFGS-B", bounds=bounds)
    return power_law_prior(n, total, float(np.exp(found.x[0])), float(found.x[1]))


def _log_distance(n: int) -> NDArray[np.float64]:
    """log(1 + s_u² + s_v²) of every pattern, float64 [N]."""
    vertical, horizontal = image_sequency(n)
    return np.log(1.0 + vertical.astype(np.float64) ** 2 + horizontal.astype(np.float64) ** 2)


def _pooled(
    distance: NDArray[np.float64], power: NDArray[np.float64], noise: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Means over cells of about equal distance and noise, and how many coefficients each holds."""
    log_noise = np.log(np.maximum(noise, 1e-300))
    cells = _binned(distance, 48) * 24 + _binned(log_noise, 24)
    count = np.bincount(cells)
    filled = count > 0
    means = [np.bincount(cells, values)[filled] / count[filled] for values in (distance, power, noise)]
    return (*means, count[filled].astype(np.float64))


def _binned(values: NDArray[np.float64], n_bins: int) -> NDArray[np.int64]:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(len(values), dtype=np.int64)
    return np.minimum((values - low) / (high - low) * n_bins, n_bins - 1).astype(np.int64)
