"""The Wiener image: every coefficient shrunk towards its prior mean, and the error that is to be expected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.hadamard import inverse_image
from models.priors import Prior


def wiener_image(coefficients: NDArray[np.float64], variance: NDArray[np.float64], prior: Prior) -> NDArray[np.float64]:
    """Image [n, n] of ẑ_i = μ_i + λ_i/(λ_i + v_i)·(z_i - μ_i) (DESIGN §5.4).

    coefficients: z float64 [N], anything where untaken; variance: v float64 [N], inf where untaken: weight 0, the prior
    mean in its place.
    """
    weight = wiener_weight(prior.variance, variance)
    shrunk = prior.mean.copy()
    used = weight > 0
    shrunk[used] += weight[used] * (coefficients[used] - prior.mean[used])
    return inverse_image(shrunk)


def forecast_mse(prior_variance: NDArray[np.float64], variance: NDArray[np.float64]) -> float:
    """Expected squared error per pixel of the Wiener image, (1/N²)·Σ λ_i v_i/(λ_i + v_i) (DESIGN §5.4).

    An untaken coefficient (v = inf) errs by λ_i.
    """
    error = prior_variance.copy()
    taken = np.isfinite(variance)
    error[taken] = variance[taken] * wiener_weight(prior_variance, variance)[taken]
    return float(error.sum() / len(error) ** 2)


def noise_std(prior: Prior, variance: NDArray[np.float64]) -> float:
    """Standard deviation per pixel of the measurement noise in the Wiener image: sqrt(Σ w_i² v_i)/N; it is white."""
    weight = wiener_weight(prior.variance, variance)
    used = weight > 0
    return float(np.sqrt((weight[used] ** 2 * variance[used]).sum()) / len(weight))


def wiener_weight(prior_variance: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights w = λ/(λ + v), float64 [N]; 0 where λ = 0 or v = inf."""
    weight = np.zeros(len(prior_variance))
    np.divide(prior_variance, prior_variance + variance, out=weight, where=prior_variance > 0)
    return weight
